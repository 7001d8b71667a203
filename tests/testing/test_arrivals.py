"""How the arrivals are looked through."""

from __future__ import annotations

from random import Random

from headway import Cost
from headway.testing.arrivals import Arrival, find_worst_window, listed, worst_window
from headway.testing.faults import Fault


def arrival(at: float, **said: object) -> Arrival:
    one = Arrival(at, "POST", "/v1/x", "secret", "m", Cost(input=4, output=3), b"")
    for name, value in said.items():
        setattr(one, name, value)
    return one


def test_the_worst_window_is_half_open_and_of_any_phase() -> None:
    events = [(0.0, 1.0), (0.9, 2.0), (1.0, 4.0), (1.89, 8.0), (5.0, 1.0)]
    assert worst_window(events, 1.0) == 14.0
    assert worst_window([(0.0, 1.0), (1.0, 1.0)], 1.0) == 1.0
    assert find_worst_window(events, 1.0) == (14.0, 1, 3)
    assert find_worst_window(events, 100.0) == (16.0, 0, 4)
    assert find_worst_window([], 1.0) == (0.0, -1, -1)


def test_it_is_the_worst_of_all() -> None:
    random = Random(3)
    events = sorted((random.uniform(0, 9), 1.0) for _ in range(200))
    tried = max(sum(1 for at, _ in events if begin <= at < begin + 1) for begin, _ in events)
    assert worst_window(events, 1.0) == tried


def test_what_an_arrival_became() -> None:
    running = arrival(1.0)
    assert (running.tokens, running.refused, running.answered) == (7, False, False)
    assert arrival(1.0, status=200, ended=2.0).answered
    assert arrival(1.0, status=429, refused_by="requests", ended=1.0).refused
    assert arrival(1.0, status=429, fault=Fault(429), ended=1.0).refused
    assert not arrival(1.0, status=200, fault=Fault("malformed"), ended=1.0).answered
    assert not arrival(1.0, status=500, ended=1.0).answered
    assert "secret" not in repr(running)


def test_a_list_of_them_names_each_and_is_short() -> None:
    some = [
        arrival(5.0, status=200),
        arrival(5.25, status=429, refused_by="tokens"),
        arrival(6.0, fault=Fault("cut")),
        arrival(7.0),
    ]
    assert listed(some, 5.0) == (
        "       0.000 s  200  POST /v1/x  7 tokens\n"
        "       0.250 s  429 (tokens)  POST /v1/x  7 tokens\n"
        "       1.000 s  cut (a fault)  POST /v1/x  7 tokens\n"
        "       2.000 s  not answered  POST /v1/x  7 tokens"
    )
    lines = listed([arrival(float(n)) for n in range(100)], 0.0).splitlines()
    assert len(lines) == 13
    assert lines[6] == "  … 88 more"
