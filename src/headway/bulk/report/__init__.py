"""The report of a run: one HTML page, with everything in it, that works without a network."""

from headway.bulk.report.page import InvalidRun, write_report

__all__ = ["InvalidRun", "write_report"]
