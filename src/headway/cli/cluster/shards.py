"""The shards of ``headway run --dask``: what a worker does of them, and what they are together.

A worker imports this module alone of the command line. A shard is a bulk run with a journal beside
its output: one whose worker was lost is begun again elsewhere, and goes on where it was.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from headway import Retry, Scheduler, __version__, bulk
from headway.bulk.output.lock import Busy
from headway.bulk.output.replaced import identity_of
from headway.errors import HeadwayError
from headway.rates import Limits
from headway.scheduler import scheduler_under

__all__ = [
    "CANCEL", "DRAIN", "Met", "ShardEnd", "ShardState", "ShardTask", "dask_setup", "look", "meet",
    "together", "work",
]  # fmt: skip

DRAIN, CANCEL = 1, 2  # what a run is asked for, each more than the one before; 0 is nothing

_UNSEEN = 120.0  # seconds without a look after which a shard takes its run for dead
_BUSY = 150.0  # seconds that another process may hold an output: one that is unseen lets it go
_LONGEST_NAP = 10.0
_LEAVING = 5.0


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard of one session of a run. `target` is the output of the whole; `found` tells the
    rows that stood at `output` when the session began (`identity_of`).
    """

    session: str
    source: str
    output: Path
    target: str
    options: bulk.RunOptions
    limits: Limits
    patience: float
    endpoint: bulk.Endpoint
    shared: str
    found: int

    def __repr__(self) -> str:
        # Dask writes the arguments of what failed into its log.
        return f"ShardTask({self.output.name!r})"


@dataclass(frozen=True, slots=True)
class ShardState:
    """How far a shard is that a worker has begun; `attempt` differs each time that one does."""

    index: int
    attempt: str
    progress: bulk.Progress | None


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """How a shard ended: `progress` is None where it was not begun, `error` what it met."""

    index: int
    attempt: str
    progress: bulk.Progress | None
    error: HeadwayError | OSError | None = None

    @property
    def given_up(self) -> bool:
        """Whether it ended before its lines did, with no reason of its own: its worker was about to
        close, or took its run for dead.
        """
        if self.error is not None:
            return False
        progress = self.progress
        return progress is None or (progress.stopped is None and bool(progress.remaining))


@dataclass(frozen=True, slots=True)
class Met:
    """A worker: its version of headway, and whether it sees the run's files."""

    version: str
    sees_source: bool
    sees_output: bool


def _this_worker() -> Any:
    """The worker of dask's whose task runs in this thread; None where there is none."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


@dataclass(slots=True)
class _Running:
    task: ShardTask
    attempt: str = field(default_factory=lambda: os.urandom(8).hex())
    progress: bulk.Progress | None = None
    asked: int = 0
    seen: float = field(default_factory=time.monotonic)
    worker: Any = field(default_factory=_this_worker)

    @property
    def index(self) -> int:
        shard = self.task.options.shard
        assert shard is not None
        return shard.index

    def wanted(self, now: float) -> int:
        """What it is asked for, at `now` of the monotonic clock."""
        # One that closes waits for its tasks, and is killed where they take too long.
        closing = self.worker is not None and self.worker.status.name.startswith("clos")
        over = closing or now - self.seen > _UNSEEN
        return max(self.asked, DRAIN) if over else self.asked


_running: list[_Running] = []  # in this process, whose tasks have a thread each
_asked: dict[str, int] = {}  # by session: for tasks that a worker begins later


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C, which a terminal sends to all its processes, to the one that was started."""
    for name in ("SIGINT", "SIGHUP"):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)


def meet(probe: str, source: str, size: int) -> Met:
    """What a worker is and sees: `probe` stands beside the output, `source` has `size` bytes."""
    try:
        sees_source = os.stat(source).st_size == size
    except OSError:
        sees_source = False
    return Met(__version__, sees_source, os.path.exists(probe))


def look(session: str, target: str, asked: int) -> list[ShardState]:
    """How far the shards of `session` are that this process runs, which are asked for `asked`.

    Those of an earlier session to the same `target`, whose own process is gone, are to end.
    """
    if asked:
        _asked[session] = max(_asked.get(session, 0), asked)
    found = []
    for each in tuple(_running):  # threads add and remove
        if each.task.session == session:
            each.seen = time.monotonic()
            each.asked = max(each.asked, asked)
            found.append(ShardState(each.index, each.attempt, each.progress))
        elif each.task.target == target:
            each.asked = max(each.asked, DRAIN)
    return found


def work(task: ShardTask) -> ShardEnd:
    """Run one shard to its end, in a thread of a worker."""
    running = _Running(task, asked=_asked.get(task.session, 0))
    if running.asked:
        return ShardEnd(running.index, running.attempt, None)
    _running.append(running)
    error: HeadwayError | OSError | None = None
    try:
        anyio.run(_run, running)
    except HeadwayError as met:
        error = HeadwayError(met.what, fix=met.fix)  # what is raised must be pickled
    except OSError as met:
        error = met
    finally:
        _running.remove(running)
    return ShardEnd(running.index, running.attempt, running.progress, error)


async def _run(running: _Running) -> None:
    task = running.task
    retry = Retry(patience=task.patience)
    scheduler = scheduler_under(task.limits, retry=retry, shared=task.shared)
    drain, scope = anyio.Event(), anyio.CancelScope()

    def watch(progress: bulk.Progress) -> None:
        running.progress = replace(progress, refused=dict(progress.refused))
        wanted = running.wanted(time.monotonic())
        if wanted >= DRAIN:
            drain.set()
        if wanted >= CANCEL:
            scope.cancel()

    try:
        with scope:
            await _send(running, scheduler, watch, drain)
    finally:
        with anyio.move_on_after(_LEAVING, shield=True):
            await scheduler.aclose()


async def _send(running: _Running, scheduler: Scheduler, watch: Any, drain: anyio.Event) -> None:
    """The bulk run of the shard, once no process that is taken for dead holds its output."""
    task, nap = running.task, 0.5
    until = time.monotonic() + _BUSY
    while True:
        # A worker that was lost may have replaced the earlier run already, or taken its failed
        # lines up: that is done once a session.
        first = identity_of(task.output) == task.found
        options = replace(
            task.options,
            overwrite=task.options.overwrite and first,
            retry_failed=task.options.retry_failed and first,
        )
        try:
            await bulk.run(
                task.source, task.output, scheduler=scheduler, options=options,
                endpoint=task.endpoint, watch=watch, drain=drain,
            )  # fmt: skip
            return
        except Busy:
            if running.asked or time.monotonic() > until:
                raise
        await anyio.sleep(nap)
        nap = min(2 * nap, _LONGEST_NAP)


def together(
    shards: Sequence[Sequence[bulk.Progress]],
    *,
    source: str,
    output: Path | None,
    lines: int,
    bounded: bool,
    limits: Limits,
    seconds: float,
    eta: float | None,
) -> bulk.Progress:
    """The progress of the whole. Each of `shards` has that of all its attempts, the latest last;
    `lines` are those of the whole input. The attempts of a run that is `bounded` count what
    earlier ones have cost.
    """
    latest = [attempts[-1] for attempts in shards if attempts]
    every = [each for attempts in shards for each in attempts]
    failed, refused, reasons = Counter[str](), Counter[Any](), Counter[str]()
    for each in latest:
        failed.update(each.failed)
    for each in every:
        refused.update(each.refused)
        reasons.update(each.reasons)
    known = len(latest) == len(shards) and all(each.total is not None for each in latest)
    binding = Counter(each.binds for each in latest if each.remaining)
    concurrency = float("inf") if limits.concurrency is None else float(limits.concurrency)
    rates = (each.limit / each.per for each in limits.requests if not each.is_quota)
    return bulk.Progress(
        input=source,
        output=output,
        total=sum(each.total or 0 for each in latest) if known else lines,
        done=sum(each.done for each in latest),
        failed=dict(failed),
        before=sum(attempts[0].before for attempts in shards if attempts),
        ambiguous=sum(each.ambiguous for each in every),
        in_flight=sum(each.in_flight for each in latest),
        sent=sum(each.sent for each in every),
        refused=dict(refused),
        tokens=sum(each.tokens for each in every),
        input_tokens=sum(each.input_tokens for each in every),
        output_tokens=sum(each.output_tokens for each in every),
        cost=sum(each.cost for each in (latest if bounded else every)),
        unpriced=sum(each.unpriced for each in every),
        reasons=dict(reasons),
        limit=min(rates, default=None),
        pace=max((each.pace for each in latest), default=float("inf")),
        concurrency=max((each.concurrency for each in latest), default=concurrency),
        binds=binding.most_common(1)[0][0] if binding else "",
        seconds=seconds,
        eta=eta,
        stopped=next((each.stopped for each in latest if each.stopped is not None), None),
        fault=next((each.fault for each in latest if each.fault is not None), None),
    )
