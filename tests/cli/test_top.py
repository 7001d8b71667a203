"""``headway top`` where it cannot draw, and whom it shows."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from commands import headway, said
from watched import sockets

from headway import Scheduler, watch
from headway.cli.top import top as top_command


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


def test_in_a_terminal_the_first_page_is_there_before_textual_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = os.openpty()
    written = b""

    class Top:
        """In place of textual's: it keeps what was drawn by the time that it comes."""

        def __init__(self, path: object, first: tuple[list[Any], list[str]]) -> None:
            assert [each.name for each in first[0]] == ["one"]

        def run(self) -> None:
            nonlocal written
            while b"of 600/min" not in written:
                written += os.read(ours, 65_536)

    screen = ModuleType("headway.cli.display.screen")
    vars(screen)["Top"] = Top
    monkeypatch.setitem(sys.modules, "headway.cli.display.screen", screen)
    with open(theirs, "r+b", 0) as raw, watch(Scheduler("600/min"), "one"):
        terminal = io.TextIOWrapper(raw, "utf-8", write_through=True)
        for name in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        monkeypatch.setenv("TERM", "xterm")
        top_command()
    shown = written.decode()
    assert shown.startswith("\x1b[?1049h")  # a screen of its own, which ends with it
    assert "one (" in shown
    assert "0/min of 600/min" in shown
    assert os.read(ours, 65_536).decode().endswith("\x1b[?1049l\x1b[?25h")
    os.close(ours)
