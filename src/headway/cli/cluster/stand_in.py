"""A run on a cluster, as ``headway top`` and ``ctl`` see it: its schedulers are elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from headway._core.counters import LimitStatistics, Recent, Statistics
from headway.errors import HeadwayError
from headway.kinds import Binds

if TYPE_CHECKING:
    from headway.bulk import Progress
    from headway.kinds import LimitName
    from headway.rates import Limits, Rate

__all__ = ["StandIn"]

_INFINITY = float("inf")


class StandIn:
    """Stands in for the schedulers of all shards: what it is asked for is the sum of them, as the
    display of the run shows it. It can be drained, and not be changed otherwise.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.progress: Progress | None = None  # the latest

    def statistics(self) -> Statistics:
        """What the latest progress says of all shards. Lines are jobs; those that have no row and
        are not in flight are queued. What the windows of limits hold the workers alone know.
        """
        limits, now = self.limits, self.progress
        here = failed = queued = 0
        if now is not None:
            here = max(0, now.rows - now.before)
            failed = min(here, sum(now.failed.values()))
            queued = max(0, (now.remaining or 0) - now.in_flight)
        return Statistics(
            queued=queued,
            delayed=0,
            in_flight=0 if now is None else now.in_flight,
            sent=0 if now is None else now.sent,
            succeeded=here - failed,
            failed=failed,
            cancelled=0,
            timed_out=0,
            retried=0,
            refused={} if now is None else dict(now.refused),
            tokens=0 if now is None else now.tokens,
            input_tokens=0 if now is None else now.input_tokens,
            cached_tokens=0,
            output_tokens=0 if now is None else now.output_tokens,
            recent=Recent(0.0, 0, {}),
            binds=Binds.NOTHING if now is None else Binds(now.binds),
            seconds=0.0,
            why="",
            capacity=_INFINITY if now is None else now.concurrency,
            pace=_INFINITY if now is None else now.pace,
            limits=(
                *(_stated("requests", rate) for rate in limits.requests),
                *(_stated("tokens", rate) for rate in limits.tokens),
                *(_stated("input_tokens", rate) for rate in limits.input_tokens),
                *(_stated("output_tokens", rate) for rate in limits.output_tokens),
            ),
            keys={},
        )

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Raise `HeadwayError`: another process would have to do it."""
        raise HeadwayError(
            "the shards of this run are in other processes, on a cluster, and can only be drained "
            "together",
            fix="headway ctl drain, and the same command again with what is to be otherwise.",
        )

    pause = resume = set_limits = clear = _refuse


def _stated(what: LimitName, rate: Rate) -> LimitStatistics:
    return LimitStatistics(what, rate.limit, rate.per, rate.span, None, 1.0)
