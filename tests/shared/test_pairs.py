"""A start of a key's and one of the whole's, granted together: in neither ledger any window holds
more, whatever each worker wants of which.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from depth import depth
from ledgers import Pairs, Step, mutant
from mutants import table

from headway import Limits
from headway.shared.ledger import step

CALLS = depth(500, 20_000)
Check = Callable[[Step], None]

WHOLES = [Limits("50/s"), Limits(["50/s", "300/10s"]), Limits("100/s", tokens="6000/s")]
KEYS = [Limits("20/s"), Limits("9/s")]


def pairs_hold(whole: Limits, seed: int = 0, ledger: Step = step, calls: int = CALLS) -> None:
    found = Pairs([whole, *KEYS], seed, ledger).run(calls)
    for limits, trace in zip([whole, *KEYS], found.traces, strict=True):
        for rate in limits.requests:
            assert trace.worst_starts(rate.span + rate.delay_bound) <= rate.share
        for index, (_, rate) in enumerate(limits.token_rates):
            assert trace.worst_tokens(index, rate.span + rate.delay_bound) <= rate.share + 1e-3
    assert found.pairs > calls / 20


@pytest.mark.parametrize("whole", WHOLES, ids=["one", "two", "tokens"])
@pytest.mark.parametrize("seed", range(depth(1, 20)))
def test_no_window_of_either_holds_more(whole: Limits, seed: int) -> None:
    pairs_hold(whole, seed)


def starts(ledger: Step) -> None:
    pairs_hold(WHOLES[0], 0, ledger, 300)


def tokens(ledger: Step) -> None:
    pairs_hold(WHOLES[2], 0, ledger, 300)


MUTANTS = table(
    ("booked is sold again", starts, '[*state["booked"], _NEVER]', "[_NEVER]"),
    ("booked twice", starts, 'for booked in whole["booked"]:', "for booked in []:"),
    ("booked in what is sold", starts, "opens = _opens(whole, slack)[0]", "opens = at"),
    ("nothing is booked", starts, 'whole["booked"].append(booked)', "pass"),
    ("all is forgotten", starts, "if booked + spacing > passed + _TICK:", "if False:"),
    ("a key before its pace", starts, "moment = max(moment, booked - shift - _NEAR)",
     "moment = booked - shift - _NEAR"),
    ("a key's alone", starts, "reply[\"beside\"] = [beside]", "pass"),
    ("tokens beside are free", tokens, "if ready > at:\n            if",
     "if False:\n            if"),
)  # fmt: skip


@pytest.mark.parametrize(("check", "old", "new"), MUTANTS)
def test_a_mutant_is_caught(check: Check, old: str, new: str) -> None:
    changed = mutant(old, new)
    with pytest.raises((AssertionError, LookupError)):
        check(changed)
