"""What must not be written down, taken out of what came: whatever a server echoes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx

from headway._http.credentials import is_credential
from headway.kinds._words import HIDDEN, redacted

__all__ = ["Secrets", "hidden_in"]

_PLAIN_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "accept-language", "anthropic-beta", "anthropic-version",
        "api-version", "connection", "content-type", "http-referer", "openai-beta",
        "openai-organization", "openai-project", "referer", "user-agent", "x-title",
    }
)  # fmt: skip
_SHORTEST = 6  # a shorter one is a word, of which an answer may be full
_WIDE = ("utf-16-le", "utf-16-be")
_NO_SECRETS = frozenset({"api-key", "lm-studio", "no-key-required", "not-needed", "ollama"})
_SCHEME = re.compile(r"^(?:basic|bearer|token|key)\s+", re.I)


class _Forms:
    """Texts to look for, and the same in UTF-16."""

    def __init__(self, forms: set[str]) -> None:
        texts = sorted(forms, key=len)
        least = [text for at, text in enumerate(texts)
                 if not any(shorter in text for shorter in texts[:at])]  # fmt: skip
        self._sought = [text.encode() for text in least]
        self._sought_wide = [text.encode(code) for code in _WIDE for text in least]
        texts.reverse()  # the longest are hidden first: they hold others
        self._all = [text.encode(code) for code in ("utf-8", *_WIDE) for text in texts]

    def hidden_in(self, body: bytes, low: bytes, wide: bool) -> bytes:
        """`body` without them: itself where `low`, it or it in small letters, holds none."""
        if not any(form in low for form in self._sought) and not (
            wide and any(form in low for form in self._sought_wide)
        ):
            return body
        flags = re.NOFLAG if low is body else re.I
        for form in self._all:
            body = re.sub(re.escape(form), _hidden(form), body, flags=flags)
        return body


class Secrets:
    """The keys in `headers` and in the addresses `urls` (userinfo, and what `redacted` hides), in
    every form in which JSON, HTML and addresses hold them.
    """

    def __init__(self, headers: Mapping[str, str], urls: Iterable[str | None]) -> None:
        said: set[str] = set()
        for name, value in headers.items():
            if name.lower() not in _PLAIN_HEADERS:
                said |= {value, _SCHEME.sub("", value)}
        for url in urls:
            said |= _in_url(url or "")
        self._said = [each for each in said
                      if len(each) >= _SHORTEST and each.lower() not in _NO_SECRETS]  # fmt: skip
        # Of a word no other case is hidden: an answer may well hold that.
        self._exact = _Forms({each for each in self._said if each.isalpha()})
        self._folded = _Forms(
            {form.lower() for each in self._said for form in _forms(each) if not form.isalpha()}
        )

    @cached_property
    def _escaped(self) -> _Forms:
        return _Forms({form for each in self._said for form in _escaped(each)})

    def hide(self, text: str) -> str:
        """`text` without them, and without what looks as one."""
        hidden = self.hide_in(text.encode("utf-8", "surrogatepass"))
        return redacted(hidden.decode("utf-8", "surrogatepass"))

    def hide_in(self, body: bytes) -> bytes:
        """`body` without them: itself, where it holds none."""
        wide = b"\0" in body
        body = self._exact.hidden_in(body, body, wide)
        low = body.lower()
        if wide or any(sign in low for sign in _SIGNS):
            body = self._escaped.hidden_in(body, low, wide)
            low = body.lower()
        return self._folded.hidden_in(body, low, wide)

    def clean(self, response: httpx.Response) -> httpx.Response:
        """`response`, which was read, or one like it that holds none of them."""
        came, reason = response.content, response.extensions.get("reason_phrase", b"")
        said = b"\n".join(value for _, value in response.headers.raw)
        content = self.hide_in(came)
        if content is came and self.hide_in(said) is said and self.hide_in(reason) is reason:
            return response
        headers = [(name, self.hide_in(value)) for name, value in response.headers.raw]
        whole = [pair for pair in headers if pair[0].lower() not in _OF_THE_BODY]
        return httpx.Response(
            response.status_code,
            headers=whole,
            content=content,
            request=response.request,
            extensions={**response.extensions, "reason_phrase": self.hide_in(reason)},
        )

    def clean_error(self, error: Exception) -> None:
        """Take them out of the words of `error`, and of what it was raised from."""
        causes: list[BaseException] = []
        one: BaseException | None = error
        while one is not None and one not in causes and len(causes) < 8:
            causes.append(one)
            one = one.__cause__
        for each in causes:
            each.args = tuple(self.hide(arg) if isinstance(arg, str) else arg for arg in each.args)


def _hidden(form: bytes) -> bytes:
    """What is put in the place of `form`, of the same width: what is UTF-16 stays that."""
    if form.count(b"\0") * 2 < len(form):
        return HIDDEN.encode()
    return HIDDEN.encode("utf-16-be" if form.startswith(b"\0") else "utf-16-le")


def hidden_in(text: str, request: Any) -> str:
    """`text`, which an answer to `request` says, without what the request shows to say who pays."""
    shown = {name: value for name, value in request.headers.items() if is_credential(name.encode())}
    return Secrets(shown, (str(request.url),)).hide(text)


# What writers of JSON escape that need not be, .NET's in capitals and Go's in small letters; and
# what writers of HTML do: Python's, Go's, and those that do as OWASP says.
_NEEDLESS = "+&<>'`"
_ENTITIES: tuple[Mapping[str, str], ...] = (
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"},
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "+": "&#43;"},
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;", "/": "&#x2F;",
     "=": "&#x3D;", "`": "&#x60;"},
)  # fmt: skip


# Of those that escape every character: JSON, JavaScript, addresses, HTML; in any case of letters.
_EVERY = ("\\u{:04x}", "\\x{:02x}", "%{:02x}", "&#{};", "&#x{:x};")
_SIGNS = (b"\\", b"%", b"&")  # of single bytes: these are found ten times as fast


def _forms(secret: str) -> set[str]:
    """`secret` as JSON, HTML, addresses and base64 have it."""
    escaped = json.dumps(secret)[1:-1]
    forms = {secret, quote(secret, safe=""), escaped, escaped.replace("/", "\\/")}
    if " " not in secret:  # a header's whole value is in no base64
        forms |= _in_base64(secret.encode())
    codes = {ord(char): f"\\u{ord(char):04x}" for char in _NEEDLESS}
    forms |= {escaped.translate(codes), secret.translate({**codes, 34: "\\u0022"})}
    for entities in _ENTITIES:
        forms.add(secret.translate({ord(char): text for char, text in entities.items()}))
    return forms


def _escaped(secret: str) -> set[str]:
    """`secret` with each of its characters escaped."""
    return {"".join(each.format(ord(char)) for char in secret) for each in _EVERY}


def _in_base64(secret: bytes) -> set[str]:
    """`secret` in base64 of either alphabet, alone and amid others, as ``user:key`` has it: three
    bytes are four characters, so what comes before it shifts it in one of three ways.
    """
    forms = {base64.b64encode(secret).decode()}
    for before in range(3):
        text = base64.b64encode(b"\0" * before + secret).decode()
        # Those characters alone that hold no bit of a neighbour's.
        forms.add(text[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6])
    return forms | {form.translate(_URL_SAFE) for form in forms}


_URL_SAFE = str.maketrans("+/", "-_")
_OF_THE_BODY = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


def _in_url(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return set()
    found = {unquote(password), password}
    if user:
        plain = f"{unquote(user)}:{unquote(password)}"
        found |= {user if not password else "", base64.b64encode(plain.encode()).decode()}
    for name, value in parse_qsl(parts.query):
        if redacted(f"?{name}={value}") != f"?{name}={value}":
            found.add(value)
    return found
