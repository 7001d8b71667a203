"""A hook that keeps what it is told, and functions that are refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from headway.events import Event, Finished, Retrying
from headway.hooks.around import Hook


class Recorder(Hook):
    """Keeps a line for each call."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.scheduler: Any = None

    def _say(self, what: str) -> None:
        self.seen.append(what)

    def attach(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def begin(self, job: Any) -> None:
        line = f"begin {job.number}"
        if line not in self.seen:
            self._say(line)

    def enter(self, job: Any) -> None:
        self._say(f"enter {job.number}")

    def send(self, job: Any, number: int) -> None:
        self._say(f"send {job.number} {number}")

    def failed(self, job: Any, refusal: Any) -> None:
        self._say(f"failed {job.number} {refusal.kind} {refusal.status}")

    def leave(self, job: Any) -> None:
        self._say(f"leave {job.number}")

    def forget(self) -> None:
        self._say("forget")

    def __call__(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._say(f"Finished {event.job} {event.outcome}")
        elif isinstance(event, Retrying):
            self._say(f"Retrying {event.job}")


class Failed(Exception):
    """What an SDK raises for an answer of `status_code`."""

    def __init__(self, status_code: int, said: str = "no") -> None:
        super().__init__(said)
        self.status_code = status_code


def refuse_once(status: int, said: str = "no") -> Callable[[int], Awaitable[int]]:
    """A function whose first call fails with `status`, and which returns what it is given."""
    left = [Failed(status, said)]

    async def ask(n: int) -> int:
        if left:
            raise left.pop()
        return n

    return ask
