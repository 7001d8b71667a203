"""What a scheduler keeps between runs, in a file: what is used of quotas, and what was learned.

A shell lets it `begin`, and `save` from `due_at` on. One JSON object is written whole and put in
the place of the older one: a reader never finds half of it. Whoever kills the process loses what
the last second added.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headway._core.state import SchedulerState
from headway.errors import InvalidArgument
from headway.events import Forgotten
from headway.kinds._words import shown, with_fix

__all__ = ["Memory"]

logger = logging.getLogger("headway")

INFINITY = float("inf")

_EVERY = 1.0  # seconds between two writes while something happens
_VERSION = 1
_MOST = 64 * 1024 * 1024  # bytes: no scheduler remembers more


class Memory:
    """The file at `path`. `account` is a hash of whose limits they are, None for not known yet.

    Raises `InvalidArgument` for what is no path, or where no file can be written.
    """

    def __init__(self, path: object, account: str | None = None) -> None:
        text = str(path) if isinstance(path, str | os.PathLike) else ""
        if not text or "\0" in text:
            raise InvalidArgument(
                f"memory={shown(path)} is no path of a file",
                fix='memory="headway.json", or leave it out to remember nothing.',
            )
        self.path = Path(os.path.realpath(text))  # a link goes on being one
        self.due_at = INFINITY  # on the scheduler's clock; infinity before it has begun
        self._account = account
        self._recognised = account is not None  # whether it is known whose limits they are
        self._failed = False  # that it cannot be written
        self._kept: Mapping[str, Any] = {}  # what was last read or written
        self._seen: tuple[int, int] | None = None  # which file it was when last read or written
        self._alone = True  # that nobody else has written it since
        folder = self.path.parent
        other = self.path.exists() and not self.path.is_file()
        if other or not folder.is_dir() or not os.access(folder, os.W_OK):
            why = "it is no file" if other else "its folder cannot be written to"
            raise InvalidArgument(
                f"memory={shown(str(path))} cannot be kept: {why}",
                fix="name a file in a folder of yours.",
            )

    def begin(self, state: SchedulerState, now: float) -> None:
        """Let `state` go on from what was kept; once."""
        if self.due_at < INFINITY:
            return
        kept, odd = self._read()
        if odd:
            state.events.append(Forgotten(now, odd))
        state.restore(kept, now)
        self._kept = state.snapshot(now)
        self.due_at = now + _EVERY

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.due_at += seconds

    def recognise(self, account: str, state: SchedulerState, now: float) -> None:
        """The first credential that a transport has seen, as a hash, is that of `account`: what
        another one has used and learned is forgotten.
        """
        if self._recognised:
            return
        self._recognised = True
        if self._account not in (None, account):
            state.events.append(Forgotten(now, self._of_another()))
            state.forget_earlier(now)
        self._account = account

    def save(self, state: SchedulerState, now: float) -> None:
        """Keep what is to outlast the process; a fault of the disk is told once."""
        if self.due_at == INFINITY:
            return
        self.due_at = now + _EVERY
        kept = state.snapshot(now)
        if all(kept[name] == self._kept[name] for name in ("whole", "keys")):
            return  # whoever does nothing puts nothing in the place of what others have kept
        if self._alone and self._stamp() not in (None, self._seen):
            self._alone = False
            logger.warning(
                with_fix(
                    "%s is written by another scheduler too, and each forgets what the other used",
                    "a file for each of them, or shared= for limits that both keep to.",
                ),
                self.path,
            )
        try:
            self._write(kept)
            self._kept, self._seen = kept, self._stamp()
        except OSError as error:
            if not self._failed:
                self._failed = True
                logger.warning(
                    "%s cannot be written (%s): nothing is remembered", self.path, error.strerror
                )

    def _stamp(self) -> tuple[int, int] | None:
        """Which file is there: each that is written is another one."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _of_another(self) -> str:
        return f"what was remembered is of another account, and not used: {self.path}"

    def _read(self) -> tuple[Mapping[str, Any], str]:
        """What was kept, and what of it cannot be used ("" where all can)."""
        self._seen = self._stamp()
        try:
            with self.path.open("rb") as file:
                data = file.read(_MOST + 1)
        except FileNotFoundError:
            return {}, ""
        except OSError as error:
            return {}, f"what was remembered cannot be read ({error.strerror}): {self.path}"
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or "headway" not in found:
            return {}, f"what was remembered is damaged, and not used: {self.path}"
        if found["headway"] != _VERSION:
            return {}, (
                f"what was remembered is of another version of headway ({shown(found['headway'])}),"
                f" and not used: {self.path}"
            )
        account = found.get("account")
        if self._account is not None and account not in (None, self._account):
            return {}, self._of_another()
        if self._account is None and isinstance(account, str):
            self._account = account
        return found, ""

    def _write(self, kept: Mapping[str, Any]) -> None:
        """Keep `kept` in place of what was. Raises `OSError`."""
        text = json.dumps(
            {"headway": _VERSION, "account": self._account, **kept}, separators=(",", ":")
        )
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, self.path)  # mkstemp's mode is 0600
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
