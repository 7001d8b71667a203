"""What answers state of the limits: of successes now and then, of refusals each time."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from headway import Scheduler
from headway._http.observer import Observer
from headway.events import Event, LimitChanged
from headway.providers import Dialect, Provider, provider_at

pytestmark = pytest.mark.anyio


URL = httpx.URL("https://api.together.ai/v1/chat/completions")


def headers(limit: int) -> httpx.Headers:
    return httpx.Headers({"anthropic-ratelimit-requests-limit": str(limit)})


class Bench:
    """A scheduler that knows no limits, and what it is told."""

    def __init__(self) -> None:
        self.told: list[float | None] = []
        scheduler = Scheduler(on_event=self._listen)
        self.shell = scheduler._shell
        self.observe = Observer(self.shell)
        self.statistics = scheduler.statistics

    def _listen(self, event: Event) -> None:
        if isinstance(event, LimitChanged):
            self.told.append(event.value)

    def answer(self, limit: int, body: bytes | None = None) -> None:
        now = self.shell.now()
        self.observe(headers(limit), URL, self.shell.state.flow(None), now, body)

    @property
    def rate(self) -> float:
        """The requests a minute in force."""
        return self.statistics().pace * 60


async def test_of_successes_four_a_second_are_read() -> None:
    bench = Bench()
    bench.answer(600)
    assert bench.rate == pytest.approx(600, rel=0.02)
    await anyio.sleep(0.2)
    bench.answer(300)
    assert bench.rate == pytest.approx(600, rel=0.02)
    await anyio.sleep(0.06)
    bench.answer(300)
    assert bench.rate == pytest.approx(300, rel=0.02)


async def test_every_refusal_is_read_and_what_its_body_says() -> None:
    bench = Bench()
    bench.answer(600)
    await anyio.sleep(0.01)
    bench.answer(300, b"{}")
    assert bench.rate == pytest.approx(300, rel=0.02)
    await anyio.sleep(0.01)
    bench.observe(
        httpx.Headers(),
        URL,
        bench.shell.state.flow(None),
        bench.shell.now(),
        b'{"error": {"message": "the limit is 120 RPM"}}',
    )
    assert bench.rate == pytest.approx(120, rel=0.02)


async def test_what_changed_is_told_at_once() -> None:
    bench = Bench()
    bench.answer(600)
    assert not bench.shell.state.events  # handed on
    await anyio.sleep(0.01)
    assert bench.told == [pytest.approx(10, rel=0.02)]


@pytest.mark.parametrize(("unit", "rate"), [(None, 300), ("second", 600), ("minute", 10)])
async def test_togethers_limit_counts_by_the_unit_that_was_stated(
    unit: object, rate: float
) -> None:
    bench = Bench()
    observe = Observer(bench.shell, unit)  # type: ignore[arg-type]
    found = httpx.Headers({"x-ratelimit-limit": "10"})
    observe(found, URL, bench.shell.state.flow(None), bench.shell.now())
    # Without it the limit says nothing, and the slow start goes on: five a second.
    assert bench.rate == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize(
    ("host", "unit", "rate"),
    [("llm.acme.example", "second", 600), ("llm.acme.example", "minute", 10), ("other", None, 300)],
)
async def test_a_provider_s_record_says_what_its_bare_limit_counts_by(
    host: str, unit: Any, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = Provider(
        "acme", "https://llm.acme.example/v1", "ACME_KEY", dialect=Dialect(bare_limit_unit=unit)
    )
    monkeypatch.setattr("headway.providers.PROVIDERS", {"acme": acme})
    provider_at.cache_clear()
    bench = Bench()
    found = httpx.Headers({"x-ratelimit-limit": "10"})
    bench.observe(
        found, httpx.URL(f"https://{host}/v1"), bench.shell.state.flow(None), bench.shell.now()
    )
    assert bench.rate == pytest.approx(rate, rel=0.02)
    provider_at.cache_clear()
