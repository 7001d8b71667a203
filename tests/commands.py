"""Commands as a user runs them, in this process and in one of their own, and servers to ask."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from answering import Answering, Handler
from forks import Forked
from typer.testing import CliRunner, Result

from headway import cli
from headway.bulk.record.status import Progress

# The signals as a shell gives them: not ignored, as in the background.
CHILD = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from headway.cli import main
main()
"""

PATIENCE = 60  # seconds that nothing here takes; a test that hangs fails


def headway(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(cli.build(), list(arguments), catch_exceptions=False)


def said(result: Result) -> str:
    """What the user reads, with the spaces that lay it out taken together."""
    assert result.stdout == ""
    return " ".join(result.stderr.split())


def command(*arguments: str) -> list[str]:
    """The command for a process that starts from nothing."""
    return [sys.executable, "-c", CHILD, *arguments]


def run_process(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, with its bytes as they are."""
    with started(*arguments, stdin=True, stdout=True, text=False) as child:
        out, err = child.communicate(stdin)
        return subprocess.CompletedProcess(arguments, child.wait(), out, err)


@contextmanager
def started(*arguments: str, **streams: bool) -> Iterator[Forked]:
    """The command in a process of its own, which does not outlive the test."""
    with closing(Forked(*arguments, **streams)) as child:
        timer = threading.Timer(PATIENCE, child.send_signal, (signal.SIGKILL,))
        timer.start()
        try:
            yield child
        finally:
            timer.cancel()


def prepare(folder: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `folder` the working folder, with ten requests in it and a server in the environment."""
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    monkeypatch.setenv("TOGETHER_BASE_URL", server + "/together")
    monkeypatch.chdir(folder)
    write_requests(folder / "requests.jsonl", 10)
    return folder


def request_line(number: int, **body: Any) -> dict[str, Any]:
    message = {"role": "user", "content": f"question {number}"}
    return {"custom_id": f"q{number}", "body": {"model": "m", "messages": [message], **body}}


def write_requests(path: Path, count: int) -> Path:
    path.write_bytes(requests(count))
    return path


def requests(count: int) -> bytes:
    return b"".join(json.dumps(request_line(n)).encode() + b"\n" for n in range(count))


def rows_of(data: Path | bytes) -> list[dict[str, Any]]:
    """The rows of an output, each whole and each of another line."""
    if isinstance(data, Path):
        data = data.read_bytes()
    rows = [json.loads(line) for line in data.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return rows


def ids_of(data: Path | bytes) -> list[str]:
    return [row["custom_id"] for row in rows_of(data)]


class Gated(Answering):
    """A server that holds every request until it is told to answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        gated = self

        class Holding(Handler):
            def asked(self, body: dict[str, Any]) -> None:
                gated.asked.append(body["messages"][0]["content"])
                gated.arrived.release()
                gated.gate.wait(PATIENCE)
                self.answer(200, b'{"id":"x","usage":{"prompt_tokens":1,"completion_tokens":2}}')

        super().__init__(Holding)

    def wait_for(self, count: int) -> None:
        """Until `count` more requests are held."""
        for _ in range(count):
            assert self.arrived.acquire(timeout=PATIENCE)


def a_report(**changes: object) -> Progress:
    fields: dict[str, object] = {
        "input": "in.jsonl",
        "output": Path("out.jsonl"),
        "total": 4000,
        "done": 1000,
        "failed": {},
        "before": 0,
        "ambiguous": 0,
        "in_flight": 32,
        "sent": 1040,
        "refused": {},
        "tokens": 1_234_567,
        "input_tokens": 1_000_000,
        "output_tokens": 234_567,
        "cost": 0.0,
        "unpriced": 0,
        "limit": 10.0,
        "pace": 10.0,
        "concurrency": 64.0,
        "binds": "requests",
        "seconds": 100.0,
        "eta": 300.0,
        "stopped": None,
    }
    return Progress(**{**fields, **changes})  # type: ignore[arg-type]
