"""The table of kinds: what it says, what the docs show of it, and that a new row is enough."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from commands import a_report
from rich.console import Console

import headway
from headway import Binds, Kind, Retry, Scheduler, events, kinds
from headway.bulk.record.measures import SessionInfo
from headway.bulk.record.trace import Recorder
from headway.bulk.report import write_report
from headway.cli.display import live
from headway.httpx import AsyncTransport
from headway.kinds import Moves, Retried

pytestmark = pytest.mark.anyio

DESIGN = Path(__file__).parent.parent.parent / "docs" / "design.md"


@contextmanager
def added(value: str, *row: object) -> Iterator[Kind]:
    """One more row of the table, for as long as the body runs."""
    kind = Kind._new_member_(Kind, value, *row)  # type: ignore[attr-defined]
    kind._name_ = value.upper()
    kind.__objclass__ = Kind
    kind._sort_order_ = len(Kind)
    Kind._member_map_[kind._name_] = kind
    Kind._member_names_.append(kind._name_)
    Kind._value2member_map_[value] = kind
    try:
        yield kind
    finally:
        del Kind._member_map_[kind._name_], Kind._value2member_map_[value]
        Kind._member_names_.remove(kind._name_)


def test_the_kinds() -> None:
    assert list(Kind) == [
        "rate", "tokens", "concurrency", "capacity", "transient", "permanent", "quota", "auth",
    ]  # fmt: skip
    assert headway.Kind is events.Kind is kinds.Kind
    assert [kind.status for kind in Kind] == [429, 429, 429, 503, 500, 400, 402, 401]


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_is_its_value(kind: Kind) -> None:
    assert Kind(kind.value) is kind
    assert pickle.loads(pickle.dumps(kind)) is copy.deepcopy(kind) is kind
    assert f"{kind}" == str(kind) == kind.value
    assert {kind.value: 1}[kind] == 1


@pytest.mark.parametrize("kind", Kind)
def test_the_row_is_whole(kind: Kind) -> None:
    assert kind.about
    latches = kind.moves is Moves.LATCH
    assert latches == bool(kind.problem) == bool(kind.fix) == bool(kind.fix_of_run)
    assert (kind.retried is Retried.ATTEMPTS) == (kind.moves is Moves.OUTAGE)


def test_the_design_shows_the_table() -> None:
    rows = [
        f"| `{kind}` | {kind.about} | {kind.moves} | {kind.cuts or 'nothing'} | {kind.retried} "
        f"| {kind.status} |"
        for kind in Kind
    ]
    head = ["| kind | what it is | gate | cuts | retried | a success becomes |", "|---" * 6 + "|"]
    assert "\n".join([*head, *rows, "", ""]) in DESIGN.read_text("utf-8")


def test_the_report_has_each_hue(tmp_path: Path) -> None:
    page = report(tmp_path, dict.fromkeys(Kind, 1))
    for kind in Kind:
        assert f"k-{kind.hue}" in page
    for each in (*Kind, *Binds):
        assert re.search(rf"\.k-{each.hue}\b[^}}]*\{{ *--c:", page), each


def report(folder: Path, refused: dict[Kind, int]) -> str:
    """The page of a run of ten seconds in which so many attempts were refused."""
    (folder / "out.run").mkdir(parents=True)
    info: SessionInfo = {"started": 1e9, "input": "in.jsonl", "output": "out.jsonl"}  # type: ignore[typeddict-item]
    recorder = Recorder(folder / "out.run" / "trace.jsonl", info)
    scheduler = Scheduler()
    recorder.sample(1e9, scheduler.statistics())
    for kind, count in refused.items():
        scheduler._shell.state.counters.refused[kind] = count
    recorder.sample(1e9 + 10, scheduler.statistics())
    recorder.end(1e9 + 10, "done", "")
    recorder.close()
    page = folder / "report.html"
    write_report(folder / "out.jsonl", page)
    return page.read_text("utf-8")


MAINTENANCE = (
    "the provider says when it is back", 418, Retried.PATIENCE, Moves.INTERVALS, "requests", "teal",
)  # fmt: skip
FLAKY = ("a fault of another sort", 599, Retried.ATTEMPTS, Moves.OUTAGE, None, "red")
BANNED = (
    "the caller was banned", 403, Retried.NEVER, Moves.LATCH, None, "dark", True,
    "the provider has banned you", "write to it", "Write to it about {key}",
)  # fmt: skip


async def test_a_new_kind_is_retried_as_its_row_says_and_counted() -> None:
    with added("maintenance", *MAINTENANCE) as kind:
        heard: list[events.Event] = []
        replies = ["maintenance", "maintenance", "ok"]
        scheduler = Scheduler(
            "6000/min",
            is_refused=lambda reply: reply if reply == "maintenance" else None,
            retry=Retry(attempts=2, base=0, cap=0),
            on_event=heard.append,
        )

        async def ask() -> str:
            return replies.pop(0)

        assert await scheduler.submit(ask) == "ok"  # beyond `attempts`, within `patience`
        statistics = scheduler.statistics()
        assert statistics.refused == {kind: 2}
        assert statistics.recent.share(kind) == 2 / 3
        assert statistics.pace < 99  # a refusal has cut the limit of requests
        assert [event.kind for event in heard if isinstance(event, events.Refused)] == [kind] * 2


async def test_a_new_fault_is_tried_as_often_as_attempts_say() -> None:
    with added("flaky", *FLAKY) as kind:
        calls: list[int] = []
        scheduler = Scheduler(is_refused=lambda reply: kind, retry=Retry(attempts=3, base=0, cap=0))

        async def ask() -> str:
            calls.append(1)
            return "no"

        with pytest.raises(headway.Refused, match=r"calls this result a refusal \(flaky\)"):
            await scheduler.submit(ask)
        assert len(calls) == 3
        assert scheduler.statistics().refused == {kind: 3}


async def test_a_new_kind_that_latches() -> None:
    with added("banned", *BANNED):
        scheduler = Scheduler(is_refused=lambda reply: "banned")

        async def ask() -> str:
            return "no"

        with pytest.raises(headway.Refused):
            await scheduler.submit(ask)
        with pytest.raises(headway.Latched) as caught:
            await scheduler.submit(ask)
        assert caught.value.kind == "banned"
        assert str(caught.value).endswith(
            "and would answer the same to every other call. Fix: write to it, then call "
            "scheduler.reset()."
        )


async def test_a_new_kind_under_an_sdk_has_its_status() -> None:
    with added("maintenance", *MAINTENANCE):
        inner = httpx.MockTransport(lambda request: httpx.Response(200, json={"back": "later"}))
        transport = AsyncTransport(
            Scheduler(retry=Retry(attempts=1)), inner, is_refused=lambda response: "maintenance"
        )
        async with httpx.AsyncClient(transport=transport) as client:
            with anyio.fail_after(5):
                response = await client.get("http://provider.test/")
        assert response.status_code == 418


@pytest.mark.parametrize("terminal", [True, False])
def test_a_new_kind_is_displayed(terminal: bool) -> None:
    with added("maintenance", *MAINTENANCE) as refusal, added("flaky", *FLAKY) as fault:
        console = Console(record=True, force_terminal=terminal, width=200, file=sys.stderr)
        with live.display(console) as display:
            display(a_report(refused={refusal: 3, Kind.RATE: 2, fault: 4, Kind.TRANSIENT: 1}))
        text = " ".join(console.export_text().split())
        assert "2 rate, 3 maintenance" in text
        assert re.search(r"faults:? 5\b", text)


def test_a_new_kind_is_in_the_report(tmp_path: Path) -> None:
    with added("maintenance", *MAINTENANCE) as kind:
        page = report(tmp_path, {kind: 3})
        assert re.search(r'class="?k-teal"?[^>]*>.{0,40}maintenance', page, re.S)
    assert "maintenance" not in list(Kind)
