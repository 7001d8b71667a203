"""`headway run` killed with SIGKILL at random moments, and resumed: what is lost, what sent twice.

The judge is the server, which counts every request by the id in its body, and what stands in the
output at the end. A row that was in flight at a kill has a start mark in the journal and no row:
that many requests may have been sent in vain.
"""

from __future__ import annotations

import json
import os
import random
import re
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _bulk_cost import ANSWER, write_lines
from _bulk_server import Server, serving

from headway.bulk.output.journal import journal_header, run_folder
from headway.bulk.output.rows import Checks

__all__ = ["KillResult", "command", "kill_often", "resume"]

# Few 429 and 503: a scheduler takes them for a limit that was reached, and sends less for a while.
FAULTS = {"429": 0.0005, "503": 0.001, "500": 0.02, "reset": 0.02}
CONCURRENCY = 32
LEFT = 64  # lines that a resumed run has yet to send

_ROW = re.compile(rb'\{"id":"batch_req_(\d+)"')
_KEEP = {**os.environ, "HEADWAY_API_KEY": ""}


def command(source: Path, output: Path, url: str, *options: str) -> list[str]:
    """The command line, as a process of its own."""
    program = [sys.executable, "-c", "from headway.cli import main; main()", "run", str(source)]
    return [*program, "-o", str(output), "--base-url", url, *options]


@dataclass(frozen=True)
class KillResult:
    """What a run that was killed often has left and cost."""

    lines: int
    kills: int
    rows: int  # in the output at the end
    lost: int
    twice: int
    failed: int
    requests: int
    faults: Counter[str]
    in_flight: list[int]  # at each kill
    seconds: float

    @property
    def extra(self) -> int:
        """Requests beyond one for each row and one for each injected fault."""
        return self.requests - self.lines - self.faults.total()


def kill_often(folder: Path, lines: int, kills: int, *, seed: int) -> KillResult:
    """Kill a run over `lines` as often as that, then let it end."""
    source, output = folder / "kill.jsonl", folder / "kill.out.jsonl"
    with source.open("wb") as file:
        write_lines(file, lines)
    draw = random.Random(seed)
    moments = sorted(draw.randrange(lines * 95 // 100) for _ in range(kills))
    began, in_flight = time.perf_counter(), []
    with serving(ANSWER, latency=0.01, sigma=0.8, faults=FAULTS, seed=seed) as server:
        run = command(source, output, server.url, "--concurrency", str(CONCURRENCY), "--json")
        for moment in moments:
            child = _start(run)
            counter = _Rows(output)
            while counter.count() < moment and child.poll() is None:
                time.sleep(0.01)
            # Where the moment is over already, this falls anywhere in the start of the process.
            time.sleep(draw.random())
            if child.poll() is not None:
                break
            child.kill()
            child.wait()
            in_flight.append(_unanswered(output))
        _finish(run)
        before = server.counted().requests.total()
        _finish(run)  # there is nothing to do any more
        counted = server.counted()
    if counted.requests.total() != before:
        raise AssertionError("a run that was done has sent something")
    ids: Counter[str] = Counter()
    failed = 0
    for row in output.read_bytes().splitlines():
        read = json.loads(row)
        ids[read["custom_id"]] += 1
        failed += read["error"] is not None
    wanted = {f"request-{n:08}" for n in range(1, lines + 1)}
    if ids.keys() - wanted:
        raise AssertionError(f"{len(ids.keys() - wanted)} rows that nobody asked for")
    return KillResult(
        lines=lines, kills=len(in_flight), rows=ids.total(), lost=len(wanted - ids.keys()),
        twice=ids.total() - len(ids), failed=failed, requests=counted.requests.total(),
        faults=counted.faults, in_flight=in_flight, seconds=time.perf_counter() - began,
    )  # fmt: skip


def _start(run: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(run, env=_KEEP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _finish(run: Sequence[str]) -> None:
    done = subprocess.run(run, env=_KEEP, capture_output=True)
    if done.returncode:
        raise AssertionError(f"it ended with {done.returncode}: {done.stderr.decode()[-500:]}")


class _Rows:
    """The rows of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = self._count = 0

    def count(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
            self._at += len(data)
            self._count += data.count(b"\n")
        return self._count


def _unanswered(output: Path) -> int:
    """How many lines have a start mark and no row."""
    journal = output.with_name(f"{output.stem}.run") / "journal"
    try:
        data = journal.read_bytes().partition(b"\n")[2]
    except FileNotFoundError:
        return 0
    marks = {n for (n,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])}
    with output.open("rb") as file:
        rows = {int(found[1]) for row in file if row[-1:] == b"\n" and (found := _ROW.match(row))}
    return len(marks - rows)


# A million rows that are there


def resume(folder: Path, lines: int) -> dict[str, dict[str, float]]:
    """Seconds from the start of the process to its first request, and to its end, where all but
    `LEFT` lines have their row; and to its end, where all have.
    """
    source, output = folder / "resume.jsonl", folder / "resume.out.jsonl"
    with source.open("wb") as file:
        write_lines(file, lines)
    results: dict[str, dict[str, float]] = {}
    with serving(ANSWER) as server:
        run = command(source, output, server.url)
        child, counter = _start(run), _Rows(output)
        while not counter.count():
            time.sleep(0.001)
        child.kill()
        child.wait()
        _complete(output, lines - LEFT)
        marked = server.counted().requests.total()
        results[f"all but {LEFT} of {lines:,} rows are there"] = _time(run, server, marked)
        marked = server.counted().requests.total()
        results[f"all {lines:,} rows are there"] = _time(run, server, marked)
        size = output.stat().st_size
    for found in results.values():
        found["bytes"] = size / lines
    return results


def _complete(output: Path, last: int) -> None:
    """Append what a run that came as far as the line `last` would have left."""
    data = output.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    there = {int(found[1]) for row in data.splitlines() if (found := _ROW.match(row))}
    missing = [n for n in range(1, last + 1) if n not in there]
    journal = run_folder(output) / "journal"
    checks = Checks(journal_header(output) or {})
    with output.open("wb") as file:
        file.write(data)
        for n in missing:
            row = (
                b'{"id":"batch_req_%d","custom_id":"request-%08d","response":{"status_code":200,'
                b'"request_id":"req-1","body":%b},"error":null}\n' % (n, n, ANSWER)
            )
            file.write(checks.with_check(n, row))
    header = journal.read_bytes().partition(b"\n")[0]
    marks = b"".join(n.to_bytes(8, "little") for n in range(1, last + 1))
    journal.write_bytes(header + b"\n" + marks)


def _time(run: Sequence[str], server: Server, requests: int) -> dict[str, float]:
    began, first = time.perf_counter(), None
    child = _start(run)
    while child.poll() is None:
        if first is None and server.counted().requests.total() > requests:
            first = time.perf_counter() - began
        time.sleep(0.005)
    if child.returncode:
        raise AssertionError(f"it ended with {child.returncode}")
    ended = time.perf_counter() - began
    return {"first": ended if first is None else first, "end": ended}
