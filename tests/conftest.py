"""Both backends, on virtual time, for every async test; real time where a module asks for it."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from functools import partial
from http.client import HTTPConnection
from inspect import iscoroutinefunction
from pathlib import Path
from random import Random
from typing import Any

import anyio
import certifi
import pytest
import sniffio
from anyio.pytest_plugin import extract_backend_and_options
from clocks import VIRTUAL
from depth import depth
from hypothesis import HealthCheck, settings
from llmock import chaos
from llmock.pytest_plugin import LLMock
from sites import site

# What the environment of whoever runs the tests holds is none of theirs: a proxy stands between
# them and their servers, a key or an address names other ones, a console changes what is printed.
_OTHERS = {"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR"}
for name in list(os.environ):
    if (
        name.upper() in _OTHERS
        or name.startswith("TTY_")
        or name.endswith(("_API_KEY", "_BASE_URL"))
    ):
        del os.environ[name]
os.environ["TERM"] = "xterm"

# A shell's background job ignores Ctrl-C, and so does all that it starts; tests send some of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What processes of a user share lies in the user's state folder: the tests are no user's.
_state = tempfile.TemporaryDirectory()
os.environ["XDG_STATE_HOME"] = _state.name
os.environ.pop("XDG_RUNTIME_DIR", None)

# No server here has a certificate, and each client reads all that a machine trusts: 50 ms of CPU.
_trusted = tempfile.NamedTemporaryFile("w", suffix=".pem")  # noqa: SIM115 - as long as the tests
_first, _end, _ = Path(certifi.where()).read_text("utf-8").partition("-----END CERTIFICATE-----")
_trusted.write(f"{_first}{_end}\n")
_trusted.flush()
os.environ["SSL_CERT_FILE"] = _trusted.name

# The server answers in a thread, a second late where a test said so, and draws a number for each:
# Hypothesis takes it for the use of a strategy that it draws from meanwhile.
chaos.random = Random()

# How long a machine takes is no property of the code: the first text alone builds a table for 1 s.
settings.register_profile(
    "headway",
    max_examples=depth(25, 1000),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("headway")


# What pytest collects and imports stays: each of Python's collections would go through all of it.
gc.disable()


def pytest_collection_finish() -> None:
    """No collection in a test goes through what was there before the first, and there are few:
    what tests import stays too, and by Python's own thresholds 6% of all CPU went into this.
    """
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test on trio is a run of trio's, as a user's program is. anyio's plugin has trio as a guest
    of another loop, which async fixtures need: a fifth of trio's time went into that, and a thread
    waited for each socket.
    """
    backend = pyfuncitem.funcargs.get("anyio_backend")
    if backend is None or not iscoroutinefunction(pyfuncitem.obj):
        return None
    name, options = extract_backend_and_options(backend)
    try:
        sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        if name != "trio":
            return None
    else:
        return None  # an async fixture is on its loop
    given = {each: pyfuncitem.funcargs[each] for each in pyfuncitem._fixtureinfo.argnames}
    anyio.run(partial(pyfuncitem.obj, **given), backend=name, backend_options=options)
    return True


@pytest.fixture(params=sorted(VIRTUAL))
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Asyncio and trio, on clocks that jump, or in real time where a test is marked so. A module
    that one loop alone runs overrides this fixture.
    """
    if request.node.get_closest_marker("real_time") is not None:
        return request.param
    return VIRTUAL[request.param]()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of headway's is logged, which takes time."""
    caplog.set_level("CRITICAL", logger="headway")


@pytest.fixture
def llmock(llmock: LLMock) -> LLMock:
    """The server of all tests, which has read what those before have sent: a request of a client
    that was killed waits in a socket, and would count as this test's.
    """
    host = llmock.url.removeprefix("http://")
    for _ in range(2):  # the server accepts in one turn of its loop, and reads in another
        connection = HTTPConnection(host, timeout=60)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
    return llmock.reset()


__all__ = ["anyio_backend", "llmock", "quiet", "site"]
