"""What the wheel does with anyio alone: `make dist` runs this where nothing else is installed."""

import asyncio
import importlib

import headway
from headway import Scheduler, sync
from headway.testing import assert_idle, virtual_clock


async def ask(n: int) -> int:
    return n * n


def main() -> None:
    """Send under limits by an async and by a plain function, and ask for what is not installed."""
    scheduler = Scheduler("60/min", concurrency=4)
    with virtual_clock() as clock:
        assert asyncio.run(scheduler.map(ask, range(60))) == [n * n for n in range(60)]
    assert 58 < clock.elapsed < 62, clock.elapsed
    assert_idle(scheduler)
    with sync.Scheduler("1000/s") as plain, headway.watch(plain) as watched:
        assert [*plain.map(abs, [-1, -2])] == [1, 2]
        assert watched.path is not None
    for module, extra in (("headway.bulk", "cli"), ("headway.httpx", "httpx")):
        try:
            importlib.import_module(module)
        except headway.MissingExtra as error:
            if f"pip install 'headway[{extra}]'" in str(error):
                continue
        raise AssertionError(f"{module} does not say what to install")


if __name__ == "__main__":
    main()
