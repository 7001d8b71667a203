"""How fast `headway run` sends, beside a bare loop and the peers; and how right its ETA is.

Each contender is a process of its own, on the same file, against a fresh server; they take turns.
The server times them, from the first request to the last answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import median

from _bulk_cost import ANSWER, write_lines
from _bulk_kill import command
from _bulk_server import serving

__all__ = ["BARE", "COOKBOOK", "HEADWAY", "INFERMESH", "eta", "has_infermesh", "throughput"]

CONCURRENCY = 64
PEERS = Path(__file__).with_name("_bulk_peers.py")
HEADWAY, BARE, COOKBOOK, INFERMESH = (
    "headway run",
    "bare loop, the same client",
    "openai-cookbook's algorithm",
    "infermesh",
)


def has_infermesh(python: str) -> bool:
    """Whether the interpreter `python` has it (it needs Python 3.12)."""
    done = subprocess.run([python, "-c", "import infermesh"], capture_output=True)
    return done.returncode == 0


# Turns


def throughput(
    folder: Path, lines: int, rounds: int, *, peer_lines: int, python: str | None
) -> dict[str, dict[str, float]]:
    """Medians of requests a second at the server, and of seconds of the process, by contender.

    `python` is an interpreter that has infermesh. The peers do `peer_lines`.
    """
    files = {size: folder / f"speed-{size}.jsonl" for size in (lines, peer_lines)}
    for size, path in files.items():
        with path.open("wb") as file:
            write_lines(file, size)
    sizes = {HEADWAY: lines, BARE: lines, COOKBOOK: peer_lines}
    if python is not None:
        sizes[INFERMESH] = peer_lines
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sizes}
    for turn in range(rounds):
        names = list(sizes) if turn % 2 == 0 else list(sizes)[::-1]
        for name in names:
            found[name].append(_once(name, folder, files[sizes[name]], sizes[name], python))
    return {
        name: {
            "lines": sizes[name],
            "rate": median(rate for rate, _ in each),
            "whole": median(sizes[name] / seconds for _, seconds in each),
        }
        for name, each in found.items()
    }


_numbers = count()


def _once(
    name: str, folder: Path, source: Path, lines: int, python: str | None
) -> tuple[float, float]:
    output = folder / f"speed-{next(_numbers)}.out.jsonl"
    with serving(ANSWER) as server:
        roles = {BARE: "bare", COOKBOOK: "cookbook", INFERMESH: "infermesh"}
        if name == HEADWAY:
            run = command(source, output, server.url, "--concurrency", str(CONCURRENCY))
        else:
            program = (python if name == INFERMESH else None) or sys.executable
            run = [program, str(PEERS), roles[name], str(source), str(output), server.url]
            run.append(str(CONCURRENCY))
        began = time.perf_counter()
        _check(run)
        seconds = time.perf_counter() - began
        counted = server.counted()
    with output.open("rb") as file:
        rows = sum(1 for _ in file)
    if (rows, counted.requests.total()) != (lines, lines):
        raise AssertionError(f"{name}: {lines} lines, {rows} rows, {counted.requests.total()} sent")
    output.unlink()
    return lines / counted.seconds, seconds


def _check(run: Sequence[str], **environment: str) -> str:
    done = subprocess.run(
        run, capture_output=True, env={**os.environ, "HEADWAY_API_KEY": "", **environment}
    )
    if done.returncode:
        raise AssertionError(
            f"{run[:3]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
        )
    return done.stdout.decode()


# The time that is left


def eta(folder: Path, lines: int, rate: str, *, latency: float) -> Sequence[Mapping[str, float]]:
    """For each second from a twentieth of the run on: what it said was left, and what was."""
    source, output = folder / "eta.jsonl", folder / "eta.out.jsonl"
    with source.open("wb") as file:
        write_lines(file, lines)
    with serving(ANSWER, latency=latency, sigma=0.5) as server:
        run = command(source, output, server.url, "--rate", rate, "--json")
        said = [json.loads(line) for line in _check(run).splitlines()]
    ended = said[-1]["seconds"]
    return [
        {
            "share": each["done"] / lines,
            "said": each["eta"],
            "was": ended - each["seconds"],
            "total": ended,
        }
        for each in said[:-1]
        if each["done"] >= lines / 20 and each["eta"] is not None and each["seconds"] < ended
    ]
