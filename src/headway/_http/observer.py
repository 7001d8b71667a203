"""What responses state of the limits, handed to the scheduler."""

from __future__ import annotations

import time
from typing import Any, Literal

from headway._core.queue.job import Flow
from headway._runtime.shell import Shell
from headway.hints import Dialect, limits_from
from headway.providers import Provider, dialect_at

__all__ = ["Observer"]

# Reading the headers costs half as much as the rest of a call: seconds between two readings.
_EVERY = 0.25


class Observer:
    """Reads the limits that responses state: of every refusal, of successes now and then.

    They are read in the dialect of `provider`, else of the one that is known at the host.
    `together_unit` is what an ``x-ratelimit-limit`` counts by, where the user knows that.
    """

    def __init__(
        self,
        shell: Shell,
        together_unit: Literal["second", "minute"] | None = None,
        provider: Provider | None = None,
    ) -> None:
        self._shell = shell
        self._provider = provider
        self._together_unit: Literal["second", "minute"] | None = together_unit
        self._next = 0.0

    def __call__(
        self, headers: Any, url: Any, flow: Flow, sent_at: float, body: bytes | None = None
    ) -> None:
        """Read `headers`, and a refusal's `body`, of the answer from `url` to an attempt of `flow`
        that was sent at `sent_at`, seconds on the clock of the event loop.
        """
        shell = self._shell
        now = shell.clock()
        if body is None and now < self._next and not shell.state.eager:
            return
        self._next = now + _EVERY
        hints = limits_from(
            headers,
            body,
            wall_time=time.time(),
            dialect=self.dialect(url),
            together_unit=self._together_unit,
        )
        if hints:
            with shell.lock:
                shell.state.observe(hints, flow, now, sent_at)
                if shell.state.events:
                    shell.poll()

    def dialect(self, url: Any) -> Dialect:
        """The dialect of what answers at `url`."""
        return dialect_at(url.host) if self._provider is None else self._provider.dialect
