"""How long a run says it will take, and what it says kept an attempt from its answer."""

from __future__ import annotations

import aiohttp
import httpx
import pytest

from headway.bulk.record.status import Forecast
from headway.bulk.send import describe, fault_of


def pace(*took: float) -> Forecast:
    """Ten rows a second for ten seconds, the last of which took so long."""
    pace = Forecast()
    for quarter in range(4, 45):
        pace.see(quarter / 4, 10 * quarter // 4)
    for seconds in took:
        pace.took(seconds)
    return pace


@pytest.mark.parametrize(
    ("remaining", "in_flight", "seconds"),
    [
        (100, 20, 10.0),  # 80 to send in 8 s, and the last of them takes 2
        (20, 20, 2.0),
        (10, 10, 1.0),
        (100, 0, 10.0),  # held back: what is in flight later is not known
        (5, 20, 0.5),  # a count that is ahead of the other
        (0, 0, 0.0),
    ],
)
def test_the_last_answer_ends_the_run(remaining: int, in_flight: int, seconds: float) -> None:
    assert pace(*[2.0] * 30).eta(remaining, in_flight) == pytest.approx(seconds, abs=0.1)


def test_one_slow_answer_may_be_among_the_last_or_not() -> None:
    even, odd = pace(*[1.0] * 200), pace(*[1.0] * 199, 9.0)
    with_even, with_odd = even.eta(100, 10), odd.eta(100, 10)
    assert with_even is not None
    assert with_odd is not None
    assert with_even < with_odd < with_even + 8


def test_what_is_not_known_is_not_said() -> None:
    assert pace().eta(None) is None
    assert Forecast().eta(5) is None
    assert pace().eta(100, 20) == pytest.approx(10.0)  # no answer yet: as many as there are


@pytest.mark.parametrize(
    ("cause", "fault", "described"),
    [
        (
            aiohttp.ServerDisconnectedError(),
            "ServerDisconnectedError",
            ("connection_error", "ServerDisconnectedError: Server disconnected"),
        ),
        (
            aiohttp.ClientOSError(104, "Connection reset by peer"),
            "ClientOSError",
            ("connection_error", "ClientOSError: [Errno 104] Connection reset by peer"),
        ),
        (
            aiohttp.ConnectionTimeoutError(),
            "ConnectTimeout",
            ("timeout", "no connection in time (ConnectTimeout)"),
        ),
        (None, "ConnectTimeout", ("timeout", "no connection in time (ConnectTimeout)")),
    ],
)
def test_a_broken_connection_is_no_timeout(
    cause: Exception | None, fault: str, described: tuple[str, str]
) -> None:
    """httpx-aiohttp calls both by one name."""
    error = httpx.ConnectTimeout("no")
    error.__cause__ = cause
    assert fault_of(error) == fault
    assert describe(error) == (*described, None)
