"""Virtual time: where every task waits, the clock jumps to the next timer.

An hour of limits takes milliseconds. On asyncio it is an event loop, on trio its own ``MockClock``.
Work in a thread that a task awaits takes real time, and so does everything meanwhile. Nothing of
the world outside follows: a socket would look slower than every timeout, so opening one is an
error.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from asyncio import BaseEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar, TypeVarTuple, Unpack
from unittest import mock
from weakref import WeakKeyDictionary

import anyio

from headway.errors import HeadwayError, InvalidArgument, MissingExtra
from headway.kinds._words import shown

__all__ = [
    "BACKENDS",
    "Backend",
    "NoRealSockets",
    "NothingWakes",
    "VirtualClock",
    "VirtualLoop",
    "virtual_backend",
    "virtual_clock",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Backend: TypeAlias = Literal["asyncio", "trio"]
BACKENDS: tuple[Backend, Backend] = ("asyncio", "trio")

_BEGINS = 1_000.0  # seconds, on the clock of a virtual loop of asyncio's
_PATIENCE = 1.0  # real seconds: threads that were there before the loop have mostly other work


class NoRealSockets(HeadwayError, RuntimeError):
    """A socket was opened, or an address looked up, under a virtual clock."""


class NothingWakes(HeadwayError, RuntimeError):
    """Every task waits, and nothing is left that could wake one: the test would hang."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: where nothing is ready the time of the loop jumps instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:  # no timer at all: only a thread or a file can wake the loop
            patience = self.loop._patience(len(self.get_map()))
            ready = super().select(patience)
            if not ready and patience is not None:
                self.loop._nothing_wakes()
            return ready
        ready = super().select(0)
        if ready or timeout <= 0:
            return ready
        if not self.loop._awaits_a_thread():
            self.loop.now += timeout
            return ready
        began = time.monotonic()
        ready = super().select(timeout)
        self.loop.now += min(time.monotonic() - began, timeout) if ready else timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop of asyncio's on which hours take milliseconds: a ``loop_factory``.

    Raises `NoRealSockets` where a socket is opened on it, and `NothingWakes` where a real loop
    would wait for ever.
    """

    def __init__(self) -> None:
        self.now = _BEGINS
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)
        self._own_files = len(selector.get_map())
        self._in_executors = 0  # calls in threads that are awaited
        self._older = {*threading.enumerate()}

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call ``func(*args)`` in a thread, meanwhile on real time."""
        future = super().run_in_executor(executor, func, *args)
        self._in_executors += 1
        future.add_done_callback(self._left_an_executor)
        return future

    def _left_an_executor(self, _: object) -> None:
        self._in_executors -= 1

    def _awaits_a_thread(self) -> bool:
        """Whether a task waits for what runs in a thread: asyncio's, or anyio's."""
        if self._in_executors:
            return True
        if threading.active_count() == 1:
            return False
        # The loop sees nothing of what anyio does. Its threads name the loop that they work for.
        workers = [each for each in threading.enumerate() if getattr(each, "loop", None) is self]
        if all(each in getattr(each, "idle_workers", ()) for each in workers):
            return False
        return any(_is_in(each.get_coro(), _ANYIO_S) for each in asyncio.all_tasks(self))

    def _patience(self, files: int) -> float | None:
        """Real seconds for which something could still wake a task; None for ever."""
        others = {*threading.enumerate()} - {threading.current_thread()}
        if files > self._own_files or others - self._older:
            return None
        return _PATIENCE if others else 0.0

    def _nothing_wakes(self) -> NoReturn:
        waiting = [task for task in asyncio.all_tasks(self) if not task.done()]
        raise NothingWakes(
            "every task waits, no timer is set, and nothing else could wake one: "
            + "; ".join(sorted(map(_where, waiting))),
            fix="look for a lock, an event or a queue that nobody sets, or a sync call from "
            "within a task.",
        )

    async def _no_connections(self, *_: object, **__: object) -> NoReturn:
        """Raise `NoRealSockets`."""
        raise _no_sockets()

    create_connection = _no_connections
    create_datagram_endpoint = _no_connections
    create_server = _no_connections
    create_unix_connection = _no_connections
    create_unix_server = _no_connections
    getaddrinfo = _no_connections
    sock_accept = _no_connections
    sock_connect = _no_connections


# The functions that await a thread: the name, and the end of the file.
_ANYIO_S = ("run_sync_in_worker_thread", "_asyncio.py")
_TRIO_S = ("to_thread_run_sync", "_threads.py")


def _is_in(coroutine: Any, function: tuple[str, str]) -> bool:
    """Whether `coroutine` awaits, at whatever depth, that `function`."""
    name, file = function
    while coroutine is not None:
        code = getattr(coroutine, "cr_code", None)
        if code is not None and code.co_name == name and code.co_filename.endswith(file):
            return True
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return False


def _where(task: asyncio.Task[Any]) -> str:
    """Where `task` waits: its name, and the innermost line that is not the loop's."""
    frames = task.get_stack()
    if not frames:
        return task.get_name()
    code = frames[-1].f_code
    return f"{task.get_name()} in {code.co_qualname}, {code.co_filename}:{frames[-1].f_lineno}"


def _no_sockets() -> NoRealSockets:
    return NoRealSockets(
        "a real socket was asked for under a virtual clock, on which every timeout is over before "
        "a byte has come",
        fix="let the client send to a FakeProvider's transport(), or take the test off the "
        "virtual clock.",
    )


@contextmanager
def sockets_told() -> Iterator[None]:
    """Raise the `NoRealSockets` of a group of errors, where it holds no other, in the place of the
    group: who opens a connection does so in tasks, and below their group it stands on a third page.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        if group.split(NoRealSockets)[1] is not None:
            raise
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error.with_traceback(group.__traceback__) from None


class VirtualClock:
    """What `virtual_clock` yields: the time that has passed on the loops of its block."""

    def __init__(self) -> None:
        self._clocks: list[tuple[Callable[[], float], float]] = []

    @property
    def loops(self) -> int:
        """How many event loops began in the block."""
        return len(self._clocks)

    @property
    def elapsed(self) -> float:
        """The virtual seconds that passed, on all of its loops together."""
        return sum(now() - began for now, began in self._clocks)

    def _loop(self) -> VirtualLoop:
        loop = VirtualLoop()
        self._clocks.append((loop.time, loop.now))
        return loop

    def _trio(self, start: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run trio by `start`, on a clock that jumps where none was chosen."""
        if options.get("clock") is None:
            options["clock"] = clock = _trio_clock()
            self._clocks.append((clock.current_time, clock.current_time()))
        return start(*arguments, **options)


@contextmanager
def virtual_clock() -> Iterator[VirtualClock]:
    """Whatever event loop begins in this block runs on virtual time: ``asyncio.run``,
    ``anyio.run``, ``trio.run`` and the loops of test frameworks that choose none themselves.

    A loop that runs already keeps its time. Raises `NoRealSockets` and `NothingWakes`, from what
    runs in it.
    """
    clock = VirtualClock()
    patches = [
        mock.patch("asyncio.new_event_loop", clock._loop),
        mock.patch("asyncio.events.new_event_loop", clock._loop),
    ]
    if find_spec("trio"):
        import trio

        guest = trio.lowlevel.start_guest_run
        patches += [
            mock.patch("trio.run", partial(clock._trio, trio.run)),
            mock.patch("trio.lowlevel.start_guest_run", partial(clock._trio, guest)),
        ]
    for patch in patches:
        patch.start()
    try:
        with sockets_told():
            yield clock
    finally:
        for patch in reversed(patches):
            patch.stop()


def virtual_backend(name: Backend = "asyncio", /) -> tuple[str, dict[str, Any]]:
    """What anyio's pytest plugin takes for an ``anyio_backend`` on virtual time.

    Raises `InvalidArgument` for a loop that is neither asyncio's nor trio's, and `MissingExtra`
    for trio's where it is not installed.
    """
    if name == "asyncio":
        return name, {"loop_factory": VirtualLoop}
    if name == "trio":
        if not find_spec("trio"):
            raise MissingExtra(
                "a virtual clock of trio's needs the package trio, which is not installed",
                fix="install it with: pip install trio",
            )
        return name, {"clock": _trio_clock()}
    raise InvalidArgument(
        f"{shown(name)} is no event loop that anyio knows", fix='"asyncio" or "trio".'
    )


def _trio_clock() -> Any:
    """A ``MockClock`` that jumps as soon as all tasks wait, in a run that opens no socket."""
    import trio
    from trio.testing import MockClock

    class NoSockets(trio.abc.SocketFactory, trio.abc.HostnameResolver):
        def socket(self, *_: object, **__: object) -> NoReturn:
            raise _no_sockets()

        async def getaddrinfo(self, *_: object, **__: object) -> NoReturn:
            raise _no_sockets()

        async def getnameinfo(self, *_: object, **__: object) -> NoReturn:
            raise _no_sockets()

    clock = MockClock(autojump_threshold=0)
    start = clock.start_clock

    class Threads(trio.abc.Instrument):
        """Has the clock follow the real one while a task waits for a thread."""

        def __init__(self) -> None:
            self._waiting: set[object] = set()

        def before_task_step(self, task: Any) -> None:
            if task in self._waiting:
                self._waiting.discard(task)
                self._follow()

        def after_task_step(self, task: Any) -> None:
            if threading.active_count() > 1 and _is_in(task.coro, _TRIO_S):
                self._waiting.add(task)
                self._follow()

        def task_exited(self, task: Any) -> None:
            self._waiting.discard(task)

        def _follow(self) -> None:
            clock.rate = 1.0 if self._waiting else 0.0
            clock.autojump_threshold = math.inf if self._waiting else 0

    def start_without_sockets() -> None:
        start()
        trio.lowlevel.add_instrument(Threads())
        trio.socket.set_custom_socket_factory(NoSockets())
        trio.socket.set_custom_hostname_resolver(NoSockets())

    clock.start_clock = start_without_sockets  # type: ignore[method-assign]  # - final
    return clock


class Follower:
    """The time on the clock of whoever asks, in seconds, for something that outlives event loops.

    A virtual clock shows its own time; real loops, and threads without one, the machine's. Where
    another clock comes later, time goes on from what was seen last.
    """

    def __init__(self) -> None:
        self._offsets: WeakKeyDictionary[object, float] = WeakKeyDictionary()
        self._last: float | None = None

    def now(self) -> float:
        """The time; it never runs backwards."""
        whose, clock = _running_clock()
        whose = whose or self  # the machine's
        shows = clock()
        if whose not in self._offsets:
            self._offsets[whose] = 0.0 if self._last is None else self._last - shows
        now = shows + self._offsets[whose]
        self._last = now if self._last is None else max(now, self._last)
        return self._last


def _running_clock() -> tuple[object | None, Callable[[], float]]:
    """The virtual clock that runs here, and how to read it; None for the machine's."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        real = type(loop).time is BaseEventLoop.time or type(loop).__module__.startswith("uvloop")
        return (None, time.monotonic) if real else (loop, loop.time)
    try:
        anyio.current_time()
    except RuntimeError:  # no event loop runs in this thread
        return None, time.monotonic
    from trio.lowlevel import current_clock

    clock = current_clock()
    if type(clock).__name__ == "SystemClock":  # it shows the machine's time, and a random offset
        return None, time.monotonic
    return clock, clock.current_time
