"""Bulk runs: killed and resumed, their memory, what a line costs, how fast they are, their ETA.

1. kill: `headway run` over 20,000 lines is killed twenty times with SIGKILL, at random moments,
   against a server that injects faults: what is lost, what is sent twice.
2. resume: a million rows that are there: seconds until the first request.
3. overhead: CPU a line, of `headway.bulk.run` without HTTP, and with httpx over memory.
4. memory: resident growth over ten million lines from a pipe.
5. throughput: `headway run` beside a bare loop and the peers, on a server that answers at once.
6. eta: what a run at a steady limit says is left, beside what was.

    python benchmarks/bulk.py [--only kill,resume,overhead,memory,throughput,eta]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import _bulk_kill
import _bulk_speed
from _bulk_cost import cpu, growth
from _bulk_speed import BARE, COOKBOOK, HEADWAY, INFERMESH
from _table import environment, table, targets

MOST_RESUMING = 8.0  # seconds
MOST_GROWTH = {False: 200.0, True: 60.0}  # MB, by whether ids are trusted
MOST_CPU = 60.0  # microseconds a line
LEAST_OF_BARE = 0.9
MOST_WRONG = 10.0  # percent
KEPT = 0.05  # of a run: what is left of it when the ETA is judged no more

Checks = list[tuple[str, float, float]]


def kill(options: argparse.Namespace, folder: Path) -> tuple[str, Checks]:
    """Killed at random moments."""
    found = _bulk_kill.kill_often(folder, options.kill_lines, options.kills, seed=options.seed)
    faults = ", ".join(f"{n:,} {what}" for what, n in sorted(found.faults.items()))
    rows = [
        ["kills", f"{found.kills}"],
        ["rows in the output", f"{found.rows:,}"],
        ["lost / answered twice / failed", f"{found.lost} / {found.twice} / {found.failed}"],
        ["requests that the server saw", f"{found.requests:,}"],
        ["faults that it injected", f"{found.faults.total():,} ({faults})"],
        ["beyond one a row and one a fault", f"{found.extra:,}"],
        ["started without a row at the kills", f"{sum(found.in_flight):,}"],
        ["the most at one kill", f"{max(found.in_flight, default=0):,}"],
        ["concurrency x kills", f"{_bulk_kill.CONCURRENCY * found.kills:,}"],
        ["seconds, with the pauses", f"{found.seconds:.0f}"],
    ]
    bound = min(sum(found.in_flight), _bulk_kill.CONCURRENCY * found.kills)
    return table(f"{found.lines:,} lines, killed", ["", "count"], rows), [
        ("kills that there was no time for", options.kills - found.kills, 0),
        ("lines lost, answered twice or failed", found.lost + found.twice + found.failed, 0),
        ("requests beyond one a row and one a fault", found.extra, bound),
    ]


def resume(options: argparse.Namespace, folder: Path) -> tuple[str, Checks]:
    """Rows that are there."""
    found = _bulk_kill.resume(folder, options.resume_rows)
    rows = [
        [name, f"{each['bytes']:.0f}", f"{each['first']:.2f}", f"{each['end']:.2f}"]
        for name, each in found.items()
    ]
    headers = ["", "bytes a row", "seconds to the first request, or the end", "to the end"]
    worst = max(each["first"] for each in found.values())
    return table("Resumed", headers, rows), [("seconds to resume", worst, MOST_RESUMING)]


def overhead(options: argparse.Namespace, folder: Path) -> tuple[str, Checks]:
    """CPU a line."""
    ways = {"nothing is sent": False, "httpx over memory": True}
    found = {name: cpu(folder, options.lines, client=client) for name, client in ways.items()}
    rows = [
        [f"{name}, {options.lines:,} lines", f"{each['cpu']:.1f}", f"{each['wall']:.1f}"]
        for name, each in found.items()
    ]
    text = table("What a line costs, µs", ["", "CPU", "on the clock"], rows)
    return text, [("µs of CPU a line", found["nothing is sent"]["cpu"], MOST_CPU)]


def memory(options: argparse.Namespace, folder: Path) -> tuple[str, Checks]:
    """Resident growth."""
    rows, checks = [], []
    for trust in (False, True):
        what = "ids trusted" if trust else "duplicates found"
        outputs = {"/dev/null": Path("/dev/null")}
        if trust and options.to_file:
            outputs["a file"] = folder / "memory.out.jsonl"
        for where, output in outputs.items():
            each = growth(output, options.memory_lines, trust_ids=trust)
            numbers = (each["before"], each["peak"], each["sampled"], each["seconds"])
            rows.append([f"{what}, to {where}", *(f"{number:.1f}" for number in numbers)])
            checks.append((f"MB that it grew by, {what}", each["peak"], MOST_GROWTH[trust]))
    headers = ["", "MB at the start", "peak growth, MB", "in samples, MB", "seconds"]
    return table(f"{options.memory_lines:,} lines from a pipe", headers, rows), checks


def throughput(options: argparse.Namespace, folder: Path) -> tuple[str, Checks]:
    """Requests a second, without a limit."""
    python = options.infermesh or sys.executable
    there = _bulk_speed.has_infermesh(python)
    found = _bulk_speed.throughput(
        folder, options.speed_lines, options.rounds,
        peer_lines=options.peer_lines, python=python if there else None,
    )  # fmt: skip
    bare, ours = found[BARE], found[HEADWAY]
    rows = [
        [
            name, f"{each['lines']:,.0f}", f"{each['rate']:,.0f}",
            f"{each['rate'] / bare['rate']:.2f}", f"{each['whole']:,.0f}",
            f"{each['whole'] / bare['whole']:.2f}",
        ]
        for name, each in found.items()
    ]  # fmt: skip
    headers = ["", "lines", "requests/s", "to the bare loop", "with its start", "to the bare loop"]
    text = table(f"{_bulk_speed.CONCURRENCY} at once, no limit", headers, rows)
    if not there:
        text += "\ninfermesh is not installed (it needs Python 3.12): --infermesh PYTHON has it\n"
    peers = [each["rate"] for name, each in found.items() if name in (COOKBOOK, INFERMESH)]
    return text, [
        ("bare loop to headway run", bare["rate"] / ours["rate"], 1 / LEAST_OF_BARE),
        ("the best peer to headway run", max(peers) / ours["rate"], 1.0),
    ]


def eta(options: argparse.Namespace, folder: Path) -> tuple[str, Checks]:
    """The seconds that are left."""
    told = _bulk_speed.eta(folder, options.eta_lines, options.eta_rate, latency=0.3)
    shown = {round((len(told) - 1) * part / 6) for part in range(7)}
    rows, worst, worst_of_all = [], 0.0, 0.0
    for index, each in enumerate(told):
        wrong = abs(each["said"] - each["was"])
        of_left, of_all = wrong / each["was"] * 100, wrong / each["total"] * 100
        worst_of_all = max(worst_of_all, of_all)
        if each["was"] >= KEPT * each["total"]:
            worst = max(worst, of_left)
        if index in shown:
            rows.append(
                [
                    f"{each['share']:.0%} done", f"{each['said']:.1f}", f"{each['was']:.1f}",
                    f"{of_left:.1f}%", f"{of_all:.1f}%",
                ]
            )  # fmt: skip
    rows.append(["the worst of all", "", "", f"{worst:.1f}%", f"{worst_of_all:.1f}%"])
    headers = ["", "said, s", "was, s", "wrong, of what was left", "of the whole run"]
    title = f"ETA at {options.eta_rate}, {options.eta_lines:,} lines"
    return table(title, headers, rows), [("% that the ETA was wrong by", worst, MOST_WRONG)]


PARTS: dict[str, Callable[[argparse.Namespace, Path], tuple[str, Checks]]] = {
    "kill": kill,
    "resume": resume,
    "overhead": overhead,
    "memory": memory,
    "throughput": throughput,
    "eta": eta,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help=", ".join(PARTS))
    parser.add_argument("--kill-lines", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the kills and the faults")
    parser.add_argument("--resume-rows", type=int, default=1_000_000)
    parser.add_argument("--lines", type=int, default=1_000_000, help="for the overhead")
    parser.add_argument("--memory-lines", type=int, default=10_000_000)
    parser.add_argument("--to-file", action="store_true", help="memory to a real file too: 3 GB")
    parser.add_argument("--speed-lines", type=int, default=20_000)
    parser.add_argument("--peer-lines", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--infermesh", metavar="PYTHON", help="an interpreter that has infermesh")
    parser.add_argument("--eta-lines", type=int, default=3_000)
    parser.add_argument("--eta-rate", default="3000/min")
    parser.add_argument("--no-check", action="store_true", help="print, and hold to no target")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    if unknown := set(wanted) - PARTS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}: {', '.join(PARTS)}")

    print(environment("headway", "httpx", "aiohttp", "anyio"), "\n", flush=True)
    checks: Checks = []
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            text, found = PARTS[name](options, Path(folder))
        print(text, flush=True)
        checks += found
    text, met = targets(checks)
    print(text)
    return 0 if met or options.no_check else 1


if __name__ == "__main__":
    sys.exit(main())
