"""What holds a scheduler is not copied, however it is tried."""

from __future__ import annotations

import copy
import pickle

import pytest

import headway.httpx
import headway.httpx2
from headway import InvalidArgument, Scheduler

pytestmark = pytest.mark.anyio


async def ask(item: object) -> object:
    return item


async def test_what_holds_a_scheduler_is_not_copied() -> None:
    scheduler = Scheduler("60/min")
    for one in (
        scheduler,
        scheduler.with_options(key="a"),
        scheduler.lease(),
        scheduler.map(ask, [1]),
        scheduler.as_completed(ask, [1]),
        headway.httpx.AsyncTransport(scheduler),
        headway.httpx2.AsyncTransport(scheduler),
    ):
        name = type(one).__name__
        for how in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(InvalidArgument) as caught:
                how(one)
            assert str(caught.value) == (
                f"{'an' if name.startswith('A') else 'a'} {name} is neither copied nor pickled: "
                "each copy would send up to the whole limits. Fix: hand on the same one, or make "
                "one in each process with its share of the limits."
            )
