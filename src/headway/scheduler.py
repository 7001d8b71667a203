"""Scheduler: the public face."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from os import PathLike
from types import TracebackType
from typing import Any

from anyio.lowlevel import checkpoint

from headway._core.counters import Statistics
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway._runtime.calls import Options, check_plain_function
from headway._runtime.checks import (
    KeyLimits,
    check_aging,
    check_eager,
    check_key,
    check_max_queue,
    check_shared,
    read_keys,
    read_retry,
    read_sinks,
    read_weights,
)
from headway._runtime.memory import Memory
from headway._runtime.shell import Shell
from headway._runtime.view import KEEP, Keep, View
from headway.events import Kind
from headway.hooks.sinks import Sink
from headway.rates import ConcurrencyLike, Limits, Rate, RateLike, Shared

__all__ = ["Scheduler", "View", "scheduler_under"]


class Scheduler(View):
    """Calls under limits: as fast as they allow and no faster, in the right order, all of them.

    `requests` and `tokens` are rates (``"600/min"``, a `Rate`, or a list of them), `input_tokens`
    and `output_tokens` those of prompts and of answers alone, `concurrency` is how many attempts
    may be in flight: `Limits` says more. `keys` gives keys limits of their own inside the whole
    (a mapping, or a function of the key), `weights` the shares of keys (1 by default). `retry`
    says when a failed attempt is tried again. Beyond `max_queue` waiting jobs `submit` raises
    `QueueFull`; with 0 it does so for what cannot start at once. `on_event`, a function or several,
    is called with every event, soon after it happened and in the order in which they did.
    `is_refused` is asked about every result and every exception: True (a rate refusal) or a `Kind`
    makes it one, which is retried.

    `memory` is a file in which what is used of quotas, and what was learned of limits, is kept for
    the next process: every second while calls are made, and by `aclose`. What cannot be used
    of it is told by an event.

    `shared` is a name under which all processes of this user share these limits, or the address of
    a store (``"valkey://host/name"``, ``"postgresql://…"``) for those of many machines:
    `Shared` says more. Where no limits are stated those that others have stated
    hold.

    `aging` bounds what strict priority starves: a job that has waited for so many seconds goes
    before those of every priority (None: never).

    `eager` lets a short run spend at once what the headers say remains, instead of pacing it
    evenly.

    It belongs to the event loop that uses it, and may move to another while it is idle. A forked
    process makes its own, for there every call raises `WrongLoop`, unless `shared` makes it another
    worker. Nothing runs in the background. With nothing stated at all it finds the limits: it
    starts slowly, reads them from the headers where a transport of `headway.httpx` sees any, and
    else follows the refusals. Raises `InvalidLimit` for values that cannot be meant.
    """

    _shell_type = Shell

    def __init__(
        self,
        requests: RateLike | None = None,
        *,
        tokens: RateLike | None = None,
        input_tokens: RateLike | None = None,
        output_tokens: RateLike | None = None,
        concurrency: ConcurrencyLike = None,
        keys: KeyLimits | None = None,
        weights: Mapping[Any, float] | None = None,
        retry: Retry | None = None,
        max_queue: int | None = None,
        on_event: Sink | Iterable[Sink] | None = None,
        is_refused: Callable[[Any], bool | Kind | None] | None = None,
        eager: bool = False,
        memory: str | PathLike[str] | None = None,
        shared: str | Shared | None = None,
        aging: float | None = None,
    ) -> None:
        self._limits = Limits(
            requests,
            tokens=tokens,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            concurrency=concurrency,
        )
        self._keys = read_keys(keys)
        self._weights = read_weights(weights)
        sinks = read_sinks(on_event)
        if is_refused is not None:
            check_plain_function(is_refused, "is_refused", _HOW_TO_REFUSE)
        state = SchedulerState(
            self._limits,
            now=0.0,
            retry=read_retry(retry),
            keys=self._keys,
            weights=self._weights,
            max_queue=math.inf if max_queue is None else check_max_queue(max_queue),
            eager=check_eager(eager),
            aging=math.inf if aging is None else check_aging(aging),
        )
        if self._limits.is_to_be_found and keys is None and shared is None:
            state.whole.search()
        shell = self._shell_type(
            state,
            sinks=sinks,
            is_refused=is_refused,
            shared=self._limits.shared,
            memory=None if memory is None else Memory(memory),
        )
        super().__init__(shell, Options(is_refused=is_refused))
        if shared is not None:
            from headway.shared.sharing import Sharing

            check_shared(eager=eager)
            Sharing(shell, shared, self._limits, self._adopt, keyed=keys is not None)
        if shell.around is not None:
            shell.around.attach(self)

    def _adopt(self, limits: Limits) -> None:
        """Put in force what another worker has stated of the limits that are shared."""
        shell = self._shell
        shell.state.retune(limits, self._keys, self._weights, shell.time())
        self._limits = limits

    @property
    def limits(self) -> Limits:
        """The stated limits of the whole."""
        return self._limits

    def statistics(self) -> Statistics:
        """What is queued, in flight, sent, refused; what binds now, until when, and why.

        Raises `WrongLoop` in a forked process, as all calls do.
        """
        self._shell.check_process()
        return self._shell.state.statistics(self._shell.time())

    def set_limits(
        self,
        requests: RateLike | Keep | None = KEEP,
        *,
        tokens: RateLike | Keep | None = KEEP,
        input_tokens: RateLike | Keep | None = KEEP,
        output_tokens: RateLike | Keep | None = KEEP,
        concurrency: ConcurrencyLike | Keep = KEEP,
        keys: KeyLimits | Keep | None = KEEP,
        weights: Mapping[Any, float] | Keep | None = KEEP,
    ) -> None:
        """Put other limits in force now, for the whole queue; what is left out stays as it is: of
        one class a rate replaces the rates and a quota (over more than an hour) the quotas, and
        None ends both.

        What was sent under limits of the same kind still counts; a job that is larger than a new
        limit fails with `NeverFits`. Raises `InvalidLimit`, `WrongLoop` and what a `keys` function
        raises, and then nothing has changed.
        """
        old = self._limits
        kept: RateLike = [*old.requests, *old.shared]
        limits = Limits(
            kept if isinstance(requests, Keep) else requests,
            tokens=old.tokens if isinstance(tokens, Keep) else tokens,
            input_tokens=old.input_tokens if isinstance(input_tokens, Keep) else input_tokens,
            output_tokens=old.output_tokens if isinstance(output_tokens, Keep) else output_tokens,
            concurrency=old.concurrency if isinstance(concurrency, Keep) else concurrency,
        )
        limits = _beside(limits, old)
        new_keys = self._keys if isinstance(keys, Keep) else read_keys(keys)
        new_weights = self._weights if isinstance(weights, Keep) else read_weights(weights)
        shell = self._shell
        shell.check_loop()
        shell.state.retune(limits, new_keys, new_weights, shell.time())
        self._limits, self._keys, self._weights = limits, new_keys, new_weights
        shell.share(limits.shared)
        shell.repoll()

    def pause(self) -> None:
        """Start nothing more until `resume`; what is in flight goes on."""
        self._shell.check_loop()
        self._shell.state.pause()
        self._shell.repoll()

    def resume(self) -> None:
        """Start again after `pause`."""
        self._shell.check_loop()
        self._shell.state.resume()
        self._shell.repoll()

    def reset(self) -> None:
        """Forget a wrong key or an empty account (401, 402), an outage, and every closed gate."""
        self._shell.check_loop()
        self._shell.state.reset(self._shell.time())
        self._shell.repoll()

    def clear(self, *, key: Hashable | Keep = KEEP) -> int:
        """Drop the jobs that are queued, all or those of `key` (None is one); how many those were.

        Each ends with `Cleared`, in a run too, where it counts as any failure. Jobs that wait to be
        tried again are queued as well. What is in flight goes on. Raises `InvalidArgument` for a
        key that is none, and `WrongLoop`.
        """
        shell = self._shell
        shell.check_loop()
        flow = None
        if not isinstance(key, Keep):
            check_key(key)
            flow = shell.state.flows.get(key)
            if flow is None:
                return 0
        cleared = shell.state.clear(flow, shell.time())
        shell.repoll()
        return cleared

    async def idle(self) -> None:
        """Wait until nothing is queued and nothing is in flight.

        A `map`, `as_completed` or `gather` that has begun is waited for to its end, and new jobs
        may be submitted meanwhile. From inside a job it would wait for itself; and while the
        scheduler is paused, for `resume`.
        """
        await checkpoint()
        await self._shell.drained()

    async def aclose(self) -> None:
        """Take no new jobs, and wait until those that are queued and in flight have ended, and what
        `on_event` names has had every event.

        A `map`, `as_completed` or `gather` that has begun goes on to its end. A paused scheduler
        starts again, for else they never would. From inside a job it would wait for itself. In a
        forked process there is nothing to wait for.
        """
        shell = self._shell
        if shell.of_parent:
            shell.closed = True
            return
        shell.now()
        shell.closed = True
        self.resume()
        await shell.drained()
        if shell.memory is not None:
            shell.memory.save(shell.state, shell.time())
        if shell.leave is not None:
            await shell.leave()
        await shell.sinks_told()

    async def __aenter__(self) -> Scheduler:
        self._shell.now()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


_HOW_TO_REFUSE = "is_refused=lambda reply: ..., or a def that returns True, False or a Kind"


def scheduler_under(limits: Limits, *, retry: Retry, shared: str | Shared | None) -> Scheduler:
    """A scheduler under `limits`. Raises `InvalidLimit`."""
    return Scheduler(
        limits.requests,
        tokens=limits.tokens,
        input_tokens=limits.input_tokens,
        output_tokens=limits.output_tokens,
        concurrency=limits.concurrency,
        retry=retry,
        shared=shared,
    )


def _beside(limits: Limits, old: Limits) -> Limits:
    """`limits`, with what they replace nothing of: the quotas of `old` beside rates of the same
    class, and its rates beside quotas.
    """

    def all_of(kind: str, shared: bool = False) -> list[Rate]:
        new: tuple[Rate, ...] = getattr(limits, kind)
        before: tuple[Rate, ...] = getattr(old, kind)
        stated = {rate.is_quota for rate in new} | ({False} if shared else set())
        return [*new, *(rate for rate in before if stated and rate.is_quota not in stated)]

    return Limits(
        [*all_of("requests", bool(limits.shared)), *limits.shared],
        tokens=all_of("tokens"),
        input_tokens=all_of("input_tokens"),
        output_tokens=all_of("output_tokens"),
        concurrency=limits.concurrency,
    )
