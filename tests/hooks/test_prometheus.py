"""The collector, with the real client: what a scrape of it says, and in which thread."""

from __future__ import annotations

import sys
import threading
from typing import Any

import anyio
import pytest
from hook import refuse_once
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from servers import promtool

import headway
from headway import InvalidArgument, MissingExtra, Scheduler, sync
from headway.hooks.prometheus import SchedulerCollector

pytestmark = pytest.mark.anyio


async def ask(n: int) -> int:
    return n


def registry(collector: SchedulerCollector) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(collector)
    return made


async def test_a_scrape_says_what_statistics_say() -> None:
    scheduler = Scheduler("600/min", concurrency=4)
    scraped = registry(SchedulerCollector(scheduler))
    await scheduler.with_options(key="llama").map(refuse_once(429), range(5))
    get = scraped.get_sample_value
    here = {"scheduler": "default"}
    assert get("headway_requests_total", here) == 6
    assert get("headway_refusals_total", {**here, "kind": "rate"}) == 1
    assert get("headway_jobs_total", {**here, "outcome": "succeeded"}) == 5
    assert get("headway_retries_total", here) == 1
    assert get("headway_concurrency_limit", here) == 4
    assert get("headway_pace_per_second", here) == scheduler.statistics().pace
    assert get("headway_key_requests_total", {**here, "key": "llama"}) == 6
    assert get("headway_info", {**here, "version": headway.__version__}) == 1
    async with scheduler.lease():
        assert get("headway_in_flight", here) == 1


async def test_several_schedulers_have_names() -> None:
    one, other = Scheduler("10/s"), Scheduler("20/s")
    collector = SchedulerCollector({"together": one})
    collector.add("openai", other)
    scraped = registry(collector)
    await other.submit(ask, 1)
    get = scraped.get_sample_value
    assert get("headway_requests_total", {"scheduler": "together"}) == 0
    assert get("headway_requests_total", {"scheduler": "openai"}) == 1
    collector.remove("together")
    assert get("headway_requests_total", {"scheduler": "together"}) is None
    with pytest.raises(InvalidArgument, match="called 'openai' here already"):
        collector.add("openai", one)
    with pytest.raises(InvalidArgument, match="no scheduler called 'together' here"):
        collector.remove("together")


@pytest.mark.parametrize("thing", [None, "together", Scheduler, {"x": 3}, {"": 3}])
async def test_what_is_no_scheduler(thing: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is no (scheduler|name of a scheduler)"):
        SchedulerCollector(thing)


async def test_anything_with_statistics_is_a_scheduler() -> None:
    class Face:
        def __init__(self) -> None:
            self.statistics = Scheduler("10/s").statistics

    scraped = registry(SchedulerCollector(Face()))
    assert scraped.get_sample_value("headway_queued", {"scheduler": "default"}) == 0


def test_a_sync_scheduler_will_do() -> None:
    with sync.Scheduler("1000/s", concurrency=4) as scheduler:
        scraped = registry(SchedulerCollector(scheduler))
        assert len([*scheduler.map(str, range(10))]) == 10
        assert scraped.get_sample_value("headway_requests_total", {"scheduler": "default"}) == 10


async def test_registering_asks_nobody_and_two_collectors_are_too_many() -> None:
    class Asked:
        def statistics(self) -> Any:
            raise AssertionError("it was asked")

    made = CollectorRegistry()
    made.register(SchedulerCollector(Asked()))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        made.register(SchedulerCollector(Asked()))


async def test_a_scrape_in_another_thread_while_jobs_and_keys_come_and_go() -> None:
    scheduler = Scheduler("1000/s", concurrency=8)
    scraped = registry(SchedulerCollector(scheduler))
    wrong: list[BaseException] = []
    done = threading.Event()
    often = sys.getswitchinterval()

    def scrape() -> None:
        last = 0.0
        try:
            while not done.is_set():
                found = scraped.get_sample_value("headway_requests_total", {"scheduler": "default"})
                assert found is not None
                assert found >= last
                last = found
        except BaseException as error:
            wrong.append(error)

    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        async with anyio.create_task_group() as group:
            for key in range(300):
                group.start_soon(scheduler.with_options(key=key).submit, ask, 1)
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(often)
    assert wrong == []


async def test_promtool_has_nothing_to_say_of_names_and_helps() -> None:
    scheduler = Scheduler(["600/min", "1000/day"], tokens="90k/min", concurrency=4)
    await scheduler.submit(refuse_once(429), 1)
    text = generate_latest(registry(SchedulerCollector(scheduler)))
    families = [*text_string_to_metric_families(text.decode())]
    assert all(family.name.startswith("headway") and family.documentation for family in families)
    assert promtool("check", "metrics", text=text) == ""


async def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    monkeypatch.delitem(sys.modules, "headway.hooks.prometheus")
    with pytest.raises(MissingExtra) as raised:
        __import__("headway.hooks.prometheus")
    assert str(raised.value) == (
        "metrics for Prometheus need the package prometheus-client, which is not installed. Fix: "
        "install it with: pip install 'headway[prometheus]'"
    )
