"""Bulk runs: a file of requests in, a file of answers out."""

import headway.together  # noqa: F401 - the first: it says what to install where the SDK is missing
from headway.bulk.lines import InvalidInput
from headway.bulk.output import InvalidOutput
from headway.bulk.run import Report, Stop, run

__all__ = ["InvalidInput", "InvalidOutput", "Report", "Stop", "run"]
