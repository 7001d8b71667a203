"""``headway limits``: who shares limits on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner

from headway import Scheduler
from headway.cli import build
from headway.shared.stores import StoreAway


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def headway(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(build(), ["limits", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def share(name: str) -> None:
    async def work() -> None:
        async def call() -> None: ...

        await Scheduler("6000/min", shared=name).submit(call)

    anyio.run(work)


def test_names_looks_and_a_reset() -> None:
    assert headway() == "no limits are shared here\n"
    share("acme {1}")
    assert headway() == "acme {1}\n"
    assert json.loads(headway("--json")) == ["acme {1}"]
    looked = headway("acme {1}")
    assert looked.startswith("'acme {1}': 6000/min\n  what binds: nothing\n")
    (found,) = json.loads(headway("acme {1}", "--json"))
    assert (found["name"], found["limits"]) == ("acme {1}", "6000/min")
    assert len(found["workers"]) == 1
    assert headway("acme {1}", "--reset") == "forgotten: 'acme {1}'\n"
    assert headway("acme {1}", "--reset") == "nothing is kept at 'acme {1}'\n"
    assert headway() == "no limits are shared here\n"
    assert "no worker has shared limits there yet" in headway("acme {1}")


def test_a_watch_goes_on_where_the_store_gives_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky:
        where = "flaky"
        looks = 0

        async def names(self) -> list[str]:
            self.looks += 1
            if self.looks == 2:
                raise StoreAway("it stumbled")
            if self.looks == 4:
                raise KeyboardInterrupt
            return []

    monkeypatch.setattr("headway.shared.stores.places.open_store", lambda _: (Flaky(), "acme"))
    monkeypatch.setattr("headway.cli.limits._EVERY", 0)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("HEADWAY_SHARED", "acme")
    shown = headway()
    assert "the store gave no reply: it stumbled" in shown
    assert shown.rstrip().rpartition("stumbled")[2].count("nothing is kept at flaky") == 2


def test_names_that_are_no_line_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.shared.stores.places.names_here", lambda: ["two\nlines"])
    assert headway() == "'two\\nlines'\n"


def test_a_place_that_is_none_is_told() -> None:
    assert "is no store that headway knows" in headway("ftp://host/x", code=2)
    assert "--reset forgets one name" in headway("--reset", code=2)
