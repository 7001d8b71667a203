"""The two sides of a transport: for async clients, and for sync ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self

import anyio

from headway._http.arguments import ASYNC, SYNC, check_address, check_connections
from headway._http.blocking import BlockingTransport
from headway._http.times import LoopTimes, ThreadTimes
from headway._http.transport import Face
from headway._runtime.clock import is_over
from headway.errors import InvalidArgument
from headway.sync._driving import drive

__all__ = ["AsyncFace", "SyncFace"]


class AsyncFace(Face):
    """The transport of one library for its async clients, on one event loop after another; under a
    `headway.sync.Scheduler`, on several at once.
    """

    _times = LoopTimes()
    _names = ASYNC

    def __init__(self, scheduler: Any, transport: Any = None, **options: Any) -> None:
        super().__init__(scheduler, transport, **options)
        self._loop: object = None
        self._pools: dict[object, Any] = {}  # of each loop

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.lookout.closes(type(self).__module__)
        await self._transport.__aexit__(kind, error, traceback)

    async def aclose(self) -> None:
        """Close the wrapped transport and its connections."""
        self.lookout.closes(type(self).__module__)
        await self._transport.aclose()

    async def warm(self, url: str, connections: int = 1, *, timeout: float = 10) -> None:
        """Open `connections` (a number) to `url` at once, by HEAD requests that no limit counts.

        The first requests then do not arrive later than the next ones by a TLS handshake. What
        the server answers is of no interest; raises what the wrapped transport raises, and
        `TimeoutError` after `timeout` seconds. Raises `InvalidArgument` for values that
        cannot be meant.
        """
        check_address(url, self._library)
        check_connections(connections, timeout)
        failures: list[Exception] = []

        async def open_one() -> None:
            try:
                response = await self._transport.handle_async_request(
                    self._library.Request("HEAD", url)
                )
                await response.aclose()
            except Exception as error:
                failures.append(error)
                group.cancel_scope.cancel()

        with anyio.fail_after(timeout):
            async with anyio.create_task_group() as group:
                for _ in range(connections):
                    group.start_soon(open_one)
        if failures:
            raise failures[0]

    async def handle_async_request(self, request: Any) -> Any:
        """Send `request` when the limits allow it; a response, refusals of the last try included.

        Raises what the wrapped transport raised last, and what `Scheduler.submit` raises.
        """
        return await self._handle(request)

    def _inner(self) -> Any:
        if not self._ours or self._loop is (loop := self._shell.loop):
            return self._transport
        # The connections of another loop are of no use.
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._transport if self._loop is None else self._open()
            self._pools = {each: old for each, old in self._pools.items() if not is_over(each)}
            self._pools[loop] = pool
        self._loop, self._transport = loop, pool
        return pool

    # A sync client

    def __enter__(self) -> NoReturn:
        self._refuse()

    def handle_request(self, request: object) -> NoReturn:
        """Raise `InvalidArgument`: a sync client sends through it."""
        self._refuse()

    def close(self) -> None:
        """A sync client, which could not use it, is closed."""

    def _refuse(self) -> NoReturn:
        here = type(self).__module__
        raise InvalidArgument(
            f"{here}.AsyncTransport is for async clients, and a sync one sends through it",
            fix=f"{here}.Transport(headway.sync.Scheduler(...)) for a {self._library.__name__}."
            "Client.",
        )


class SyncFace(Face):
    """The transport of one library for its sync clients, in any number of threads."""

    _times = ThreadTimes()
    _names = SYNC
    _both: ClassVar[Any]  # how a stream of the transport inside is read, see `BlockingTransport`

    def __init__(self, scheduler: Any, transport: Any = None, **options: Any) -> None:
        super().__init__(scheduler, transport, **options)
        self._blocking = BlockingTransport(self._transport, self._both)

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.lookout.closes(type(self).__module__)
        self._transport.__exit__(kind, error, traceback)

    def close(self) -> None:
        """Close the wrapped transport and its connections."""
        self.lookout.closes(type(self).__module__)
        self._transport.close()

    def warm(self, url: str, connections: int = 1, *, timeout: float = 10) -> None:
        """Open `connections` (a number) to `url` at once, by HEAD requests that no limit counts.

        The first requests then do not arrive later than the next ones by a TLS handshake. What
        the server answers is of no interest; raises what the wrapped transport raises, after
        `timeout` seconds its own timeout. Raises `InvalidArgument` for values that cannot be meant.
        """
        check_address(url, self._library)
        check_connections(connections, timeout)
        limits = self._library.Timeout(timeout).as_dict()

        def open_one(_: int) -> None:
            request = self._library.Request("HEAD", url, extensions={"timeout": limits})
            self._transport.handle_request(request).close()

        with ThreadPoolExecutor(connections) as threads:
            for _ in threads.map(open_one, range(connections)):
                pass

    def handle_request(self, request: Any) -> Any:
        """Send `request` when the limits allow it; a response, refusals of the last try included.

        Raises what the wrapped transport raised last, and what `Scheduler.submit` raises.
        """
        return drive(self._handle(request))

    def _inner(self) -> Any:
        return self._blocking

    # An async client

    async def __aenter__(self) -> NoReturn:
        self._refuse()

    async def handle_async_request(self, request: object) -> NoReturn:
        """Raise `InvalidArgument`: an async client sends through it."""
        self._refuse()

    async def aclose(self) -> None:
        """An async client, which could not use it, is closed."""

    def _refuse(self) -> NoReturn:
        here = type(self).__module__
        raise InvalidArgument(
            f"{here}.Transport is for sync clients, and an async one sends through it",
            fix=f"{here}.AsyncTransport(scheduler) for a {self._library.__name__}.AsyncClient; it "
            "takes a headway.sync.Scheduler too.",
        )
