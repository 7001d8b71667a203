"""What a run shows while it goes on: on a terminal, in a log, and at its end."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Gated, a_report, command, request_line
from rich.console import Console

from headway.bulk.record.status import Progress
from headway.cli.display import live
from headway.events import Closed, Kind
from headway.hooks.log import Log


def shown(*reports: Progress, terminal: bool) -> str:
    console = Console(record=True, force_terminal=terminal, width=100, file=sys.stderr)
    with live.display(console) as display:
        for report in reports:
            display(report)
        assert display.last is reports[-1]
    return console.export_text()


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_log_gets_a_line_now_and_then() -> None:
    reports = [a_report(seconds=seconds) for seconds in (1.0, 9.9, 10.1, 12.0, 20.2)]
    text = shown(*reports, terminal=False)
    assert text.splitlines() == [
        "1,000 of 4,000 lines finished (25.0%): 1,000 answered, 0 failed, 32 in flight; 6,172/min "
        "of 600/min; held back by the limit on requests; "
        "refused: none; about 5 min left",
        "1,000 of 4,000 lines finished (25.0%): 1,000 answered, 0 failed, 32 in flight; 3,086/min "
        "of 600/min; held back by the limit on requests; "
        "refused: none; about 5 min left",
    ]


def test_a_terminal_gets_a_bar() -> None:
    refused = {Kind.RATE: 7, Kind.TRANSIENT: 2}
    report = a_report(
        failed={"http_400": 3}, refused=refused, fault="ConnectError", cost=1.5, unpriced=2
    )
    text = shown(report, terminal=True)
    # The terminal's own "^C" must not wrap: what is drawn would be a line further up than it seems.
    assert len(text.splitlines()[0]) == 100 - len("^C^C")
    lines = squeezed(text)
    assert lines[1:10] == [
        "1,003 of 4,000 lines finished (25.1%), about 5 min left",
        "done 1,000",
        "failed 3 (3 http_400)",
        "in flight 32 of 64",
        "rate 623/min of 600/min",
        "held back by the limit on requests",
        "refused 7 rate",
        "faults 2 (the last: ConnectError)",
        "tokens 1,234,567 (1,000,000 in, 234,567 out)",
    ]
    assert lines[10].startswith("cost $1.50, 2 answers without a known price")


@pytest.mark.parametrize("width", [30, 80, 120])
def test_the_last_minutes_are_charts(width: int) -> None:
    console = Console(record=True, force_terminal=True, width=width, file=io.StringIO())
    with live.display(console) as display:
        for second in range(0, 200, 5):
            refused = {Kind.RATE: second // 60}
            display(a_report(seconds=float(second), sent=5 * second, refused=refused))
    drawn = console.export_text().rpartition("done  ")[2]
    lines = {line[:13].strip(): line[14:] for line in drawn.splitlines()}
    assert max(len(line) for line in drawn.splitlines()) <= width
    if width > 30:
        assert set(lines["sent"].partition(" ")[0]) == {"▄"}  # half of the limit
        assert lines["sent"].strip().endswith(" 5 of 10/s")
        assert "█" in lines["refused"]
        assert "the last 3 min" in drawn


def test_an_outage_is_seen_in_the_pace() -> None:
    report = a_report(
        seconds=11.0, refused={Kind.TRANSIENT: 12}, fault="http_500", done=0, eta=None
    )
    assert shown(report, terminal=False) == (
        "0 of 4,000 lines finished (0.0%): 0 answered, 0 failed, 32 in flight; 5,667/min of "
        "600/min; held back by the limit on requests; refused: none; faults: 12 (the last: "
        "http_500); no line finished yet\n"
    )


def test_a_summary_has_what_matters() -> None:
    console = Console(record=True, width=100, file=sys.stderr)
    console.print(
        live.summary(
            a_report(
                failed={"http_400": 3},
                refused={Kind.RATE: 7, Kind.TRANSIENT: 2, Kind.PERMANENT: 3},
                seconds=3725.0,
                limit=None,
                before=5,
                ambiguous=2,
                cost=0.25,
            )
        )
    )
    assert squeezed(console.export_text()) == [
        "done 1,000 of 4,000 lines",
        "before 5 lines had their row already",
        "again 2 lines that were in flight at a kill",
        "failed 3 (3 http_400)",
        "not answered 2,997 lines have no row",
        "refused 7 rate",
        "faults 2",
        "tokens 1,234,567 (1,000,000 in, 234,567 out)",
        "cost $0.25",
        "time 1 h 2 min",
        "rate 1,040 attempts, 16.7/min (no limit of requests given)",
        "rows out.jsonl",
    ]


def test_a_real_terminal_shows_it_live_and_gets_its_cursor_back(
    gated: Gated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Any] = [request_line(number) for number in range(5)]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("{oops\n" + "".join(json.dumps(x) + "\n" for x in lines))
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    environment.pop("NO_COLOR", None)
    arguments = ("run", "in.jsonl", "--base-url", gated.url, "--rate", "6000/min")
    with subprocess.Popen(
        command(*arguments), stdin=its, stdout=its, stderr=its, env=environment
    ) as child:
        os.close(its)
        drawn = b""
        while b"in flight" not in drawn or b" 5 of 32" not in plain(drawn).encode():
            drawn += os.read(ours, 65536)
        gated.gate.set()
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so at the end
                break
            drawn += data
        assert child.wait() == 1
    os.close(ours)
    text = " ".join(plain(drawn).split())
    for part in (
        "of 6 lines", "failed 1 (1 invalid_json)", "in flight 5 of 32", "of 6,000/min",
        "held back by", "tokens 0", "done 5 of 6 lines", "tokens 15 (5 in, 10 out)",
    ):  # fmt: skip
        assert part in text
    assert drawn.index(b"\x1b[?25l") < drawn.rindex(b"\x1b[?25h")
    assert b"\x1b[?25l" not in drawn[drawn.rindex(b"\x1b[?25h") :]


def plain(drawn: bytes) -> str:
    """What a terminal was sent, without what moves and colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode(errors="replace"))


def test_the_log_leaves_out_what_the_last_line_of_a_run_says() -> None:
    console = Console(file=io.StringIO(), width=200)
    with live.logging_to(console):
        hear = Log()
        for kind in Kind:
            hear(Closed(0.0, kind, None, f"it was {kind}"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    latching = {Kind.AUTH, Kind.QUOTA}
    for kind in Kind:
        assert (f"it was {kind}" in shown) == (kind not in latching)
