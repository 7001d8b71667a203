"""What earlier runs measured, for the plan of the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headway.bulk.output.journal import trace_file
from headway.bulk.output.paths import InvalidOutput, default_output
from headway.bulk.output.table import results_in
from headway.bulk.record.trace import read_trace

__all__ = ["Calibration", "Use", "calibration_of"]

_QUANTILES = 100


@dataclass(frozen=True, slots=True)
class Use:
    """What the requests of one model turned out to use, summed."""

    rows: float
    size: float  # bytes of their bodies
    input: float
    output: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What earlier runs used: `models` by name, and the seconds that calls took, ascending."""

    models: Mapping[str, Use] = field(default_factory=dict)
    latency: tuple[float, ...] = ()

    @classmethod
    def from_models(
        cls, models: Mapping[str, Mapping[str, float]], latency: Sequence[float] = ()
    ) -> Calibration:
        """From sums by model (``rows``, ``bytes``, ``input`` and ``output`` tokens) and samples, or
        evenly spaced quantiles, of the seconds that calls took. What counts no rows says nothing.
        """
        uses = {
            model: Use(*(float(sums.get(key, 0.0)) for key in ("rows", "bytes", "input", "output")))
            for model, sums in models.items()
        }
        known = {name: use for name, use in uses.items() if use.rows > 0 and use.size > 0}
        return cls(known, tuple(sorted(one for one in latency if 0 <= one < float("inf"))))


def calibration_of(source: str, run: str | None = None) -> Calibration:
    """What the run with the results `run` measured, or the one that the input `source` has had.

    Empty where there was none; raises `InvalidOutput` where `run` is given and is none.
    """
    trace = trace_file(default_output(Path(source)) if run is None else results_in(Path(run)))
    if not trace.is_file():
        if run is None:
            return Calibration()
        raise InvalidOutput(
            f"{run} is no run of which anything is known", fix="give the results of an earlier one"
        )
    found = read_trace(trace)
    latency = found.latency
    at = [(i + 0.5) / _QUANTILES for i in range(_QUANTILES)]
    quantiles = [value for q in at if (value := latency.percentile(q)) is not None]
    return Calibration.from_models(
        {
            name: {"rows": use.rows, "bytes": use.bytes, "input": use.input, "output": use.output}
            for name, use in found.models.items()
        },
        quantiles,
    )
