"""What the names of a run's input and output mean, and its rows, which may have been begun."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from headway._runtime.memory import Memory
from headway.bulk.input.foreign import is_address, refuse_address
from headway.bulk.input.source import InvalidInput, Shard, Source
from headway.bulk.options import RunOptions
from headway.bulk.output.journal import Journal
from headway.bulk.output.paths import InvalidOutput, check_output, default_output, is_device
from headway.bulk.output.pipe import Pipe, Rows
from headway.bulk.output.table import check_table, is_table, rows_of
from headway.kinds._words import redacted
from headway.providers import Endpoint

__all__ = ["Paths", "memory_of", "open_rows", "paths_of"]


@dataclass(frozen=True, slots=True)
class Paths:
    """The input, or "-"; where the rows go, None for standard output; the folder for the copy of an
    input that can be read once only; and the table that is to hold the answers, if any.
    """

    source: str
    output: Path | None
    spool: Path | None
    table: Path | None = None


def paths_of(
    source: str | os.PathLike[str], output: str | os.PathLike[str] | None, shard: Shard | None
) -> Paths:
    """What those names mean. Raises `InvalidInput` and `InvalidOutput`."""
    name, target = os.fspath(source), None if output is None else os.fspath(output)
    if name == "":
        raise InvalidInput("the input's name is empty", fix="give the path of a file")
    if target == "":
        raise InvalidOutput("the output's name is empty", fix="give the path of a file with -o")
    refuse_address(name)
    if target is not None and is_address(target):
        raise InvalidOutput(
            f"the output {target} is an address, and no file of this machine",
            fix="give a file with -o, and copy it when the run is done",
        )
    if target is None and name.startswith(("/dev/fd/", "/proc/")):
        raise InvalidOutput(
            f"beside {name} is no place for the results", fix="give a file with -o, or -o -"
        )
    if name == "-" and target is None:
        target = "-"  # as any other filter
    if name == "-" and sys.stdin is None:
        raise InvalidInput(
            "standard input is closed", fix="give the path of a file, or pipe into it"
        )
    if target == "-":
        if sys.stdout is None:
            raise InvalidOutput("standard output is closed", fix="give the path of a file with -o")
        return Paths(name, None, None)
    part = None if shard is None else (shard.index, shard.count)
    path = default_output(Path(name), part) if target is None else Path(target)
    check_output(path, None if name == "-" else Path(name))
    table = None
    if is_table(path) and not is_device(path):
        if shard is not None:
            raise InvalidOutput(
                f"{path} would hold the answers of one shard alone",
                fix="give rows (.jsonl) with -o, then: headway merge, and headway export",
            )
        check_table(path)
        table, path = path, rows_of(path)
        check_output(path, None if name == "-" else Path(name))
    # A resumption reads standard input, or a pipe, anew: the copy is for this process alone, and
    # tells whether the input is still the same. A run to /dev/null keeps nothing either.
    streamed = name == "-" or Path(name).is_fifo()
    spool = path.parent if streamed and not is_device(path) else None
    return Paths(name, path, spool, table)


def open_rows(paths: Paths, lines: Source, endpoint: Endpoint, options: RunOptions) -> Rows:
    """Open the output and what was begun of it; blocks. Raises `InvalidOutput`, and `InvalidInput`
    where the lines name no models, and `endpoint` needs them.
    """
    if endpoint.names_models:
        lines.require_models()
    if paths.output is None:
        standard = Path("standard output")
        return Pipe(standard, sys.stdout.fileno(), ordered=options.ordered)
    if is_device(paths.output):
        return Pipe(paths.output, ordered=options.ordered)
    return Journal(
        paths.output,
        _header(lines, endpoint, options),
        ordered=options.ordered,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
        inputs=() if paths.source == "-" else (Path(paths.source),),
    )


def _header(lines: Source, endpoint: Endpoint, options: RunOptions) -> Mapping[str, object]:
    """What may not differ between a run and its resumption."""
    shape, shard = options.shape, options.shard
    return {
        "input": lines.fingerprint,
        "provider": [endpoint.provider, redacted(endpoint.base_url)],
        "shape": {**asdict(shape), "parameters": dict(shape.parameters)},
        "shard": None if shard is None else [shard.index, shard.count],
        "lines": lines.lines,
        "last": lines.last,
        "limit": options.limit,
    }


def memory_of(folder: Path, endpoint: Endpoint) -> Memory:
    """What a run remembers of the limits of its account: quotas outlast a session."""
    account = hashlib.blake2b(
        f"{endpoint.base_url}\n{endpoint.key}".encode(), digest_size=16
    ).hexdigest()
    return Memory(folder / "memory.json", account)
