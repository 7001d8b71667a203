"""Statuses as a watched scheduler gives them, with minutes of history, and a folder of sockets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headway import Limits, Scheduler
from headway.hooks.watch.history import Moment


@contextmanager
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The one folder of sockets that there is meanwhile; its path is short, as sockets need it."""
    with tempfile.TemporaryDirectory(prefix="hw") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        monkeypatch.setenv("XDG_STATE_HOME", f"{short}/state")
        monkeypatch.setenv("TMPDIR", f"{short}/tmp")
        monkeypatch.setattr(tempfile, "tempdir", None)
        Path(short, "tmp").mkdir()
        yield Path(short, "headway")


def a_status(**figures: Any) -> dict[str, Any]:
    """That of a scheduler at work, with `figures` in the place of some of its statistics."""
    scheduler = Scheduler("600/min", tokens="180k/min", concurrency=32,
                          keys={"embed": Limits(concurrency=4)})  # fmt: skip
    for key in ("chat", "embed"):
        scheduler._shell.state.flow(key)
    statistics = scheduler.statistics().as_dict()
    statistics |= {
        "queued": 1234, "delayed": 2, "in_flight": 8, "sent": 5000, "succeeded": 4900, "failed": 3,
        "timed_out": 1, "retried": 60, "refused": {"rate": 7, "transient": 2}, "tokens": 1.25e6,
        "input_tokens": 1_000_000.0, "output_tokens": 250_000.0, "binds": "requests",
        "seconds": 0.08, "why": "set_limits() was called",
    }  # fmt: skip
    return {
        "name": "worker.py", "pid": 1234, "seconds": 720.0, "blocked": None,
        "limits": {"requests": ["600/min"], "tokens": ["180k/min"], "input_tokens": [],
                   "output_tokens": [], "concurrency": 32},
        "figures": {"cost": 1.5, "done": 40, "total": 160, "eta": 300.0},
        "statistics": statistics | figures,
    }  # fmt: skip


def minutes(count: int = 120) -> list[Moment]:
    """A moment a second: ten a second are sent, one of which is refused every ten seconds."""
    return [
        Moment(second, 10 * second, 9 * second, second // 10, 8, 1234, 2000.0 * second, second / 80)
        for second in range(count)
    ]
