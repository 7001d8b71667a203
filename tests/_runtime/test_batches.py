"""Items in batches, by number and by tokens, from what is sync and from what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from headway import InvalidArgument, Scheduler
from headway._runtime.batches import tokens_of_item

pytestmark = pytest.mark.anyio

scheduler = Scheduler()


@pytest.mark.parametrize(
    ("items", "size", "batches"),
    [
        ([], 3, []),
        ([1, 2, 3], 3, [[1, 2, 3]]),
        ([1, 2, 3, 4], 3, [[1, 2, 3], [4]]),
        (range(3), 1, [[0], [1], [2]]),
        ({"a": 1, "b": 2}, 5, [["a", "b"]]),
    ],
)
def test_by_number(items: Any, size: int, batches: list[Any]) -> None:
    assert list(scheduler.batches(items, size)) == batches


def test_by_tokens_too() -> None:
    sizes = [3, 4, 3, 1, 10, 11, 1, 0, 0, 9, 9]
    found = list(scheduler.batches(sizes, 3, tokens=10, estimate=float))
    # The one of 11 is larger than any batch: it goes alone, for the provider to judge.
    assert found == [[3, 4, 3], [1], [10], [11], [1, 0, 0], [9], [9]]
    found = list(scheduler.batches([3, 4, 3, 1, 1, 1, 1, 1], tokens=10, estimate=float))
    assert found == [[3, 4, 3], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("item", "tokens"),
    [
        ("a" * 400, pytest.approx(100, abs=1)),
        ([1, 2, 3], 3),
        ((), 0),
        (["a" * 40, "b" * 40], pytest.approx(22, abs=1)),
        ({"messages": [{"role": "user", "content": "a" * 400}]}, pytest.approx(107, abs=3)),
    ],
)
def test_the_tokens_of_an_item(item: object, tokens: Any) -> None:
    assert tokens_of_item(item) == tokens


def test_texts_are_packed_by_an_estimate_of_their_tokens() -> None:
    texts = ["a" * 400] * 5
    assert [len(batch) for batch in scheduler.batches(texts, 100, tokens=250)] == [2, 2, 1]


def test_items_are_taken_as_batches_are() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(1)
            yield 1

    batches = scheduler.batches(endless(), 3)
    assert not taken
    next(batches)
    assert len(taken) == 3


async def test_an_async_source_is_closed_when_it_is_left() -> None:
    closed: list[bool] = []

    async def source() -> AsyncIterator[int]:
        try:
            for n in range(7):
                yield n
        finally:
            closed.append(True)

    assert [batch async for batch in scheduler.batches(source(), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert closed == [True]
    left = scheduler.batches(source(), 3)
    assert await anext(left) == [0, 1, 2]
    await left.aclose()  # type: ignore[attr-defined]
    assert closed == [True, True]


async def test_a_run_over_batches() -> None:
    async def embed(texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    async def texts() -> AsyncIterator[str]:
        for text in ("a", "bb", "ccc"):
            yield text

    assert await scheduler.map(embed, scheduler.batches(["a", "bb", "ccc"], 2)) == [[1, 2], [3]]
    assert await scheduler.map(embed, scheduler.batches(texts(), 2)) == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((["a"], 0), {}, "size=0 is not a whole number from 1: it is how many items a batch holds"),
        ((["a"],), {}, "batches() got neither how many items nor how many tokens a batch holds"),
        ((["a"], 2.0), {}, "size=2.0 is not a whole number from 1"),
        ((["a"], 2), {"tokens": 0}, "tokens=0 is not a finite number above 0"),
        ((["a"], 2), {"tokens": float("inf")}, "tokens=inf is not a finite number above 0"),
        ((["a"], 2), {"tokens": True}, "tokens=True is not"),
        ((["a"], 2), {"estimate": 5}, "estimate=5 is not a function"),
        (("text", 2), {}, "items must be an iterable or an async iterable of items, not str"),
        ((5, 2), {}, "items must be an iterable or an async iterable of items, not int"),
    ],
)
def test_what_cannot_be_meant(arguments: Any, options: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        scheduler.batches(*arguments, **options)
    assert str(caught.value).startswith(text)
    assert "Fix: " in str(caught.value)


@pytest.mark.parametrize("said", [None, -1, "5", float("nan"), True])
def test_an_estimate_that_is_no_count(said: Any) -> None:
    with pytest.raises(
        InvalidArgument, match=r"estimate= returned .*, which is no count of tokens"
    ):
        list(scheduler.batches(["a"], 2, tokens=5, estimate=lambda item: said))


async def test_items_of_which_nobody_knows_the_tokens() -> None:
    assert list(scheduler.batches([object], 2)) == [[object]]
    with pytest.raises(InvalidArgument, match="nobody knows the tokens of "):
        list(scheduler.batches([object()], 2, tokens=5))

    async def texts() -> list[str]:
        return []

    with pytest.raises(InvalidArgument, match="got a coroutine object"):
        scheduler.batches(texts(), 2)  # type: ignore[call-overload]
