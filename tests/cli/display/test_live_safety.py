"""No byte of a provider, a file or a header reaches a terminal raw, and none is markup."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from headway import Scheduler
from headway.bulk.record.status import Progress, Stop
from headway.cli import main
from headway.cli.command import streams
from headway.cli.display import live
from headway.hooks.log import logger
from headway.kinds import Kind
from headway.kinds._words import printable

HOSTILE = (
    "\x1b[31m\x1b]0;title\x07\x9b2J\x9d8;;http://evil\x9c\x85\x08\x7f\u202egnp\u2066\u2028\r"
    "[/nope][link=http://evil]:warning:[bold]"
)
SHOWN = (
    r"\x1b[31m\x1b]0;title\x07\x9b2J\x9d8;;http://evil\x9c\x85\x08\x7f\u202egnp\u2066\u2028\r"
    "[/nope][link=http://evil]:warning:[bold]"
)


def unharmed(text: str) -> None:
    """Nothing but what a terminal prints, and headway's own line breaks."""
    assert "".join(char for char in text if not char.isprintable()).strip("\n") == ""
    assert "[/nope][link=http://evil]:warning:[bold]" in text.replace("\n", "")


def console_on(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setattr("sys.stderr", stream)
    console = live.stderr()
    console.width = 2000
    return console


PROGRESS = Progress(
    input=HOSTILE, output=Path(f"/tmp/{HOSTILE}"), total=9, done=5, failed={HOSTILE: 1}, before=2,
    ambiguous=1, in_flight=3, sent=8, refused={Kind.TRANSIENT: 2}, tokens=30, input_tokens=10,
    output_tokens=20, cost=0.1, unpriced=1, limit=10.0, pace=9.5, concurrency=32.0, binds=HOSTILE,
    seconds=60.0, eta=4.26, stopped=Stop(None, HOSTILE), fault=HOSTILE, reasons={HOSTILE: 5},
)  # fmt: skip


@pytest.mark.parametrize("how", ["summary", "plain", "log", "traceback"])
def test_what_a_run_shows(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = console_on(stream, monkeypatch)
    if how == "summary":
        console.print(live.summary(PROGRESS))
    elif how == "plain":
        live.display(console)(PROGRESS)
    else:
        with live.logging_to(console):
            try:
                raise ValueError(HOSTILE)
            except ValueError:
                logger.warning("of %s", HOSTILE, exc_info=how == "traceback")
    unharmed(stream.getvalue())


def test_the_live_display(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=2000, color_system=None, markup=False)
    with live.display(console) as shown:
        shown(PROGRESS)
    text = stream.getvalue()
    assert printable(HOSTILE) in text
    for raw in ("\x1b[31m", "\x1b]", "\x9b", "\x07", "\u202e", "\x7f"):
        assert raw not in text


def test_what_a_command_says_and_tells(capsys: pytest.CaptureFixture[str]) -> None:
    streams.say(f"headway: {HOSTILE} of http://me:a-secret@host")
    streams.tell(HOSTILE)
    out, err = capsys.readouterr()
    assert out == f"{SHOWN}\n"
    assert err == f"headway: {SHOWN} of http://***@host\n"


@pytest.mark.parametrize("command", ["run", "plan", "check", "report", "merge", "prices"])
def test_the_errors_of_every_command(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key-of-mine")
    named = str(tmp_path / HOSTILE.replace("/", "|"))
    arguments = {
        "run": ["run", named], "plan": ["plan", named], "check": ["run", named, "--check"],
        "report": ["report", named], "merge": ["merge", named, "-o", named + "2"],
        "prices": ["run", named, "--prices", named],
    }[command]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["headway", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert printable(HOSTILE.replace("/", "|")) in err + out
    assert [char for char in err + out if not char.isprintable() and char != "\n"] == []


@pytest.mark.parametrize("lines", ["models", "errors"])
def test_what_check_says_of_a_file(
    lines: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.jsonl"
    line: dict[str, Any] = {"body": {"model": HOSTILE, "messages": []}, "custom_id": HOSTILE}
    if lines == "errors":
        line["url"] = f"/v1/{HOSTILE}"
    source.write_text((json.dumps(line) + "\n") * 2)
    monkeypatch.setattr("sys.argv", ["headway", "run", str(source), "--check"])
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    assert [char for char in out if not char.isprintable() and char != "\n"] == []
    assert r"\x1b[31m" in out


def test_the_librarys_log_is_clean_under_any_handler(caplog: pytest.LogCaptureFixture) -> None:
    Scheduler("100/s")
    logger.warning("%s was found at %s", HOSTILE + "\nINFO forged", "http://h/?key=a-secret")
    assert caplog.messages == [rf"{SHOWN}\nINFO forged was found at http://h/?key=***"]
    logger.warning("%d of %s", 1, "plain")
    assert caplog.records[-1].args == (1, "plain")
