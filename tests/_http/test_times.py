"""Limits of time: a task is cancelled, a thread gives each blocking call what is left."""

from __future__ import annotations

import time
from typing import Any

import anyio
import httpx
import pytest

from headway._http.times import LoopTimes, ThreadTimes, bounded


@pytest.mark.anyio
async def test_a_task_is_cancelled() -> None:
    times = LoopTimes()
    with pytest.raises(TimeoutError), times.fail_after(0.01):
        await anyio.sleep(5)
    with times.move_on_after(0.01) as limit:
        await anyio.sleep(5)
    assert limit.cancelled_caught
    with anyio.move_on_after(0.01), times.shielded():
        await times.checkpoint()
        await anyio.sleep(0.02)


def request(**timeouts: Any) -> httpx.Request:
    return httpx.Request("GET", "http://server/", extensions={"timeout": timeouts})


def test_without_a_limit_a_request_keeps_its_timeouts() -> None:
    sent = request(read=7)
    with ThreadTimes().fail_after(None), ThreadTimes().shielded(), bounded(sent):
        assert sent.extensions["timeout"] == {"read": 7}


def test_a_blocking_call_gets_what_is_left_and_the_request_is_as_it_was() -> None:
    sent = request(read=7, connect=0.5, write=None)
    with ThreadTimes().fail_after(2):
        with bounded(sent):
            given = sent.extensions["timeout"]
            assert given["connect"] == 0.5
            assert 0 < given["read"] == given["write"] == given["pool"] <= 2
        assert sent.extensions["timeout"] == {"read": 7, "connect": 0.5, "write": None}


def late(sent: httpx.Request) -> None:
    with bounded(sent):
        time.sleep(0.02)
        raise httpx.ReadTimeout("too late", request=sent)


def test_what_takes_longer_ends() -> None:
    with pytest.raises(TimeoutError) as caught, ThreadTimes().fail_after(0.01):
        late(request())
    assert isinstance(caught.value.__cause__, httpx.ReadTimeout)
    with ThreadTimes().move_on_after(0.01) as limit:
        late(request())
    assert limit.cancelled_caught
    with pytest.raises(TimeoutError), ThreadTimes().fail_after(0), bounded(request()):
        raise AssertionError


def test_the_outer_of_two_limits_ends_what_it_is_about() -> None:
    inner = ThreadTimes().move_on_after(5)
    with pytest.raises(TimeoutError), ThreadTimes().fail_after(0.01), inner as limit:
        late(request())
    assert not limit.cancelled_caught


def test_a_failure_in_time_is_a_failure() -> None:
    outer, inner = ThreadTimes().fail_after(5), ThreadTimes().move_on_after(5)
    with pytest.raises(httpx.ReadTimeout), outer, inner as limit, bounded(request()):
        raise httpx.ReadTimeout("its own")
    assert not limit.cancelled_caught
