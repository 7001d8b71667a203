"""The memory of a run: which rows are done, and which were sent and may have been billed.

The rows themselves say what is done: a row counts from the moment its one write returns, and for as
long as it is as it was written (`headway.bulk.output.rows`). Beside them, in the run's folder,
stands the journal: a header (what was run: the input's fingerprint, and the options that change the
answers) and marks of eight bytes. One is written before each send: a row with a mark and no answer
was in flight when the process was killed. The last one of a run that is done counts its rows.

A killed process leaves at most a torn last row and a torn last mark; both are cut at the next
start. Rows that were damaged, or stand there twice, are moved to a file of their own, with a
warning. The failed rows stand a second time in a file of their own, made anew at each start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headway.bulk.output.bitmap import Bitmap
from headway.bulk.output.header import read_header, write_header
from headway.bulk.output.lock import acquire
from headway.bulk.output.paths import (
    AppendFile,
    InvalidOutput,
    cannot_write,
    errors_file,
    fresh,
    open_own,
    run_folder,
)
from headway.bulk.output.replaced import Replaced
from headway.bulk.output.rows import Checks, decode, is_answered, is_foreign, is_torn
from headway.bulk.output.strangers import (
    check_place,
    holds_failed_rows,
    holds_rows,
    in_the_way,
    is_empty,
    is_own_folder,
    refuse_inputs,
)
from headway.kinds._words import counted

__all__ = ["Journal", "finished_rows", "journal_header", "run_folder", "trace_file"]

logger = logging.getLogger("headway")

_VERSION = 1
_MARK = 8  # bytes: the number of a row, little-endian
_TAKEN_BACK = 1 << 63  # added to the number of a row that was refused
_FINISHED = 1 << 62  # added to the number of rows of a run that is done
_MOST = 1 << 32  # a line's number, where the lines were not counted
_COPY = 1024 * 1024
_TOGETHER = 10_000  # row numbers

# What the header's entries are called where they differ from those of the present run.
_CALLED = {
    "input": "the input has changed",
    "provider": "the provider or its address is another",
    "shape": "the options that make requests (--endpoint, --model, --template, …) are others",
    "shard": "the shard is another",
    "ordered": "--ordered was given to one of them only",
}


def journal_header(output: Path) -> Mapping[str, Any] | None:
    """What the run of `output` was begun with; None where it has no journal."""
    return read_header(run_folder(output) / "journal")


def finished_rows(output: Path) -> int | None:
    """How many rows the run of `output` had when it was done; None where it was not, or goes on."""
    data = (run_folder(output) / "journal").read_bytes().partition(b"\n")[2]
    last = int.from_bytes(data[-_MARK:], "little") if len(data) % _MARK == 0 else 0
    return last ^ _FINISHED if _FINISHED <= last < _TAKEN_BACK else None


def trace_file(run: Path) -> Path:
    """Where the measurements of a run are, given its results or its folder."""
    return (run if run.is_dir() else run_folder(run)) / "trace.jsonl"


class Journal:
    """The rows of one run, and what is known of them. Use it as a context manager.

    `header` maps what may not change between a run and its resumption; `inputs` are files that the
    run reads. Raises `InvalidOutput` where the output, or what else the run writes, belongs to
    something else, another process is at work on it, or it cannot be written; nothing is changed
    then.
    """

    def __init__(
        self,
        output: Path,
        header: Mapping[str, Any],
        *,
        ordered: bool = False,
        overwrite: bool = False,
        retry_failed: bool = False,
        inputs: Sequence[Path] = (),
    ) -> None:
        self.output = output
        self.folder = run_folder(output)
        self.done = Bitmap()
        self.ambiguous = Bitmap()
        self.failed: Counter[str] = Counter()
        self._failed_rows = Bitmap()
        self._marked = Bitmap()
        # A link stays one: what it leads to is written.
        named = Path(os.path.realpath(output)) if output.is_symlink() else output
        self._rows_path = self.folder / "rows" if ordered else named
        self._offsets = array("Q") if ordered else None
        self._header = {**header, "ordered": ordered, "output": output.name}
        self._checks = Checks(header)
        self._earlier = Replaced(output, self.folder)
        self._finished = 0  # rows that there were when the run before was done
        self._made = not output.exists()
        try:
            check_place(output)
            if not is_own_folder(self.folder):
                raise in_the_way(self.folder, "the journal", output)
            refuse_inputs(inputs, self._earlier.written(), output)
            self.folder.mkdir(0o700, exist_ok=True)
            self._lock = acquire(self.folder / "lock", output)
            journal = (self.folder / "journal").exists()
            try:
                self._open(overwrite, retry_failed)
            except BaseException:
                if overwrite:
                    self._earlier.bring_back()
                self._lock.release()
                if not journal:
                    self._leave()
                raise
        except OSError as error:
            if not (self.folder / "journal").exists():
                raise cannot_write(Path(error.filename or output), error) from None
            raise InvalidOutput(
                f"cannot write {error.filename or output}: {error.strerror}",
                fix="correct that, and run "
                "the same command again: another output would send, and bill, everything anew",
            ) from None

    @property
    def resumed(self) -> bool:
        """Whether there was a run before."""
        return bool(self.done.count or self._failed_rows.count or self._marked.count)

    def __contains__(self, number: int) -> bool:
        """Whether the line `number` has its row."""
        return number in self.done or number in self._failed_rows

    def start(self, number: int) -> None:
        """Note that the line `number` is about to be sent."""
        if self._marked.add(number):
            self._marks.write(number.to_bytes(_MARK, "little"))

    def refused(self, number: int) -> None:
        """Note that the line `number` was refused: this attempt cannot have been billed."""
        if number in self._marked:
            self._marked.discard(number)
            self._marks.write((number | _TAKEN_BACK).to_bytes(_MARK, "little"))

    def write(self, number: int, row: bytes, code: str | None) -> None:
        """Write the row of the line `number`, which failed with `code` (None: it was answered)."""
        self._earlier.drop()
        row = self._checks.with_check(number, row)
        offset = self._rows.size
        self._rows.write(row)
        if self._offsets is not None:
            self._note(number, offset)
        if code is None:
            self.done.add(number)
        else:
            self._failed_rows.add(number)
            self.failed[code] += 1
            self._write_error(row)

    def lines(self) -> Iterator[bytes]:
        """The rows that are there."""
        with self._rows_path.open("rb") as file:
            yield from file

    def finish(self) -> None:
        """Note that every line has its row, and how many rows there are."""
        rows = self.done.count + self._failed_rows.count
        self._marks.write((_FINISHED | rows).to_bytes(_MARK, "little"))
        self._marks.sync()

    @property
    def dirty(self) -> bool:
        """Whether something was written since the last `sync`."""
        return self._rows.dirty or self._marks.dirty or self._errors.dirty

    def sync(self) -> None:
        """Bring everything to the disk; blocks for some milliseconds."""
        for file in (self._marks, self._rows, self._errors):
            file.sync()

    def arrange(self) -> None:
        """Write the output in the order of the input, from the rows as they came (--ordered)."""
        if self._offsets is None:
            return
        draft = self.folder / "rows.draft"
        with self._rows_path.open("rb") as rows, fresh(draft) as ordered:
            for offset in self._offsets:
                if offset:
                    rows.seek(offset - 1)
                    ordered.write(rows.readline())
            ordered.flush()
            os.fsync(ordered.fileno())
        draft.replace(os.path.realpath(self.output))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in (self._marks, self._rows, self._errors):
            file.close()
        if not self._errors.size:
            (self.folder / "errors.draft").unlink(missing_ok=True)
        # An empty shard is one that headway merge must find.
        empty = not self.resumed and self._header.get("shard") is None
        if empty:  # so that the next try does not find it in its way
            if self._made and is_empty(self.output):
                self.output.unlink(missing_ok=True)
            for _, path in self._earlier.files()[2:]:
                path.unlink(missing_ok=True)
            self._earlier.bring_back()
        self._lock.release()
        if empty:
            self._leave()

    def _leave(self) -> None:
        """Remove the folder where nothing but the lock is in it."""
        with contextlib.suppress(OSError):  # another process may be here by now
            if [path.name for path in self.folder.iterdir()] == ["lock"]:
                (self.folder / "lock").unlink()
                self.folder.rmdir()

    # Opening

    def _open(self, overwrite: bool, retry_failed: bool) -> None:
        path = self.folder / "journal"
        self._earlier.resolve()
        begun = read_header(path)
        self._refuse_strangers(begun, overwrite)
        if begun is not None and overwrite:
            self._earlier.set_aside()
            begun = None
        if begun is not None and begun.get("version") == _VERSION:
            rows = self.folder / "rows" if begun.get("ordered") else self.output
            if not rows.exists():  # somebody wants to begin anew
                self._remove_errors()
                begun = None
        if begun is None:
            self._write_journal(())
        else:
            self._check(begun)
        self._read_marks(path)
        with contextlib.suppress(FileNotFoundError):
            self._read_rows()
        # From here on the journal has the marks of those rows alone that were in flight.
        self.ambiguous = self._marked - self.done - self._failed_rows
        self._write_journal(self.ambiguous)
        if retry_failed and self._failed_rows.count:
            self._drop_failed()
        self._marks = AppendFile(path)
        self._rows = AppendFile(self._rows_path)
        if self._offsets is None:
            self._rows.path = self.output  # as its user calls it
        self._make_errors()

    def _refuse_strangers(self, begun: Mapping[str, Any] | None, overwrite: bool) -> None:
        """Raise `InvalidOutput` where the run that was `begun` has not left a file."""
        other = None if begun is None else begun.get("output")
        if other not in (None, self.output.name) and self.output.with_name(str(other)).exists():
            raise InvalidOutput(
                f"{self.folder} belongs to the run of {self.output.with_name(str(other))}",
                fix="give another file with -o",
            )
        readable = begun is not None and begun.get("version") == _VERSION
        checks = Checks(begun) if begun is not None and readable else None
        if (overwrite or begun is None or begun.get("ordered")) and not is_empty(self.output):
            if begun is None or not holds_rows(self.output, checks):
                raise InvalidOutput(
                    f"{self.output} exists already, and no run that could be resumed has left it",
                    fix="move it away, or give another file with -o",
                )
        elif overwrite and begun == {}:
            rows = self.folder / "rows"
            if not (rows.exists() and holds_rows(rows, None)):
                raise in_the_way(self.folder, "the journal", self.output)
        errors = errors_file(self.output)
        if not is_empty(errors) and (begun is None or not holds_failed_rows(errors, checks)):
            raise in_the_way(errors, "the file of the failed rows", self.output)

    def _check(self, begun: Mapping[str, Any]) -> None:
        """Raise `InvalidOutput` where the run before was another one."""
        if "version" not in begun:
            raise InvalidOutput(
                f"the journal of {self.output}, {self.folder / 'journal'}, is damaged, so that it "
                "cannot be known whether this is the same run",
                fix="restore it from a copy, or begin "
                "anew with --overwrite: the rows that are there are whole",
            )
        if begun.get("version") != _VERSION:
            raise InvalidOutput(
                f"{self.output} was begun by another version of headway, whose journal this one "
                "cannot read",
                fix="finish it with that version, or begin anew with --overwrite",
            )
        for name, called in _CALLED.items():
            if begun.get(name) != self._header.get(name):
                raise InvalidOutput(
                    f"{self.output} cannot be resumed: {called} since it was begun",
                    fix="run it as it "
                    "was, give another file with -o, or begin anew with --overwrite",
                )

    def _read_marks(self, path: Path) -> None:
        most = self._header.get("last") or _MOST
        damaged = 0
        with path.open("rb") as file:
            file.readline()
            while data := file.read(_COPY):
                marks = struct.unpack_from(f"<{len(data) // _MARK}Q", data)
                if marks and 0 < min(marks) <= max(marks) <= most:  # each comes once
                    before = self._marked.count
                    self._marked.update(marks)
                    damaged += len(marks) - (self._marked.count - before)
                    continue
                for mark in marks:
                    if 0 < mark <= most:
                        damaged += not self._marked.add(mark)
                    elif _FINISHED <= mark < _TAKEN_BACK:
                        self._finished = mark ^ _FINISHED
                    elif (number := mark ^ _TAKEN_BACK) in self._marked:
                        self._marked.discard(number)
                    else:
                        damaged += 1
        if damaged:
            logger.warning(
                "the journal of %s was damaged: %s of its marks mean nothing and are ignored. "
                "Lines in flight when a run was killed may be sent again, and billed, unseen",
                self.output, f"{damaged:,}",
            )  # fmt: skip

    def _read_rows(self) -> None:
        """Learn from the rows that are there what is done; cut a torn last one off."""
        whole, damaged, answered = 0, 0, list[int]()
        with self._rows_path.open("rb") as file:
            for number, offset, line in self._checks.rows(file):
                if number is None:
                    if is_torn(line):
                        os.truncate(self._rows_path, offset)
                    elif is_foreign(line):
                        raise InvalidOutput(
                            f"{self._rows_path} holds a line that no run has written, after "
                            f"{counted(offset, 'byte')}",
                            fix="take it out of the file, or give another file with -o",
                        )
                    else:
                        damaged += 1
                    continue
                whole += 1
                if is_answered(line):
                    answered.append(number)
                    if len(answered) == _TOGETHER:
                        self.done.update(answered)
                        answered.clear()
                elif self._failed_rows.add(number):
                    self.failed[_code_of(line)] += 1
                if self._offsets is not None:
                    self._note(number, offset)
        self.done.update(answered)
        if damaged > whole:
            raise InvalidOutput(
                f"{damaged:,} of the {damaged + whole:,} rows in {self._rows_path} are not as they "
                "were written: to send those lines again would bill them again",
                fix="restore the file from a copy, or give another one with -o",
            )
        different = self._failed_rows.count + (self.done - self._failed_rows).count
        if damaged or different < whole:
            self._repair(damaged, whole - different)
        elif different < self._finished:
            logger.warning(
                "%s of the %s rows of %s are gone: their lines are sent again",
                f"{self._finished - different:,}", f"{self._finished:,}", self.output,
            )  # fmt: skip

    def _repair(self, damaged: int, doubled: int) -> None:
        """Move what is no row, or comes twice, out of the rows, and read these anew."""
        aside, draft = self.folder / "damaged.jsonl", self.folder / "rows.draft"
        seen = Bitmap()
        add = os.fdopen(open_own(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")
        with add as moved, self._rows_path.open("rb") as rows, fresh(draft) as kept:
            for number, _, line in self._checks.rows(rows):
                (moved if number is None or not seen.add(number) else kept).write(line)
            for file in (moved, kept):
                file.flush()
                os.fsync(file.fileno())
        draft.replace(self._rows_path)
        logger.warning(
            "%s was damaged: %s of its rows are not as they were written, and %s come twice. They "
            "are kept in %s, and lines that have no other row are sent again",
            self.output, f"{damaged:,}", f"{doubled:,}", aside,
        )  # fmt: skip
        self.done, self._failed_rows = Bitmap(), Bitmap()
        self.failed.clear()
        if self._offsets is not None:
            self._offsets = array("Q")
        self._finished = 0
        self._read_rows()

    def _write_journal(self, marked: Iterable[int]) -> None:
        """The journal, with the marks of those rows alone, in one step."""
        draft = self.folder / "journal.draft"
        with fresh(draft) as file:
            write_header(file, self._header)
            file.writelines(number.to_bytes(_MARK, "little") for number in marked)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / "journal")

    def _drop_failed(self) -> None:
        """Take the failed rows out of the output: they are to be sent again."""
        draft = self.folder / "rows.draft"
        with self._rows_path.open("rb") as rows, fresh(draft) as kept:
            offset = 0
            for number, _, line in self._checks.rows(rows):
                if number is not None and number in self.done:
                    kept.write(line)
                    if self._offsets is not None:
                        self._note(number, offset)
                    offset += len(line)
            kept.flush()
            os.fsync(kept.fileno())
        if self._offsets is not None:
            for number in self._failed_rows:
                self._offsets[number] = 0
        draft.replace(self._rows_path)
        for number in self._failed_rows:
            self._marked.discard(number)
        self._failed_rows = Bitmap()
        self.failed.clear()

    def _make_errors(self) -> None:
        """The file of failed rows, as the rows have it now."""
        self._remove_errors()
        # Open from the start: once everything is in flight there may be no descriptor for it. It
        # gets its name with its first row.
        path = self.folder / "errors.draft"
        path.unlink(missing_ok=True)
        self._errors = AppendFile(path)
        if self._failed_rows.count:
            with self._rows_path.open("rb") as rows:
                for line in rows:
                    if not is_answered(line):
                        self._write_error(line)

    def _remove_errors(self) -> None:
        errors_file(self.output).unlink(missing_ok=True)  # looked at by `_refuse_strangers`

    def _write_error(self, row: bytes) -> None:
        first = not self._errors.size
        self._errors.write(row)
        if first:
            self._errors.path = errors_file(self.output)
            (self.folder / "errors.draft").replace(self._errors.path)

    def _note(self, number: int, offset: int) -> None:
        """Where the row of the line `number` begins, plus 1: 0 is a line without a row."""
        offsets = self._offsets
        assert offsets is not None
        if number >= len(offsets):
            offsets.frombytes(bytes(8 * max(number + 1 - len(offsets), len(offsets) >> 3, 1024)))
        offsets[number] = offset + 1


def _code_of(row: bytes) -> str:
    """The code of a failed row."""
    try:
        error = decode(row).error
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        error = None
    return error.code if error is not None else "unknown"
