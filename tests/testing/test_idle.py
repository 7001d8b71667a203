"""Whether a scheduler has nothing left to do."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from headway import InvalidArgument, Scheduler
from headway.testing import assert_idle

pytestmark = pytest.mark.anyio


async def test_it_says_what_is_left_of_which_key() -> None:
    scheduler = Scheduler(concurrency=1)
    assert_idle(scheduler)
    view = scheduler.with_options(key="chat")
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(view.submit, anyio.sleep, 1)
        await anyio.sleep(0.5)
        with pytest.raises(AssertionError) as caught:
            assert_idle(scheduler)
    assert str(caught.value) == (
        "2 jobs wait, held back by the limit on requests in flight, and 1 is in flight\n"
        "  key 'chat': 2 queued, 1 in flight"
    )
    assert_idle(scheduler)


async def test_a_slot_that_was_never_given_back() -> None:
    scheduler = Scheduler("600/min")
    lease = scheduler.lease()
    await lease.__aenter__()
    with pytest.raises(AssertionError, match=r"^0 jobs wait, and 1 is in flight"):
        assert_idle(scheduler)
    await lease.__aexit__(None, None, None)
    assert_idle(scheduler)


@pytest.mark.parametrize("given", [None, "scheduler", Scheduler])
async def test_what_is_no_scheduler(given: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is not a Scheduler. Fix: assert_idle"):
        assert_idle(given)
