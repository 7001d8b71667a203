"""What a transport sees of the client above it that spoils its work, told once."""

from __future__ import annotations

import logging
from typing import Any

from headway.kinds._words import with_fix

__all__ = ["Lookout"]

logger = logging.getLogger("headway")


class Lookout:
    """Looks for requests that an SDK repeats by itself, and for a client that sends past it all.

    `may_be_idle` is for a transport that is one of several of a client: it need not see any.
    """

    def __init__(self) -> None:
        self.may_be_idle = False
        self._used = False
        self._warned = False

    def sees(self, request: Any, *, retries: bool) -> None:
        """`request` arrives; `retries` is whether repeating is the scheduler's."""
        self._used = True
        if self._warned or not retries:
            return
        # The raw headers: to look one up by name decodes them all.
        for name, value in request.headers.raw:
            if name == b"x-stainless-retry-count" and value != b"0":
                break
        else:
            return
        self._warned = True
        logger.warning(
            with_fix(
                "the SDK above headway's transport repeats requests by itself, in its caller's "
                "slot and without the others' knowledge",
                "build its client with max_retries=0.",
            )
        )

    def closes(self, package: str) -> None:
        """The transport, which `package` exports, is closed."""
        if not (self._used or self.may_be_idle):
            logger.warning(
                with_fix(
                    "a transport of headway's is closed and has not seen one request: a client "
                    "with proxy= or mounts= sends past it",
                    f"build the client with {package}.client(scheduler, proxy=...)",
                )
            )
