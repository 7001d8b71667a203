"""Each benchmark runs, at a tiny size, and prints its tables. No time is asserted."""

from __future__ import annotations

import gc
import io
import json
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from itertools import count
from pathlib import Path

import forks
import pytest
import sdks  # noqa: F401 - which clients.py measures
from depth import DEEP

SLOW = {"clients.py", "bulk.py", "sync.py", "engines.py"}
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

TINY = {
    "overhead.py": ["--jobs", "200", "--rounds", "1", "--concurrency", "10"],
    "hooks.py": ["--jobs", "100", "--rounds", "1", "--concurrency", "10"],
    "clients.py": ["--requests", "1", "--rounds", "1"],
    "admission.py": ["--short", "120", "--long", "200", "--tasks", "200", "--slices", "1"],
    "classes.py": ["--sends", "20", "--seeds", "1"],
    "memory.py": ["--items", "300", "--peer-items", "200", "--slow", "1", "--leases", "50"],
    "sync.py": ["--calls", "128", "--rounds", "1", "--seconds", "2"],
    "told_right.py": ["--jobs", "2", "--rate", "100/s"],
    "told_wrong.py": ["--jobs", "4", "--rate", "100/s"],
    "engines.py": ["--rows", "60", "--limit", "100/s", "--only", "datasets, batches"],
    "control.py": ["--hours", "0.02", "--seeds", "1"],
    "bulk.py": [
        "--kill-lines", "100", "--kills", "1", "--resume-rows", "100", "--lines", "200",
        "--memory-lines", "200", "--speed-lines", "50", "--peer-lines", "20", "--rounds", "1",
        "--eta-lines", "10", "--eta-rate", "1200/min",
    ],
}  # fmt: skip
ROWS = {
    "overhead.py": ["a bare pool", "tasklane", "aiometer", "aiolimiter", "headway map", "lease"],
    "hooks.py": ["Prometheus' collector", "observe()", "StructLog", "no SDK", "the SDK's spans"],
    "clients.py": [
        "httpx: client.post",
        "httpx2: client.stream, 256 callers queue",
        "httpx2 on httpx-aiohttp",
        "openai on httpx2",
        "together on httpx",
        "anthropic on httpx2",
    ],
    "admission.py": ["SchedulerState, one key", "Scheduler, one key", "headway lease"],
    "classes.py": ["cached 30 to 70%", "varied answers"],
    "memory.py": [
        "headway map",
        "tasklane.stream",
        "aiometer",
        "asyncio: headway",
        "trio: headway",
    ],
    "sync.py": ["submit, 64 threads, concurrency 8", "map, concurrency 64", "accepted, refused"],
    "told_right.py": ["fixed window, evenly", "sliding log, eager, openai", "bucket, eager, ietf"],
    "told_wrong.py": [
        "fixed window, hint",
        "sliding log, no hint",
        "sliding counter, hint",
        "token bucket, no hint",
    ],
    "engines.py": ["datasets, batches"],
    "control.py": [
        "headway",
        "headway, headers",
        "Netflix Gradient2",
        "Netflix Vegas",
        "Netflix AIMD",
        "Vector ARC",
        "inspect_ai",
        "botocore adaptive",
        "told double: 20/s of a bucket of 10/s",
        "told right, sliding log, 50 ms",
        "two clients of one limit",
    ],
    "bulk.py": [
        "rows in the output",
        "all 100 rows are there",
        "nothing is sent",
        "httpx over memory",
        "duplicates found",
        "ids trusted",
        "headway run",
        "bare loop",
        "openai-cookbook",
        "the worst of all",
    ],
}


@pytest.fixture
def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """What a benchmark prints, in this process; its own processes are forked."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(subprocess, "Popen", forks.Popen)
    for name in ("PYTHONWARNINGS", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)

    gc.freeze()  # a benchmark collects before each measurement, and would go through all of pytest

    def run(name: str) -> str:
        module = import_module(name.removesuffix(".py"))
        if name == "admission.py":
            monkeypatch.setattr(module, "SLICE", 60)
        if name.startswith("told_"):  # to begin a process takes a second
            monkeypatch.setattr(import_module("_told"), "Server", threading.Thread)
        assert not module.main([*TINY[name], "--no-check"])
        return capsys.readouterr().out

    return run


# Those that start processes and import every SDK take 20 seconds: they are of the deep run.
AT_ONCE = [name for name in TINY if name != "memory.py" and (DEEP or name not in SLOW)]


@pytest.mark.parametrize("name", AT_ONCE)
def test_it_runs_and_prints_its_tables(name: str, printed: Callable[[str], str]) -> None:
    if name == "bulk.py" and not sys.platform.startswith("linux"):
        pytest.skip("bulk.py reads /proc")
    check(name, printed(name))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory.py reads /proc")
def test_memory_runs_and_prints_its_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first measurement in a process of its own, the other twenty in this one."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import memory

    apart, calls = memory.apart, count()

    def here(*task: object) -> dict[str, float]:
        if not next(calls):
            return apart(*task)
        said = io.StringIO()
        with redirect_stdout(said):
            memory.child([str(part) for part in task])
        tracemalloc.stop()
        found: dict[str, float] = json.loads(said.getvalue())
        return found

    monkeypatch.setattr(memory, "apart", here)
    assert memory.main([*TINY["memory.py"], "--no-check"]) == 0
    check("memory.py", capsys.readouterr().out)
    assert next(calls) > 15


def check(name: str, printed: str) -> None:
    lines = printed.splitlines()
    assert lines[0].startswith(("CPython 3.", "PyPy 3."))
    assert " cores, " in lines[0]
    cells = [line for line in lines if line.startswith("| ")]
    for row in ROWS[name]:
        assert any(row in line for line in cells), f"no row of {row} in:\n{printed}"
    assert any(line.startswith(("- met: ", "- MISSED: ")) for line in lines)


def test_a_missed_target_is_named_and_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _table import targets

    assert targets([("µs a job", 4.0, 10.0)]) == ("- met: µs a job: 4.00, at most 10", True)
    text, met = targets([("µs a job", 4.0, 10.0), ("KB a lease", 2.5, 2.0)])
    assert not met
    assert text.splitlines()[1] == "- MISSED: KB a lease: 2.50, at most 2"


def test_every_benchmark_is_explained() -> None:
    readme = (BENCHMARKS / "README.md").read_text("utf-8")
    for script in BENCHMARKS.glob("[!_]*.py"):
        assert f"`{script.name}`" in readme, f"{script.name} is not in benchmarks/README.md"
