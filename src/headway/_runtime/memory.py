"""What a scheduler keeps between runs, in a file: what is used of quotas, and what was learned.

One JSON object, written whole and put in the place of the older one: a reader never finds half of
it. Whoever kills the process loses what the last seconds added.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headway._words import shown
from headway.errors import InvalidArgument

__all__ = ["EVERY", "Memory"]

EVERY = 1.0
"""Seconds between two writes while something happens."""

_VERSION = 1
_MOST = 64 * 1024 * 1024  # bytes: no scheduler remembers more


class Memory:
    """The file at `path`. `account` is a hash of whose limits they are, None for not known yet.

    Raises `InvalidArgument` for what is no path, or where no file can be written.
    """

    def __init__(self, path: object, account: str | None = None) -> None:
        if not isinstance(path, str | os.PathLike) or isinstance(path, bytes) or not str(path):
            raise InvalidArgument(
                f"memory={shown(path)} is no path of a file",
                fix='memory="headway.json", or leave it out to remember nothing.',
            )
        self.path = Path(os.fspath(path)).absolute()
        self.account = account
        folder = self.path.parent
        other = self.path.exists() and not self.path.is_file()
        if other or not folder.is_dir() or not os.access(folder, os.W_OK):
            why = "it is no file" if other else "its folder cannot be written to"
            raise InvalidArgument(
                f"memory={shown(str(path))} cannot be kept: {why}",
                fix="name a file in a folder of yours.",
            )

    @property
    def exists(self) -> bool:
        """Whether anything was kept."""
        return self.path.exists()

    def read(self) -> tuple[Mapping[str, Any], str]:
        """What was kept, and what of it cannot be used ("" where all can)."""
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
        if self.account is not None and account not in (None, self.account):
            return {}, f"what was remembered is of another account, and not used: {self.path}"
        if self.account is None and isinstance(account, str):
            self.account = account
        return found, ""

    def write(self, kept: Mapping[str, Any]) -> None:
        """Keep `kept` in place of what was. Raises `OSError`."""
        text = json.dumps(
            {"headway": _VERSION, "account": self.account, **kept}, separators=(",", ":")
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
