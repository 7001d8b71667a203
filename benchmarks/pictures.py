"""The pictures of docs/explanations: what is drawn is computed here, on a virtual clock.

python benchmarks/pictures.py docs/explanations
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeAlias, TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from clocks import VirtualLoop
from simulate import SlidingLog

from headway import Rate, Scheduler, events

T = TypeVar("T")
Moments: TypeAlias = list[float]  # seconds since the start

OURS, PEER, LIMIT = "#c2410c", "#64748b", "#111827"


def on_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    """Seconds since the virtual clock began."""
    return asyncio.get_running_loop().time() - 1000.0


# Pacing -----------------------------------------------------------------------------------------


def starts(jobs: int = 40) -> dict[str, Moments]:
    """When calls start under a limit of 10 a second: by a bucket that is full, and paced."""
    bucket = [
        max(0.0, (n - 9) / 10) for n in range(jobs)
    ]  # ten that are there, then one each 0.1 s
    paced: Moments = []

    async def call(_: int) -> None:
        paced.append(now())

    async def main() -> None:
        await Scheduler("10/s").map(call, range(jobs))

    on_virtual_time(main())
    return {"a bucket that is full at first": bucket, "paced (headway)": paced}


def reached(windows: Sequence[float]) -> list[float]:
    """The share of the limit that the pace reaches, by the server's window in seconds."""
    return [Rate(1000, per=window).pace * window / 1000 for window in windows]


# Refusals ---------------------------------------------------------------------------------------


def comes_back(jobs: int = 60) -> dict[str, tuple[Moments, Moments]]:
    """What is answered and refused of calls that all come at once, to a server that lets 10 a
    second through: when each call retries by itself, and through a scheduler that was told 20.
    """
    found: dict[str, tuple[Moments, Moments]] = {}

    class TooMany(Exception):
        status_code = 429

    def server(name: str) -> Callable[[], Awaitable[None]]:
        log = SlidingLog(10, 1)
        answered, refused = found.setdefault(name, ([], []))

        async def call() -> None:
            await asyncio.sleep(0.02)
            if not log.admit(now()):
                refused.append(now())
                raise TooMany
            answered.append(now())

        return call

    async def each_by_itself() -> None:
        call = server("each call retries by itself")
        random = Random(1)

        async def persist() -> None:
            for n in range(12):
                try:
                    await call()
                except TooMany:
                    await asyncio.sleep(random.uniform(0, min(60, 0.5 * 2**n)))
                else:
                    break

        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(persist())

    async def one_gate() -> None:
        call = server("one gate and a probe (headway)")
        await Scheduler("20/s").map(lambda _: call(), range(jobs))

    on_virtual_time(each_by_itself())
    on_virtual_time(one_gate())
    return found


# Control ----------------------------------------------------------------------------------------


def follows(minutes: float = 30) -> tuple[list[tuple[float, float]], Moments]:
    """The rate in force, as it changes, and when something was refused: nothing is stated, and the
    server lets 10 a second through, but 4 in the middle third.
    """
    seconds = 60 * minutes
    rates: list[tuple[float, float]] = []
    refused: Moments = []

    class TooMany(Exception):
        status_code = 429

    async def main() -> None:
        level, at = 10.0, 0.0

        async def call(_: int) -> None:
            nonlocal level, at
            rate = allowed(now(), seconds)
            level, at = min(10.0, level + (now() - at) * rate), now()
            if level < 1:
                refused.append(now())
                raise TooMany
            level -= 1
            await asyncio.sleep(1)

        def hear(event: events.Event) -> None:
            if isinstance(event, events.LimitChanged) and event.limit == "requests":
                rates.append((now(), event.value or 0.0))

        scheduler = Scheduler(on_event=hear)
        async with scheduler.as_completed(call, range(10**9)) as outcomes:
            async for _ in outcomes:
                if now() > seconds:
                    break

    on_virtual_time(main())
    return rates, refused


def allowed(at: float, seconds: float) -> float:
    """What the server of `follows` lets through a second."""
    return 4.0 if seconds / 3 <= at < 2 * seconds / 3 else 10.0


# The queue --------------------------------------------------------------------------------------


def shares(seconds: float = 30) -> dict[str, Moments]:
    """When the calls of three keys start, at 20 a second in all: "batch" has a thousand jobs from
    the start, "chat" weighs three times as much and comes after ten seconds, "urgent" has the
    higher priority and comes for five seconds after twenty.
    """
    found: dict[str, Moments] = {"batch": [], "chat, weight 3": [], "urgent, priority 1": []}
    batch, chat, urgent = found.values()

    async def main() -> None:
        scheduler = Scheduler("20/s", weights={"chat": 3})

        async def call(started: Moments) -> None:
            started.append(now())

        async def submit(started: Moments, jobs: int, **options: Any) -> None:
            await scheduler.with_options(**options).map(call, [started] * jobs)

        async with asyncio.timeout(seconds):
            async with asyncio.TaskGroup() as group:
                group.create_task(submit(batch, 1000, key="batch"))
                await asyncio.sleep(10)
                group.create_task(submit(chat, 1000, key="chat"))
                await asyncio.sleep(10)
                group.create_task(submit(urgent, 100, key="urgent", priority=1))

    try:
        on_virtual_time(main())
    except TimeoutError:
        return found
    raise AssertionError("there was too little to do")


# Tokens -----------------------------------------------------------------------------------------


def spent(takes: float, reserved: float, minutes: float = 20) -> float:
    """The share of a limit of 60,000 tokens a minute that is used, by calls of 500 tokens that last
    `takes` seconds and reserve `reserved` times as much.
    """
    used = 0

    async def call(_: int) -> int:
        await asyncio.sleep(takes)
        return 500

    async def main() -> None:
        nonlocal used
        scheduler = Scheduler(tokens="60k/min", concurrency=1000)
        calls = scheduler.with_options(tokens=500 * reserved, usage=lambda result: result)
        async with calls.as_completed(call, range(10**9)) as outcomes:
            async for outcome in outcomes:
                if now() > 60 * minutes:
                    break
                if now() > 120:  # past the beginning
                    used += outcome.result

    on_virtual_time(main())
    return used / (60_000 * (minutes - 2))


# The pictures -----------------------------------------------------------------------------------


def draw_pacing(axes: Any) -> None:
    for row, (name, moments) in enumerate(starts().items()):
        color = OURS if row else PEER
        axes.plot(moments, [row] * len(moments), "|", color=color, markersize=22)
        axes.text(0, row + 0.3, name, color=color)
    axes.axvspan(-0.02, 0.98, ymax=0.5, color="#f1f5f9")
    axes.text(0, -0.4, "ten at once, 19 in the shaded second", color=PEER)
    axes.set(yticks=[], ylim=(-0.5, 1.7), xlabel="seconds", title="Starts under 10 a second")


def draw_reached(axes: Any) -> None:
    windows = [0.2 * 1.1**n for n in range(64)]
    axes.semilogx(windows, [100 * share for share in reached(windows)], color=OURS)
    axes.set(xlabel="the server's window, seconds", ylabel="of the limit, %", ylim=(80, 101))
    axes.set_title("What a pace that is never refused can reach")
    axes.set_xticks([0.2, 1, 10, 60], ["0.2", "1", "10", "60"])


def draw_herd(axes: Any) -> None:
    for row, (name, (answered, refused)) in enumerate(comes_back().items()):
        color = OURS if row else PEER
        axes.plot(answered, [row + 0.1] * len(answered), "|", color=color, markersize=14)
        axes.plot(refused, [row - 0.1] * len(refused), "x", color=LIMIT, markersize=5)
        axes.text(0, row + 0.32, f"{name}: {len(refused)} refused", color=color)
    axes.set(yticks=[], ylim=(-0.5, 1.7), xlabel="seconds (x: refused)")
    axes.set_title("60 calls at once, to a server that allows 10 a second")


def draw_control(axes: Any) -> None:
    minutes = 30.0
    rates, refused = follows(minutes)
    seconds = 60 * minutes
    grid = [seconds * n / 900 for n in range(901)]
    axes.plot([at / 60 for at in grid], [allowed(at, seconds) for at in grid], "--", color=LIMIT)
    axes.step([at / 60 for at, _ in rates], [rate for _, rate in rates], color=OURS, where="post")
    axes.plot([at / 60 for at in refused], [0.4] * len(refused), "x", color=LIMIT, markersize=4)
    axes.set(xlabel="minutes", ylabel="attempts a second", ylim=(0, 13), xlim=(0, minutes))
    axes.set_title("Nothing stated: the limit (dashed), the rate in force, refusals (x)")


def draw_shares(axes: Any) -> None:
    for (name, moments), style in zip(shares().items(), ("-", "--", ":"), strict=True):
        axes.step(moments, range(1, len(moments) + 1), style, color=OURS, label=name, where="post")
    axes.set(xlabel="seconds", ylabel="calls started", title="Three keys under 20 a second")
    axes.legend(frameon=False)


def draw_tokens(axes: Any) -> None:
    lengths = (1, 2, 4, 8, 15, 30)
    for factor, color in ((1, PEER), (2, OURS)):
        values = [100 * spent(takes, factor) for takes in lengths]
        axes.plot(lengths, values, "o-", color=color, label=f"reserve {factor} times what they use")
    axes.set(xlabel="seconds of a call", ylabel="of the limit, %", ylim=(50, 101))
    axes.set_title("What reservations in flight cost")
    axes.legend(frameon=False)


PICTURES: Mapping[str, Callable[[Any], None]] = {
    "pacing": draw_pacing,
    "reached": draw_reached,
    "herd": draw_herd,
    "control": draw_control,
    "shares": draw_shares,
    "tokens": draw_tokens,
}


def main() -> None:
    """Write each picture as an SVG, the same bytes whenever the same is drawn."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    matplotlib.rcParams.update({"svg.hashsalt": "headway", "font.size": 9})
    for name, draw in PICTURES.items():
        figure, axes = pyplot.subplots(figsize=(7, 2.6), layout="constrained")
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    main()
