"""Credentials: whom a provider refuses when it answers that a key is wrong or an account empty.

A refusal of one says nothing about the others. One that has never worked is refused for good at
once. One that has worked is asked about again, a few times: gateways lose their own sessions, and
keys are looked up in stores that lag.
"""

from __future__ import annotations

from headway.errors import Latched

__all__ = ["TRIES", "Credential", "Credentials"]

INFINITY = float("inf")

TRIES = 3
"""How often one that has worked is asked about again, after each refusal in a row."""

_PAUSE = 0.5  # seconds before the first of these, twice as long before each further one

# Beyond so many the oldest is forgotten: what it is refused with is then learned anew.
_MOST = 10_000


class Credential:
    """One credential: how often it has worked, its refusals in a row, and its latch.

    `name` is a hash of it, where a transport sees it; else the key of the jobs that have it.
    """

    __slots__ = ("_denied", "_known", "is_hash", "latch", "name", "next_at", "successes")

    def __init__(self, name: object, *, is_hash: bool = False) -> None:
        self.name = name
        self.is_hash = is_hash
        self.latch: Latched | None = None
        self.successes = 0
        self.next_at = -INFINITY  # an attempt that was sent before says nothing new
        self._denied = 0
        self._known = 0  # the successes that were counted at the last refusal

    def deny(self, sent_at: float, now: float) -> None:
        """An attempt that was sent at `sent_at` was refused for it. Those of a burst count once."""
        if self.successes > self._known:
            self._known = self.successes
            self._denied = 0
            self.next_at = -INFINITY
        if sent_at >= self.next_at:
            self.next_at = now + _PAUSE * 2.0**self._denied
            self._denied += 1

    @property
    def is_doubtful(self) -> bool:
        """Whether it may work again all the same: it has worked, and is not latched."""
        return self.latch is None and self.successes > 0 and self._denied <= TRIES

    def forgive(self) -> None:
        """Let it be asked about anew."""
        self.latch = None
        self._denied = 0
        self.next_at = -INFINITY

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.next_at += seconds


class Credentials:
    """Those that transports have seen, by the hashes of them, and all that are latched."""

    __slots__ = ("_seen", "latched")

    def __init__(self) -> None:
        self._seen: dict[str, Credential] = {}
        self.latched: dict[Credential, None] = {}

    def seen(self, name: str) -> Credential:
        """The credential of that hash."""
        found = self._seen.get(name)
        if found is None:
            if len(self._seen) >= _MOST:
                self._release(self._seen.pop(next(iter(self._seen))))
            found = self._seen[name] = Credential(name, is_hash=True)
        return found

    def latch(self, credential: Credential, error: Latched) -> None:
        """Refuse `credential` from now on, with `error`."""
        if len(self.latched) >= _MOST:
            self._release(next(iter(self.latched)))
        credential.latch = error
        self.latched[credential] = None

    def _release(self, credential: Credential) -> None:
        credential.forgive()
        self.latched.pop(credential, None)

    def reset(self) -> None:
        """Forget every latch."""
        for credential in self.latched:
            credential.forgive()
        self.latched.clear()

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        for credential in {**dict.fromkeys(self._seen.values()), **self.latched}:
            credential.shift(seconds)
