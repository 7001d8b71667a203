"""The pytest plugin: its fixtures under pytest-asyncio and anyio; others never notice it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from pages import DOCS, blocks

pytest_plugins = ["pytester"]

# One run for both loops and plugins: a run costs.
FILE = """
import asyncio
import time

import anyio
import httpx
import pytest
import pytest_asyncio

from headway import Scheduler
from headway.httpx import AsyncTransport
from headway.testing import FakeProvider, NoRealSockets


async def work(provider, clock):
    scheduler = Scheduler("20/h")
    transport = AsyncTransport(scheduler, provider.transport())
    async with httpx.AsyncClient(transport=transport, base_url=provider.base_url) as http:
        await scheduler.map(lambda n: http.get(f"/{n}"), range(21))
    provider.assert_no_refusals()
    provider.assert_all_answered(21)
    assert clock.elapsed >= 3600


@pytest_asyncio.fixture
async def begun_on_asyncio():
    return anyio.current_time()


@pytest.fixture(params=BACKENDS)
def anyio_backend(request):
    return request.param


@pytest.fixture
async def begun(anyio_backend):
    return anyio.current_time()


@pytest.mark.asyncio
async def test_asyncio(begun_on_asyncio, headway_clock, fake_provider):
    await work(fake_provider("20/h"), headway_clock)
    assert anyio.current_time() - begun_on_asyncio >= 3600


@pytest.mark.anyio
async def test_anyio(begun, headway_clock, fake_provider):
    await work(fake_provider("20/h"), headway_clock)
    assert anyio.current_time() - begun >= 3600


def test_plain(headway_clock):
    asyncio.run(asyncio.sleep(3600))
    assert headway_clock.elapsed == 3600


@pytest.mark.anyio
@pytest.mark.xfail(raises=NoRealSockets, strict=True)
async def test_socket(anyio_backend, headway_clock):
    await anyio.connect_tcp("127.0.0.1", 9)


class TestWider:
    @pytest.mark.asyncio(loop_scope="class")
    async def test_first(self):
        self.loop = asyncio.get_running_loop()

    @pytest.mark.asyncio(loop_scope="class")
    async def test_late(self, headway_clock):
        pass


@pytest.mark.asyncio
async def test_of_others():
    assert type(asyncio.get_running_loop()).__module__.startswith("asyncio")
"""


@pytest.mark.parametrize(("mode", "passed"), [("strict", 7), ("auto", 6)])
def test_the_fixtures_work_on_both_loops(pytester: pytest.Pytester, mode: str, passed: int) -> None:
    # In its auto mode pytest-asyncio takes the tests of anyio's plugin, and knows no trio.
    backends = ["asyncio", "trio"] if mode == "strict" else ["asyncio"]
    pytester.makepyfile(FILE.replace("BACKENDS", str(backends)))
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
        "filterwarnings = error\n"
    )
    done = pytester.runpytest_inprocess("-p", "no:cov", "-p", "no:langsmith_plugin")
    done.assert_outcomes(
        passed=passed, errors=1, xfailed=len(backends)
    )  # the late one is told at its end
    done.stdout.fnmatch_lines(
        ["*headway_clock has no hold on this test: its event loop began before the test did*"]
    )


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("\n".join(blocks(DOCS / "testing.md", "py")))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.runpytest_inprocess(
        "-p", "no:cov", "-p", "no:langsmith_plugin", "-W", "error"
    ).assert_outcomes(passed=3)


def test_it_registers_itself_and_imports_nothing() -> None:
    (found,) = entry_points(group="pytest11", name="headway")
    assert found.value == "headway.testing.plugin"
    code = (
        "import sys, headway.testing.plugin; print(*sorted(sys.modules))\n"
        "from headway.testing import FakeProvider; FakeProvider('9/s').app; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    plugin, used = (set(line.split()) for line in done.stdout.splitlines())
    assert {name for name in plugin if name.startswith(("headway", "anyio", "httpx"))} == {
        "headway", "headway.testing", "headway.testing.plugin",
    }  # fmt: skip
    assert not used & {"httpx", "httpx2", "trio", "starlette"}
