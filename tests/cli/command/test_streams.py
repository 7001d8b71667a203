"""What the command does where its standard streams are closed, full, broken or narrow."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from commands import (
    PATIENCE,
    Gated,
    command,
    prepare,
    request_line,
    requests,
    rows_of,
    run_process,
    started,
    write_requests,
)  # fmt: skip
from llmock.pytest_plugin import LLMock

from headway.cli.display import live


@pytest.fixture(autouse=True)
def folder(llmock: LLMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # As a fresh user's: nothing that keeps Python from buffering what it writes.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    return prepare(tmp_path, llmock.url, monkeypatch)


def shell(script: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """`script`, in which "$@" is the command with `arguments`."""
    return subprocess.run(
        ["bash", "-c", script, "bash", *command(*arguments)],
        capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


CLOSED = "mkfifo gone; exec 9<>gone 8>gone 9<&-; "  # 8 is a pipe that nobody reads

RUN = ("run", "requests.jsonl")
COMMANDS = [
    (*RUN, "--json"),
    (*RUN, "-o", "-"),
    ("plan", "requests.jsonl", "--rate", "10/s"),
    ("--help",),
    ("plan", "missing.jsonl"),
    ("run", "--no-such-option"),
]


# Each command, each stream and each way: a process costs a second, so not all of them together.
WAYS = [(1, "unread"), (2, "full"), (1, "full"), (2, "unread")]
CASES = [(arguments, *WAYS[number % 4]) for number, arguments in enumerate(COMMANDS)]


@pytest.mark.parametrize(("arguments", "stream", "how"), CASES)
def test_a_stream_that_takes_nothing_ends_no_command_as_python_does(
    arguments: tuple[str, ...], stream: int, how: str
) -> None:
    Path("requests.results.jsonl").unlink(missing_ok=True)
    before = {
        "unread": f'{CLOSED}"$@" {stream}>&8',
        "full": f'"$@" {stream}>/dev/full',
    }[how]
    result = shell(before, *arguments)
    assert result.returncode in (0, 1, 2), result.stderr
    assert b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr
    if stream == 2:  # a mistake stays one, and what is done is done
        mistaken = {"missing.jsonl", "--no-such-option", "merge", "report"} & set(arguments)
        assert result.returncode == (2 if mistaken else 0)


@pytest.mark.parametrize("how", [f'{CLOSED}"$@" 2>&8', '"$@" 2>/dev/full'])
def test_a_run_that_nobody_hears_is_done(how: str) -> None:
    assert shell(how, *RUN).returncode == 0
    assert len(rows_of(Path("requests.results.jsonl"))) == 10


def test_nothing_that_is_said_gets_into_the_rows(folder: Path) -> None:
    """A file that is opened while standard error is closed gets its number."""
    (folder / "requests.jsonl").write_bytes(requests(3) + b"oops\n")
    assert shell('"$@" 2>&- 1>&- 0<&-', *RUN).returncode == 1
    assert len(rows_of(Path("requests.results.jsonl"))) == 4


def test_progress_that_nobody_reads_loses_nothing_in_flight(gated: Gated) -> None:
    write_requests(Path("requests.jsonl"), 200)
    arguments = (*RUN, "--json", "--concurrency", "8", "--base-url", gated.url)
    with started(*arguments, stdout=True) as child:
        gated.wait_for(8)
        child.stdout.close()
        gated.gate.set()
        said = child.stderr.read()
        assert child.wait() == 1
    assert "headway: cannot go on: nobody reads the progress any more" in said
    assert len(rows_of(Path("requests.results.jsonl"))) == len(gated.asked) >= 8


@pytest.mark.parametrize("arguments", [("plan", "requests.jsonl"), (*RUN, "--check")])
def test_a_full_disk_says_so(arguments: tuple[str, ...]) -> None:
    result = shell('"$@" >/dev/full', *arguments)
    assert result.returncode == 1
    assert result.stderr == (
        b"headway: cannot go on: [Errno 28] No space left on device. Correct that, then run it "
        b"again\n"
    )


# -- narrow consoles ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "arguments"), [("cp1252", ("--check",)), ("ascii", ("--help",)), ("ascii", ())]
)
def test_no_text_is_too_much_for_a_console(
    encoding: str, arguments: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    name = os.fsdecode("requ\u00eate\u2603".encode()) + ".jsonl"
    line = str(request_line(0, model="\u2603")).replace("'", '"')
    (folder / name).write_text(line + "\n{\n", encoding="utf-8")
    result = run_process("run", name, *arguments)
    assert result.returncode in (0, 1, 2)
    assert b"Traceback" not in result.stderr
    assert result.stdout or result.stderr


@pytest.mark.parametrize(
    "environment",
    [{"FORCE_COLOR": "1", "TERM": "dumb"}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}],
)
def test_no_live_display_without_a_terminal(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = run_process(*RUN)
    assert result.returncode == 0
    assert b"\x1b[?25" not in result.stderr  # the cursor, hidden and shown
    assert b"\x1b[2K" not in result.stderr
    assert b"\x1b[1A" not in result.stderr
    assert not isinstance(live.display(live.stderr()), live._Terminal)
