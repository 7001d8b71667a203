"""Batch files: what a line asks for, and what is wrong with it.

A line is a request in the OpenAI batch form, ``{"custom_id", "method", "url", "body"}``, in the
Together form, ``{"custom_id", "body"}`` (Mistral's and Fireworks' too), in Anthropic's,
``{"custom_id", "params"}``, in Gemini's, ``{"key", "request"}``, or in the plain form, a body
alone. Each line shows its own. Prompts are in `headway.bulk.input.tables`, rows in
`headway.bulk.output.rows`.

Nothing here reads a clock or a network. Bodies pass through as the bytes they are: what the file
says is what is sent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, cast

import msgspec

from headway.bulk.input.lines import MAX_LINE, Line, undecodable
from headway.bulk.input.seen import SeenIds
from headway.bulk.input.urls import (
    DEFAULT_URL,
    EMBED,
    ENDPOINTS,
    GEMINIS,
    GENERATE,
    MESSAGES,
    OCR,
    SUPPORTED_URLS,
    TRANSCRIPTIONS,
    WITHOUT_MODEL,
    known_url,
    resolve_endpoint,
    why_not,
)
from headway.estimate import (
    BYTES_PER_TOKEN,
    CHOICE_NAMES,
    GROUP_NAMES,
    MAX_NAMES,
    counts_in,
    media_in,
)
from headway.kinds._words import size
from headway.rates import Cost

__all__ = [
    "DEFAULT_URL",
    "ENDPOINTS",
    "SUPPORTED_URLS",
    "Asked",
    "BadLine",
    "BodyOptions",
    "Request",
    "RequestReader",
    "asked_of",
    "check_id",
    "estimate_tokens",
    "options_in",
    "resolve_endpoint",
    "unreadable",
    "with_members",
]

# No count of tokens is above this; and what no float can hold, no limiter can count.
_MAX_TOKENS = 10**12

Form = Literal["batch", "plain"]
S = TypeVar("S", bound=msgspec.Struct)


class Request(msgspec.Struct, frozen=True, gc=False):
    """A line that can be sent. `body` is the JSON object as the file has it.

    `max_tokens` is for all its answers together, 0 where none is stated; `choices` is how many
    answers it asks for, `token_ids` how many tokens its prompt states by their numbers; what is
    no text in its body is of `media_size` bytes there, and counts as `media_tokens`.
    """

    line: int
    custom_id: str
    url: str
    body: bytes
    max_tokens: int
    model: str | None = None
    choices: int = 1
    token_ids: int = 0
    media_tokens: int = 0
    media_size: int = 0

    @property
    def size(self) -> int:
        """Bytes of its text, and as many for each token of the rest as text has."""
        text = max(0, len(self.body) - self.media_size)
        return text + BYTES_PER_TOKEN * self.media_tokens

    def reads(self, bytes_per_token: int) -> int:
        """The tokens of all that it sends, with so many bytes of text to a token."""
        text = max(0, len(self.body) - self.media_size)
        return max(text // bytes_per_token, self.token_ids) + self.media_tokens


class BadLine(msgspec.Struct, frozen=True, gc=False):
    """A line that cannot be sent. `message` names the line, what is wrong and the fix."""

    line: int
    custom_id: str | None
    code: str
    message: str


class _LineForm(msgspec.Struct, gc=False):
    custom_id: Any = None
    key: Any = None
    method: Any = "POST"
    url: Any = None
    body: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"")
    request: msgspec.Raw = msgspec.Raw(b"")


def with_members(form: type[S], names: Iterable[str]) -> type[S]:
    """`form` with further members, by the names that `headway.estimate` reads. They are known when
    the program runs, so that one list says them; None where they are absent.
    """
    members = [(name, Any, None) for name in names]
    gc = form.__struct_config__.gc
    return cast("type[S]", msgspec.defstruct(form.__name__, members, bases=(form,), gc=gc))


class BodyOptions(msgspec.Struct, gc=False):
    """What is looked at of a body, beside its members in the names of all providers."""

    stream: Any = None
    model: Any = None


_OPTION_NAMES = (*MAX_NAMES, *GROUP_NAMES, *CHOICE_NAMES)
_ABSENT = msgspec.Raw(b"")
_BODY_NAMES = (b'"body"', b'"params"', b'"request"')  # of lines that are no body alone


class _BodyForm(BodyOptions, gc=False):
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT


class _KindForm(msgspec.Struct, gc=False):
    """The members of a body that tell which endpoint it is for."""

    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    query: msgspec.Raw = _ABSENT
    documents: msgspec.Raw = _ABSENT
    contents: msgspec.Raw = _ABSENT
    content: msgspec.Raw = _ABSENT
    document: msgspec.Raw = _ABSENT
    file: msgspec.Raw = _ABSENT
    file_url: msgspec.Raw = _ABSENT
    # Of the responses, whose input has the name of the embeddings'.
    instructions: msgspec.Raw = _ABSENT
    max_output_tokens: msgspec.Raw = _ABSENT
    previous_response_id: msgspec.Raw = _ABSENT
    reasoning: msgspec.Raw = _ABSENT
    store: msgspec.Raw = _ABSENT
    text: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT


_OF_RESPONSES = (
    "instructions", "max_output_tokens", "previous_response_id", "reasoning", "store", "text",
    "tools",
)  # fmt: skip
_Options = with_members(BodyOptions, _OPTION_NAMES)
_decode_line = msgspec.json.Decoder(_LineForm).decode
_decode_body = msgspec.json.Decoder(with_members(_BodyForm, _OPTION_NAMES)).decode
_decode_kind = msgspec.json.Decoder(_KindForm).decode
_decode_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_HALF_PAIR = re.compile(
    rb"(?i)\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab]..)\\ud[c-f][0-9a-f]{2}"
)


class RequestReader:
    """Lines of one file to requests. `url` is that of lines without one (None: by their body).

    `model` is for bodies that have none. `form` is that of the first valid line, None until then.
    """

    def __init__(self, url: str | None = None, model: str | None = None) -> None:
        self.form: Form | None = None
        self.strange: tuple[str, ...] = ()  # the members of the first object that is no request
        self.models_needed = False
        self._url = url
        self._model = model
        self._model_member = b'"model":' + msgspec.json.encode(model) if model else b""

    def detect(self, line: Line) -> Form | None:
        """Take `line` as the file's first, if it is valid; the form as far as it is known."""
        if self.form is None and unreadable(line) is None:
            try:
                names = _decode_names(line.data)
            except (msgspec.DecodeError, RecursionError):
                return None
            self.form = self._form_of(names.keys())
            if self.form is None:
                self.strange = self.strange or tuple(names)
        return self.form

    def _form_of(self, names: Any) -> Form | None:
        if names & {"url", "body", "custom_id", "params", "request"}:
            return "batch"
        known = {"model", "messages", "prompt", "input", "query", "documents", "contents"}
        return "plain" if self._url is not None or names & known else None

    def parse(self, line: Line, seen: SeenIds | None) -> Request | BadLine:
        """The request in `line`, or what is wrong with it. Notes its `custom_id` in `seen`."""
        if (bad := unreadable(line)) is not None:
            return bad
        form = self.form
        if form is None:
            try:
                form = self.detect(line) or "batch"
            except msgspec.ValidationError:
                form = "batch"
        data = line.data
        if form == "plain" and not any(name in data for name in _BODY_NAMES):
            return self._check_body(line, str(line.number), None, data.strip(), plain=True)
        try:
            read = _decode_line(data)
        except (msgspec.DecodeError, RecursionError) as error:
            return _not_json(line, error)
        body = bytes(read.body or read.params or read.request)
        if not body and read.custom_id is None and self._is_plain(data):
            return self._check_body(line, str(line.number), None, data.strip(), plain=True)
        return self._in_batch(line, read, body, seen)

    def _is_plain(self, data: bytes) -> bool:
        names = _decode_names(data).keys()
        return "url" not in names and self._form_of(names) == "plain"

    def _in_batch(
        self, line: Line, read: _LineForm, body: bytes, seen: SeenIds | None
    ) -> Request | BadLine:
        name = read.custom_id
        if read.request and name is None:  # Gemini's; Vertex's have none
            name = str(line.number) if read.key is None else read.key
        custom_id = check_id(line, name, seen)
        if not isinstance(custom_id, str):
            return custom_id
        if not (isinstance(read.method, str) and read.method.upper() == "POST"):
            said = _shown(read.method)
            return _bad(line, custom_id, "invalid_method", f"has the method {said}. Use POST")
        url = MESSAGES if read.params and not read.body else None
        if read.url is not None and (url := known_url(read.url)) is None:
            return _unsupported(line, custom_id, read.url)
        if not body:
            return _bad(
                line,
                custom_id,
                "missing_body",
                'has no body. Give it one, like "body": {"model": "…", "messages": […]}',
            )
        return self._check_body(line, custom_id, url, body)

    def _check_body(
        self, line: Line, custom_id: str, url: str | None, body: bytes, *, plain: bool = False
    ) -> Request | BadLine:
        name = None if plain else custom_id
        if not body.startswith(b"{"):
            what = "is not a JSON object" if plain else "has a body that is not a JSON object"
            return _bad(line, name, "invalid_body", f"{what}. Make it one")
        try:
            options = _decode_body(body)
            url = url or self._url or _url_of(body)
            prompts, token_ids = _prompts_in(options)
        except (msgspec.DecodeError, RecursionError) as error:
            if plain and not isinstance(error, msgspec.ValidationError):
                return _not_json(line, error)
            return _bad(
                line, name, "invalid_body", f"has a body that cannot be read: {error}. Correct it"
            )
        if url == TRANSCRIPTIONS:
            return _unsupported(line, name, url)
        if plain and b'"custom_id"' in body and "custom_id" in _decode_names(body):
            return _bad(
                line,
                None,
                "missing_body",
                'has a custom_id beside the members of its body. Put those into "body": {…}',
            )
        if options.stream not in (None, False):
            return _bad(
                line,
                name,
                "stream_not_supported",
                'has "stream" in its body, and a stream is not one row. Remove it',
            )
        asked = asked_of(options, prompts)
        if isinstance(asked, str):
            return _bad(
                line,
                name,
                "invalid_max_tokens",
                f"has a {asked} that is no count of tokens: it is above {_MAX_TOKENS:,}. "
                "Correct it",
            )
        model = options.model if isinstance(options.model, str) else self._model
        if (found := GEMINIS.fullmatch(url)) is not None:
            if not (model := model if found[1] == "None" else found[1]):
                return self._without_model(line, name)
            model = model.removeprefix("models/")
            url = f"/v1beta/models/{model}:{found[2]}"
        elif options.model is None and self._model is not None:
            body = self._with_model(body)
        elif model is None and self.models_needed and url not in WITHOUT_MODEL:
            return self._without_model(line, name)
        return Request(
            line.number, custom_id, url, body, asked.max_tokens, model, asked.choices, token_ids,
            *media_in(_decoded(body)),
        )  # fmt: skip

    def _with_model(self, body: bytes) -> bytes:
        rest = body[1:].lstrip()
        if b'"model"' in body and "model" in (members := _decode_names(body)):  # it is null
            return msgspec.json.encode({**members, "model": self._model})
        return b"{" + self._model_member + (b"" if rest.startswith(b"}") else b",") + rest

    def _without_model(self, line: Line, name: str | None) -> BadLine:
        return _bad(line, name, "missing_model", "names no model. Give one with --model")


def _unsupported(line: Line, custom_id: str | None, url: object) -> BadLine:
    if reason := why_not(url):
        what = f"is for {_shown(url)}, where none can go: {reason}. Call it from Python, with "
        return _bad(line, custom_id, "unsupported_url", f"{what}Scheduler.submit")
    what = f"has the url {_shown(url)}. Use one of {', '.join(SUPPORTED_URLS)}"
    return _bad(line, custom_id, "unsupported_url", what)


def _url_of(body: bytes) -> str:
    """The endpoint that a body is for, by what it holds."""
    kind = _decode_kind(body)
    if kind.messages is not _ABSENT:
        return DEFAULT_URL
    if kind.contents is not _ABSENT:
        return GENERATE.format(None)
    if kind.content is not _ABSENT:
        return EMBED.format(None)
    if kind.prompt is not _ABSENT:
        return ENDPOINTS["completions"]
    if kind.input is not _ABSENT:
        conversation = bytes(kind.input).startswith(b"[") and b'"role"' in bytes(kind.input)
        if conversation or any(getattr(kind, name) is not _ABSENT for name in _OF_RESPONSES):
            return "/v1/responses"
        return ENDPOINTS["embeddings"]
    if kind.query is not _ABSENT and kind.documents is not _ABSENT:
        return ENDPOINTS["rerank"]
    if kind.document is not _ABSENT:
        return OCR
    if kind.file is not _ABSENT or kind.file_url is not _ABSENT:
        return TRANSCRIPTIONS
    return DEFAULT_URL


def options_in(parameters: Mapping[str, object]) -> BodyOptions:
    """What `parameters`, members of a body, say of it."""
    return msgspec.convert(dict(parameters), _Options)


class Asked(NamedTuple):
    """What a request may have answered: `max_tokens` in all (0: not stated), of so many choices."""

    max_tokens: int
    choices: int


def asked_of(options: BodyOptions, prompts: int = 1) -> Asked | str:
    """What `options` ask for, for so many prompts; or the name of a count that is none.

    Of several maxima the largest holds, for which of them a provider obeys is not known.
    """
    groups = [options, *(getattr(options, name, None) for name in GROUP_NAMES)]
    maxima, choices = counts_in(groups)
    most = 0
    for name, value in maxima:
        if value > _MAX_TOKENS:
            return name
        most = max(most, math.ceil(value))
    choices = min(choices * prompts, _MAX_TOKENS)
    return Asked(min(most * choices, _MAX_TOKENS), choices)


def _prompts_in(options: _BodyForm) -> tuple[int, int]:
    """How many prompts a body holds, and how many tokens they state by their numbers."""
    prompts = 1
    token_ids = 0
    for part in (options.prompt, options.input):
        text = bytes(part)
        if not text.startswith(b"["):
            continue
        items = msgspec.json.decode(text)
        ids = sum(type(item) is int for item in items)
        inner = [item for item in items if isinstance(item, list)]
        token_ids += ids + sum(len(item) for item in inner)
        if part is options.prompt and not ids:
            prompts = max(1, len(items))
    return prompts, token_ids


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError:  # a number that no float holds
        return json.loads(body)


def check_id(
    line: Line, custom_id: object, seen: SeenIds | None, noun: str = "line"
) -> str | BadLine:
    """`custom_id` if it is one, and new to `seen`; else what is wrong with `line`, a `noun`."""
    if custom_id is None or custom_id == "":
        return _bad(
            line,
            None,
            "missing_custom_id",
            'has no custom_id. Give each line one of its own, like "custom_id": '
            f'"request-{line.number}"',
            noun,
        )
    if not isinstance(custom_id, str):
        shown = msgspec.json.encode(custom_id).decode()[:60]
        return _bad(
            line,
            None,
            "invalid_custom_id",
            f"has a custom_id that is not a string: {shown}. Put it in quotes",
            noun,
        )
    if seen is not None and (first := seen.first_line(custom_id, line.number)) != line.number:
        return _bad(
            line,
            custom_id,
            "duplicate_custom_id",
            f"has the custom_id {_shown(custom_id)}, which line {first} has too. "
            "Give each line one of its own",
            noun,
        )
    return custom_id


def unreadable(line: Line) -> BadLine | None:
    """What keeps `line` from being text at all."""
    if line.size > MAX_LINE:
        return _bad(
            line,
            None,
            "line_too_long",
            f"is {size(line.size)} long; the limit is {size(MAX_LINE)}. "
            "Make the request smaller, or split it",
        )
    if (position := undecodable(line.data)) is not None:
        return _bad(
            line, None, "not_utf8", f"is not UTF-8 (byte {position + 1}). Convert it to UTF-8"
        )
    return None


def _not_json(line: Line, error: Exception) -> BadLine:
    if isinstance(error, msgspec.ValidationError):
        what = f"is not a JSON object of the batch form: {error}"
        return _bad(line, None, "invalid_line", what)
    why = str(error)
    if b"\x00" in line.data:
        why = f"it holds a NUL byte (byte {line.data.index(0) + 1})"
    elif half := _HALF_PAIR.search(line.data):
        why = f"it holds half of a surrogate pair, {half[0].decode()} (byte {half.start() + 1})"
    return _bad(line, None, "invalid_json", f"is not valid JSON: {why}. Correct the line")


def _shown(value: object) -> str:
    """`value` for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _bad(line: Line, custom_id: str | None, code: str, what: str, noun: str = "line") -> BadLine:
    return BadLine(line.number, custom_id, code, f"{noun} {line.number} {what}")


def estimate_tokens(request: Request) -> Cost:
    """The tokens to reserve for `request`: four bytes of its text each, its images and sound, and
    all it may answer.
    """
    return Cost(input=request.reads(BYTES_PER_TOKEN), output=request.max_tokens)
