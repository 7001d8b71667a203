"""A transport under a scheduler: one implementation for httpx and httpx2.

It *wraps* a transport of either library. A request waits for its permit before the inner transport,
and with it any HTTP timeout, ever sees it. The slot is held until the response's stream is closed,
read to its end or abandoned. Refusals are retried here, and the last one tells the SDK above, with
``x-should-retry: false``, not to retry again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import anyio

from headway._calls import checked_tokens
from headway._core.job import STARTED, Job
from headway._permit import PERMIT, Permit
from headway._shell import Shell
from headway.estimate import Estimator, usage_in
from headway.hints import Refusal, limits_from, refusal_from_response

if TYPE_CHECKING:
    from headway.scheduler import View

__all__ = ["Face", "HeldStream", "PeekedStream"]

logger = logging.getLogger("headway")

# How much of an error's body is read to classify it, and kept of an answer to find its usage.
_PEEK = 65_536
_KEEP = 262_144
_ENDS = 16_384  # of a longer one: so much of its beginning, and of its end

# Reading the headers costs half as much as the rest of a call: seconds between two readings.
_OBSERVE_EVERY = 0.25

INFINITY = float("inf")

_STREAMED = (
    "the body of this request is a stream, which cannot be sent again, so it was not retried. "
    "Fix: send it as bytes, or retry where the stream can be opened anew."
)

Shell.wrapped = True  # from now on attempts are to be seen by the transports that they call


class HeldStream:
    """A response's stream that gives the slot back when it ends, in whatever way.

    The faces derive from it and from their library's ``AsyncByteStream``. It is its own iterator:
    one generator less that a garbage collector has to end.
    """

    def __init__(
        self,
        stream: Any,
        end: Callable[[bytes, BaseException | None], None],
        abandon: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._chunks: Any = None
        self._end: Callable[[bytes, BaseException | None], None] | None = end
        self._abandon = abandon
        self._kept = bytearray()

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._chunks = self._stream.__aiter__()
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk: bytes = await self._chunks.__anext__()
        except StopAsyncIteration:
            self._finish(None)
            raise
        except BaseException as error:
            self._finish(error)
            raise
        kept = self._kept
        if len(kept) + len(chunk) > _KEEP:
            del kept[_ENDS:-_ENDS]  # usage stands at the beginning or at the end
        kept += chunk if len(chunk) <= _KEEP else chunk[:_ENDS] + chunk[-_ENDS:]
        return chunk

    async def aclose(self) -> None:
        """Close the inner stream, and give the slot back."""
        try:
            await self._stream.aclose()
        finally:
            self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(bytes(self._kept), error)

    def __del__(self) -> None:
        if getattr(self, "_end", None) is not None:
            self._abandon()


class PeekedStream:
    """The stream of a refusal of which the beginning has been read; it still gives all of it.

    `failure` is what reading the beginning ended with, and what reading all of it ends with.
    """

    def __init__(
        self, chunks: list[bytes], rest: Any, stream: Any, failure: Exception | None
    ) -> None:
        self._chunks = chunks
        self._rest = rest
        self._stream = stream
        self._failure = failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._failure is not None:
            raise self._failure
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        """Close the inner stream."""
        if isinstance(self._rest, AsyncGenerator):
            await self._rest.aclose()
        await self._stream.aclose()


class Face:
    """The transport of one library; a face names the library and its kinds of streams."""

    _library: Any
    _held: Any
    _peeked: Any
    _other: str

    def __init__(
        self,
        scheduler: View,
        transport: Any = None,
        *,
        tokens: Callable[[Mapping[str, Any]], float] | None = None,
        together_unit: Literal["second", "minute"] | None = None,
    ) -> None:
        self._shell = scheduler._shell
        self._options = scheduler._options
        if transport is None:
            capacity = self._shell.state.whole.capacity
            most = None if capacity == INFINITY else int(max(100, capacity))
            limits = self._library.Limits(max_connections=most, max_keepalive_connections=most)
            transport = self._library.AsyncHTTPTransport(limits=limits)
        if not isinstance(transport, self._library.AsyncBaseTransport):
            name = self._library.__name__
            raise TypeError(
                f"{type(transport).__module__}.{type(transport).__qualname__} is not an async "
                f"transport of {name}. Fix: pass one of {name}'s (AsyncHTTPTransport), or use "
                f"{self._other} for a client of the other library."
            )
        self._transport = transport
        self._estimator = Estimator() if tokens is None else tokens
        self._together_unit: Literal["second", "minute"] | None = together_unit
        self._observe_at = 0.0
        self._warned = False

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    async def aclose(self) -> None:
        """Close the wrapped transport and its connections."""
        await self._transport.aclose()

    async def warm(self, url: str, connections: int = 1) -> None:
        """Open `connections` (a number) to `url` at once, by HEAD requests that no limit counts.

        The first requests then do not arrive later than the next ones by a TLS handshake. What
        the server answers is of no interest; raises what the wrapped transport raises.
        """
        async with anyio.create_task_group() as group:
            for _ in range(connections):
                group.start_soon(self._open, url)

    async def _open(self, url: str) -> None:
        response = await self._transport.handle_async_request(self._library.Request("HEAD", url))
        await response.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        """Send `request` when the limits allow it; a response, refusals of the last try included.

        Raises what the wrapped transport raised last, and what `Scheduler.submit` raises.
        """
        if not isinstance(request, self._library.Request):
            raise TypeError(
                f"a request of {type(request).__module__.split('.')[0]} reached a transport of "
                f"{self._library.__name__}. Fix: give this client {self._other}.AsyncTransport."
            )
        self._look_for_repeats(request)
        shell, options = self._shell, self._options
        permit = PERMIT.get()
        if permit is None or permit.shell is not shell or not permit.valid:
            job = shell.new_job(options, self._cost(request))
            call = self._send(request, job, _repeatable(request))
        elif not permit.sent:
            permit.sent = True
            return await self._send_inside(permit, request)
        else:
            job = shell.new_job(options, self._cost(request))
            call = self._send_again(permit, request, job)
        return await (call if options.timeout is None else shell.within(job, options.timeout, call))

    async def _send(self, request: Any, job: Job, repeatable: bool) -> Any:
        """Send `request` by itself, again where it is refused and `repeatable`."""
        shell = self._shell
        shell.check_open()
        if not shell.enter(job):
            await shell.wait(job)
        while True:
            if shell.shared:
                await shell.acquire_shared(job)  # gives the permit back itself where it fails
            try:
                response = await self._attempt(request)
                self._observe(response, job)
                refusal = await self._refusal(response)
            except Exception as error:
                if not repeatable:
                    self._fail(job, error)
                shell.again(job, error)
            except BaseException:
                shell.cancel(job)
                raise
            else:
                if refusal is None:
                    shell.answered(job)
                    return self._hold(request, response, _Alone(shell, job))
                if not repeatable:
                    shell.refused(job, refusal)
                    logger.warning("a request was refused (%s): %s", refusal.kind, _STREAMED)
                    return _final(response)
                if shell.defer(job, refusal) is not None:
                    return _final(response)
                try:
                    await response.aclose()
                except Exception:
                    logger.debug("closing a refused response failed", exc_info=True)
                except BaseException:
                    shell.cancel(job)
                    raise
            if job.status != STARTED:
                await shell.wait(job)

    async def _attempt(self, request: Any) -> Any:
        if self._options.attempt_timeout is None:
            return await self._transport.handle_async_request(request)
        with anyio.fail_after(self._options.attempt_timeout):
            return await self._transport.handle_async_request(request)

    async def _send_again(self, permit: Permit, request: Any, extra: Job) -> Any:
        """A further send of a lease: it pays for itself, and needs no slot beside the lease's."""
        shell = self._shell
        extra.slots = 0
        extra.priority = INFINITY  # it holds a slot already: nobody else may be waited for
        if not shell.enter(extra):
            await shell.wait(extra)
        if shell.shared:
            await shell.acquire_shared(extra)
        shell.finish(extra, None)
        return await self._send_inside(permit, request)

    async def _send_inside(self, permit: Permit, request: Any) -> Any:
        """A send under a lease. It is not retried here: the one that holds the lease retries."""
        response = await self._attempt(request)
        self._observe(response, permit.job)
        if response.status_code >= 400:
            return _final(response)
        self._shell.answered(permit.job)
        permit.open += 1
        return self._hold(request, response, permit)

    def _observe(self, response: Any, job: Job) -> None:
        """Read the limits that a response states: of every refusal, of others now and then."""
        shell = self._shell
        now = shell.clock()
        if response.status_code < 400 and now < self._observe_at:
            return
        self._observe_at = now + _OBSERVE_EVERY
        hints = limits_from(
            response.headers, None, wall_time=time.time(), together_unit=self._together_unit
        )
        if hints:
            shell.state.observe(hints, job.flow, now)
            if shell.state.events:
                shell.poll()

    async def _refusal(self, response: Any) -> Refusal | None:
        """What a response of status 400 and above says; its stream can still be read after."""
        if response.status_code < 400:
            return None
        chunks: list[bytes] = []
        rest = response.stream.__aiter__()
        size = 0
        failure: Exception | None = None
        try:
            async for chunk in rest:
                chunks.append(chunk)
                size += len(chunk)
                if size >= _PEEK:
                    break
        except Exception as error:  # the status and the headers have said enough
            failure = error
        except BaseException:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            raise
        response.stream = self._peeked(chunks, rest, response.stream, failure)
        body = self._decoded(response, b"".join(chunks))
        return refusal_from_response(
            response.status_code, response.headers, body, wall_time=time.time()
        )

    def _decoded(self, response: Any, raw: bytes) -> bytes:
        """`raw`, which may be the beginning of a compressed body, as plain bytes."""
        if "content-encoding" not in response.headers:
            return raw
        encoding = {"content-encoding": response.headers["content-encoding"]}
        try:
            plain: bytes = self._library.Response(200, headers=encoding, content=raw).content
        except Exception:  # cut off, or not what it says: the status and the headers must do
            return b""
        return plain

    def _hold(self, request: Any, response: Any, permit: Permit | _Alone) -> Any:
        """`response`, whose stream holds the slot until it ends."""
        shell = self._shell
        read = response.is_closed  # by the transport inside: a cache, a mock

        def end(kept: bytes, error: BaseException | None) -> None:
            if error is not None:
                permit.stream_failed(error)
                return
            usage = usage_in(kept if read else self._decoded(response, kept))
            if usage is None:
                permit.stream_ended(None)
                return
            if isinstance(self._estimator, Estimator):
                self._estimator.learn(_json_of(request), usage[1])
            permit.stream_ended(usage[0])

        if read:
            end(response.content, None)
            return response
        response.stream = self._held(
            response.stream, end, lambda: shell.soon(lambda: permit.stream_ended(None))
        )
        return response

    def _cost(self, request: Any) -> float | None:
        """The tokens to reserve for `request`: None where nothing counts them."""
        options = self._options
        if options.tokens is not None and not callable(options.tokens):
            return options.tokens
        if not self._shell.state.counts_tokens(options.key):
            return None
        body = _json_of(request)
        return checked_tokens(self._estimator(body)) if body else None

    def _fail(self, job: Job, error: Exception) -> NoReturn:
        self._shell.fail(job, error)
        error.add_note(f"headway: {_STREAMED}")
        raise error

    def _look_for_repeats(self, request: Any) -> None:
        if self._warned or request.headers.get("x-stainless-retry-count", "0") == "0":
            return
        self._warned = True
        logger.warning(
            "the SDK above headway's transport repeats requests by itself, in its caller's slot "
            "and without the others' knowledge. Fix: build its client with max_retries=0."
        )


class _Alone:
    """The permit of a request that was sent under no lease: it ends with its response."""

    __slots__ = ("_job", "_shell")

    def __init__(self, shell: Shell, job: Job) -> None:
        self._shell = shell
        self._job = job

    def stream_ended(self, used: float | None) -> None:
        if self._job.status == STARTED:
            self._shell.finish(self._job, used)

    def stream_failed(self, error: BaseException) -> None:
        if self._job.status == STARTED:
            self._shell.broke_off(self._job, error)


def _final(response: Any) -> Any:
    """A refusal that is handed on: the SDK above must not repeat it."""
    response.headers["x-should-retry"] = "false"
    return response


def _repeatable(request: Any) -> bool:
    """Whether the body of `request` can be sent again: it is bytes, not a stream."""
    return type(request.stream).__name__ == "ByteStream"


def _json_of(request: Any) -> Mapping[str, Any]:
    """The JSON object that is the body of `request`, empty where it is something else."""
    if not _repeatable(request):
        return {}
    try:
        body = json.loads(request.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
