"""Bulk runs: a file of requests in, a file of answers out."""

from headway import _show_under
from headway.errors import MissingExtra

try:
    from headway.bulk.input.check import Check, check
    from headway.bulk.input.formats import BadLine, Request
    from headway.bulk.input.lines import InvalidInput
    from headway.bulk.input.source import Shape, Shard, Source, open_source
    from headway.bulk.options import RunOptions
    from headway.bulk.output.paths import InvalidOutput
    from headway.bulk.record.status import Progress, Stop
    from headway.bulk.run import run
    from headway.prices import InvalidPrices, Prices
    from headway.providers import PROVIDERS, Endpoint, InvalidSettings, find_endpoint
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] == "headway":
        raise
    raise MissingExtra(
        f"bulk runs, and headway.rows, need {error.name}, which is not installed",
        fix="install it with: pip install 'headway[cli]'",
    ) from error

__all__ = [
    "PROVIDERS",
    "BadLine",
    "Check",
    "Endpoint",
    "InvalidInput",
    "InvalidOutput",
    "InvalidPrices",
    "InvalidSettings",
    "Prices",
    "Progress",
    "Request",
    "RunOptions",
    "Shape",
    "Shard",
    "Source",
    "Stop",
    "check",
    "find_endpoint",
    "open_source",
    "run",
]  # fmt: skip

_show_under(
    __name__, (BadLine, Check, InvalidInput, InvalidOutput, Progress, Request, RunOptions, Shape,
               Shard, Source, Stop)
)  # fmt: skip
