"""The screen of ``headway top``, in textual's pilot: what it shows, and its keys."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.widgets import DataTable
from watched import sockets

from headway import Scheduler, watch
from headway.cli.display import screen
from headway.cli.display.screen import Top


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(screen, "_EVERY", 0.05)
    with sockets(monkeypatch):
        yield


def shown(app: Top) -> str:
    """The screen as its lines of text."""
    lines = app.screen._compositor.render_strips(app.screen.size)
    return "\n".join("".join(part.text for part in line) for line in lines)


async def until(app: Top, is_so: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(shown(app))


@asynccontextmanager
async def top(size: tuple[int, int]) -> AsyncIterator[Top]:
    app = Top()
    async with app.run_test(size=size, notifications=True):
        yield app


def run(work: Callable[[], Any]) -> None:
    asyncio.run(work())


def test_nobody_is_there_and_then_somebody_is() -> None:
    async def work() -> None:
        async with top((80, 24)) as app:
            await until(app, lambda: "when it says   headway.watch(scheduler)" in shown(app))
            with watch(Scheduler("600/min"), "late"):
                await until(app, lambda: "late (" in shown(app))
                assert "0/min of 600/min" in shown(app)
                app.simulate_key("question_mark")
                await until(app, lambda: "choose a process" in shown(app))
            await until(app, lambda: "Nothing is watched here." in shown(app))

    run(work)


def test_several_are_chosen_paused_and_drained() -> None:
    drained: list[str] = []
    one, two = Scheduler(), Scheduler("60/min")

    async def work() -> None:
        async with top((120, 40)) as app:
            with (
                watch(one, "one", drain=lambda: drained.append("one")),
                watch(two, "two", drain=lambda: drained.append("two")),
            ):
                await until(app, lambda: len(app.chosen) == 2)  # the row of all
                table = app.query_one("#processes", DataTable)
                assert [str(table.get_cell_at((row, 0))) for row in range(3)] == [
                    "all", "one", "two",
                ]  # fmt: skip
                app.simulate_key("down")
                app.simulate_key("down")
                await until(app, lambda: [each.name for each in app.chosen] == ["two"])
                app.simulate_key("p")
                await until(app, lambda: two.statistics().binds == "paused")
                await until(app, lambda: "held back by  a pause" in shown(app))
                assert one.statistics().binds != "paused"
                assert [each.name for each in app.chosen] == ["two"]  # as it was looked anew
                app.simulate_key("p")
                await until(app, lambda: two.statistics().binds != "paused")
                app.simulate_key("d")
                await until(app, lambda: "d once more drains two (" in shown(app))
                assert drained == []
                app.simulate_key("d")
                await until(app, lambda: drained == ["two"])

    run(work)


def test_a_long_name_leaves_room_for_what_tells_two_apart() -> None:
    async def work() -> None:
        name = "a-worker-whose-name-has-no-end-" * 2
        with watch(Scheduler(), name), watch(Scheduler(), name):
            async with top((80, 24)) as app:
                await until(app, lambda: len(app.found) == 2)
                await until(app, lambda: f"a-worker-whose-name-has…  {os.getpid()}-2" in shown(app))

    run(work)


def test_ctrl_c_ends_it_as_q_does() -> None:
    async def work() -> None:
        app = Top()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("ctrl+c")
            await until(app, lambda: not app.is_running)

    run(work)
