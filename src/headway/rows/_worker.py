"""What a process does for `Ask`: one scheduler and one client, on an event loop in a thread.

Engines call row functions from loops that come and go, from several threads, and from code that has
no loop at all. In a thread of its own the scheduler outlives all of them, and its limits hold for
the whole process.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import anyio
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import current_token

from headway._core.counters import Statistics
from headway._core.refusals.retry import Retry
from headway.bulk.input.formats import Request, estimate_tokens
from headway.bulk.output.table import answer_of
from headway.bulk.send import Answered, Sender, describe, tokens_used
from headway.errors import InvalidArgument
from headway.providers import Endpoint, provider_of
from headway.rates import Limits
from headway.scheduler import Scheduler, View, scheduler_under
from headway.shared import Shared

__all__ = ["Said", "Setup", "Worker", "arrived", "result_of", "retire", "worker_of"]

R = TypeVar("R")

_LAST = 5.0  # seconds that the end of a process waits for a worker to leave
_STANDING = 1000  # rows of batches that stand in the queue: others are no tasks yet


class Said(NamedTuple):
    """What became of a row: the text of its answer, or why there is none; its tokens, if known."""

    text: str | None
    error: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker is made of. Two that are equal are one worker."""

    endpoint: Endpoint
    model: str
    limits: Limits
    shared: str | Shared | None = field(repr=False)  # an address may hold a password
    retry: Retry
    timeout: float


class Worker:
    """The scheduler of a `Setup` in this process. Raises what `Scheduler` raises."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        ready: Future[tuple[BlockingPortal, Scheduler, View, Sender]] = Future()
        self._thread = threading.Thread(
            target=self._live, args=(ready,), name="headway-rows", daemon=True
        )
        self._thread.start()
        self._portal, self._scheduler, self._calls, self._sender = ready.result()

    def _live(self, ready: Future[Any]) -> None:
        try:
            anyio.run(self._serve, ready)
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)

    async def _serve(self, ready: Future[Any]) -> None:
        setup = self._setup
        scheduler = scheduler_under(setup.limits, retry=setup.retry, shared=setup.shared)
        scheduler._shell.introduce(provider_of(setup.endpoint))
        scheduler._shell.standing = _STANDING
        self._turn = anyio.Semaphore(1)
        calls = scheduler.with_options(tokens=estimate_tokens, usage=tokens_used)
        async with (
            scheduler,
            Sender(setup.endpoint, scheduler, None, timeout=setup.timeout) as sender,
            BlockingPortal() as portal,
        ):
            ready.set_result((portal, scheduler, calls, sender))
            await portal.sleep_until_stopped()

    @property
    def lives(self) -> bool:
        """Whether it takes calls."""
        return self._thread.is_alive()

    def start(self, fn: Callable[..., Awaitable[R]], *args: Any) -> Future[R]:
        """Call ``fn(*args)`` in its loop. Raises `RuntimeError` where it has ended."""
        return self._portal.start_task_soon(fn, *args)

    def stop(self) -> None:
        """Cancel what it does, give back what it holds of shared limits, and end."""
        with suppress(RuntimeError):  # it has ended
            self._portal.start_task_soon(self._portal.stop, True)
        self._thread.join(_LAST)

    async def statistics(self) -> Statistics:
        """Those of its scheduler."""
        return self._scheduler.statistics()

    async def answer(self, request: Request) -> Said:
        """What becomes of `request`. Raises `InvalidArgument` where the limits that are shared are
        others than these.
        """
        try:
            answered = await self._calls.submit(self._sender.ask, request)
        except Exception as error:
            return self._failed(error)
        return _said(answered)

    async def answers(self, requests: Sequence[Request]) -> list[Said]:
        """What becomes of each of them, in their order. Raises what `answer` raises."""
        outcomes = await self._calls.map(
            self._sender.ask, self._in_turn(requests), return_exceptions=True
        )
        return [
            self._failed(each) if isinstance(each, Exception) else _said(each) for each in outcomes
        ]

    async def _in_turn(self, requests: Sequence[Request]) -> AsyncGenerator[Request, None]:
        """`requests` once those of the batches before have been taken: an engine may hand over all
        of its batches at once.
        """
        async with self._turn:
            for request in requests:
                yield request

    def _failed(self, error: Exception) -> Said:
        if isinstance(error, InvalidArgument):
            raise error
        code, message, _ = describe(error)
        return Said(None, f"{code}: {self._sender.hide(message)}")


def _said(answered: Answered) -> Said:
    tokens = answered.tokens
    return Said(answer_of(answered.answer.body), None, tokens.read, tokens.written)


# -- a process's workers -----------------------------------------------------------------------

_workers: dict[Setup, Worker] = {}
_lock = threading.Lock()
_of_parents: list[dict[Setup, Worker]] = []


def worker_of(setup: Setup) -> Worker:
    """The worker of `setup` in this process, made where there is none."""
    with _lock:
        if not _workers:
            _end_with_the_process()
        worker = _workers.get(setup)
        if worker is None or not worker.lives:
            worker = _workers[setup] = Worker(setup)
        return worker


def retire(setup: Setup) -> None:
    """End the worker of `setup` in this process, if there is one."""
    with _lock:
        worker = _workers.pop(setup, None)
    if worker is not None:
        worker.stop()


def _retire_all() -> None:
    for setup in list(_workers):
        retire(setup)


def _begin_anew() -> None:
    """A fork has the objects of its parent's workers, and not their threads.

    They are kept: to collect them would close descriptors that the parent's event loop watches.
    """
    global _workers, _lock
    _of_parents.append(_workers)
    _workers, _lock = {}, threading.Lock()


def _end_with_the_process() -> None:
    """Have a fork of `multiprocessing`, or of its twin that `datasets` uses, give back at its end
    what it holds: a fork runs nothing of `atexit`.
    """
    for name in ("multiprocessing.util", "multiprocess.util"):
        if (util := sys.modules.get(name)) is not None:
            util.Finalize(None, _retire_all, exitpriority=10)


atexit.register(_retire_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


# -- waiting for it ----------------------------------------------------------------------------


def result_of(future: Future[R]) -> R:
    """Its result, for which this thread waits; cancelled where that is interrupted."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def arrived(future: Future[R]) -> R:
    """Its result, for which this task waits, of whatever event loop; cancelled with the task."""
    event = anyio.Event()
    loop: Any = current_token()
    loop = getattr(loop, "native_token", loop)
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it the task
            soon(event.set)

    future.add_done_callback(wake)
    try:
        await event.wait()
    finally:
        future.cancel()
    return future.result()
