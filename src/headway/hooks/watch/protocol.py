"""What passes over the socket: one line of JSON each way, which says its version.

A request is ``{"version": 1, "do": "status"}`` with what it needs beside it, a reply has the
version and the `headway` of who gives it, and what was asked for or an `error` with its `fix`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from headway.errors import HeadwayError
from headway.kinds._words import printable

__all__ = [
    "CHANGES", "LIMITS", "MOST_REPLY", "MOST_REQUEST", "VERSION", "error", "line", "program",
    "raise_error", "read",
]  # fmt: skip

VERSION = 1

MOST_REQUEST = 64 * 1024  # bytes
MOST_REPLY = 16 * 1024 * 1024

CHANGES = ("pause", "resume", "set", "drain", "clear")
"""What may be asked for beside ``status``."""

LIMITS = ("requests", "tokens", "input_tokens", "output_tokens", "concurrency")
"""What a ``set`` may name, and a status says."""


@cache
def program() -> str:
    """The version of headway that this process runs."""
    return version("headway")


def line(message: Mapping[str, Any]) -> bytes:
    """`message` as a line."""
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def read(data: bytes) -> dict[str, Any]:
    """The message in a line. Raises `ValueError` for what is none."""
    try:
        message = json.loads(data)
    except RecursionError:  # brackets by the thousand
        raise ValueError("nested too deep") from None
    if not isinstance(message, dict):
        raise ValueError("no object")
    return message


def error(what: str, fix: str = "") -> dict[str, Any]:
    """A reply, or a part of one, that says what went wrong."""
    return {"error": {"what": what, "fix": fix}}


def raise_error(reply: Mapping[str, Any]) -> None:
    """Raise `HeadwayError` where `reply` says what went wrong."""
    found = reply.get("error")
    if isinstance(found, Mapping):
        what, fix = (printable(str(found.get(name, ""))) for name in ("what", "fix"))
        raise HeadwayError(what, fix=fix)
