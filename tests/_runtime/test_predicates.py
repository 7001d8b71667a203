"""What users' functions say of what a call came back with; one that raises ends nothing."""

from __future__ import annotations

from typing import Any

import pytest
from inject import Boom, Status

from headway import Kind, Refused, Retry, Scheduler
from headway._runtime.predicates import Predicates
from headway.hints import Refusal

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("says", "kind", "wait"),
    [
        (None, Kind.RATE, 7),
        (False, Kind.RATE, 7),
        (Kind.CAPACITY, Kind.CAPACITY, 7),
        (True, Kind.RATE, 7),
    ],
)
def test_the_users_predicate_is_asked_first(says: Any, kind: Kind, wait: float) -> None:
    found = Predicates(lambda error: says, Retry()).refusal(Status(429, 7))
    assert (found.kind, found.wait, found.status) == (kind, wait, 429)


def test_a_predicate_that_raises_is_told_once_and_counts_for_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(error: object) -> bool:
        raise Boom("the predicate")

    predicates = Predicates(broken, Retry())
    for _ in range(3):
        assert predicates.refusal(Status(503)).kind is Kind.CAPACITY
    assert [record.message for record in caplog.records] == [
        "is_refused= raised for Status('status 503'), which counts for no refusal; it is asked "
        "about exceptions too, and this is told once"
    ]


def test_what_is_not_to_be_tried_again_is_final() -> None:
    refusal = Refusal(Kind.CAPACITY, None, 503, "busy")
    assert Predicates(None, Retry()).chosen(refusal, "POST") is refusal
    assert Predicates(None, Retry(on={503})).chosen(refusal, "POST") is refusal
    final = Predicates(None, Retry(on={Kind.RATE})).chosen(refusal, "POST")
    assert final.final == "Retry(on=) leaves it out"


def test_a_choice_that_raises_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(failure: object) -> bool:
        raise Boom("the choice")

    predicates, refusal = Predicates(None, Retry(on=broken)), Refusal(Kind.RATE, None, 429, "slow")
    for _ in range(3):
        assert predicates.chosen(refusal, None) is refusal
    (record,) = caplog.records
    assert record.getMessage().startswith("Retry(on=) raised for Failure(")


async def test_a_result_that_is_a_refusal_is_the_callers_in_the_end() -> None:
    scheduler = Scheduler("100/s", is_refused=lambda result: result == "too fast" and "permanent")

    async def answer() -> str:
        return "too fast"

    with pytest.raises(Refused) as caught:
        await scheduler.submit(answer)
    assert caught.value.result == "too fast"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
