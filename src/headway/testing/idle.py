"""Whether a scheduler has nothing left to do."""

from __future__ import annotations

from typing import Any

from headway.errors import InvalidArgument
from headway.kinds._words import agreed, binds, counted, shown

__all__ = ["assert_idle"]


def assert_idle(scheduler: Any) -> None:
    """Raise an `AssertionError` where jobs of `scheduler` wait or are in flight, or
    a slot was never given back; it says of which keys, and what held them back.

    Raises `InvalidArgument` for what is no scheduler.
    """
    __tracebackhide__ = True
    if isinstance(scheduler, type) or not hasattr(scheduler, "statistics"):
        raise InvalidArgument(
            f"{shown(scheduler)} is not a Scheduler", fix="assert_idle(scheduler)."
        )
    now = scheduler.statistics()
    if not (now.queued or now.in_flight):
        return
    keys = [
        f"  key {shown(key)}: {each.queued} queued, {each.in_flight} in flight"
        for key, each in now.keys.items()
        if each.queued or each.in_flight
    ]
    held = f", held back by {binds(now.binds)}" if now.queued and now.binds else ""
    in_flight = f"{now.in_flight} {agreed(now.in_flight, 'are')}"
    raise AssertionError(
        "\n".join([f"{counted(now.queued, 'job', 'wait')}{held}, and {in_flight} in flight", *keys])
    )
