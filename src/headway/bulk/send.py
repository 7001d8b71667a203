"""One line's request over HTTP, and what the answer, or the lack of one, says."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import msgspec
from anyio.lowlevel import checkpoint

from headway import hints
from headway._core.refusals.retry import given_up
from headway._http.decoding import Decoder, InvalidEncoding, TooLarge
from headway._http.observer import Observer
from headway._http.pool import Pool
from headway._http.secrets import Secrets
from headway._http.streams import PAUSE_EVERY
from headway.bulk.input.formats import Request
from headway.bulk.options import MAX_ANSWER, TIMEOUT
from headway.bulk.output.answers import Reading, read_answer
from headway.bulk.output.rows import Answer
from headway.bulk.record.status import Stop
from headway.errors import (
    Cleared,
    HeadwayError,
    Latched,
    NeverFits,
    StoreUnavailable,
    Unavailable,
)
from headway.estimate import Tokens
from headway.hints._reply import read_body
from headway.kinds import Kind, Moves
from headway.kinds._words import counted
from headway.providers import Endpoint, provider_named

if TYPE_CHECKING:
    from headway.scheduler import Scheduler

__all__ = [
    "UNTOLD", "Answered", "InvalidAnswer", "Sender", "billed_of", "describe", "fault_of",
    "is_filtered", "stop_of", "tokens_used",
]  # fmt: skip

_CONNECT = 10.0  # seconds
_MOST_OF_AN_ERROR = 1024 * 1024  # bytes; the status says what matters
INFINITY = float("inf")

_CERTIFICATES = (
    "Where a proxy or a server of yours has certificates of its own, name their file: export "
    "SSL_CERT_FILE=/path/to/certificates.pem"
)

UNTOLD = Reading(b"", Tokens(), billed=True)
"""Of an attempt that may have been billed, and whose answer nobody has seen."""


class InvalidAnswer(Exception):
    """A success that is no answer; it is in ``.answer``, and what it says in ``.read``."""

    def __init__(self, what: str, answer: Answer, read: Reading | None = None) -> None:
        super().__init__(what)
        self.args = (what, answer, read)  # as it is made again: pickled, copied
        self.answer = answer
        self.read = read

    def __str__(self) -> str:
        return str(self.args[0])


class BrokenAnswer(InvalidAnswer, HeadwayError):
    """One that says it is JSON and is not. It was billed, and to ask again would be too."""


class NoAnswer(InvalidAnswer, HeadwayError):
    """JSON without an answer in it, and without an error that may pass."""


class LargeAnswer(InvalidAnswer, HeadwayError):
    """One that is larger than an answer may be. It was billed, and to ask again would be too."""


class ErrorInAnswer(httpx.HTTPStatusError):
    """A success whose body is an error that amounts to another status: the response has that, and
    `came` is the one that came.
    """

    def __init__(self, response: httpx.Response, read: Reading) -> None:
        self.came = response.status_code
        self.read = read
        assert read.status is not None
        response.status_code = read.status
        super().__init__(
            f"{self.came}: {read.missing}", request=response.request, response=response
        )


class SlowAnswer(httpx.ReadTimeout):
    """One that was not whole in time. It may have been billed."""


class ForeignAnswer(InvalidAnswer, httpx.RemoteProtocolError):
    """One of something else than the API: a web page, a redirect. A fault that may pass."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, the tokens that it says were used, the seconds that it took, the model that it
    names, and why it ended (each reason of its choices once).
    """

    answer: Answer
    tokens: Tokens
    seconds: float
    model: str | None = None
    reasons: tuple[str, ...] = ()


class Sender:
    """A client for one endpoint, whose answers teach `scheduler`. Close it with ``async with``.

    `client` is used as it is where given, and not closed. An answer may take `timeout` seconds in
    all, and be `max_answer` bytes long, decompressed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        scheduler: Scheduler,
        client: httpx.AsyncClient | None,
        *,
        timeout: float = TIMEOUT,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        self._timeout = timeout
        self._max_answer = max_answer
        self._endpoint = endpoint
        self._shell = scheduler._shell
        self._observe = Observer(self._shell, provider=provider_named(endpoint.provider))
        self._flow = self._shell.state.flow(scheduler._options.key)
        self._pool: Pool | None = None
        if client is None:
            self._pool = Pool(self._shell.connections, endpoint.base_url)
            times = httpx.Timeout(timeout, connect=min(_CONNECT, timeout), pool=None)
            client = httpx.AsyncClient(transport=self._pool, timeout=times)
            self._extensions = {"timeout": times.as_dict()}
        self._client = client
        proxy = None if self._pool is None else self._pool.proxy
        self._secrets = Secrets(endpoint.headers, (endpoint.url("/v1"), proxy))
        self.hide = self._secrets.hide
        self._places: dict[str, tuple[httpx.URL, list[tuple[bytes, bytes]]]] = {}

    async def __aenter__(self) -> Sender:
        # Or the first request would wait for that, after its start was granted.
        if self._pool is not None:
            self._pool.ready()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._pool is not None:
            await self._client.aclose()

    async def ask(self, request: Request) -> Answered:
        """Send `request` once. Raises `httpx.HTTPError` and `InvalidAnswer`."""
        place = self._places.get(request.url)
        if place is None:
            place = self._places[request.url] = self._place_of(request.url)
        url, headers = place
        sent_at = self._shell.clock()
        try:
            response = self._secrets.clean(await self._post(url, headers, request.body))
        except Exception as failure:
            self._secrets.clean_error(failure)
            raise
        error: httpx.HTTPStatusError | None = None
        if response.status_code < 300:
            self._observe(response.headers, url, self._flow, sent_at)
            found = _read(response, self._shell.clock() - sent_at)
            if isinstance(found, Answered):
                if found.tokens.odd:
                    self._shell.doubt(self._flow, found.tokens.odd)
                return found
            error = found
        elif response.status_code < 400:
            raise _invalid(response, f"a redirect to {response.headers.get('location', '?')[:80]}")
        # What other errors say may quote the request, whose numbers are no limits.
        body = response.content if response.status_code == 429 else b""
        self._observe(response.headers, url, self._flow, sent_at, body)
        raise error or httpx.HTTPStatusError(
            f"{response.status_code} {response.reason_phrase}",
            request=response.request,
            response=response,
        )

    def _place_of(self, path: str) -> tuple[httpx.URL, list[tuple[bytes, bytes]]]:
        headers = httpx.Headers(self._client.headers if self._pool is not None else None)
        headers.update(self._endpoint.headers_of(path))
        return httpx.URL(self._endpoint.url(path)), headers.raw

    async def _post(
        self, url: httpx.URL, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> httpx.Response:
        pool = self._pool
        if pool is None:
            request = self._client.build_request("POST", url, content=body, headers=headers)
        else:
            # Cookies, redirects and authentication, which nobody needs here, are a third of what
            # a request costs httpx's client.
            request = httpx.Request(
                "POST", url, headers=headers, content=body, extensions=self._extensions
            )
        try:
            with anyio.fail_after(self._timeout):
                if pool is None:
                    response = await self._client.send(request, stream=True)
                else:
                    response = await pool.handle_async_request(request)
                    response.request = request
                await self._read(response)
        except TimeoutError as error:
            raise SlowAnswer(
                f"the whole answer took more than {self._timeout:g} s (--timeout)", request=request
            ) from error
        except httpx.RequestError as error:
            error.request = request
            raise
        except Exception as error:
            if not type(error).__module__.startswith("aiohttp"):
                raise
            said = getattr(error, "message", "") or str(error)
            raise httpx.RemoteProtocolError(
                f"the answer is not HTTP: {said[:200]}", request=request
            ) from error
        return response

    async def _read(self, response: httpx.Response) -> None:
        """Read the whole of `response`, bounded while it is decoded."""
        most = self._max_answer
        try:
            if not response.is_closed:  # as what some mock made is
                whole = response.status_code < 300
                response.stream = _Bounded(
                    response.stream,
                    response.headers.pop("content-encoding", ""),
                    most if whole else min(most, _MOST_OF_AN_ERROR),
                    whole,
                )
            if len(await response.aread()) > most:
                raise TooLarge
        except TooLarge:
            request_id = response.headers.get("x-request-id")
            raise LargeAnswer(
                f"the answer is larger than {counted(most, 'byte')}. Allow more with --max-answer",
                Answer(response.status_code, request_id, b""),
                UNTOLD,
            ) from None
        finally:
            await response.aclose()


class _Bounded(httpx.AsyncByteStream):
    """The bytes of `stream`, decoded, of which there are `most`.

    Where the `whole` of them is wanted it raises `TooLarge` for more, and `httpx.DecodingError` for
    what cannot be decoded; else it ends there.
    """

    def __init__(self, stream: Any, encodings: str, most: int, whole: bool) -> None:
        self._stream = stream
        self._encodings = encodings
        self._most = most
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream = self._stream.__aiter__()
        try:
            decoder = Decoder(self._encodings, self._most) if self._encodings else None
            left, chunks = self._most, 0
            async for chunk in stream:
                chunks += 1
                if not chunks % PAUSE_EVERY:
                    await checkpoint()
                for piece in (chunk,) if decoder is None else decoder.feed(chunk):
                    left -= len(piece)
                    if left < 0:
                        raise TooLarge
                    yield piece
        except TooLarge:
            if self._whole:
                raise
        except InvalidEncoding as error:
            if self._whole:
                raise httpx.DecodingError(str(error)) from error
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    async def aclose(self) -> None:
        await self._stream.aclose()


# -- answers -----------------------------------------------------------------------------------


def _read(response: httpx.Response, seconds: float) -> Answered | ErrorInAnswer:
    """The answer in a success, or the error that it is after all. Raises `InvalidAnswer`."""
    status = response.status_code
    read = read_answer(response.content)
    if read is None:
        kind = response.headers.get("content-type", "no content-type")
        raise _invalid(response, f"not JSON ({kind}): {response.text[:80]!r}")
    answer = Answer(status, response.headers.get("x-request-id"), read.body)
    if not read.missing:
        return Answered(answer, read.tokens, seconds, read.model, read.reasons)
    if read.status is not None:
        return ErrorInAnswer(response, read)
    raise NoAnswer(f"the answer is none: {read.missing}", answer, read)


def _invalid(response: httpx.Response, what: str) -> InvalidAnswer:
    request_id = response.headers.get("x-request-id")
    answer = Answer(response.status_code, request_id, response.content)
    says_json = "json" in response.headers.get("content-type", "")
    what = f"the answer is {what}"
    if says_json and response.status_code < 300:
        return BrokenAnswer(what, answer, Reading(answer.body, Tokens(), billed=True))
    return ForeignAnswer(what, answer)


def tokens_used(answered: Answered) -> float | None:
    """What the scheduler is told of an answer."""
    return answered.tokens.cost


# -- failures ----------------------------------------------------------------------------------


def stop_of(error: BaseException, endpoint: Endpoint, unanswered_for: float) -> Stop | None:
    """Why `error` ends the whole run, or None when it is one line's own. Nothing was answered for
    so many seconds.
    """
    if isinstance(error, StoreUnavailable):
        return Stop(Kind.TRANSIENT, str(error))
    if isinstance(error, Unavailable):
        return Stop(Kind.TRANSIENT, _later(error.what))
    if isinstance(error, Latched):
        return Stop(Kind(error.kind), str(error))
    if (why := _given_up(error, unanswered_for)) is not None:
        return Stop(Kind.TRANSIENT, _later(why))
    if not isinstance(error, httpx.HTTPStatusError):
        return None
    kind = hints.classify(error, wall_time=time.time()).kind
    said = f"{error.response.status_code}: {_message(error)}"
    if kind.moves is not Moves.LATCH:
        return None
    return Stop(
        kind, f"{kind.problem} ({said}). {kind.fix_of_run.format(key=endpoint.key_variable)}"
    )


def _later(why: str) -> str:
    return f"{why}. Run the rest when it is back"


def _given_up(error: BaseException, unanswered_for: float) -> str | None:
    """Why a line was tried, and then not again for what no line is to blame for; else None.

    The scheduler gives such a job its own last error, with a note, and `Unavailable` to all that
    were not tried yet. A line that was refused for as long as its patience, while others were
    answered, has itself to blame.
    """
    verdict = given_up(error)
    if verdict is None or not verdict.away:
        return None
    nobody = verdict.away == INFINITY or unanswered_for >= verdict.away
    return verdict.reason if nobody else None


def fault_of(error: BaseException) -> str | None:
    """The name of what kept an attempt from an answer, or None where the provider said no."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return f"http_{status}" if status >= 500 else None
    return type(_lost(error) or error).__name__ if isinstance(error, httpx.RequestError) else None


def is_filtered(error: BaseException) -> bool:
    """Whether a content filter refused the line: that is its result, and says nothing of others."""
    if isinstance(error, NoAnswer):
        return error.read is not None and error.read.blocked
    if not isinstance(error, httpx.HTTPStatusError):
        return False
    if error.response.status_code not in _OF_A_FILTER:
        return False
    said = read_body(error.response.content)
    return _FILTER.search(f"{said.prose} {' '.join(said.words)}") is not None


_OF_A_FILTER = frozenset({400, 403, 422, 451})
_FILTER = re.compile(
    r"content[ _-]?(?:filter|policy|management|moderation|safety)|responsible_?ai|moderation"
    r"|usage (?:polic|guideline)|prohibited[ _]content|data_inspection|inappropriate content"
    r"|content exists risk|safety (?:system|filter|polic)|(?:was|been|is) flagged|nsfw"
)
"""Azure's, OpenAI's, Anthropic's, Google's, OpenRouter's, xAI's, DeepSeek's, Qwen's, Together's."""


def billed_of(error: BaseException) -> Reading | None:
    """What an attempt that failed says of its bill, where it may have been billed; else None.

    What was sent and got no answer may have been worked on all the same.
    """
    if isinstance(error, InvalidAnswer | ErrorInAnswer):
        read = error.read
        return read if read is not None and (read.billed or _says(read.tokens)) else None
    if isinstance(error, httpx.HTTPStatusError):
        said = read_answer(error.response.content)
        return said if said is not None and _says(said.tokens) else None
    lost = _lost(error)
    if lost is not None:
        return None if type(lost).__name__.startswith("ClientConnector") else UNTOLD
    kinds = (
        httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError, httpx.DecodingError
    )  # fmt: skip
    return UNTOLD if isinstance(error, kinds) else None


def _says(tokens: Tokens) -> bool:
    return bool(tokens.total or tokens.read or tokens.written)


def _lost(error: BaseException) -> BaseException | None:
    """What broke a connection, where httpx-aiohttp calls that a ConnectTimeout."""
    cause = error.__cause__
    if not isinstance(error, httpx.ConnectTimeout) or isinstance(cause, TimeoutError):
        return None
    return cause if type(cause).__module__.startswith("aiohttp") else None


def describe(error: BaseException) -> tuple[str, str, Answer | None]:
    """The code and the message of a failed line's row, and the provider's last answer."""
    answer: Answer | None = None
    if isinstance(error, InvalidAnswer):
        code, message, answer = "invalid_answer", str(error), error.answer
    elif isinstance(error, httpx.DecodingError):
        code, message = "invalid_answer", f"the answer cannot be decompressed: {error}"
    elif isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        code, message = f"http_{status}", _message(error)
        request_id = error.response.headers.get("x-request-id")
        came = error.came if isinstance(error, ErrorInAnswer) else status
        answer = Answer(came, request_id, error.response.content)
    elif isinstance(error, SlowAnswer):
        code, message = "timeout", str(error)
    elif isinstance(error, httpx.TimeoutException) and _lost(error) is None:
        what = "no connection" if isinstance(error, httpx.ConnectTimeout) else "no answer"
        code, message = "timeout", f"{what} in time ({type(error).__name__})"
    elif isinstance(error, httpx.RequestError):
        cause = _lost(error) or error
        code, message = "connection_error", f"{type(cause).__name__}: {cause}".rstrip(": ")
        if "CERTIFICATE_VERIFY_FAILED" in message:
            message += f". {_CERTIFICATES}"
    elif isinstance(error, NeverFits):
        code, message = "never_fits", str(error)
    elif isinstance(error, Cleared):
        code, message = "cleared", str(error)
    else:
        code, message = type(error).__name__, str(error)
    if not isinstance(error, httpx.HTTPStatusError):  # its message is the provider's alone
        message = ". ".join([message.rstrip("."), *getattr(error, "__notes__", ())])
    return code, message, answer


def _message(error: httpx.HTTPStatusError) -> str:
    """What the provider says in the body of a refusal, or its status line."""
    try:
        body = msgspec.json.decode(error.response.content)
    except (msgspec.DecodeError, RecursionError):
        body = None
    return hints.message_in(body)[:500] or error.response.reason_phrase or "no message"
