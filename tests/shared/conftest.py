"""One server of each kind for the tests of a process, on real time; and virtual event loops."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator
from random import Random

import anyio
import pytest
from clocks import VIRTUAL
from depth import DEEP
from servers import Postgres, Valkey, postgres_or_skip, running

from headway._runtime import workers as _workers


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with running(Valkey(tmp_path_factory.mktemp("valkey"))) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A cluster of one server."""
    with running(Valkey(tmp_path_factory.mktemp("cluster"), "--cluster-enabled", "yes")) as server:
        server.take_all_slots()
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    yield from postgres_or_skip()


@pytest.fixture
def few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run without slots 100 jobs wait, which is more than can start, and not 1000."""
    monkeypatch.setattr(_workers, "MOST_WORKERS", 100)


@pytest.fixture
def drawn_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of workers, by which they take turns, are the same in each run but the deep one."""
    random = Random(1)
    if not DEEP:
        monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=random.getrandbits(128)))


Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=sorted(VIRTUAL))
def both(request: pytest.FixtureRequest) -> Run:
    """Runs on each event loop."""
    return on(request.param)


@pytest.fixture
def run() -> Run:
    """Runs on asyncio, where both loops run the same code."""
    return on("asyncio")


def on(loop: str) -> Run:
    def run(main: Callable[[], Awaitable[None]]) -> None:
        backend, options = VIRTUAL[loop]()
        anyio.run(main, backend=backend, backend_options=options)

    return run
