"""The same prompts sent twice to a server with a real limit: as people do today, and with headway.

The server is llmock, in a child process on loopback, with a limit of requests a minute. First
`asyncio.gather` with a semaphore and the SDK's own retries (its defaults); then ``headway run`` on
the same file: same server, same concurrency, and killed half-way with SIGKILL, then run again. What
is printed is what was measured: the 429s are llmock's own count. A plan comes before, and the
report of the run stays behind.

llmock's bucket holds a whole minute of requests when it starts, a burst that a provider which
enforces its limit by the second does not give, and that nobody has who has been sending for a
minute. It is spent before each of the two runs, so that both meet the limit itself.

Run it with ``make demo``, or ``python benchmarks/demo.py --help``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import together
from rich.console import Console
from rich.table import Table

PROMPTS = Path(__file__).parent / "data" / "prompts.jsonl"
KEY = "demo"
_SPENDERS = 8
_LOOK_EVERY = 0.02  # seconds

# The child ends when its standard input does: also when this process is killed outright.
_CHILD = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from llmock.cli import app
app()
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: seconds, jobs answered and not, and what llmock counted."""

    seconds: float
    answered: int
    lost: int
    attempts: int
    refused: int
    verdict: str


# -- the server --------------------------------------------------------------------------------


@contextmanager
def serve(rpm: int) -> Iterator[str]:
    """A server with a limit of `rpm` a minute: yields its address, and kills it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"--port": port, "--rpm": rpm, "--log-level": "warning"}
    arguments = [str(part) for option in options.items() for part in option]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, "serve", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, child)
        yield url
    finally:
        child.kill()
        child.wait()
        if child.stdin is not None:
            child.stdin.close()


def _wait_until_healthy(url: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise RuntimeError(f"llmock ended at once, with exit code {child.returncode}")
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError("llmock did not answer within 30 s")


async def prepare(url: str, latency_ms: int) -> None:
    """Put the server in its first state, with its burst spent and its latency set."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers) as client:
        await client.post("/_llmock/reset")

        async def spend() -> None:
            while (await client.get("/together/v1/models")).status_code != 429:
                pass

        await asyncio.gather(*(spend() for _ in range(_SPENDERS)))
        await client.delete("/_llmock/requests")
        latency = {"type": "delay", "seconds": latency_ms / 1000, "times": None}
        answer = await client.post("/_llmock/scenario", json={"behaviors": [latency]})
        answer.raise_for_status()


async def read_verdict(url: str) -> tuple[int, int, str]:
    """How many requests llmock saw, how many of them it refused, and how it judges the client."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        requests: list[dict[str, Any]] = (await client.get("/_llmock/requests")).json()["requests"]
        verdict: dict[str, Any] = (await client.get("/_llmock/verdict")).json()
    refused = sum(request["status"] == 429 for request in requests)
    findings = Counter(finding["code"] for finding in verdict["findings"])
    found = ", ".join(f"{count} {code}" for code, count in findings.items())
    return (
        len(requests),
        refused,
        ("PASS" if verdict["passed"] else "FAIL") + (f" ({found})" if found else ""),
    )


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a small file, one a line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# -- the two ways ------------------------------------------------------------------------------


async def todays_way(url: str, prompts: Path, concurrency: int, retries: int) -> int:
    """`gather`, a semaphore and the SDK's `retries`; how many prompts were answered."""
    bodies = [line["body"] for line in read_jsonl(prompts)]
    semaphore = asyncio.Semaphore(concurrency)
    async with together.AsyncTogether(
        api_key=KEY, base_url=url + "/together", max_retries=retries
    ) as client:

        async def ask(body: dict[str, Any]) -> object:
            async with semaphore:
                return await client.chat.completions.create(**body)

        replies = await asyncio.gather(*map(ask, bodies), return_exceptions=True)
    return sum(not isinstance(reply, BaseException) for reply in replies)


def headway(*arguments: str | Path) -> list[str]:
    """The command line of ``headway`` with these arguments."""
    return [sys.executable, "-m", "headway", *map(str, arguments)]


def plan(prompts: Path, options: argparse.Namespace) -> None:
    """What headway expects of the run."""
    limits = ("--rate", f"{options.rpm}/min", "--concurrency", options.concurrency)
    latency = ("--latency", options.latency_ms / 1000)
    subprocess.run(headway("plan", prompts, *map(str, limits + latency)), check=True)


def with_headway(url: str, prompts: Path, concurrency: int, rpm: int, console: Console) -> int:
    """``headway run``, killed half-way, and run again; how many prompts have their answer."""
    output = prompts.with_name("results.jsonl")
    environment = {**os.environ, "TOGETHER_API_KEY": KEY, "TOGETHER_BASE_URL": f"{url}/together"}
    limits = ("--rate", f"{rpm}/min", "--concurrency", str(concurrency))
    command = headway("run", prompts, "-o", output, *limits)
    half = len(read_jsonl(prompts)) // 2
    with subprocess.Popen(command, env=environment) as first:
        while first.poll() is None and (not output.exists() or _rows(output) < half):
            time.sleep(_LOOK_EVERY)
        first.kill()
    console.print(f"\nkilled after {_rows(output)} rows; the same command again …")
    subprocess.run(command, env=environment, check=False)
    answered = [row["custom_id"] for row in read_jsonl(output) if row["error"] is None]
    assert len(set(answered)) == len(answered), "a prompt was answered twice"
    return len(answered)


def _rows(output: Path) -> int:
    return output.read_bytes().count(b"\n")


# -- side by side ------------------------------------------------------------------------------


async def compare(
    url: str, prompts: Path, options: argparse.Namespace, console: Console
) -> dict[str, Measured]:
    """Both runs, each from the same state of the server."""
    concurrency: int = options.concurrency
    total = len(read_jsonl(prompts))
    measured: dict[str, Measured] = {}
    for name in ("gather + semaphore", "headway"):
        console.print(f"{name}: {total} prompts …")
        if name == "headway":
            plan(prompts, options)
        await prepare(url, options.latency_ms)
        began = time.perf_counter()
        if name == "headway":
            answered = with_headway(url, prompts, concurrency, options.rpm, console)
        else:
            answered = await todays_way(url, prompts, concurrency, options.sdk_retries)
        seconds = time.perf_counter() - began
        attempts, refused, verdict = await read_verdict(url)
        measured[name] = Measured(seconds, answered, total - answered, attempts, refused, verdict)
    return measured


def table(measured: dict[str, Measured]) -> Table:
    """The runs side by side."""
    shown = Table()
    shown.add_column("")
    for name in measured:
        shown.add_column(name, justify="right")
    runs = measured.values()
    shown.add_row("jobs answered", *(f"{run.answered}" for run in runs))
    shown.add_row("jobs lost", *(f"{run.lost}" for run in runs), style="bold")
    shown.add_row("time", *(f"{run.seconds:.1f} s" for run in runs))
    shown.add_row("answers a second", *(f"{run.answered / run.seconds:.1f}" for run in runs))
    shown.add_row("requests sent", *(f"{run.attempts}" for run in runs))
    shown.add_row("refused with 429", *(f"{run.refused}" for run in runs), style="bold")
    return shown


def main(argv: Sequence[str] | None = None, console: Console | None = None) -> dict[str, Measured]:
    """Run the demo as `argv` says and print its table."""
    parser = argparse.ArgumentParser(description="today's way and headway, side by side")
    parser.add_argument("--rpm", type=int, default=1200, help="the server's requests a minute")
    parser.add_argument("--latency-ms", type=int, default=200, help="of each answer")
    parser.add_argument("--concurrency", type=int, default=32, help="of both ways")
    parser.add_argument("--prompts", type=int, default=300, help="how many, at most")
    parser.add_argument(
        "--sdk-retries",
        type=int,
        default=together.DEFAULT_MAX_RETRIES,
        help="of today's way (default: the SDK's own default, %(default)s)",
    )
    parser.add_argument("--report", default="demo-report.html", help="where the report goes")
    options = parser.parse_args(argv)
    console = console or Console()
    # An end by SIGTERM must pass through the blocks that stop the server.
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            serve(options.rpm) as url,
        ):
            lines = PROMPTS.read_text("utf-8").splitlines(keepends=True)[: options.prompts]
            prompts = Path(folder) / "prompts.jsonl"
            prompts.write_text("".join(lines), "utf-8")
            measured = asyncio.run(compare(url, prompts, options, console))
            results = prompts.with_name("results.jsonl")
            subprocess.run(headway("report", results, "-o", options.report), check=True)
    finally:
        signal.signal(signal.SIGTERM, previous)
    console.print(table(measured))
    console.print(
        f"{len(lines)} prompts, {options.rpm} requests a minute, "
        f"{options.latency_ms} ms an answer, {options.concurrency} at once.\n"
        f"The first way retries {options.sdk_retries} times, as the SDK does.\n"
        "The minute of credit that the server starts with is spent before each run.\n"
        f"The report of the run, for any browser: {options.report}",
        highlight=False,
    )
    return measured


if __name__ == "__main__":
    main()
