"""What a ledger holds, as people see it."""

from __future__ import annotations

from typing import Any

from headway import Limits
from headway.shared.ledger import seen, step
from headway.shared.terms import stated, terms_of
from headway.shared.view import view_of

LIMITS = Limits("60/min", tokens="1k/min", concurrency=2)


def call(worker: str, n: int, **more: Any) -> dict[str, Any]:
    rates, budgets, slots = terms_of(LIMITS)
    return {
        "id": worker, "n": n, "sent": float(n), "epoch": "", "was": "", "fresh": "e", "version": 0,
        "stated": stated(LIMITS), "set": 0, "rates": rates, "budgets": budgets, "slots": slots,
        "need": 0, "costs": [[100.0, 100.0]], "priority": 0.0, "weight": 1.0, "held": 0, "use": 0,
        "want": 0, "unsure": 0.0, "refunds": [], "overs": [], "renews": [], "declared": [],
        "strays": 0, "silent": 0.0, "gate": 0.0, "opens": 0, "gen": 0,
        "numbers": [], "cut": 0, "blob": "", "pairs": 0, "beside": "", "costs_beside": [],
        "bye": 0, **more,
    }  # fmt: skip


def test_who_holds_what_and_who_waits() -> None:
    state, _ = step(None, call("host:1:a", 1), 0.0)
    state, one = step(state, call("host:1:a", 2, need=3, want=5, use=2, held=2), 2.0)
    assert (one["count"], one["held"]) == (1, 2)
    state, other = step(state, call("host:2:b", 1, need=1, want=1, priority=5.0), 2.1)
    assert (other["count"], other["held"]) == (0, 0)
    view = view_of("acme", state)
    assert view.lines() == [
        "acme: 60/min, tokens 1000/min, 2 at once",
        "  what binds: the limit on requests in flight",
        "  tokens 1000/min: 100 of 1,000 used",
        "  slots: 2 of 2 held",
        "  host:1: 2 in flight, 2 slots held, 3 wait, called 100 ms ago",
        "  host:2: 0 in flight, 0 slots held, 1 wait at priority 5, called 0 s ago",
    ]
    assert view.as_dict()["workers"][0]["waiting"] == 3
    # One of its two slots is free: it waits for a start.
    state, _ = step(state, call("host:1:a", 3, need=3, want=4, use=1, held=2), 2.2)
    view = view_of("acme", state)
    assert (view.taken, view.slots, view.binds) == (2, 2, "tokens")
    # Nothing is ahead, and who waits has no slot.
    state, _ = step(state, call("host:1:a", 4, sent=40.0, use=1, want=1, held=2), 40.0)
    state, _ = step(state, call("host:2:b", 2, sent=39.0, want=1), 40.0)
    view = view_of("acme", state)
    assert (view.binds, view.used["tokens 1000/min"]) == ("concurrency", (100, 1000))
    assert view_of("acme", seen(state, 99.0)).used["tokens 1000/min"] == (0, 1000)


def test_a_gate_and_who_is_silent() -> None:
    state, _ = step(None, call("host:1:a", 1), 0.0)
    state, _ = step(state, call("host:1:a", 2, gate=30.0, need=1, want=1), 2.0)
    assert view_of("acme", state).binds == "gate"
    state, _ = step(state, call("host:1:a", 3, need=1, want=1), 3.0)
    assert len(view_of("acme", seen(state, 7.0)).workers) == 1
    assert view_of("acme", state).workers[0].silent == 4.0
    assert view_of("acme", seen(state, 2.0)).workers[0].silent == 4.0  # a clock set back is none
    gone = view_of("acme", seen(state, 9.0))
    assert (gone.workers, gone.binds, gone.taken) == ((), "", 0)


def test_what_a_quota_counts_is_in_its_name() -> None:
    rates, budgets, _ = terms_of(Limits("5/day", tokens="9/day"))
    state, _ = step(None, call("host:1:a", 1, rates=rates, budgets=budgets), 0.0)
    assert [*view_of("acme", state).used] == ["quota 5/day of requests", "quota 9/day of tokens"]


def test_nobody() -> None:
    state, _ = step(None, call("host:1:a", 1), 0.0)
    state, _ = step(state, call("host:1:a", 2, bye=1), 3.0)
    assert view_of("acme", state).lines()[-1] == "  no worker holds anything"
