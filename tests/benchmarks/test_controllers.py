"""The peers of benchmarks/control.py: each keeps its jobs and reaches what it can reach."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _controllers import PEERS, Aimd, Arc, Attempt, Botocore, Controller, InspectAi
from control import Headway, Peer, Run, Server, run

from headway.hints import limits_from


def twenty_minutes(peer: type[Controller], server: Server) -> tuple[Peer, Run]:
    client = Peer(peer(Random(1)))
    return client, run(client, server, 1, 1200.0)


@pytest.mark.parametrize("name", "ABD")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_no_job_is_lost_and_none_is_counted_twice(peer: type[Controller], name: str) -> None:
    server = Server(name, 1200.0)
    client, result = twenty_minutes(peer, server)
    assert client.begun == result.succeeded.total() + client.under_way
    assert server.in_flight + len(client.waiting) <= client.under_way <= 300
    assert 0.03 * result.ideal < result.goodput < 1.05 * result.ideal


def refuse(controller: Controller, now: float) -> None:
    controller.started(now)
    controller.refused(Attempt(now, controller.in_flight, 1), now + 0.1)


def test_inspect_ai_cuts_once_in_fifteen_seconds_and_doubles_before_the_first() -> None:
    controller = InspectAi(Random(1))
    for _ in range(20):
        controller.started(0.0)
        controller.answered(Attempt(0.0, 1, 1), 1.0)
    assert controller.limit == 40
    refuse(controller, 2.0)
    refuse(controller, 3.0)
    assert controller.limit == 30  # 32, rounded down to a five
    refuse(controller, 18.0)
    assert controller.limit == 20  # 24


def test_aimd_moves_with_every_answer() -> None:
    controller = Aimd(Random(1))
    controller.limit = 100
    refuse(controller, 0.0)
    assert controller.limit == 90
    controller.answered(Attempt(0.0, 90, 1), 5.0)
    assert controller.limit == 91
    controller.answered(Attempt(0.0, 3, 1), 5.0)
    assert controller.limit == 91  # too little was in flight to tell


def test_a_retry_of_arc_keeps_its_slot() -> None:
    controller = Arc(Random(1))
    refuse(controller, 0.0)
    assert controller.may_start(1.0) > 1e9
    assert 0.0 <= controller.wait(20) <= 30.0


def test_botocore_is_held_from_its_first_refusal_on() -> None:
    controller = Botocore(Random(1))
    for tenth in range(100):
        controller.answered(Attempt(0.0, 1, 1), tenth / 10)
        assert controller.may_start(tenth / 10) == tenth / 10
    refuse(controller, 10.0)
    starts, now = 0, 10.1
    while now < 11.1:
        controller.started(now)
        starts += 1
        now = controller.may_start(now)
    # A bucket of a second, which was full, and a second at 0.7 of the ten that it measured.
    assert starts == pytest.approx(14, abs=1)


def test_the_server_states_its_limit_as_openai_does() -> None:
    server = Server("C", 3600.0)
    for _ in range(3):
        assert server.refuses(0.0) is None
    (hint,) = limits_from(server.headers(0.0), wall_time=0.0)
    assert (hint.limit, hint.remaining, hint.reset, hint.per) == (600, 597, 0.3, 60)
    assert server.refuses(1500.0) is None
    (hint,) = limits_from(server.headers(1500.0), wall_time=0.0)
    assert (hint.limit, hint.remaining, hint.reset, hint.per) == (240, 239, 0.25, 60)


def test_headway_follows_the_headers() -> None:
    result = run(Headway(Random(1), headers=True), Server("C", 1200.0), 1, 1200.0)
    assert result.goodput > 0.97 * result.ideal
    assert result.measured["refused"] <= 1
