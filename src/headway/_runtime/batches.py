"""Items in batches, by number and by tokens: for calls that take many at once, as embeddings do."""

from __future__ import annotations

import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, Generic, TypeVar

from headway._runtime.calls import check_items, check_plain_function
from headway._runtime.checks import check_count
from headway.errors import InvalidArgument
from headway.estimate import Estimator
from headway.kinds._words import shown
from headway.rates import is_number

__all__ = ["batches", "tokens_of_item"]

T = TypeVar("T")

_ESTIMATOR = Estimator()  # which learns nothing here: of answers nothing is known

_HOW_TO_ESTIMATE = "estimate=lambda item: ..., the tokens of one item, a number from 0"


def batches(
    items: Iterable[T] | AsyncIterable[T],
    size: int | None,
    tokens: float | None,
    estimate: Callable[[T], float] | None,
) -> Iterator[list[T]] | AsyncIterator[list[T]]:
    """`items` in lists of at most `size`, and of at most `tokens` as `estimate` counts them (None:
    no bound); an item that is larger by itself goes alone. Raises `InvalidArgument`.
    """
    check_items(items, "batches")
    if size is not None:
        check_count("size", size, 1, "items a batch holds")
    elif tokens is None:
        raise InvalidArgument(
            "batches() got neither how many items nor how many tokens a batch holds",
            fix="scheduler.batches(items, 100), or scheduler.batches(items, tokens=8_000).",
        )
    if tokens is not None and not (is_number(tokens) and 0 < tokens < math.inf):
        raise InvalidArgument(
            f"tokens={shown(tokens)} is not a finite number above 0: it is what a batch holds",
            fix="tokens=8_000, or leave it out for no bound.",
        )
    if estimate is not None:
        check_plain_function(estimate, "estimate", _HOW_TO_ESTIMATE)
    batch = _Batch[T](
        math.inf if size is None else size,
        math.inf if tokens is None else tokens,
        estimate or tokens_of_item,
    )
    if isinstance(items, AsyncIterable):
        return _from_async(items, batch)
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InvalidArgument(
            f"items must be an iterable or an async iterable of items, not {type(items).__name__}",
            fix="a list, a generator, or an async generator.",
        )
    return _from_sync(iter(items), batch)


def tokens_of_item(item: object) -> float:
    """The tokens of a text, a list of tokens, or the body of a request, about: `headway.estimate`.

    Raises `InvalidArgument` for what is none of these.
    """
    if isinstance(item, list | tuple) and all(type(each) is int for each in item):
        return float(len(item))
    body = item if isinstance(item, Mapping) else {"input": item}
    try:
        cost = _ESTIMATOR(body)
    except TypeError:
        raise InvalidArgument(
            f"nobody knows the tokens of {shown(item)}: it is no text and no request",
            fix=f"{_HOW_TO_ESTIMATE}.",
        ) from None
    return cost.input + cost.cached


class _Batch(Generic[T]):
    """The batch that is being filled."""

    def __init__(self, size: float, tokens: float, estimate: Callable[[T], float]) -> None:
        self._size = size
        self._most = tokens
        self._estimate = estimate
        self._items: list[T] = []
        self._tokens = 0.0

    def add(self, item: T) -> Iterator[list[T]]:
        """Take `item` in: the batches that are full."""
        tokens = 0.0 if self._most == math.inf else self._checked(self._estimate(item))
        if self._items and self._tokens + tokens > self._most:
            yield self._take()
        self._items.append(item)
        self._tokens += tokens
        if len(self._items) >= self._size:
            yield self._take()

    def rest(self) -> Iterator[list[T]]:
        """The last batch, where anything is left."""
        if self._items:
            yield self._take()

    def _take(self) -> list[T]:
        taken, self._items, self._tokens = self._items, [], 0.0
        return taken

    def _checked(self, tokens: Any) -> float:
        if not is_number(tokens) or not 0 <= tokens < math.inf:
            raise InvalidArgument(
                f"estimate= returned {shown(tokens)}, which is no count of tokens",
                fix=f"{_HOW_TO_ESTIMATE}.",
            )
        return tokens


def _from_sync(items: Iterator[T], batch: _Batch[T]) -> Iterator[list[T]]:
    for item in items:
        yield from batch.add(item)
    yield from batch.rest()


async def _from_async(items: AsyncIterable[T], batch: _Batch[T]) -> AsyncIterator[list[T]]:
    source = aiter(items)
    try:
        async for item in source:
            for full in batch.add(item):
                yield full
        for last in batch.rest():
            yield last
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
