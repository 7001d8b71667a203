"""Bulk runs: a file of requests in, a file of answers out."""

from headway.bulk.check import Check, check
from headway.bulk.lines import InvalidInput
from headway.bulk.output import InvalidOutput
from headway.bulk.run import run
from headway.bulk.source import Shape, Shard, Source, open_source
from headway.bulk.status import Report, Stop
from headway.providers import PROVIDERS, Endpoint, InvalidSettings, find_endpoint

__all__ = [
    "PROVIDERS", "Check", "Endpoint", "InvalidInput", "InvalidOutput", "InvalidSettings", "Report",
    "Shape", "Shard", "Source", "Stop", "check", "find_endpoint", "open_source", "run",
]  # fmt: skip
