"""What a line of a bulk run costs: memory over millions of them, and CPU, with no server at all.

Both call `headway.bulk.run` itself. In place of `Sender.ask`, the one function that sends, stands
one that returns the same answer at once: what is left is reading, checking for duplicates,
scheduling, the journal, the rows and the record, and no HTTP.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from unittest import mock

import httpx
from _resident import MEBI, peak, reset_peak, resident

from headway import Scheduler, bulk
from headway.bulk.input.formats import Request
from headway.bulk.output.rows import Answer, Tokens
from headway.bulk.send import Answered, Sender

__all__ = ["ANSWER", "cpu", "growth", "line_of", "write_lines"]

CONCURRENCY = 64
REPEATS = 1_000_000  # every so many lines a custom_id comes a second time
_BATCH = 1000
_TEXT = "Put this sentence into French, and say nothing else: the train leaves at nine. " * 2
_PROMPT = json.dumps(_TEXT)

ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Le train part. " * 22},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 57, "completion_tokens": 99, "total_tokens": 156},
    }
).encode()


def line_of(custom_id: str, prompt: str = _PROMPT) -> str:
    """A line of the Together form; its body says its `custom_id` to the server, as ``user``."""
    return (
        f'{{"custom_id":"{custom_id}","body":{{"user":"{custom_id}","model":"m","max_tokens":100,'
        f'"messages":[{{"role":"user","content":{prompt}}}]}}}}\n'
    )


def write_lines(
    file: BinaryIO, count: int, *, prompt: str = _PROMPT, repeats: int | None = None
) -> None:
    """Write `count` lines; the last of each `repeats` has the `custom_id` of the one before it."""
    for first in range(1, count + 1, _BATCH):
        numbers = range(first, min(first + _BATCH, count + 1))
        file.write(
            "".join(
                line_of(f"request-{n - (repeats is not None and n % repeats == 0):08}", prompt)
                for n in numbers
            ).encode()
        )


# Without HTTP

_CANNED = Answered(Answer(200, "req-1", ANSWER), Tokens(57, 99, 156), 0.1)
_SMALL = Answered(Answer(200, "req-1", b'{"id":"1"}'), Tokens(1, 2, 3), 0.1)


async def _answer_at_once(self: Sender, request: Request) -> Answered:
    return _CANNED


async def _answer_shortly(self: Sender, request: Request) -> Answered:
    return _SMALL


class _InMemory(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "application/json", "x-request-id": "req-1"}
        return httpx.Response(200, headers=headers, content=ANSWER)


_ENDPOINT = bulk.Endpoint("custom", "http://localhost/v1", None, "HEADWAY_API_KEY")


async def _run(
    source: str,
    output: str,
    options: bulk.RunOptions | None = None,
    watch: Callable[[bulk.Progress], None] | None = None,
) -> bulk.Progress:
    scheduler: Scheduler = Scheduler(concurrency=CONCURRENCY)
    async with httpx.AsyncClient(transport=_InMemory()) as in_memory:
        return await bulk.run(
            source,
            output,
            scheduler=scheduler,
            endpoint=_ENDPOINT,
            client=in_memory,
            options=options,
            watch=watch,
        )


# Memory: a process each, whose standard input another one writes


def growth(output: Path, lines: int, *, trust_ids: bool) -> dict[str, float]:
    """MB that a run over `lines` from standard input grows by; rows, duplicates, seconds."""
    here = Path(__file__)
    child = [sys.executable, str(here), "read", str(output), "trust" if trust_ids else "look"]
    with subprocess.Popen(
        [sys.executable, str(here), "write", str(lines)], stdout=subprocess.PIPE
    ) as writer:
        done = subprocess.run(child, stdin=writer.stdout, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    repeated = 0 if trust_ids else lines // REPEATS
    if (found["rows"], found["repeated"]) != (lines, repeated):
        raise AssertionError(f"of {lines} lines {repeated} came twice, and it found {found}")
    return found


def _read(output: str, trust_ids: bool) -> None:
    samples = []
    with mock.patch.object(Sender, "ask", _answer_shortly):
        reset_peak()
        before, began, used = resident(), time.perf_counter(), time.process_time()

        def watch(_: bulk.Progress) -> None:
            samples.append(resident())

        report = asyncio.run(_run("-", output, bulk.RunOptions(trust_ids=trust_ids), watch))
    result = {
        "peak": (peak() - before) / MEBI,
        "sampled": (max(samples) - before) / MEBI,
        "before": before / MEBI,
        "rows": report.rows,
        "repeated": report.failed.get("duplicate_custom_id", 0),
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - used,
    }
    print(json.dumps(result))


# CPU


def cpu(folder: Path, lines: int, *, client: bool) -> dict[str, float]:
    """Microseconds of CPU that a line costs, from a file to a file, in a new process."""
    source = folder / "cost.jsonl"
    if not source.exists():
        with source.open("wb") as file:
            write_lines(file, lines)
    command = [sys.executable, str(Path(__file__)), "cost", str(source), "httpx" if client else ""]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    for path in _left_by(folder):
        path.unlink()
    found: dict[str, float] = json.loads(done.stdout)
    if found["rows"] != lines:
        raise AssertionError(f"{lines} lines, and {found['rows']} rows")
    return found


def _left_by(folder: Path) -> Iterator[Path]:
    yield folder / "cost.out.jsonl"
    yield from (folder / "cost.out.run").iterdir()


def _cost(source: str, client: bool) -> None:
    output = str(Path(source).with_suffix(".out.jsonl"))
    with mock.patch.object(Sender, "ask", Sender.ask if client else _answer_at_once):
        began, used = time.perf_counter(), time.process_time()
        report = asyncio.run(_run(source, output))
        used, seconds = time.process_time() - used, time.perf_counter() - began
    result = {"cpu": used / report.rows * 1e6, "wall": seconds / report.rows * 1e6}
    print(json.dumps({**result, "rows": report.rows}))


def _main(what: str, *rest: str) -> None:
    roles: dict[str, Callable[..., None]] = {
        "write": lambda lines: write_lines(
            sys.stdout.buffer, int(lines), prompt='"Hello"', repeats=REPEATS
        ),
        "read": lambda output, ids: _read(output, ids == "trust"),
        "cost": lambda source, client: _cost(source, client == "httpx"),
    }
    roles[what](*rest)


if __name__ == "__main__":
    _main(*sys.argv[1:])
