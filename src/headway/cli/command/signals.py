"""The signals that ask a run for its end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["STOPS", "Caught", "noting_signals"]

STOPS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    STOPS[signal.SIGHUP] = "SIGHUP"

_LOOKED_AT_WITHIN = 1.0  # seconds; a signal that nobody has looked at by then will not be


class Caught(list[signal.Signals]):
    """Signals as they came; whether the run has begun, and has looked at them; and when the first
    came.
    """

    begun = False
    heard = False
    since = 0.0  # of the monotonic clock

    def __init__(self) -> None:
        super().__init__()
        self.undraw: Callable[[], object] = lambda: None
        """Takes the live display off the terminal."""
        self._by = ""

    def drain(self) -> None:
        """Ask the run for its end as SIGTERM does, where nothing has yet: for ``headway ctl``."""
        if not self:
            self._by = "headway ctl drain"
            self.append(signal.SIGTERM)

    @property
    def asked_by(self) -> str:
        """Who asked first, in words."""
        return self._by or STOPS[self[0]]


@contextmanager
def noting_signals() -> Iterator[Caught]:
    """The signals that ask for an end, as they come; none of them interrupts anything.

    Once there was one, the process is about to end, and no other changes how it does. Only before
    anything is sent, while an input is waited for or measured, the first one ends it at once, and
    the second where nobody hears the first: every row that is there was written whole.
    """
    caught = Caught()

    def note(number: int, _: object) -> None:
        now = time.monotonic()
        caught.append(signal.Signals(number))
        unheard = not caught.heard and caught.since and now - caught.since > _LOOKED_AT_WITHIN
        if not caught.begun or unheard:
            with suppress(Exception):  # as it comes in the middle of whatever was done
                caught.undraw()
            with suppress(OSError):
                os.write(2, f"headway: stopped by {caught.asked_by}\n".encode())
            os._exit(128 + caught[0])
        caught.since = caught.since or now

    previous = {number: signal.getsignal(number) for number in STOPS}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if caught else handler)
