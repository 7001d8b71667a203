"""A run: a source of items, workers that take one item at a time, and a sink of outcomes.

The workers are started one by one, as long as there are items, up to the concurrency. They stop
taking items while too many outcomes wait for the consumer, so that memory is bounded at both ends.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from headway._core.queue.job import Job
from headway._runtime.calls import Options
from headway._runtime.shell import Shell
from headway.errors import InvalidArgument
from headway.kinds._words import with_fix

__all__ = ["END", "NO_KWARGS", "Execute", "Workers", "most_workers", "window"]

INFINITY = float("inf")

END: Any = object()
"""What a source or a sink gives when it has nothing (more) to give."""

NO_KWARGS: Mapping[str, Any] = MappingProxyType({})

# Without a concurrency limit a run still needs a bound: at most this many calls at once.
MOST_WORKERS = 1000

# Beyond the slots, where others compete: jobs that stand in the queue for the next permit.
_STANDING_BY = 16

# Seconds that workers which never have to wait keep the event loop to themselves.
_TIME_SLICE = 0.001

Execute = Callable[[Job, Any], Awaitable[Any]]
Deliver = Callable[[int, Any, "Job | None", Any, "Exception | None"], None]


def most_workers(shell: Shell, workers: int) -> int:
    """How many workers a run that has so many may have: one for each slot, more where others
    compete.
    """
    capacity = shell.state.whole.capacity
    slots = MOST_WORKERS if capacity == INFINITY else int(capacity)
    competing = shell.state.in_flight + len(shell.parked) > workers
    return slots + _STANDING_BY if competing else slots


def window(workers: int) -> int:
    """How many items a run of so many workers may take before their outcomes are consumed."""
    return 2 * workers + _STANDING_BY


class Workers:
    """The workers of one run, and their common state."""

    def __init__(
        self, shell: Shell, options: Options, execute: Execute, items: object, deliver: Deliver
    ) -> None:
        self.shell = shell
        self.taken = 0  # items, so far
        self.consumed = 0
        self.window = INFINITY  # how many may be taken and not consumed
        self.error: BaseException | None = None  # of the source, or what ended the run
        self.unclosed: Exception | None = None  # what closing the source raised
        self._over = False
        self._options = options
        self._execute = execute
        self._deliver = deliver
        self._next, self._pull, self._close = _source(items)
        self._pulling = anyio.Lock() if self._pull is not None else None
        self._crew: TaskGroup | None = None
        self._workers = 0
        self._most = 1
        self._slice_ends_at = 0.0
        self._yielding = False
        self._resize_at = 0.0
        self._last: object = None  # the worker whose call ended last
        self._stalled: deque[anyio.Event] = deque()
        self._changed: anyio.Event | None = None

    def start(self, group: TaskGroup) -> None:
        """Start the first worker in `group`."""
        self._most = self.slots()
        self._workers = 1
        # A crew of their own, so that ending the run does not cancel the consumer.
        group.start_soon(self._supervise)

    def stop(self, error: BaseException | None = None) -> None:
        """Take no more items and cancel what runs; `error` is what ended the run."""
        self._over = True
        if self.error is None:
            self.error = error
        if self._crew is not None:
            self._crew.cancel_scope.cancel()
        self.wake()

    def slots(self) -> int:
        """How many workers there may be: as many as the slots, more where others compete."""
        return most_workers(self.shell, self._workers)

    def open_window(self) -> None:
        """Bound what may be taken and not consumed, by the slots as they are and will be."""
        self.window = window(self.slots())

    def consume(self) -> None:
        """The consumer took an outcome. At half the window a worker goes on, and wakes others."""
        self.consumed += 1
        if self._stalled and self.taken - self.consumed == self.window // 2:
            self._stalled.popleft().set()

    def wake(self) -> None:
        """Let the consumer look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def changed(self) -> None:
        """Wait until there may be something new for the consumer."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    @property
    def done(self) -> bool:
        """Whether all workers have ended."""
        return not self._workers

    async def _supervise(self) -> None:
        try:
            async with anyio.create_task_group() as self._crew:
                self._crew.start_soon(self._work)
        finally:
            # Now, not whenever a garbage collector comes by: it may hold a file or a connection.
            if self._close is not None:
                try:
                    await self._close()
                except Exception as error:
                    self.unclosed = error

    # In one function: each call of another would be paid by every item.
    async def _work(self) -> None:  # noqa: C901, PLR0915 - see above
        shell, options = self.shell, self._options
        state, clock, standing = shell.state, shell.clock, shell.standing
        me = object()
        new, execute, deliver, pulling = shell.job, self._execute, self._deliver, self._pulling
        take = self._next
        woken = False  # one that goes on after a stall wakes the next, once it has an item
        try:
            while not self._over:
                if self.taken - self.consumed >= self.window:
                    await self._stall()
                    woken = True
                    continue
                item = take() if pulling is None else await self._take()
                if item is END:
                    self._over = True
                    break
                index = self.taken
                self.taken = index + 1
                if state.waiting.size >= standing:
                    await shell.room()
                # After that: of a run one stands where there is no room, and not all of them.
                if self._workers < self._most:
                    self._start_worker()
                if woken:
                    woken = False
                    if self._stalled:
                        self._stalled.popleft().set()
                job = None
                try:
                    args = (item,)
                    job = new(options, args, NO_KWARGS)
                    job.accepted = True  # it has waited for room
                    result = await execute(job, args)
                except Exception as error:
                    deliver(index, item, job, None, error)
                except CancelledError as error:  # asyncio's
                    deliver(index, item, job, None, _not_ours(error))
                except BaseException as error:
                    if isinstance(error, anyio.get_cancelled_exc_class() | GeneratorExit):
                        raise
                    self.stop(error)  # an exit or an interrupt: for the caller, as it is
                else:
                    deliver(index, item, job, result, None)
                now = clock()
                if now >= self._resize_at:
                    self._resize_at = now + _TIME_SLICE
                    self._most = self.slots()
                    self._resize()
                if self._last is not me:
                    self._last = me  # others ran while its call was awaited: the loop turns
                elif now >= self._slice_ends_at:
                    await self._yield_to_loop()
        except Exception as error:  # of the source
            self.stop(error)
        finally:
            self._workers -= 1
            if not self._workers:
                self.wake()
            while self._over and self._stalled:
                self._stalled.popleft().set()

    def _resize(self) -> None:
        """Follow the concurrency with the window; where it has grown those that stalled go on."""
        before = self.window
        if before < INFINITY:
            self.open_window()
            if self.window > before and self._stalled:
                self._stalled.popleft().set()

    async def _yield_to_loop(self) -> None:
        """Let the loop turn. Of all workers one at a time starts the next stint, at its end."""
        if self._yielding:
            await checkpoint()
            return
        self._yielding = True
        try:
            await checkpoint()
        finally:
            self._yielding = False
        self._slice_ends_at = self.shell.clock() + _TIME_SLICE

    def _start_worker(self) -> None:
        assert self._crew is not None
        self._workers += 1
        self._crew.start_soon(self._work)

    async def _stall(self) -> None:
        event = anyio.Event()
        self._stalled.append(event)
        await event.wait()

    async def _take(self) -> Any:
        assert self._pulling is not None
        assert self._pull is not None
        async with self._pulling:
            return END if self._over else await self._pull()


_Awaited = Callable[[], Awaitable[Any]]


def _source(items: object) -> tuple[Callable[[], Any], _Awaited | None, _Awaited | None]:
    """How to take the next item, `END` after the last: at once, or by awaiting; how to close."""
    if isinstance(items, AsyncIterable):
        iterator = aiter(items)

        async def pull() -> Any:
            return await anext(iterator, END)

        return _no_item, pull, iterator.aclose if isinstance(iterator, AsyncGenerator) else None
    if isinstance(items, Iterable):
        return partial(next, iter(items), END), None, None
    raise InvalidArgument(
        f"items must be an iterable or an async iterable, not {type(items).__name__}",
        fix="a list, a generator, a range, or an async generator.",
    )


def _not_ours(error: CancelledError) -> Exception:
    """What a call failed with that somebody else cancelled: in a task of ours it would be lost.

    Raises `error` where the task itself is being cancelled.
    """
    task = current_task()
    if task is None or task.cancelling():
        raise error
    failure = RuntimeError(
        with_fix(
            "something that this call awaited was cancelled, and the call with it",
            "shield what several calls share (asyncio.shield), or catch the CancelledError in the "
            "call.",
        )
    )
    failure.__cause__ = error
    return failure


def _no_item() -> Any:
    return END
