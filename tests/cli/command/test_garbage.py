"""Nothing is collected while the command imports, and everything once it works."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import headway

from headway import cli
from headway.cli.command import garbage, streams


class Collector:
    """As Python's, of which it tells what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def isenabled(self) -> bool:
        return self.asked[-1:] != ["disable"]

    def __getattr__(self, name: str) -> object:
        return lambda: self.asked.append(name)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    found = Collector()
    monkeypatch.setattr(garbage, "gc", found)
    return found


def test_none_while_it_begins(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "prepare", lambda: None)
    monkeypatch.setattr(cli, "_run", lambda: collector.asked.append("run"))
    cli.main()
    assert collector.asked == ["disable", "run"]


# Each begins to work, and finds nothing to work on.
WORKING: dict[str, tuple[str, ...]] = {
    "ctl": ("list",),
    "export": ("missing.jsonl",),
    "limits": (),
    "merge": ("missing.jsonl", "-o", "all.jsonl"),
    "plan": ("missing.jsonl",),
    "probe": ("--model", "m"),
    "report": ("missing.jsonl",),
    "run": ("missing.jsonl",),
    "top": (),
}


@pytest.mark.parametrize("name", WORKING)
def test_each_command_collects_once_it_works(
    name: str, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    garbage.hold()
    assert not collector.isenabled()
    headway(name, *WORKING[name])
    assert collector.asked == ["disable", "freeze", "enable"]


def test_there_is_no_other_command() -> None:
    functions = [each.callback for each in cli.build().registered_commands]
    assert sorted(each.__name__ for each in functions if each is not None) == sorted(WORKING)


def test_the_collections_of_another_program_are_its_own(collector: Collector) -> None:
    garbage.collect()
    assert collector.asked == []
