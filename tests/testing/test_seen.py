"""Assertions about what arrived: each passes, and each says what went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from headway import InvalidArgument
from headway.testing import FakeProvider

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"


async def sent(provider: FakeProvider, every: float, n: int, **more: Any) -> None:
    """Send `n` requests, one after another."""
    async with httpx.AsyncClient(
        transport=provider.transport(), base_url="http://fake", headers=more.pop("headers", None)
    ) as http:
        for number in range(n):
            body = {"model": "m", "prompt": f"{number:08}", **more}
            try:
                await http.post(PATH, json=body)
            except httpx.HTTPError:
                pass
            await anyio.sleep(every)


async def test_what_keeps_the_limits_passes() -> None:
    provider = FakeProvider("60/min", tokens="1k/min", concurrency=2)
    await sent(provider, 1.0, 70)
    provider.assert_no_refusals()
    provider.assert_within_limits()
    provider.assert_all_answered()
    provider.assert_all_answered(70)
    provider.assert_rate_at_least(0.95)
    assert provider.worst_window(10) == 10
    assert provider.worst_window(10, what="tokens") == 120
    assert provider.worst_window(10, what="input_tokens") == 20
    assert provider.worst_window(10, what="output_tokens") == 100


async def test_refusals_are_shown_with_their_times_and_limits() -> None:
    provider = FakeProvider("3/min", concurrency=9)
    await sent(provider, 1.0, 5)
    with pytest.raises(AssertionError) as caught:
        provider.assert_no_refusals()
    assert str(caught.value) == (
        "2 of 5 requests were refused under 3/min requests, 9 in flight:\n"
        "       3.000 s  429 (requests)  POST /v1/chat/completions  12 tokens\n"
        "       4.000 s  429 (requests)  POST /v1/chat/completions  12 tokens"
    )
    assert provider.worst_window(60) == 5
    assert provider.worst_window(60, accepted=True) == 3


async def test_a_window_that_held_too_much_is_shown_though_it_was_accepted() -> None:
    provider = FakeProvider("3/min", algorithm="fixed_window")
    await sent(provider, 0.0, 1)
    await anyio.sleep(58)
    await sent(provider, 1.0, 4)
    provider.assert_no_refusals()
    with pytest.raises(AssertionError) as caught:
        provider.assert_within_limits()
    lines = str(caught.value).splitlines()
    assert lines[0] == ("4 requests arrived within 3.000 s, where 60 s allow 3 (3/min requests):")
    assert lines[1] == "      58.000 s  200  POST /v1/chat/completions  12 tokens"
    assert len(lines) == 5


async def test_too_many_tokens_and_too_many_at_once() -> None:
    provider = FakeProvider(output_tokens="25/min")
    await sent(provider, 1.0, 3)
    with pytest.raises(
        AssertionError, match=r"^30 output tokens arrived within 2\.000 s, where 60"
    ):
        provider.assert_within_limits()
    crowded = FakeProvider(concurrency=2, latency=1)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(sent, crowded, 0.0, 1)
    with pytest.raises(AssertionError, match=r"^1 request came while 2 were in flight, which is"):
        crowded.assert_within_limits()
    assert crowded.in_flight_peak == 2


async def test_each_key_has_the_limits_and_each_model_where_that_is_the_lane() -> None:
    lane: Any
    for lane, passes in (("account", False), ("model", True)):
        provider = FakeProvider("3/min", lane=lane)
        await sent(provider, 0.0, 3, headers={"authorization": "Bearer a"})
        await sent(provider, 0.0, 3, headers={"authorization": "Bearer b"})
        provider.assert_within_limits()
        await sent(provider, 0.0, 3, model="n", headers={"authorization": "Bearer a"})
        check: Callable[[], None] = provider.assert_within_limits
        if passes:
            check()
        else:
            with pytest.raises(AssertionError, match=r"^6 requests arrived"):
                check()


async def test_what_was_never_answered_is_shown() -> None:
    provider = FakeProvider(faults=[None, 503, "cut", None])
    await sent(provider, 1.0, 4)
    with pytest.raises(AssertionError) as caught:
        provider.assert_all_answered()
    assert str(caught.value) == (
        "2 of 4 requests were never answered; the last try of each:\n"
        "       1.000 s  503 (a fault)  POST /v1/chat/completions  12 tokens\n"
        "       2.000 s  cut (a fault)  POST /v1/chat/completions  12 tokens"
    )
    await sent(provider, 1.0, 4)  # the same again
    provider.assert_all_answered()
    with pytest.raises(AssertionError, match=r"^6 requests were answered, not 4, of 8"):
        provider.assert_all_answered(4)


async def test_a_rate_that_was_not_reached_is_told_for_each_limit() -> None:
    provider = FakeProvider("60/min", tokens="1200/min")
    with pytest.raises(AssertionError, match=r"^nothing arrived; 95% was to be reached"):
        provider.assert_rate_at_least()
    await sent(provider, 2.0, 1)
    with pytest.raises(AssertionError, match=r"^1 request was taken in at one moment: no rate"):
        provider.assert_rate_at_least()
    await sent(provider, 2.0, 10)
    with pytest.raises(AssertionError) as caught:
        provider.assert_rate_at_least(0.95)
    assert str(caught.value) == (
        "11 requests in 20.000 s used 50% of 60/min requests, 30% of 1200/min tokens; 95% "
        "was to be reached"
    )
    provider.assert_rate_at_least(0.5)


@pytest.mark.parametrize("share", [0, -1, 1.1, math.nan, "all", None])
async def test_a_share_that_is_none(share: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is not from 0 to 1. Fix: share=0\.95"):
        FakeProvider("60/min").assert_rate_at_least(share)


async def test_no_rate_of_which_to_reach_a_share() -> None:
    with pytest.raises(InvalidArgument, match=r"states no rate of which a share could be used"):
        FakeProvider(concurrency=3).assert_rate_at_least()


@pytest.mark.parametrize("per", [0, -1, math.nan, math.inf, "1 min", True])
async def test_a_window_that_is_none(per: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is no window in seconds. Fix: worst_window"):
        FakeProvider("60/min").worst_window(per)


async def test_what_is_none_of_its_amounts() -> None:
    what: Any = "bytes"
    with pytest.raises(InvalidArgument) as caught:
        FakeProvider("60/min").worst_window(1, what=what)
    assert str(caught.value) == (
        "what='bytes' is nothing that a limit counts. Fix: one of requests, tokens, input_tokens, "
        "output_tokens."
    )
