"""A bare state machine, and a clock that only moves when a test says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway import Kind, Limits, Retry
from headway._core.queue.job import STARTED, Job
from headway._core.refusals.retry import Delay, GiveUp
from headway._core.state import SchedulerState
from headway.events import Event
from headway.hints import Refusal

LIMITED = Limits("6000/min", tokens="6M/min", concurrency=10)

STATUS = {
    Kind.RATE: 429, Kind.TOKENS: 429, Kind.CONCURRENCY: 429, Kind.CAPACITY: 503,
    Kind.QUOTA: 402, Kind.AUTH: 401, Kind.TRANSIENT: 500, Kind.PERMANENT: 400,
}  # fmt: skip


class World:
    """A state machine, and a clock that only moves when a test says so."""

    def __init__(
        self,
        limits: Limits = LIMITED,
        *,
        keys: Mapping[Any, Limits] | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.now = 1000.0
        self.jobs: list[Job] = []
        self.state = SchedulerState(
            limits, now=self.now, retry=retry or Retry(), keys=dict(keys or {}).get
        )

    def submit(
        self, key: object = None, deadline: float | None = None, cost: float = 0, n: int = 1
    ) -> list[Job]:
        jobs = [Job(self.state.flow(key), 0, cost, deadline) for _ in range(n)]
        for job in jobs:
            self.state.submit(job, self.now)
        self.jobs += jobs
        return jobs

    def started(self, n: int, key: object = None) -> list[Job]:
        """`n` jobs that are in flight, each sent at a moment of its own."""
        jobs = self.submit(key, n=n)
        self.run(1.0)
        assert all(job.status == STARTED for job in jobs)
        return jobs

    @property
    def in_flight(self) -> list[Job]:
        return [job for job in self.jobs if job.status == STARTED]

    def poll(self) -> list[Job]:
        """Poll now; the jobs that started."""
        return [job for job in self.state.poll(self.now)[0] if job.status == STARTED]

    def run(self, seconds: float) -> list[tuple[float, Job]]:
        """Poll at each moment worth it, for that long: what started, and when."""
        began = end = self.now
        end += seconds
        started = []
        for _ in range(100_000):
            changed, wake_at = self.state.poll(self.now)
            started += [
                (round(self.now - began, 6), job) for job in changed if job.status == STARTED
            ]
            if wake_at > end:
                break
            assert wake_at > self.now
            self.now = wake_at
        self.now = end
        return started

    def refuse(
        self,
        job: Job,
        kind: Kind,
        wait: float | None = None,
        *,
        random: float = 0.0,
        per: float | None = None,
    ) -> Delay | GiveUp:
        refusal = Refusal(kind, wait, STATUS[kind], "no", per=per)
        return self.state.defer(job, refusal, self.now, random)

    def ok(self, job: Job) -> None:
        self.state.finish(job, None, self.now)

    def events(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.state.events if isinstance(event, kind)]
