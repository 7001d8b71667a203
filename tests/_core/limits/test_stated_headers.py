"""What servers state of their limits: what is believed, what follows, and what is forgotten."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from sites import URL, Site, idle

from headway import Limits, Scheduler
from headway._core.limits.stated import believed
from headway._core.queue.job import Job
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway.events import Ignored, Kind
from headway.hints import LimitHint, Refusal, limits_from


def requests(limit: float, per: float | None, remaining: float | None = None) -> LimitHint:
    return LimitHint("requests", limit, remaining, None, per)


def tokens(limit: float, per: float = 60.0) -> LimitHint:
    return LimitHint("tokens", limit, None, None, per)


@pytest.mark.parametrize(
    ("hints", "rate", "budget", "remaining"),
    [
        ([], None, None, None),
        ([requests(600, 60, 5)], 10.0, None, 5),
        ([requests(600, 60), requests(5, 1)], 5.0, None, None),
        ([requests(5, 1), requests(600, 60)], 5.0, None, None),  # the tighter, in either order
        (
            [requests(600, 60, 500), requests(14_400, 86_400, 9)],
            10.0,
            None,
            9,
        ),  # a day: as it comes
        ([requests(200, 86_400, 199)], None, None, 199),
        ([requests(600, None, 7)], None, None, 7),
        ([tokens(1000), tokens(100)], None, (100, 60.0), None),
    ],
)
def test_what_is_believed(hints: Any, rate: Any, budget: Any, remaining: Any) -> None:
    told = believed(hints)
    stated = told.tokens.get("tokens")
    assert (told.requests, stated, told.remaining, told.odd) == (rate, budget, remaining, [])


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-limit-requests-minute": "1e-300"},
        {"x-ratelimit-limit-requests-day": "0.0001"},
        {"x-ratelimit-limit-tokens": "1e300"},
        {"x-ratelimit-limit-tokens": "1e-300"},
        {"ratelimit-policy": '"tokens";q=1000;w=0.0000000001'},
    ],
)
@pytest.mark.parametrize("stated", [None, "600/min"])
def test_garbage_changes_nothing_and_is_told_once(headers: Any, stated: Any) -> None:
    state = SchedulerState(Limits(stated), now=0.0, retry=Retry())
    if stated is None:
        state.whole.search()
    before = state.statistics(0.0).pace
    for now in (1.0, 2.0):
        state.observe(limits_from(headers, wall_time=0.0), state.flow(None), now)
    assert state.statistics(3.0).pace == before
    assert state.submit(Job(state.flow(None), cost=5_000.0), 3.0)
    assert [type(event) for event in state.events] == [Ignored]


@pytest.mark.parametrize("how", ["reset", "set_limits"])
def test_what_a_server_stated_can_be_forgotten(how: str) -> None:
    state = SchedulerState(Limits("600/min", tokens="60k/min"), now=0.0, retry=Retry())
    before = state.statistics(0.0).pace
    state.observe([requests(6, 60), tokens(600)], state.flow(None), 1.0)
    assert state.statistics(1.0).pace == pytest.approx(0.099, rel=0.01)
    if how == "reset":
        state.reset(2.0)
    else:
        state.retune(Limits("600/min", tokens="60k/min"), lambda key: None, {}, 2.0)
    assert state.statistics(2.0).pace == before
    assert state.whole.budgets[0].pace.interval == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize("own", [None, "60k/min"])
def test_what_attempts_turn_out_to_exceed_is_not_followed_any_more(own: str | None) -> None:
    """The first answer states it before anybody knows what one uses."""
    state = SchedulerState(Limits(tokens=own), now=0.0, retry=Retry())
    state.whole.search()
    flow = state.flow(None)
    job = Job(flow, cost=20.0)
    assert state.submit(job, 0.0)
    state.observe([tokens(3)], flow, 0.1)
    (followed,) = state.whole.budgets
    assert 3 / 60 * 0.98 < 1 / followed.pace.interval <= 3 / 60
    state.finish(job, 15.0, 0.2)
    state.observe([tokens(3)], flow, 0.3)
    assert [1 / budget.pace.interval > 900 for budget in state.whole.budgets] == [True] * bool(own)
    told = [event.what for event in state.events if isinstance(event, Ignored)]
    assert told == ["tokens limit of 3 in 1 min ignored"]


def test_a_limit_of_tokens_that_nobody_stated_follows_up_and_down() -> None:
    state = SchedulerState(Limits(), now=0.0, retry=Retry())
    state.whole.search()
    flow = state.flow(None)
    for now, limit in ((1.0, 10_000), (2.0, 1_000_000), (3.0, 100)):
        state.observe([tokens(limit)], flow, now)
        (budget,) = state.whole.budgets
        assert budget.rate.limit == limit
    job = Job(flow, cost=5_000.0)  # larger than the whole: the server's to refuse
    assert state.submit(job, 200.0)
    state.finish(job, 10.0, 201.0)
    state.reset(202.0)
    assert state.whole.budgets == []


def starts_at_once(state: SchedulerState, now: float, most: int = 2_000) -> int:
    count = 0
    while count < most and state.submit(Job(state.flow(None)), now):
        count += 1
    return count


@pytest.mark.parametrize(
    ("stated", "hints", "most"),
    [
        (None, [requests(600, 60, 500)], 500),
        (None, [requests(600, 60, 500), requests(14_400, 86_400, 30)], 30),
        ("10/s", [requests(1000, 60, 1000)], 10),
        ("600/min", [requests(600, 60, 300)], 300),
        (["10/s", "600/min"], [requests(600, 60, 300)], 10),
    ],
)
def test_eagerness_keeps_within_what_is_stated(stated: Any, hints: Any, most: int) -> None:
    state = SchedulerState(Limits(stated), now=0.0, retry=Retry(), eager=True)
    if stated is None:
        state.whole.search()
    state.observe(hints, state.flow(None), 100.0)
    assert most <= starts_at_once(state, 100.0) <= most + 1


@pytest.mark.parametrize(("stated", "limit", "window"), [("10/s", 10, 1.0), ("50/min", 50, 60.0)])
def test_eager_or_not_no_window_holds_more_than_is_stated(
    stated: str, limit: int, window: float
) -> None:
    """Whatever a server says remains, and however often."""
    state = SchedulerState(Limits(stated), now=0.0, retry=Retry(), eager=True)
    flow = state.flow(None)
    starts: list[float] = []
    for step in range(400):
        now = 100.0 + step * window / 40
        state.observe([requests(1e9, 60, 1e9)], flow, now)
        starts += [now] * (len(state.poll(now)[0]))
        while state.waiting.size < 3:
            if state.submit(Job(flow), now):
                starts.append(now)
    assert len(starts) > 8 * limit
    worst = max(sum(at <= one < at + window for one in starts) for at in starts)
    assert worst <= limit


def test_a_refusal_ends_eagerness() -> None:
    state = SchedulerState(Limits(), now=0.0, retry=Retry(), eager=True)
    state.whole.search()
    flow = state.flow(None)
    refused = Job(flow)
    assert state.submit(refused, 1.0)
    state.observe([requests(600, 60, 500)], flow, 2.0)
    state.defer(refused, Refusal(Kind.RATE, 1.0, 429), 3.0, 0.5)
    assert state.whole.credit == 0
    state.observe([requests(600, 60, 400)], flow, 3.5, 2.5)  # sent before, answered after
    assert state.whole.credit == 0


@pytest.mark.anyio
async def test_agents_do_not_wait_for_themselves(site: Site) -> None:
    """Jobs of several calls at a server that allows fewer at once than there are slots."""
    scheduler = Scheduler("6000/min", concurrency=4)
    busy = 0

    async def handle(request: Any) -> Any:
        nonlocal busy
        if busy >= 3:
            return site.library.Response(429, json={"error": "Too many concurrent requests"})
        busy += 1
        await anyio.sleep(0.5)
        busy -= 1
        return site.library.Response(200, json={})

    transport = site.face.AsyncTransport(scheduler, site.library.MockTransport(handle))
    async with site.library.AsyncClient(transport=transport) as client:

        async def agent(n: int) -> None:
            for _ in range(3):
                (await client.post(URL, json={"n": n})).raise_for_status()

        with anyio.fail_after(600):
            await scheduler.map(agent, range(12))
    assert idle(scheduler)
