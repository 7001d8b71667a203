"""What responses state of the limits, handed to the scheduler."""

from __future__ import annotations

import time
from typing import Any, Literal

from headway._core.queue.job import Flow
from headway._runtime.shell import Shell
from headway.hints import limits_from
from headway.providers import provider_at

__all__ = ["Observer"]

# Reading the headers costs half as much as the rest of a call: seconds between two readings.
_EVERY = 0.25


class Observer:
    """Reads the limits that responses state: of every refusal, of successes now and then.

    `together_unit` is what Together's ``x-ratelimit-limit`` counts by, where the user knows that;
    else the provider's record says what such a limit counts by.
    """

    def __init__(
        self, shell: Shell, together_unit: Literal["second", "minute"] | None = None
    ) -> None:
        self._shell = shell
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
        if body is None and now < self._next:
            return
        self._next = now + _EVERY
        unit = self._together_unit
        if unit is None and (provider := provider_at(url.host)) is not None:
            unit = provider.bare_limit_unit
        hints = limits_from(headers, body, wall_time=time.time(), together_unit=unit)
        if hints:
            shell.state.observe(hints, flow, now, sent_at)
            if shell.state.events:
                shell.poll()
