"""What killed sessions had not measured yet, from the rows that they had written."""

from __future__ import annotations

from pathlib import Path

from headway.bulk.output.rows import is_row, spent_by
from headway.bulk.record.measures import ModelUse
from headway.bulk.record.trace import OTHER_MODELS, Trace

__all__ = ["make_whole"]


def make_whole(trace: Trace, results: Path | None) -> None:
    """Count in `trace` what its killed sessions have written to `results` and not measured: rows
    and tokens by model.

    A session had as many rows as the next one found. Raises `OSError`.
    """
    sessions = trace.sessions
    if not any(session.end is None for session in sessions):
        return
    rows, found = _read(results)
    reached = [
        session.info.already_done
        + sum(sample.done + sum(sample.failed.values()) for sample in session.samples)
        for session in sessions
    ]
    begun = [session.info.already_done for session in sessions[1:]]
    trace.rows = rows
    trace.unmeasured = lost = sum(
        max(0, after - before)
        for before, after in zip(reached, [*begun, max(rows, reached[-1])], strict=True)
    )
    if lost:
        _add(trace.models, found, lost)


def _read(results: Path | None) -> tuple[int, dict[str, ModelUse]]:
    """How many rows there are, and what they say of each model that answered."""
    found: dict[str, ModelUse] = {}
    if results is None:
        return 0, found
    rows = 0
    with results.open("rb") as file:
        for line in file:
            rows += is_row(line)
            for _, model, tokens in spent_by([line]):
                use = found.setdefault(model or "", ModelUse())
                use.rows += 1
                use.input += tokens.read or 0
                use.output += tokens.written or 0
    return rows, found


def _add(models: dict[str, ModelUse], found: dict[str, ModelUse], lost: int) -> None:
    """Add `lost` rows to `models`, which counts by the names that were asked for: those that the
    answers name are theirs, and what is left is the only model's, or nobody knows whose.
    """
    left = lost
    for name, use in found.items():
        known = models.get(name)
        if known is None or not (more := min(left, max(0, use.rows - known.rows))):
            continue
        left -= more
        known.rows += more
        known.input, known.output = max(known.input, use.input), max(known.output, use.output)
    if left:
        name = next(iter(models)) if len(models) == 1 else OTHER_MODELS
        models.setdefault(name, ModelUse()).rows += left
