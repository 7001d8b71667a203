"""``headway ctl``: its words in any order, what it changes, and what it says where it cannot."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from commands import headway, said
from watched import sockets

from headway import Scheduler, watch
from headway.hooks.watch import client


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with sockets(monkeypatch):
        yield


def test_without_a_process_it_says_how_to_be_found() -> None:
    result = headway("ctl")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "nothing is watched here. Fix: headway.watch(scheduler) in the program; headway run is "
        "watched by itself.\n"
    )
    assert headway("ctl", "list", "--json").stdout == "[]\n"
    result = headway("ctl", "pause")
    assert result.exit_code == 2
    assert said(result).startswith("headway: nothing is watched here. Fix: headway.watch(schedul")


def test_one_that_is_there_and_mute_is_not_called_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "look", lambda: ([], ["process 7 gave no reply"]))
    result = headway("ctl")
    assert result.stderr == "headway: process 7 gave no reply\n"
    assert result.stdout == "nothing else is watched here\n"


def test_one_process_needs_no_name() -> None:
    scheduler = Scheduler("600/min", concurrency=4)
    with watch(scheduler, "worker"):
        assert headway("ctl").stdout.startswith(f"worker ({os.getpid()}): idle: 0 queued, 0 in fl")
        result = headway("ctl", "pause")
        assert result.stdout.splitlines()[:2] == [
            f"worker ({os.getpid()}) paused: nothing more is started",
            "  held back by  a pause",
        ]
        assert scheduler.statistics().binds == "paused"
        for words in (("resume", "worker"), ("worker", "pause"), (f"{os.getpid()}", "resume")):
            assert headway("ctl", *words).exit_code == 0
        assert scheduler.statistics().binds == ""
        assert headway("ctl", "worker").stdout == headway("ctl", "status").stdout


def test_limits_are_set() -> None:
    scheduler = Scheduler("600/min", tokens="1M/min")
    with watch(scheduler):
        options = ("--requests", "300/min", "--rate", "9/s", "--tokens", "none")
        result = headway("ctl", "set", *options, "--concurrency", "8", "--json")
        assert result.exit_code == 0, result.stderr
        status = json.loads(result.stdout)
        assert status["limits"] == {
            "requests": ["300/min", "9/s"], "tokens": [], "input_tokens": [], "output_tokens": [],
            "concurrency": 8,
        }  # fmt: skip
        assert scheduler.limits.concurrency == 8
        assert "  limit         300/min of requests\n" in headway("ctl", "status").stdout
        headway("ctl", "set", "--concurrency", "none")
        assert scheduler.limits.concurrency is None


def test_with_several_it_lists_them() -> None:
    with watch(Scheduler(), "a"), watch(Scheduler(), "b"):
        result = headway("ctl", "pause")
        assert result.exit_code == 2
        assert said(result) == (
            f"headway: 2 could be meant: a ({os.getpid()}), b ({os.getpid()}-2). Fix: give one by "
            "its number."
        )
        assert headway("ctl", f"{os.getpid()}-2", "status").stdout.startswith("b (")
        assert len(json.loads(headway("ctl", "--json").stdout)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "dance"), "dance is nothing that ctl does. Fix: one of: list, status, pause"),
        (("a", "b", "pause"), "3 words are too many. Fix: headway ctl NAME pause."),
        (("set",), "set names no limit. Fix: headway ctl set --requests 300/min."),
        (("pause", "--tokens", "1/s"), "--tokens is for set, and this is pause. Fix: ctl set"),
        (("pause", "--key", "x"), "--key is for clear, and this is pause. Fix: leave it out."),
        (("set", "--requests", "fast"), "--requests 'fast': a rate is a number and a period"),
        (("set", "--concurrency", "0"), "--concurrency is a whole number from 1, or none. Fix:"),
        (("set", "--concurrency", "many"), "--concurrency is a whole number from 1, or none."),
        (("clear", "--key", "x"), "no job had the key 'x'. Fix: one of: none yet."),
        (("stop", "drain"), "nothing that is watched is called stop. Fix: one of: w ("),
    ],
)
def test_bad_usage_is_2(arguments: tuple[str, ...], message: str) -> None:
    with watch(Scheduler(), "w"):
        result = headway("ctl", *arguments)
    assert result.exit_code == 2
    assert said(result).startswith(f"headway: {message}")


def test_a_word_alone_may_be_a_name_or_what_to_do() -> None:
    with watch(Scheduler(), "w"):
        assert said(headway("ctl", "stop")) == (
            f"headway: nothing that is watched is called stop. Fix: one of: w ({os.getpid()}); or "
            "to do: list, status, pause, resume, set, drain, clear."
        )


def test_what_is_dropped_is_counted() -> None:
    with watch(Scheduler(), "w"):
        said = headway("ctl", "clear").stdout.splitlines()[0]
    assert said == f"w ({os.getpid()}) cleared: 0 that were queued are dropped"


def test_keys_are_listed_where_there_are_several() -> None:
    scheduler = Scheduler()
    with watch(scheduler):
        for key in ("chat", "embed"):
            scheduler._shell.state.flow(key)
        assert "  key           chat: 0 queued, 0 in flight, 0 sent, 0 refused\n" in (
            headway("ctl", "status").stdout
        )
