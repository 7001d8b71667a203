"""A plan in words and in JSON."""

from __future__ import annotations

from array import array
from dataclasses import replace
from datetime import datetime

import pytest

from headway.bulk.plan.plan import Change, Plan
from headway.bulk.plan.simulation import Simulation
from headway.bulk.plan.text import as_json, describe
from headway.rates import Limits

DONE = Simulation(
    1200, 2, 120.0, 5e6, 1800.0, 32, {"requests": 90.0, "": 29.9, "tokens": 0.1}, array("d")
)
PLAN = Plan(
    Limits("600/min"), DONE, 3, 1_250_000.0, 45_000.0, 4.2, 0,
    (Change("requests", "--rate 1200/min", 60.0), Change("concurrency", "--concurrency 64", 119.0),
     Change("all", "--rate 1200/min --concurrency 64", 59.0)),
    ("Answers take 1.5 s.",), 1_764_000_000.0,
)  # fmt: skip


def test_what_a_plan_says() -> None:
    assert describe(PLAN).splitlines() == [
        "1,200 requests would take 2 min.",
        "",
        "  rate       600/min",
        "  in flight  32 at most, 15 on average",
        "  tokens     1.25M in, 45k out",
        "  cost       $4.20",
        "  bad lines  3, which are not sent: headway run --check",
        "  too large  2, which reserve more tokens than the whole limit",
        "",
        "What binds",
        "   75%  the limit on requests",
        "   25%  nothing: what is in flight is all there is left",
        "",
        "To be faster",
        "  --rate 1200/min   1 min",
        "  --concurrency 64  no change",
        "",
        "Assumed",
        "  Answers take 1.5 s.",
    ]


@pytest.mark.parametrize(
    ("cost", "unpriced", "said"),
    [
        (0.0, 0, "$0.00"),
        (None, 9, "unknown: no price is known for these models. Fix: --prices FILE"),
        (4.2, 7, "$4.20, and 7 requests of models without a price (--prices FILE)"),
    ],
)
def test_what_it_costs(cost: float | None, unpriced: int, said: str) -> None:
    text = describe(replace(PLAN, cost=cost, unpriced=unpriced))
    assert f"  cost       {said}\n" in text


def test_all_changes_together_are_shown_where_they_do_more_than_the_best_one() -> None:
    both = replace(PLAN, changes=(*PLAN.changes[:2], Change("all", "--all", 40.0)))
    assert "  --all             40 s\n" in describe(both)


def test_where_nothing_helps_it_says_so() -> None:
    none = replace(PLAN, changes=(Change("requests", "--rate 1200/min", 119.5),))
    assert "No limit is in the way: the calls themselves take this long." in describe(none)
    assert "No limit is in the way" not in describe(PLAN)


def test_a_plan_of_nothing_divides_by_nothing() -> None:
    empty = Simulation(0, 0, 0.0, 0.0, 0.0, 0, {}, array("d"))
    plan = Plan(Limits(), empty, 0, 0.0, 0.0, 0.0, 0, (), ())
    text = describe(plan)
    assert text.startswith("0 requests would take 0 s.\n")
    assert "rate" not in text
    assert "What binds" not in text
    assert as_json(plan)["in_flight"] == {"most": 0, "mean": 0.0}


def test_a_plan_under_a_quota_says_on_which_day_it_ends() -> None:
    long = replace(
        PLAN,
        limits=Limits(["30/min", "1000/day"]),
        simulation=replace(DONE, seconds=2 * 86_400.0),
        ends_at=datetime(2026, 11, 28, 14, 5).astimezone().timestamp(),
    )
    assert "  ends       on day 3, Sat 28 Nov 2026 at 14:05" in describe(long).splitlines()
    assert "  ends" not in describe(PLAN)


def test_json_has_the_numbers() -> None:
    assert as_json(PLAN) == {
        "requests": 1200, "bad_lines": 3, "too_large": 2, "seconds": 120.0,
        "input_tokens": 1_250_000.0, "output_tokens": 45_000.0, "cost": 4.2, "unpriced": 0,
        "in_flight": {"most": 32, "mean": 15.0},
        "binds": {"requests": 90.0, "nothing": 29.9, "tokens": 0.1},
        "changes": [
            {"what": "requests", "flags": "--rate 1200/min", "seconds": 60.0},
            {"what": "concurrency", "flags": "--concurrency 64", "seconds": 119.0},
            {"what": "all", "flags": "--rate 1200/min --concurrency 64", "seconds": 59.0},
        ],
        "assumed": ["Answers take 1.5 s."], "ends_at": 1_764_000_000.0,
    }  # fmt: skip
