"""What stands in for the schedulers of a run on a cluster."""

from __future__ import annotations

import json

import pytest

from headway import HeadwayError, Limits
from headway.cli.cluster.stand_in import StandIn


def test_before_anything_is_known_it_says_what_is_stated() -> None:
    limits = Limits("600/min", tokens=["180k/min", "9M/day"], output_tokens="60k/min")
    now = StandIn(limits).statistics()
    assert [(each.what, each.limit, each.per) for each in now.limits] == [
        ("requests", 600, 60), ("tokens", 180_000, 60), ("tokens", 9e6, 86_400),
        ("output_tokens", 60_000, 60),
    ]  # fmt: skip
    assert (now.sent, now.queued, now.binds) == (0, 0, "")
    json.dumps(now.as_dict(), allow_nan=False)


@pytest.mark.parametrize("change", ["pause", "resume", "set_limits", "clear"])
def test_it_changes_nothing(change: str) -> None:
    with pytest.raises(HeadwayError, match="can only be drained together"):
        getattr(StandIn(Limits()), change)()
