"""Rows in the engines that people run, under one limit: `headway.rows`, and Ray's own HTTP stage.

    python benchmarks/engines.py [--rows 10000] [--peer-rows 256] [--limit 6000/min] [--only NAME]

A server in a process of its own refuses what comes beyond the limit in any window of its length,
and answers after half a second (median, lognormal). Each engine asks it in two processes that
share the limit; Ray's stage knows none, so that each of its actors is given half of it.
Exits with 1, and says which, where a target is missed.

Printed are the share of the limit, from the first request to the last that is let in; what it was
between the first and the last twentieth of the rows; what was refused; the rows without an answer.
Engines that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from _bulk_server import serving
from _table import environment, table, targets

from headway import Rate
from headway.rows import Ask, Batches

ANSWER = b'{"id":"x","choices":[{"message":{"content":"blue"},"finish_reason":"stop"}]}'
LATENCY, SIGMA = 0.5, 0.5
LEAST = 0.95  # of the limit
PROCESSES = 2
BATCH = 1_000
STAGE = "Ray, its HTTP stage"


def ask_of(url: str, limit: str, folder: str) -> Ask:
    """The row function of a process, whose limit all share."""
    return Ask(
        prompt="Say: {text}", model="m", base_url=url, api_key="a-key", limits=limit,
        shared=f"sqlite:///{folder}/limits.db",
    )  # fmt: skip


def rows_of(count: int) -> list[str]:
    """The texts."""
    return [str(number) for number in range(count)]


def in_datasets(url: str, limit: str, count: int, folder: str, *, batches: bool) -> list[Any]:
    """The answers through ``Dataset.map``, row by row or by batches."""
    import datasets

    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"text": rows_of(count)})
    ask = ask_of(url, limit, folder)
    options: dict[str, Any] = {"num_proc": PROCESSES, "features": ask.features(data)}
    if batches:
        done = data.map(ask.abatch, batched=True, batch_size=BATCH, **options)
    else:
        done = data.map(ask, **options)
    return list(done["answer"])


def with_ray(work: Callable[[Any, Any], Any], count: int) -> list[Any]:
    """The answers of what `work` makes of Ray's data set."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    import ray.data

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        data = ray.data.from_items([{"text": text} for text in rows_of(count)])
        return [row["answer"] for row in work(ray, data).take_all()]
    finally:
        ray.shutdown()


def in_ray(url: str, limit: str, count: int, folder: str) -> list[Any]:
    """The answers through actors that are given batches."""
    ask = ask_of(url, limit, folder)
    return with_ray(
        lambda ray, data: data.map_batches(
            Batches, fn_constructor_args=(ask,), batch_size=100, batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=PROCESSES, max_concurrent_calls_per_actor=4),
        ),
        count,
    )  # fmt: skip


def in_stage(url: str, limit: str, count: int, _: str) -> list[Any]:
    """The answers through Ray's own HTTP stage, each of whose actors gets its part of the limit."""

    def made(ray: Any, data: Any) -> Any:
        from ray.data.llm import HttpRequestProcessorConfig, build_processor

        rate = Rate.parse(limit)
        config = HttpRequestProcessorConfig(
            url=f"{url}/chat/completions", concurrency=PROCESSES, batch_size=64, max_retries=5,
            qps=int(rate.limit / rate.per / PROCESSES),
        )  # fmt: skip
        return build_processor(
            config,
            preprocess=lambda row: {
                "payload": {"model": "m", "messages": [{"role": "user", "content": row["text"]}]}
            },
            postprocess=lambda row: {
                "answer": row["http_response"]["choices"][0]["message"]["content"]
            },
        )(data)

    return with_ray(made, count)


ENGINES: dict[str, tuple[str, Callable[..., list[Any]]]] = {
    "datasets, rows": ("datasets", lambda *where: in_datasets(*where, batches=False)),
    "datasets, batches": ("datasets", lambda *where: in_datasets(*where, batches=True)),
    "Ray, actors": ("ray", in_ray),
    STAGE: ("ray", in_stage),
}


def measure(name: str, limit: str, count: int) -> dict[str, float]:
    """What the engine called `name` reaches."""
    rate = Rate.parse(limit)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(ANSWER, latency=LATENCY, sigma=SIGMA, limit=rate) as server,
    ):
        began = time.monotonic()
        command = [sys.executable, __file__, "--work", name, server.url, limit, str(count), folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        seconds = time.monotonic() - began
        seen = server.counted()
    return {
        "share": speed(seen.arrivals) / rate.limit * rate.per,
        "inside": speed(seen.arrivals[count // 20 : -(count // 20)]) / rate.limit * rate.per,
        "refused": seen.refused,
        "unanswered": count - json.loads(done.stdout.splitlines()[-1]),
        "start": (seen.first or began) - began,
        "seconds": seconds,
    }


def speed(arrivals: Sequence[float]) -> float:
    """Arrivals a second."""
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])


def work(name: str, url: str, limit: str, count: str, folder: str) -> None:
    """One engine, in this process and those that it starts."""
    os.environ["HF_HOME"] = folder
    logging.disable(logging.WARNING)
    answers = ENGINES[name][1](url, limit, int(count), folder)
    print(sum(answer == "blue" for answer in answers))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 where a target is missed."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--work"]:
        work(*given[1:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--peer-rows", type=int, default=256, help="of Ray's own stage")
    parser.add_argument("--limit", default="6000/min")
    parser.add_argument("--only", choices=ENGINES, action="append")
    parser.add_argument("--no-check", action="store_true", help="only print")
    options = parser.parse_args(given)
    lines, checks = [], []
    for name, (package, _) in ENGINES.items():
        if (options.only and name not in options.only) or find_spec(package) is None:
            continue
        count = options.peer_rows if name == STAGE else options.rows
        found = measure(name, options.limit, count)
        lines.append([
            name, f"{count:,}", f"{found['share']:.1%}", f"{found['inside']:.1%}",
            f"{found['refused']:,}", f"{found['unanswered']:,}", f"{found['start']:.1f}",
            f"{found['seconds']:.1f}",
        ])  # fmt: skip
        if name != STAGE:
            checks += [
                (f"refused, {name}", found["refused"], 0),
                (f"unanswered, {name}", found["unanswered"], 0),
                (f"% of the limit that are left, {name}", 100 * (1 - found["share"]), 5),
            ]
    print(environment("headway"), "\n")
    head = [
        "",
        "rows",
        "of the limit",
        "without ends",
        "refused",
        "unanswered",
        "s to the first",
        "s",
    ]
    print(table(f"Rows at {options.limit}", head, lines))
    said, met = targets(checks)
    print(said)
    return int(not met and not options.no_check)


if __name__ == "__main__":
    sys.exit(main())
