"""Resident memory of this process, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

MEBI, KIBI = 2**20, 2**10


def resident() -> int:
    """Bytes, now."""
    return _status("VmRSS")


def peak() -> int:
    """Bytes, the most since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Let `peak` count from here."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * KIBI
    raise LookupError(field)
