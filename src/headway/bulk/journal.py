"""The memory of a run: which rows are done, and which were sent and may have been billed.

The rows themselves say what is done: a row counts from the moment its one write returns. Beside
them, in the run's folder, stands the journal: a header (what was run: the input's fingerprint, and
the options that change the answers) and a start mark of eight bytes for each row that is sent. A
row with a mark and no answer was in flight when the process was killed.

A killed process leaves at most a torn last row and a torn last mark; both are cut at the next
start. The failed rows stand a second time in a file of their own, made anew at each start.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headway.bulk.bitmap import Bitmap
from headway.bulk.output import ANSWERED, AppendFile, InvalidOutput, cannot_write, errors_file
from headway.errors import MissingExtra

try:
    from filelock import FileLock, Timeout
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "bulk runs lock their output with filelock, which is not installed. "
        "Install it with: pip install 'headway[cli]'"
    ) from error

__all__ = ["Journal", "journal_header", "row_number", "run_folder", "trace_file"]

_VERSION = 1
_ROW = re.compile(rb'\{"id":"batch_req_(\d{1,18})",')
_MARK = 8  # bytes: the number of a row, little-endian
_TAKEN_BACK = 1 << 63  # added to the number of a row that was refused
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


def run_folder(output: Path) -> Path:
    """The folder in which a run keeps what it must remember, beside its output."""
    return output.with_name(f"{output.name.removesuffix('.jsonl')}.run")


def journal_header(output: Path) -> Mapping[str, Any] | None:
    """What the run of `output` was begun with; None where it has no journal."""
    return _read_header(run_folder(output) / "journal")


def row_number(row: bytes) -> int | None:
    """The number of the line whose row this is; None for what is no row."""
    found = _ROW.match(row)
    return None if found is None else int(found[1])


def trace_file(run: Path) -> Path:
    """Where the measurements of a run are, given its results or its folder."""
    return (run if run.is_dir() else run_folder(run)) / "trace.jsonl"


class Journal:
    """The rows of one run, and what is known of them. Use it as a context manager.

    `header` maps what may not change between a run and its resumption. Raises `InvalidOutput`
    where the output belongs to something else, another process is at work on it, or it cannot be
    written; nothing is changed then.
    """

    def __init__(
        self,
        output: Path,
        header: Mapping[str, Any],
        *,
        ordered: bool = False,
        overwrite: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self.output = output
        self.folder = run_folder(output)
        self.done = Bitmap()
        self.ambiguous = Bitmap()
        self.failed: Counter[str] = Counter()
        self._failed_rows = Bitmap()
        self._marked = Bitmap()
        self._rows_path = self.folder / "rows" if ordered else output
        self._offsets = array("Q") if ordered else None
        self._header = {**header, "ordered": ordered}
        self._errors: AppendFile | None = None
        self._before: Path | None = None  # what is to be replaced, until the first row is there
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = self._acquire()
            try:
                self._open(overwrite, retry_failed)
            except BaseException:
                if overwrite:
                    self._bring_back()
                self._lock.release()
                raise
        except OSError as error:
            if not (self.folder / "journal").exists():
                raise cannot_write(Path(error.filename or output), error) from None
            raise InvalidOutput(
                f"cannot write {error.filename or output}: {error.strerror}. Correct that, and run "
                "the same command again: another output would send, and bill, everything anew"
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
        if self._before is not None:
            shutil.rmtree(self._before)
            self._before = None
        if self._offsets is not None:
            self._note(number, self._rows.size)
        self._rows.write(row)
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

    def sync(self) -> None:
        """Bring everything to the disk; blocks for some milliseconds."""
        for file in (self._marks, self._rows, self._errors):
            if file is not None:
                file.sync()

    def arrange(self) -> None:
        """Write the output in the order of the input, from the rows as they came (--ordered)."""
        if self._offsets is None:
            return
        draft = self.folder / "draft"
        with self._rows_path.open("rb") as rows, draft.open("wb") as ordered:
            for offset in self._offsets:
                if offset:
                    rows.seek(offset - 1)
                    ordered.write(rows.readline())
            ordered.flush()
            os.fsync(ordered.fileno())
        draft.replace(self.output)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in (self._marks, self._rows, self._errors):
            if file is not None:
                file.close()
        # An empty shard is one that headway merge must find.
        empty = not self.resumed and self._header.get("shard") is None
        if empty:  # so that the next try does not find it in its way
            for path in self._files():
                path.unlink(missing_ok=True)
            self._bring_back()
        self._lock.release()
        if empty:
            with contextlib.suppress(OSError):  # another process may be here by now
                if [path.name for path in self.folder.iterdir()] == ["lock"]:
                    (self.folder / "lock").unlink()
                    self.folder.rmdir()

    # Opening

    def _acquire(self) -> FileLock:
        # Taken in a worker thread, released in the event loop's.
        lock = FileLock(self.folder / "lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise InvalidOutput(
                f"another process is at work on {self.output}. Wait for its end, or give another "
                "file with -o"
            ) from None
        return lock

    def _open(self, overwrite: bool, retry_failed: bool) -> None:
        path = self.folder / "journal"
        self._resolve_before()
        if overwrite:
            self._set_aside()
        told = _read_header(path)
        if told is not None:
            rows = self.folder / "rows" if told.get("ordered") else self.output
            if not rows.exists():  # somebody wants to begin anew
                path.unlink()
                told = None
        if told is None:
            if self.output.exists() and self.output.stat().st_size:
                raise InvalidOutput(
                    f"{self.output} exists already, and no run that could be resumed has left it. "
                    "Give another file with -o, or replace it with --overwrite"
                )
            _write_header(path, self._header)
        else:
            self._check(told)
        self._read_marks(path)
        with contextlib.suppress(FileNotFoundError):
            self._read_rows()
        self._forget_marks(path)
        if retry_failed and self._failed_rows.count:
            self._drop_failed()
        self._marks = AppendFile(path)
        self._rows = AppendFile(self._rows_path)
        self._make_errors()

    def _check(self, told: Mapping[str, Any]) -> None:
        """Raise `InvalidOutput` where the run before was another one."""
        if "version" not in told:
            raise InvalidOutput(
                f"the journal of {self.output}, {self.folder / 'journal'}, is damaged, so that it "
                "cannot be told whether this is the same run. Restore it from a copy, or begin "
                "anew with --overwrite: the rows that are there are whole"
            )
        if told.get("version") != _VERSION:
            raise InvalidOutput(
                f"{self.output} was begun by another version of headway, whose journal this one "
                "cannot read. Finish it with that version, or begin anew with --overwrite"
            )
        for name, called in _CALLED.items():
            if told.get(name) != self._header.get(name):
                raise InvalidOutput(
                    f"{self.output} cannot be resumed: {called} since it was begun. Run it as it "
                    "was, give another file with -o, or begin anew with --overwrite"
                )

    def _read_marks(self, path: Path) -> None:
        with path.open("r+b") as file:
            file.readline()
            while data := file.read(_COPY):
                whole = len(data) // _MARK
                self._take_marks(struct.unpack_from(f"<{whole}Q", data))
                if torn := len(data) % _MARK:
                    file.truncate(file.tell() - torn)

    def _take_marks(self, marks: Sequence[int]) -> None:
        began = 0
        for at, mark in enumerate(marks):
            if mark >= _TAKEN_BACK:
                self._marked.update(marks[began:at])
                self._marked.discard(mark ^ _TAKEN_BACK)
                began = at + 1
        self._marked.update(marks[began:])

    def _read_rows(self) -> None:
        """Learn from the rows that are there what is done; cut a torn last one off."""
        offset, answered = 0, list[int]()
        with self._rows_path.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(offset)
                    break
                found = _ROW.match(line)  # not by `row_number`: for a million rows it counts
                if found is None:
                    raise InvalidOutput(
                        f"{self._rows_path} holds a line that no run has written, after "
                        f"{offset:,} bytes. Give another file with -o, or begin anew with "
                        "--overwrite"
                    )
                number = int(found[1])
                if line.endswith(ANSWERED):
                    answered.append(number)
                    if len(answered) == _TOGETHER:
                        self.done.update(answered)
                        answered.clear()
                elif self._failed_rows.add(number):
                    self.failed[_code_of(line)] += 1
                if self._offsets is not None:
                    self._note(number, offset)
                offset += len(line)
        self.done.update(answered)

    def _forget_marks(self, path: Path) -> None:
        """Keep the marks of those rows alone that were in flight when the run was killed."""
        kept = self.ambiguous = self._marked - self.done - self._failed_rows
        draft = self.folder / "draft"
        _write_header(draft, self._header)
        with draft.open("ab") as file:
            file.writelines(number.to_bytes(_MARK, "little") for number in kept)
        draft.replace(path)

    def _drop_failed(self) -> None:
        """Take the failed rows out of the output: they are to be sent again."""
        draft = self.folder / "draft"
        with self._rows_path.open("rb") as rows, draft.open("wb") as kept:
            offset = 0
            for line in rows:
                if line.endswith(ANSWERED):
                    kept.write(line)
                    if self._offsets is not None:
                        self._note(row_number(line) or 0, offset)
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
        path = errors_file(self.output)
        path.unlink(missing_ok=True)
        if self._failed_rows.count:
            with self._rows_path.open("rb") as rows:
                for line in rows:
                    if not line.endswith(ANSWERED):
                        self._write_error(line)

    def _write_error(self, row: bytes) -> None:
        if self._errors is None:
            self._errors = AppendFile(errors_file(self.output))
        self._errors.write(row)

    def _note(self, number: int, offset: int) -> None:
        """Where the row of the line `number` begins, plus 1: 0 is a line without a row."""
        offsets = self._offsets
        assert offsets is not None
        if number >= len(offsets):
            offsets.frombytes(bytes(8 * max(number + 1 - len(offsets), len(offsets) >> 3, 1024)))
        offsets[number] = offset + 1

    def _files(self) -> list[Path]:
        """All that a run leaves, but for the lock, which is held."""
        inside = [path for path in self.folder.iterdir() if path.is_file()]
        files = [path for path in inside if path.name != "lock"]
        outside = [self.output, errors_file(self.output)]
        return files + [path for path in outside if path.exists()]

    def _set_aside(self) -> None:
        """Move the run before out of the way: it is lost once this one has a row."""
        self._before = self.folder / "before"
        self._before.mkdir()
        for path in self._files():
            path.replace(self._before / path.name)

    def _resolve_before(self) -> None:
        """What a killed --overwrite has left: it holds where nothing has replaced it."""
        rows = (self.output, self.folder / "rows")
        if any(path.exists() and path.stat().st_size for path in rows):
            shutil.rmtree(self.folder / "before", ignore_errors=True)
        else:
            self._bring_back()

    def _bring_back(self) -> None:
        before = self.folder / "before"
        if not before.is_dir():
            return
        outside = (self.output, errors_file(self.output))
        for path in before.iterdir():
            home = next((each for each in outside if each.name == path.name), None)
            path.replace(home or self.folder / path.name)
        before.rmdir()


def _read_header(path: Path) -> dict[str, Any] | None:
    """The header of the journal at `path`; None where there is none, or a torn one alone."""
    try:
        with path.open("rb") as file:
            line = file.readline(_COPY)
    except FileNotFoundError:
        return None
    if not line.endswith(b"\n"):
        return None
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    return header if isinstance(header, dict) else {}


def _write_header(path: Path, header: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        file.write(json.dumps({"version": _VERSION, **header}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _code_of(row: bytes) -> str:
    """The code of a failed row."""
    try:
        return str(json.loads(row)["error"]["code"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "unknown"
