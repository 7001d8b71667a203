"""What earlier runs measured, for the plan of the next."""

from __future__ import annotations

from pathlib import Path

from headway.bulk.journal import trace_file
from headway.bulk.output import InvalidOutput, default_output
from headway.bulk.record import read_trace
from headway.plan import Calibration

__all__ = ["calibration_of"]

_QUANTILES = 100


def calibration_of(source: str, run: str | None = None) -> Calibration:
    """What the run with the results `run` measured, or the one that the input `source` has had.

    Empty where there was none; raises `InvalidOutput` where `run` is given and is none.
    """
    trace = trace_file(Path(run) if run is not None else default_output(Path(source)))
    if not trace.is_file():
        if run is None:
            return Calibration()
        raise InvalidOutput(
            f"{run} is no run of which anything is known. Give the results of an earlier one"
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
