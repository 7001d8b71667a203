"""Ctrl-C, kills, and the same command again: what is there is kept, the rest alone is sent."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from commands import Gated, headway, ids_of, prepare, rows_of, said, started, write_requests
from llmock.pytest_plugin import LLMock


@pytest.fixture(autouse=True)
def folder(llmock: LLMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, llmock.url, monkeypatch)


# -- signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_lets_what_is_in_flight_end(
    number: signal.Signals, code: int, name: str, gated: Gated, folder: Path
) -> None:
    arguments = ("run", "requests.jsonl", "--base-url", gated.url, "--concurrency", "3")
    with started(*arguments) as child:
        gated.wait_for(3)
        child.send_signal(number)
        line = child.stderr.readline()
        assert line == (
            f"{name}: waiting for 3 in flight, and sending nothing more. Once more to stop at once"
            "\n"
        )
        gated.gate.set()
        text = " ".join(child.stderr.read().split())
        assert child.wait() == code
    assert "done 3 of 10 lines not answered 7 lines have no row" in text
    assert "tokens 9 (3 in, 6 out)" in text
    assert text.endswith(f"headway: stopped by {name}. Run the same command again to go on")
    assert sorted(ids_of(folder / "requests.results.jsonl")) == ["q0", "q1", "q2"]
    resumed = headway(*arguments)
    assert resumed.exit_code == 0
    assert "before 3 lines had their row already" in said(resumed)
    assert len(ids_of(folder / "requests.results.jsonl")) == 10
    assert sorted(gated.asked) == sorted(f"question {number}" for number in range(10))


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(second: signal.Signals, gated: Gated, folder: Path) -> None:
    arguments = ("run", "requests.jsonl", "--base-url", gated.url, "--concurrency", "3")
    with started(*arguments) as child:
        gated.wait_for(3)
        child.send_signal(signal.SIGINT)
        child.stderr.readline()
        child.send_signal(second)
        text = " ".join(child.stderr.read().split())
        assert child.wait() == 130
    assert not gated.gate.is_set()
    assert "done 0 of 10 lines" in text
    assert text.endswith("headway: stopped by Ctrl-C. Run the same command again to go on")
    gated.gate.set()
    resumed = headway(*arguments)
    assert resumed.exit_code == 0
    assert "again 3 lines that were in flight at a kill" in said(resumed)
    assert len(ids_of(folder / "requests.results.jsonl")) == 10


def test_a_signal_while_nothing_may_be_sent(llmock: LLMock) -> None:
    llmock.rate_limit(times=None, retry_after=300)
    with started("run", "requests.jsonl") as child:
        log = child.stderr.readline()  # the warning that nothing is sent for a while
        child.send_signal(signal.SIGINT)
        text = child.stderr.read()
        assert child.wait() == 130, log + text
    assert "refused (rate" in log
    assert "done 0 of 10 lines" in " ".join(text.split())
    assert text.splitlines()[-1] == (
        "headway: stopped by Ctrl-C. Run the same command again to go on"
    )


def is_copying(pid: int, folder: Path) -> bool:
    """Whether the process has a file of `folder` open that has no name: a copy of its input."""
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(path))
    return any(link.startswith(str(folder)) and "(deleted)" in link for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc here")
def test_a_signal_while_standard_input_is_waited_for(folder: Path) -> None:
    """Nothing was sent: the first is enough, and leaves nothing behind."""
    before = sorted(path.name for path in folder.iterdir())
    with started("run", "-", "-o", "out.jsonl", stdin=True) as child:
        while not is_copying(child.pid, folder):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert child.stderr.read() == "headway: stopped by Ctrl-C\n"
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_signal_while_a_stream_has_nothing_to_give(llmock: LLMock, folder: Path) -> None:
    """The writer keeps the pipe open: the run must not wait for it."""
    with started("run", "-", stdin=True, stdout=True) as child:
        child.stdin.write((folder / "requests.jsonl").read_text().splitlines()[0] + "\n")
        child.stdin.flush()
        assert '"error":null' in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert "headway: stopped by Ctrl-C" in child.stderr.read()


def test_a_stop_while_a_stream_has_nothing_to_give(llmock: LLMock, folder: Path) -> None:
    llmock.fail(401, times=None)
    with started("run", "-", stdin=True, stdout=True) as child:
        child.stdin.write((folder / "requests.jsonl").read_text().splitlines()[0] + "\n")
        child.stdin.flush()
        assert child.wait(20) == 2
        assert "the provider refuses the key" in child.stderr.read()


# -- resuming --------------------------------------------------------------------------------------


def test_the_same_command_goes_on(llmock: LLMock, folder: Path) -> None:
    assert headway("run", "requests.jsonl", "--limit", "5").exit_code == 0
    assert sorted(ids_of(folder / "requests.results.jsonl")) == [f"q{n}" for n in range(5)]
    result = headway("run", "requests.jsonl")
    assert result.exit_code == 0
    assert "done 10 of 10 lines before 5 lines had their row already" in said(result)
    assert len(ids_of(folder / "requests.results.jsonl")) == 10
    result = headway("run", "requests.jsonl")
    assert (result.exit_code, len(llmock.requests)) == (0, 10)


@pytest.mark.parametrize("ordered", [(), ("--ordered",)])
def test_failed_lines_are_taken_up_when_asked_to(
    ordered: tuple[str, ...], llmock: LLMock, folder: Path
) -> None:
    llmock.fail(400, times=3)
    assert headway("run", "requests.jsonl", *ordered).exit_code == 1
    assert headway("run", "requests.jsonl", *ordered).exit_code == 1  # they are still failed
    assert len(llmock.requests) == 10
    result = headway("run", "requests.jsonl", "--retry-failed", *ordered)
    assert result.exit_code == 0
    assert len(llmock.requests) == 13
    assert all(row["error"] is None for row in rows_of(folder / "requests.results.jsonl"))
    assert not (folder / "requests.results.errors.jsonl").exists()
    if ordered:
        assert ids_of(folder / "requests.results.jsonl") == [f"q{n}" for n in range(10)]


def test_lines_that_may_have_been_billed(llmock: LLMock, folder: Path) -> None:
    assert headway("run", "requests.jsonl", "--limit", "5").exit_code == 0
    journal = folder / "requests.results.run" / "journal"
    with journal.open("ab") as file:  # as a kill leaves them: sent, and no row
        file.write((7).to_bytes(8, "little") + (9).to_bytes(8, "little") + b"torn")
    result = headway("run", "requests.jsonl", "--ambiguous", "report")
    assert result.exit_code == 1
    assert "failed 2 (2 ambiguous)" in said(result)
    assert len(llmock.requests) == 8
    failed = rows_of(folder / "requests.results.errors.jsonl")
    assert [row["custom_id"] for row in failed] == ["q6", "q8"]
    assert "may have been billed. Send it again with --retry-failed" in str(failed[0]["error"])
    assert headway("run", "requests.jsonl", "--retry-failed").exit_code == 0
    assert len(llmock.requests) == 10
    assert len(ids_of(folder / "requests.results.jsonl")) == 10


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_an_existing_output_is_2_and_says_the_way_out(
    options: tuple[str, ...], folder: Path
) -> None:
    (folder / "out.jsonl").write_text("precious\n")
    result = headway("run", "requests.jsonl", "-o", "out.jsonl", *options)
    assert result.exit_code == 2
    assert said(result) == (
        "headway: out.jsonl exists already, and no run that could be resumed has left it. "
        "Fix: move it away, or give another file with -o"
    )
    assert (folder / "out.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--retry-failed",), ("--ordered",)])
def test_the_input_is_not_the_file_of_the_failed_rows(
    options: tuple[str, ...], llmock: LLMock, folder: Path
) -> None:
    source = (folder / "requests.jsonl").rename(folder / "fix.errors.jsonl")
    kept = source.read_bytes()
    result = headway("run", "fix.errors.jsonl", "-o", "fix.jsonl", *options)
    assert result.exit_code == 2
    assert said(result) == (
        "headway: fix.errors.jsonl, which belongs to the output fix.jsonl, is the input "
        "fix.errors.jsonl itself, which would be lost. Fix: give another file with -o"
    )
    assert source.read_bytes() == kept
    assert sorted(path.name for path in folder.glob("fix*")) == ["fix.errors.jsonl"]
    assert llmock.requests == []
    assert headway("run", "fix.errors.jsonl", "-o", "fixed.jsonl").exit_code == 0  # the advice


def test_damage_is_told_and_mended(llmock: LLMock, folder: Path) -> None:
    assert headway("run", "requests.jsonl").exit_code == 0
    output = folder / "requests.results.jsonl"
    rows = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join([*rows[:3], bytes(512), *rows[5:], rows[0]]))
    result = headway("run", "requests.jsonl")
    assert result.exit_code == 0
    assert "requests.results.jsonl was damaged: 1 of its rows are not as they were" in said(result)
    assert len(llmock.requests) == 13  # the zeros took the row behind them along
    assert sorted(ids_of(output)) == [f"q{n}" for n in range(10)]


def test_overwrite_begins_anew(llmock: LLMock, folder: Path) -> None:
    assert headway("run", "requests.jsonl").exit_code == 0
    llmock.fail(401, times=1)
    refused = headway("run", "requests.jsonl", "--overwrite", "--concurrency", "1")
    assert refused.exit_code == 2
    assert len(ids_of(folder / "requests.results.jsonl")) == 10  # nothing was there to replace it
    write_requests(folder / "requests.jsonl", 4)
    assert headway("run", "requests.jsonl", "--overwrite").exit_code == 0
    assert len(ids_of(folder / "requests.results.jsonl")) == 4
    assert len(llmock.requests) == 15


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        (True, (), "the input has changed"),
        (False, ("--base-url", "http://localhost:1/v1"), "the provider or its address is another"),
        (False, ("--endpoint", "completions"), "the options that make requests (--endpoint, "),
        (False, ("--ordered",), "--ordered was given to one of them only"),
        (False, ("--shard", "0/2", "-o", "requests.results.jsonl"), "the shard is another"),
    ],
)
def test_another_run_does_not_go_on(
    change: bool, options: tuple[str, ...], why: str, llmock: LLMock, folder: Path
) -> None:
    assert headway("run", "requests.jsonl").exit_code == 0
    kept = (folder / "requests.results.jsonl").read_bytes()
    if change:
        write_requests(folder / "requests.jsonl", 11)
    result = headway("run", "requests.jsonl", *options)
    assert result.exit_code == 2
    assert f"requests.results.jsonl cannot be resumed: {why}" in said(result)
    assert said(result).endswith("give another file with -o, or begin anew with --overwrite")
    assert (folder / "requests.results.jsonl").read_bytes() == kept
    assert len(llmock.requests) == 10


def test_another_process_is_at_work(gated: Gated) -> None:
    arguments = ("run", "requests.jsonl", "--base-url", gated.url)
    with started(*arguments) as child:
        gated.wait_for(10)
        result = headway(*arguments)
        assert result.exit_code == 2
        assert said(result) == (
            "headway: another process is at work on requests.results.jsonl. Fix: wait for its "
            "end, or "
            "give another file with -o"
        )
        gated.gate.set()
        assert child.wait() == 0
