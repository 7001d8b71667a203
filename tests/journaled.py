"""Rows as a run writes them, for tests of journals."""

from __future__ import annotations

import json
from pathlib import Path

from headway.bulk.output.journal import Journal
from headway.bulk.output.rows import Checks

__all__ = ["CHECKS", "HEADER", "numbers", "row", "write"]


HEADER = {"input": "f00d", "provider": ["p", "u"], "shape": {}, "shard": None, "lines": 100}


CHECKS = Checks(HEADER)


def row(number: int, code: str | None = None) -> bytes:
    error = None if code is None else {"code": code, "message": "m"}
    value = {"id": f"batch_req_{number}", "custom_id": "x", "response": None, "error": error}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def numbers(path: Path) -> list[int]:
    return [int(json.loads(line)["id"].split("_")[-1]) for line in path.read_bytes().splitlines()]


def write(journal: Journal, number: int, code: str | None = None) -> None:
    journal.start(number)
    journal.write(number, row(number, code), code)
