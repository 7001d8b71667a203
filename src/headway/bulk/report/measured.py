"""What a section is made from, and what it is made into."""

from __future__ import annotations

from dataclasses import dataclass

from headway.bulk.record.trace import Trace
from headway.bulk.report.axis import Axis
from headway.bulk.report.charts import Chart
from headway.bulk.report.failures import Failures
from headway.bulk.report.summary import Sums

__all__ = ["Content", "Measured"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A run as it was measured. `failures` is None where there is no error file; `redact` leaves
    out prompts, answers and whatever could quote them.
    """

    name: str
    trace: Trace
    failures: Failures | None
    sums: Sums
    axis: Axis
    redact: bool


@dataclass(frozen=True, slots=True)
class Content:
    """What a section says: values that its template writes. All text in them is plain text."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Its charts over time, whose values show under the pointer."""
        return ()
