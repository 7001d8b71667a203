"""``headway top`` where it cannot draw, and whom it shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from commands import headway, said
from watched import sockets

from headway import Scheduler, watch


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with sockets(monkeypatch):
        yield


def test_without_a_terminal_it_is_one_look() -> None:
    assert headway("top").stdout.startswith("nothing is watched here. Fix: headway.watch(")
    with watch(Scheduler("600/min"), "one"), watch(Scheduler(), "two"):
        shown = headway("top").stdout
        assert shown.index("one (") < shown.index("two (")
        assert "0/min of 600/min" in shown
        assert "two (" not in headway("top", "one").stdout


def test_one_that_is_not_there_is_2() -> None:
    result = headway("top", "nobody")
    assert result.exit_code == 2
    assert said(result).startswith("headway: nothing is watched here. Fix: headway.watch(")
