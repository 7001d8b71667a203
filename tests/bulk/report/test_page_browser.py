"""The page in a browser: it is drawn without a trouble, and shows its values."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from reports import (
    CASES,
    report,
    simulate,
)

from headway.bulk.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
]  # fmt: skip


class Browser:
    """Chromium without a window, over the DevTools protocol on two pipes."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        # The protocol is read from descriptor 3 and written to 4; a shell puts them there.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash", CHROMIUM, *FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], 60)
            assert ready, "Chromium does not answer"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers; events that come before are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def open(self, url: str, width: int, height: int, scheme: str) -> None:
        """Load a page as a screen of that size shows it."""
        self.events.clear()
        self.resize(width, height)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def resize(self, width: int, height: int) -> None:
        """Show the page, or the next one, on a screen of that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A picture of what is in view, or of the whole page."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        """End the browser."""
        self.session = None
        with suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None and os.environ.get("CI") == "true":
        pytest.fail("Chromium is not installed, and CI=true (Debian: apt-get install chromium)")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


def troubles(browser: Browser) -> list[Any]:
    """What the console said, and requests for anything but the page itself."""
    found = []
    for event in browser.events:
        method, params = event.get("method"), event.get("params", {})
        url = params.get("request", {}).get("url", "")
        if method in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") or (
            method == "Network.requestWillBeSent" and not url.startswith(("file:", "data:"))
        ):
            found.append(event)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_browser_shows_it(browser: Browser, tmp_path: Path, case: str) -> None:
    page = report(tmp_path, case)
    browser.open((tmp_path / "report.html").as_uri(), 360, 800, "light")
    assert any(event.get("method") == "Network.requestWillBeSent" for event in browser.events)
    for width in (360, 1280):
        browser.resize(width, 800)  # its layout is all of the style's: no script asks for a width
        assert browser.ask("innerWidth") == width
        assert troubles(browser) == []
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask("document.title") != "owned"
        shown = "[...document.querySelectorAll('.plot svg')].filter(s => s.clientWidth > 150)"
        assert browser.ask(f"{shown}.length") == page.count('class="plot ')
        if case not in ("nothing", "no_sample", "no_span"):
            line = "document.querySelector('[data-chart=sends] path.line') !== null"
            assert browser.ask(line) == (case != "no_rows")


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of two hours."""
    folder = tmp_path_factory.mktemp("long")
    write_report(simulate(folder / "run"), folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pointer_and_the_keys_show_values(
    browser: Browser, long_run: Path, scheme: str
) -> None:
    browser.open(long_run.as_uri(), 360, 800, scheme)
    assert troubles(browser) == []
    ground = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(243, 244, 247)", "dark": "rgb(13, 16, 22)"}[scheme]
    assert browser.ask("getComputedStyle(tip).display") == "none"
    place = browser.ask(
        "(() => { const plot = document.querySelector('[data-chart=sends]');"
        " plot.scrollIntoView(); const box = plot.getBoundingClientRect();"
        " return [box.left + box.width * 0.3, box.top + 60]; })()"
    )
    browser.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    said = browser.ask("tip.textContent")
    assert re.search(r"\d\d Nov \d\d:\d\d:\d\d\s*limit 6\.2/s\s*sent 6\.\d+/s", said)
    browser.ask("document.querySelector('[data-chart=bound]').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight",
                     windowsVirtualKeyCode=39)  # fmt: skip
    assert re.search(r"the limit on requests\s+100%", browser.ask("tip.textContent"))
    assert browser.ask("tip.getBoundingClientRect().right") <= 360
    assert troubles(browser) == []
