"""The report of a run: one HTML page, with everything in it, that works without a network.

It is drawn from the measurements in the run's folder and from the error rows beside the output.
The page holds what it says as text and SVG; its script only shows values under the pointer.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from headway.bulk.output.journal import run_folder, trace_file
from headway.bulk.output.paths import InvalidOutput, errors_file
from headway.bulk.output.table import results_in
from headway.bulk.record.trace import Trace, read_trace
from headway.bulk.report.failures import read_failures
from headway.bulk.report.recovered import make_whole
from headway.bulk.report.render import page
from headway.errors import InvalidArgument

__all__ = ["InvalidRun", "write_report"]

_OURS = b'<meta name="generator" content="headway report">'  # within the first 1,000 bytes


class InvalidRun(InvalidArgument):
    """A path that is no run: no report can be made of it."""


def write_report(run: Path, output: Path, *, redact: bool = False) -> None:
    """Write the report of `run`, a results file, a table of answers or a ``.run`` folder, to
    `output`.

    `redact` leaves out prompts and answers, and whatever could quote them: bodies, messages and
    custom ids. An earlier report at `output` is replaced.

    Raises `InvalidRun` where there is no run, `headway.bulk.InvalidOutput` where `output` cannot
    be written or holds something that is no report.
    """
    folder = _folder(run)
    try:
        measured = trace_file(folder)
        trace = read_trace(measured) if measured.exists() else Trace()
        errors = errors_file(folder.with_suffix(""))
        make_whole(trace, _results(folder))
        failures = read_failures(errors, redact=redact) if errors.exists() else None
    except OSError as error:
        raise InvalidRun(
            f"cannot read {error.filename}: {error.strerror}",
            fix="make it readable, then try again",
        ) from None
    zone = datetime.now().astimezone().utcoffset() or timedelta()
    text = page(_name(trace) or folder.stem, trace, failures, redact=redact, zone=timezone(zone))
    _write(output, text.encode("utf-8", "replace"))


def _results(folder: Path) -> Path | None:
    """Where the rows of the run are, None where they are nowhere."""
    named = folder.with_suffix("")
    for path in (folder / "rows", named.with_name(f"{named.name}.jsonl"), named):
        if path.is_file():
            return path
    return None


def _folder(run: Path) -> Path:
    if run.suffix == ".run" and run.is_dir():
        return run
    folder = run_folder(results_in(run))
    if folder.is_dir():
        return folder
    if not run.exists():
        raise InvalidRun(
            f"{run} does not exist",
            fix="give the results file of a run, like requests.results.jsonl",
        )
    raise InvalidRun(
        f"{run} has no measurements beside it: there is no folder {folder.name}",
        fix="give the results file of a `headway run`, where it was written",
    )


def _name(trace: Trace) -> str:
    """The name of the input, without its folders."""
    named = trace.sessions[-1].info.input if trace.sessions else ""
    return "" if named == "-" else named.replace("\\", "/").rsplit("/", 1)[-1]


def _write(output: Path, data: bytes) -> None:
    """Put `data` at `output` in one step: never by halves, and for its user alone to read."""
    try:
        if output.exists() and not (output.is_char_device() or output.is_fifo()):
            if output.is_dir():
                raise InvalidOutput(f"{output} is a folder", fix="give a file with -o")
            with output.open("rb") as file:
                start = file.read(1000)
            if start and _OURS not in start:
                raise InvalidOutput(
                    f"{output} exists already and is no report, so it is not replaced",
                    fix="give another file with -o, like report.html",
                )
        elif output.exists():
            output.write_bytes(data)
            return
        fd, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name[:50]}.")
        try:
            with open(fd, "wb") as file:
                file.write(data)
            os.replace(name, output)
        except BaseException:
            os.unlink(name)
            raise
    except FileNotFoundError:
        raise InvalidOutput(
            f"cannot write {output}: the folder {output.parent} does not exist",
            fix=f"make it first: mkdir -p {shlex.quote(str(output.parent))}",
        ) from None
    except OSError as error:
        raise InvalidOutput(
            f"cannot write {output}: {error.strerror}", fix="give another file with -o"
        ) from None
