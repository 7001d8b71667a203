"""What a transport is made of: each thing that cannot be meant is told with its fix."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

import headway.httpx
import headway.httpx2
from headway import InvalidArgument, Scheduler, sync
from headway._http.arguments import (
    ASYNC,
    SYNC,
    check_connections,
    check_scheduler,
    check_transport,
    check_unit,
)

FACES = {
    httpx: (headway.httpx.AsyncTransport, "headway.httpx2"),
    httpx2: (headway.httpx2.AsyncTransport, "headway.httpx"),
}


def test_a_scheduler_and_a_view_of_one() -> None:
    check_scheduler(Scheduler("1/s"), ASYNC)
    check_scheduler(Scheduler("1/s").with_options(key="a"), ASYNC)
    for names in (ASYNC, SYNC):
        for scheduler in (one := sync.Scheduler(), one.with_options(key="a"), one.aio):
            check_scheduler(scheduler, names)


def test_a_sync_client_needs_a_scheduler_for_threads() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_scheduler(Scheduler("1/s"), SYNC)
    assert str(caught.value) == (
        "a headway.Scheduler belongs to one event loop, and a sync client is in none. Fix: "
        "Transport(headway.sync.Scheduler(...)), or AsyncTransport for an AsyncClient."
    )
    with pytest.raises(InvalidArgument) as caught:
        check_scheduler(None, SYNC)
    assert caught.value.fix == (
        "Transport(headway.sync.Scheduler(...)), or a view that its with_options() made."
    )


@pytest.mark.parametrize("value", [None, "600/min", Scheduler, object()])
def test_what_is_no_scheduler(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"is not a Scheduler\. Fix: Async") as caught:
        check_scheduler(value, ASYNC)
    assert str(caught.value).startswith("scheduler=")


@pytest.mark.parametrize(
    ("unit", "known"),
    [(None, True), ("second", True), ("minute", True), ("hour", False), ("", False), (60, False)],
)
def test_the_units_that_together_counts_by(unit: object, known: bool) -> None:
    if known:
        check_unit(unit)
        return
    with pytest.raises(InvalidArgument, match='Fix: together_unit="second" or "minute"'):
        check_unit(unit)


@pytest.mark.parametrize("library", FACES)
def test_a_transport_of_the_library(library: Any) -> None:
    face, other = FACES[library]
    check_transport(library.MockTransport(lambda request: None), library, other, face, ASYNC)


async def _handle(request: Any) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize("library", FACES)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda ours, theirs: ours.AsyncHTTPTransport, "is a class. Fix: an instance, AsyncHTTPTr"),
        (lambda ours, theirs: ours.Client(), "is a client, not an async transport of"),
        (
            lambda ours, theirs: ours.HTTPTransport(),
            "for sync clients, and this is for async ones",
        ),
        (lambda ours, theirs: theirs.MockTransport(_handle), "for a client of the other library"),
        (lambda ours, theirs: theirs.AsyncClient(), "for a client of the other library"),
        (lambda ours, theirs: None, "NoneType is not an async transport of"),
    ],
)
def test_what_is_no_transport_of_the_library(library: Any, make: Any, said: str) -> None:
    face, other = FACES[library]
    (theirs,) = FACES.keys() - {library}
    with pytest.raises(InvalidArgument) as caught:
        check_transport(make(library, theirs), library, other, face, ASYNC)
    assert said in str(caught.value)
    assert ". Fix: " in str(caught.value)


@pytest.mark.parametrize("library", FACES)
def test_transports_of_sync_clients(library: Any) -> None:
    face, other = FACES[library]
    check_transport(library.HTTPTransport(), library, other, face, SYNC)
    for wrong, said in (
        (library.AsyncHTTPTransport(), "is for async clients, and this is for sync ones. Fix: "),
        (library.Client(), "is a client, not a sync transport of"),
        (None, "NoneType is not a sync transport of"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            check_transport(wrong, library, other, face, SYNC)
        assert said in str(caught.value)
        assert "Async" not in caught.value.fix or "around it" in caught.value.fix


@pytest.mark.parametrize("library", FACES)
def test_no_transport_is_wrapped_twice(library: Any) -> None:
    face, other = FACES[library]
    inner = face(Scheduler("1/s"), library.MockTransport(_handle))
    with pytest.raises(InvalidArgument, match="is headway's already: each request would wait for"):
        check_transport(inner, library, other, face, ASYNC)


@pytest.mark.parametrize(
    ("connections", "timeout", "said"),
    [
        (0, 10, "connections=0 cannot be opened. Fix: a whole number from 1."),
        (-1, 10, "connections=-1 cannot be opened. Fix: a whole number from 1."),
        (True, 10, "connections=True cannot be opened. Fix: a whole number from 1."),
        (2.0, 10, "connections=2.0 cannot be opened. Fix: a whole number from 1."),
        (None, 10, "connections=None cannot be opened. Fix: a whole number from 1."),
        (1, 0, "timeout=0 is not a time in seconds above 0. Fix: timeout=10."),
        (1, "10", "timeout='10' is not a time in seconds above 0. Fix: timeout=10."),
        (1, float("nan"), "timeout=nan is not a time in seconds above 0. Fix: timeout=10."),
    ],
)
def test_connections_that_nobody_can_open(connections: Any, timeout: Any, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_connections(connections, timeout)
    assert str(caught.value) == said


def test_connections_that_can_be_opened() -> None:
    check_connections(1, 0.5)
    check_connections(10_000, 10)
