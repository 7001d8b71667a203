"""What a worker knows of its store: replies that come, come late, or do not come."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidLimit
from headway.shared.conversation import SOON, Conversation, never_reached
from headway.shared.stores import StoreAway


def answer(talk: Conversation, now: float, ledger: float, epoch: str = "e") -> float | None:
    """Reply to the last call, from a ledger whose time is `ledger` then."""
    call = talk.take_call()
    reply = {"epoch": epoch, "now": ledger, "expires": ledger + 5, "slack": 0.1}
    return talk.heard(reply, call["sent"], now)


def test_a_call_is_made_again_with_its_number_until_it_is_answered() -> None:
    talk = Conversation()
    assert talk.again(1.0) is None
    first = talk.begin({"need": 3}, 1.0)
    assert (first["id"], first["n"], first["sent"], first["need"]) == (talk.id, 1, 1.0, 3)
    assert talk.again(1.5) is first
    assert talk.again_at() == 1.5 + SOON
    assert answer(talk, 2.0, 100.0) is None
    assert talk.again(2.5) is None
    second = talk.begin({}, 2.5)
    assert (second["n"], second["epoch"], talk.calls) == (2, "e", 1)


def test_the_ledgers_time_is_an_interval_that_calls_narrow_and_a_new_ledger_begins_anew() -> None:
    talk = Conversation()
    talk.begin({}, 10.0)
    answer(talk, 10.4, 100.0)
    assert (talk.lower, talk.upper, talk.expires) == (89.6, 90.0, 104.9)
    talk.begin({}, 11.0)
    answer(talk, 11.1, 100.9)
    assert (talk.lower, talk.upper) == pytest.approx((89.8, 89.9))
    talk.begin({}, 12.0)
    assert talk.is_other("f")
    answer(talk, 12.2, 5.0, "f")
    assert (talk.lower, talk.upper) == pytest.approx((-7.2, -7.0))
    talk.shift(50.0)
    assert (talk.lower, talk.upper) == pytest.approx((-57.2, -57.0))


@pytest.mark.parametrize("at_once", [False, True])
def test_one_call_without_reply_is_no_outage_and_two_are(at_once: bool) -> None:
    talk = Conversation()
    talk.begin({}, 1.0)
    answer(talk, 1.1, 1.1)
    talk.begin({}, 2.0)
    assert talk.failed(2.3, at_once=at_once) is at_once
    assert talk.failed(2.6, at_once=at_once) is not at_once
    assert talk.is_away(2.6)
    assert not talk.is_known
    assert answer(talk, 3.0, 3.0) == pytest.approx(0.7 if at_once else 0.4)
    assert talk.is_known
    assert not talk.is_away(3.0)


def test_a_call_that_nobody_may_know_any_more_is_that_of_another_worker() -> None:
    talk = Conversation()
    before = talk.id
    call = talk.begin({}, 1.0)
    talk.failed(2.0, at_once=False)
    assert not talk.stood_still(5.9)
    assert talk.stood_still(6.1)
    assert talk.give_up(5.0) is None
    assert talk.give_up(5.1) is call
    after = talk.begin({}, 6.0)
    assert (after["n"], after["was"]) == (1, before)
    assert after["id"] == talk.id != before


def test_what_a_store_refuses_fails_jobs_for_a_second_or_until_it_is_mended() -> None:
    talk = Conversation()
    error = InvalidLimit("limits differ", fix="state the same.")
    talk.refused(error, 10.0)
    shown: list[Any] = [talk.broken(10.9), talk.broken(11.1)]
    assert shown == [error, None]
    assert talk.mended()
    assert talk.broken(10.5) is None
    assert not talk.mended()


def test_the_error_where_it_was_never_reached_says_what_to_do() -> None:
    error = never_reached(10.0, "valkey://h/a", StoreAway("no route", "open the port."))
    assert str(error) == (
        "the shared limits at valkey://h/a were not reached in 10 s: no route. Fix: open the port."
    )
