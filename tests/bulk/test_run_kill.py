"""A real run, killed with SIGKILL and begun again: every line is answered exactly once."""

from __future__ import annotations

import json
import signal
import struct
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from commands import started
from llmock.pytest_plugin import LLMock

LINES = 200
CONCURRENCY = 8
KILLED_AT = (1, 70, 145)  # rows in the output
FAULTS = {**dict.fromkeys(range(5, LINES, 20), 500), 35: 503, 190: 429}
RUN = ("run", "requests.jsonl", "--concurrency", str(CONCURRENCY), "--json")


@pytest.fixture
def folder(llmock: LLMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the requests in it and a server that injects faults."""
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    monkeypatch.setenv("TOGETHER_BASE_URL", llmock.url + "/together")
    monkeypatch.chdir(tmp_path)
    # Each fault has a line of its own, by its model: they are spread over the run.
    for number, status in FAULTS.items():
        llmock.fail(status, model=f"m-{number}", retry_after=0.05 if status == 429 else None)
    llmock.delay(0.01, times=None)
    with (tmp_path / "requests.jsonl").open("w") as file:
        for number in range(1, LINES + 1):
            message = {"role": "user", "content": f"q{number}"}
            body = {"model": f"m-{number}", "messages": [message]}
            print(json.dumps({"custom_id": f"q{number}", "body": body}), file=file)
    return tmp_path


def finish() -> dict[str, object]:
    """Let it run to its end; what it said last."""
    with started(*RUN, stdout=True, text=False) as run:
        said, problem = run.communicate(b"")
        assert run.wait() == 0, problem.decode()
    last: dict[str, object] = json.loads(said.splitlines()[-1])
    return last


def rows_of(folder: Path) -> list[bytes]:
    """The whole rows of the output; a torn last one is none."""
    path = folder / "requests.results.jsonl"
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1].splitlines()


def kill_at(rows: int, folder: Path) -> set[str]:
    """Kill a run once there are so many `rows`; what it had started and not answered."""
    with started(*RUN) as run:
        while len(rows_of(folder)) < rows:
            assert run.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    data = (folder / "requests.results.run" / "journal").read_bytes().partition(b"\n")[2]
    begun = {n for (n,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])}
    answered = {int(json.loads(row)["id"].removeprefix("batch_req_")) for row in rows_of(folder)}
    return {f"q{number}" for number in begun - answered}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_every_line_is_answered_once_however_often_the_run_is_killed(
    folder: Path, llmock: LLMock
) -> None:
    in_flight: Counter[str] = Counter()
    for moment in KILLED_AT:
        lost = kill_at(moment, folder)
        assert len(lost) < 3 * CONCURRENCY  # those that wait to be tried again are among them
        in_flight.update(lost)
    assert in_flight, "nothing was in flight at any kill: this shows nothing"
    last = finish()
    assert (last["done"], last["failed"], last["remaining"]) == (LINES, {}, 0)

    rows = [json.loads(row) for row in rows_of(folder)]
    assert Counter(row["custom_id"] for row in rows) == Counter(f"q{n + 1}" for n in range(LINES))
    assert all(row["error"] is None for row in rows)

    sent, faults = Counter[str](), Counter[str]()
    for request in llmock.requests:
        asked = request.body["messages"][0]["content"]
        sent[asked] += 1
        faults[asked] += request.status >= 400
    assert faults.total() == len(FAULTS)
    # One each, one for each fault, and one for each kill that it was in flight at.
    assert [name for name in sent if sent[name] > 1 + faults[name] + in_flight[name]] == []

    finish()
    assert len(llmock.requests) == sent.total(), "a run that was done has sent something"
