"""A transport under a scheduler: one implementation for httpx and httpx2.

It *wraps* a transport of either library. A request waits for its permit before the inner transport,
and with it any HTTP timeout, ever sees it. The slot is held until the response's stream is closed,
read to its end or abandoned. Refusals are retried here, and the last one tells the SDK above, with
``x-should-retry: false``, not to retry again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from headway._core.queue.credentials import Credential
from headway._core.queue.job import Job
from headway._http.arguments import (
    SYNC,
    Names,
    check_scheduler,
    check_transport,
    check_unit,
)
from headway._http.bodies import (
    STREAMED,
    content_of,
    error_in_stream,
    is_text,
    json_in,
    json_of,
    kinds_of,
    repeatable,
    size_of,
)
from headway._http.credentials import Replies, is_challenge, name_of
from headway._http.decoding import Decoder, InvalidEncoding, TooLarge, decoded
from headway._http.lookout import Lookout
from headway._http.observer import Observer
from headway._http.preparing import preparer
from headway._http.secrets import hidden_in
from headway._http.streams import PAUSE_EVERY
from headway._http.times import TimeLimits
from headway._runtime.attempt import Attempt
from headway._runtime.calls import check_plain_function, checked_tokens, kind_of
from headway._runtime.single import Single
from headway.errors import HeadwayError, InvalidArgument, Latched
from headway.estimate import (
    Estimate,
    Estimator,
    Likeness,
    Tokens,
    is_plausible,
    is_prompt_alone,
    likeness_of,
    said_by_headers,
    said_in,
)
from headway.hints import HANDED_ON, Refusal, refusal_from_response
from headway.kinds import Kind, Moves
from headway.kinds._words import duration
from headway.providers import provider_at

if TYPE_CHECKING:
    from headway import sync
    from headway.scheduler import View

__all__ = ["Face"]

logger = logging.getLogger("headway")

# How much of an error's body is read to classify it, and for how many seconds at most: its slot is
# held meanwhile, and the status and the headers have said enough.
_PEEK = 65_536
_PEEK_FOR = 2.0

# Bytes: what is made of a compressed answer to look into it, and what a predicate is shown.
_MOST_DECODED = 16 * 1024 * 1024

_MOST_KNOWN = 10_000  # hosts and keys

# Tokens of which one call need not be asked whether it can have used so many.
_PLAUSIBLE = 1_000.0

_NOT_SENT = (
    "headway: this is the scheduler's answer, not the server's. An SDK shows it as the cause of a "
    "connection error, and would repeat the request: build its client with max_retries=0."
)

_HOW_TO_COUNT = (
    "tokens=lambda body: ..., a function of a request's JSON body that returns what to reserve"
)
_HOW_TO_REFUSE = "is_refused=lambda response: ..., or a def that returns True, False or a Kind"


class Face(Single):
    """The transport of one library; a face names the library and its kinds of streams.

    What it awaits blocks, in a face for sync clients: its coroutines are run in one step there.
    """

    _library: Any
    _held: Any
    _peeked: Any
    _other: str
    _times: TimeLimits
    _names: Names

    def __init__(
        self,
        scheduler: View | sync.View,
        transport: Any = None,
        *,
        tokens: Callable[[Mapping[str, Any]], float] | None = None,
        together_unit: Literal["second", "minute"] | None = None,
        is_refused: Callable[[Any], bool | Kind | None] | None = None,
        prepare: Any = None,
    ) -> None:
        check_scheduler(scheduler, self._names)
        check_unit(together_unit)
        if tokens is not None:
            check_plain_function(tokens, "tokens", _HOW_TO_COUNT)
        if is_refused is not None:
            check_plain_function(is_refused, "is_refused", _HOW_TO_REFUSE)
        self._shell = scheduler._shell
        self._options = replace(scheduler._options, blocks=self._names is SYNC)
        # Of a send by itself: its response is no result of the user's, and may be a long stream.
        self._alone = replace(self._options, attempt_timeout=None, usage=_unread, is_refused=None)
        self._ours = transport is None
        if transport is None:
            transport = self._open()
        check_transport(transport, self._library, self._other, Face, self._names)
        self._transport = transport
        self._estimator = Estimator() if tokens is None else tokens
        self._observe = Observer(self._shell, together_unit)
        self._known: set[tuple[str, Any]] = set()  # hosts, each with the key that talks to it
        self._is_refused = is_refused
        self._prepare = preparer(prepare, self._library, awaits=self._names is not SYNC)
        self.lookout = Lookout()
        self._replies = Replies()
        self._shell.serve()

    async def _handle(self, request: Any) -> Any:
        """Send `request` when the limits allow it; a response, refusals of the last try included.

        Raises what the wrapped transport raised last, and what `Scheduler.submit` raises.
        """
        if not isinstance(request, self._library.Request):
            raise InvalidArgument(
                f"a request of {type(request).__module__.split('.')[0]} reached a transport of "
                f"{self._library.__name__}",
                fix=f"give this client {self._other}.{type(self).__name__}.",
            )
        self.lookout.sees(request, retries=self._retries)
        shell, options = self._shell, self._options
        attempt = shell.attempt()
        talks = request.url.host, options.key if attempt is None else attempt.job.flow.key
        if talks not in self._known:
            self._introduce(*talks)
        credential = self._credential(request)
        if shell.memory is not None:
            with shell.lock:
                shell.memory.recognise(str(credential.name), shell.state, shell.now())
        try:
            if attempt is None:
                job, like = self._job(request, credential)
                if shell.unseen:
                    job.needs_no_slot()
                shell.check_open()
                once = "" if repeatable(request) else STREAMED
                call = shell.run(
                    self._alone, self._send_alone, job, (job, request, like, once), once=once
                )
            elif not attempt.sent:
                attempt.sent = True
                key = attempt.job.flow.key
                learns = isinstance(self._estimator, Estimator) and shell.state.counts_tokens(key)
                like = self._like(json_of(request), key) if learns else None
                return await self._send(attempt, request, like, credential)
            else:
                attempt.sends_again()
                job, like = self._job(request, credential)
                call = self._send_further(attempt.further(job), request, like)
            if options.timeout is not None:
                call = shell.within(job, options.timeout, call)
            return await call
        except Latched as error:
            # An SDK shows an exception as a connection error, and whoever fetches a fresh token
            # on a 401 has to see it.
            repeated = self._replies.again(self._library, credential, request)
            if credential.latch is None or repeated is None:
                error.add_note(_NOT_SENT)
                raise
            return repeated[0]
        except HeadwayError as error:
            error.add_note(_NOT_SENT)
            raise

    def _credential(self, request: Any) -> Credential:
        shell = self._shell
        with shell.lock:
            return shell.state.refusals.credentials.seen(name_of(request))

    def _job(self, request: Any, credential: Credential) -> tuple[Job, Likeness | None]:
        """A job that sends `request`, and what that has in common with others."""
        tokens, estimate = self._cost(request)
        job = self._shell.new_job(self._options, tokens)
        job.credential, job.estimate = credential, estimate
        return job, None if estimate is None else estimate.like

    def _introduce(self, host: str, key: Any) -> None:
        """Tell the scheduler how the provider at `host`, which jobs of `key` are the first to talk
        to, enforces its limits.
        """
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add((host, key))
        self._shell.introduce(provider_at(host), key)

    async def _send_alone(self, job: Job, request: Any, like: Likeness | None, once: str) -> Any:
        """The function of `job`, which is this request and nothing else: its first send."""
        attempt: Attempt = job.attempt
        attempt.sent = True
        response = await self._send(attempt, request, like, job.credential)
        if once and attempt.is_refused(response):
            assert attempt.refusal is not None
            logger.warning("a request was refused (%s): %s", attempt.refusal.kind, once)
            response.extensions["headway"] = once
        return response

    async def _send_further(self, attempt: Attempt, request: Any, like: Likeness | None) -> Any:
        """A further send inside an attempt: it pays for itself, and needs no slot beside it."""
        shell, job = self._shell, attempt.job
        if not shell.enter(job):
            await shell.wait(job)
        around = None if shell.around is None else shell.around.send(job, attempt.send)
        try:
            return await self._send(attempt, request, like, job.credential)
        except BaseException:
            attempt.cancelled()
            raise
        finally:
            if around is not None:
                around.leave(job)

    async def _send(
        self, attempt: Attempt, request: Any, like: Likeness | None, credential: Credential | None
    ) -> Any:
        """A send in `attempt`. It is not retried here, but with the job's function."""
        assert credential is not None
        if self._prepare is not None:
            request = await self._prepare(request)
            credential = self._credential(request)
            if attempt.job.credential is not None:
                attempt.job.credential = credential
        if credential.latch is not None:
            repeated = self._replies.again(self._library, credential, request)
            if repeated is not None:
                response, refusal = repeated
                attempt.refused(refusal, response)
                return response
        until = self._until(self._shell.clock())
        attempt.method = request.method
        response = await self._headers(request)
        refusal = await self._refusal(request, response, attempt, credential, until)
        if refusal is not None:
            attempt.refused(refusal, response)
            return self._handed_on(response, refusal)
        with self._shell.lock:
            credential.successes += 1
        attempt.answered()
        return self._hold(request, like, response, attempt, until)

    def _handed_on(self, response: Any, refusal: Refusal) -> Any:
        """A refusal for whoever sent the request: an SDK must not repeat what is judged here."""
        # What asks for another key is not repeated here, but by whoever can fetch one.
        judged = refusal.kind.moves is not Moves.LATCH
        headers = response.headers
        if judged and self._retries and headers.get("x-should-retry") != "false":
            headers["x-should-retry"] = "false"
            headers[HANDED_ON] = "judged"
        return response

    @property
    def _retries(self) -> bool:
        return self._shell.state.refusals.retry.attempts > 1

    def _headers(self, request: Any) -> Awaitable[Any]:
        if self._options.attempt_timeout is None:
            sending: Awaitable[Any] = self._inner().handle_async_request(request)
            return sending
        return self._in_time(request, self._options.attempt_timeout)

    async def _in_time(self, request: Any, timeout: float) -> Any:
        with self._times.fail_after(timeout):
            return await self._inner().handle_async_request(request)

    async def _refusal(
        self,
        request: Any,
        response: Any,
        attempt: Attempt,
        credential: Credential,
        until: float | None,
    ) -> Refusal | None:
        """What a response says that is no success; its stream can still be read after."""
        kind, job, url = None, attempt.job, request.url
        if response.status_code == 401 and is_challenge(request, response):
            return None
        if response.status_code < 400:
            if self._is_refused is not None:
                kind = await self._judge(response, until)
            if kind is None:
                self._observe(response.headers, url, job.flow, job.started_at)
                return None
            response.status_code = kind.status
        body = await self._beginning(response)
        # What other errors say may quote the request, whose numbers are no limits.
        said = body if response.status_code == 429 else b""
        self._observe(response.headers, url, job.flow, job.started_at, said)
        refusal = refusal_from_response(
            response.status_code,
            response.headers,
            body,
            wall_time=time.time(),
            dialect=self._observe.dialect(url),
        )
        if refusal is not None:
            refusal = replace(refusal, message=hidden_in(refusal.message, request))
            if kind is not None:
                refusal = replace(refusal, kind=kind, typed=True)
        if refusal is not None and refusal.kind.moves is Moves.LATCH:
            with self._shell.lock:
                self._replies.keep(credential, response, body, refusal)
                if job.credential is None:  # else that is learned when its attempt ends
                    state, now = self._shell.state, self._shell.clock()
                    state.refusals.deny(credential, refusal, job.started_at, now)
        return refusal

    async def _judge(self, response: Any, until: float | None) -> Kind | None:
        """What the user's predicate says of a success, which is read for it by `until` where it is
        text; None for one that is too large to be shown.
        """
        assert self._is_refused is not None
        if not is_text(response.headers):
            return None
        stream = response.stream
        chunks: list[bytes] = []
        plain: list[bytes] = []
        size = 0
        try:
            decoder = Decoder(response.headers.get("content-encoding", ""), _MOST_DECODED)
            rest = stream.__aiter__()
            left = None if until is None else max(0.0, until - self._shell.clock())
            try:
                with self._times.fail_after(left):
                    async for chunk in rest:
                        chunks.append(chunk)
                        plain += decoder.feed(chunk)
                        size += len(chunk)
                        if size > _MOST_DECODED:
                            raise TooLarge
                        if not len(chunks) % PAUSE_EVERY:
                            await self._times.checkpoint()
            except TooLarge:
                response.stream = self._peeked(chunks, rest, stream, None)
                return None
            response.stream = self._peeked(chunks, _nothing(), stream, None)
            headers = response.headers.copy()
            headers.pop("content-encoding", None)
            # A copy: one that has been read cannot be streamed any more.
            whole = self._library.Response(
                response.status_code, headers=headers, content=b"".join(plain)
            )
            return kind_of(self._is_refused(whole))
        except InvalidEncoding as error:
            await response.aclose()
            raise self._library.DecodingError(f"the answer cannot be decoded: {error}") from error
        except BaseException:
            with self._times.shielded():
                await response.aclose()
            raise

    async def _beginning(self, response: Any) -> bytes:
        """The beginning of a refusal's body, as plain bytes."""
        chunks: list[bytes] = []
        rest = response.stream.__aiter__()
        size = 0
        failure: Exception | None = None
        with self._times.move_on_after(_PEEK_FOR) as limit:
            try:
                async for chunk in rest:
                    chunks.append(chunk)
                    size += len(chunk)
                    if size >= _PEEK:
                        break
            except Exception as error:  # the status and the headers have said enough
                failure = error
            except BaseException:
                with self._times.shielded():
                    await response.stream.aclose()
                raise
        if limit.cancelled_caught:
            failure = self._library.ReadTimeout(
                f"the rest of this refusal did not come within {duration(_PEEK_FOR)}"
            )
        response.stream = self._peeked(chunks, rest, response.stream, failure)
        return _decoded(response, b"".join(chunks))

    def _hold(
        self,
        request: Any,
        like: Likeness | None,
        response: Any,
        attempt: Attempt,
        until: float | None,
    ) -> Any:
        """`response`, whose stream holds the slot until it ends; one that is text, by `until`."""
        shell = self._shell
        read = response.is_closed  # by the transport inside: a cache, a mock
        events, encoded = kinds_of(response.headers)

        def end(kept: bytes, error: BaseException | None) -> None:
            if error is not None:
                attempt.broke_off(error)
                return
            if 300 <= response.status_code < 400:  # nothing was made of it
                attempt.drained(0.0)
                return
            plain = _decoded(response, kept) if encoded and not read else kept
            if events and (refusal := error_in_stream(plain)) is not None:
                attempt.refused_inside(refusal)
                return
            usage = _usage_of(request, response, plain)
            if usage.odd:
                shell.doubt(attempt.job.flow, usage.odd)
            used = usage.cost
            if used is None:
                attempt.drained(None)
                return
            if used > _PLAUSIBLE and not is_plausible(
                used, attempt.job.cost, len(plain) + size_of(request)
            ):
                with shell.lock:
                    shell.state.disbelieve(attempt.job, used, shell.clock())
                attempt.drained(None)
                return
            if like is not None and isinstance(self._estimator, Estimator):
                with shell.lock:
                    self._estimator.hear(like, usage)
            attempt.drained(used)

        if read:
            end(response.content, None)
            return response
        if until is not None and not is_text(response.headers):
            until = None
        response.stream = self._held(
            response.stream,
            end,
            lambda: shell.soon(lambda: attempt.drained(None)),
            None if until is None else partial(self._left, until),
        )
        return response

    def _inner(self) -> Any:
        """The transport that sends what is sent now."""
        raise NotImplementedError

    def _open(self) -> Any:
        most = self._shell.connections
        limits = self._library.Limits(max_connections=most, max_keepalive_connections=most)
        return getattr(self._library, self._names.http)(limits=limits)

    def _left(self, until: float) -> AbstractContextManager[Any, bool | None]:
        """Bounds what is read by that moment. Raises `TimeoutError` where it has passed."""
        left = until - self._shell.clock()
        if left <= 0:
            raise TimeoutError
        return self._times.fail_after(left)

    def _until(self, sent_at: float) -> float | None:
        limit = self._options.attempt_timeout
        return None if limit is None else sent_at + limit

    def _like(self, body: Mapping[str, Any], key: Any) -> Likeness:
        """What a request has in common with others; how its prompt begins only where a limit counts
        less for what a provider has in its cache.
        """
        if self._shell.state.discounts(key):
            return likeness_of(body)
        return Likeness(str(body.get("model")), 0)

    def _cost(self, request: Any) -> tuple[float | None, Estimate | None]:
        """The tokens to reserve for `request`, None where nothing counts them, and how they were
        estimated, None where the user says them. The body, which may be long, is read once.
        """
        options = self._options
        if options.tokens is not None and not callable(options.tokens):
            return options.tokens, None
        if not self._shell.state.counts_tokens(options.key):
            return None, None
        content = content_of(request)
        body = json_in(content)
        if not body:
            return None, None
        estimator = self._estimator
        if not isinstance(estimator, Estimator):
            return checked_tokens(estimator(body)), None
        with self._shell.lock:
            like = self._like(body, options.key)
            alone = is_prompt_alone(request.url.path)
            estimated = estimator.estimate_prompt if alone else estimator.estimate
            estimate = estimated(body, len(content), like)
            return estimate(), estimate


def _decoded(response: Any, raw: bytes) -> bytes:
    """`raw`, which may be the beginning of a compressed body of `response`, as plain bytes; b""
    where it is not what it says, or too large: the status and the headers must do.
    """
    encodings = response.headers.get("content-encoding")
    return decoded(encodings, raw, _MOST_DECODED) if encodings else raw


def _usage_of(request: Any, response: Any, plain: bytes) -> Tokens:
    """What the answer to `request`, whose body is `plain`, says that it used."""
    usage = said_in(plain)
    if usage.used is None and not usage.odd:
        usage = said_by_headers(response.headers)
    alone = usage.either and is_prompt_alone(request.url.path)
    return usage._replace(either=0) if alone else usage


def _unread(response: Any) -> None:
    """The usage of a response that is still to be read: its stream says it."""


async def _nothing() -> AsyncGenerator[bytes, None]:
    """The rest of a body of which all was read."""
    for chunk in list[bytes]():
        yield chunk
