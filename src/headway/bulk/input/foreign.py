"""What is no text, or no file of this machine, told by its first bytes or its name, with the
command that makes a file of requests of it.
"""

from __future__ import annotations

import codecs
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from headway.errors import InvalidArgument

__all__ = [
    "InvalidInput", "check_text", "is_address", "is_spread", "quoted", "refuse_address",
    "refuse_folder", "to_lines",
]  # fmt: skip


class InvalidInput(InvalidArgument):
    """An input file that cannot be a batch file at all: nothing of it was sent."""


_SAVE = "open it in the program that made it, and save it as CSV (UTF-8)"
_WRITE = "write it as CSV or JSONL first, with pandas or DuckDB"

# How a file starts, what it is, and the command that makes text of it: {} is the file's name.
_CONVERTED = (
    (codecs.BOM_UTF32_LE, "UTF-32", "iconv -f UTF-32 -t UTF-8 {}"),
    (codecs.BOM_UTF32_BE, "UTF-32", "iconv -f UTF-32 -t UTF-8 {}"),
    (codecs.BOM_UTF16_LE, "UTF-16", "iconv -f UTF-16 -t UTF-8 {}"),
    (codecs.BOM_UTF16_BE, "UTF-16", "iconv -f UTF-16 -t UTF-8 {}"),
    (b"\x1f\x8b", "compressed with gzip", "gunzip -c {}"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unzstd -c {}"),
    (b"BZh", "compressed with bzip2", "bzip2 -dc {}"),
    (b"\xfd7zXZ\x00", "compressed with xz", "xz -dc {}"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "lz4 -dc {}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x -so {}"),
    (b"SQLite format 3\x00", "an SQLite database", "sqlite3 -csv -header {} 'SELECT …'"),
)
# The same, with what to do where no command does it.
_WRITTEN = (
    (b"PAR1", "a Parquet file", _WRITE),
    (b"ARROW1", "an Arrow file", _WRITE),
    (b"FEA1", "an Arrow file", _WRITE),
    (b"ORC", "an ORC file", _WRITE),
    (b"Obj\x01", "an Avro file", _WRITE),
    (b"\x93NUMPY", "a NumPy array", _WRITE),
    (b"\x89HDF", "an HDF5 file", _WRITE),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel file", _SAVE),
    (b"%PDF-", "a PDF", _SAVE),
)
_ARROW_STREAM = b"\xff\xff\xff\xff"  # as Hugging Face's datasets are kept
_SHEETS = (
    b"xl/",
    b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
    b"[Content_Types].xml",
)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+)://")
_COPY = {
    "s3": "aws s3 cp {} .", "gs": "gcloud storage cp {} .", "http": "curl -LO {}",
    "https": "curl -LO {}",
}  # fmt: skip


def quoted(name: str) -> str:
    """`name` as a shell takes it."""
    return shlex.quote(name)


def check_text(head: bytes, name: str, *, table: bool = False) -> None:
    """Raise `InvalidInput` where a file that starts with `head` is no text, and say what it is."""
    to = f"> utf8.{'csv' if table else 'jsonl'}"
    if head.startswith(b"PK\x03\x04"):
        if any(sign in head[:4_096] for sign in _SHEETS):
            raise InvalidInput(f"{name} is a spreadsheet (XLSX or ODS), not UTF-8 text", fix=_SAVE)
        raise InvalidInput(
            f"{name} is a zip archive, not UTF-8 text",
            fix=f"convert it first: unzip -p {quoted(name)} {to}",
        )
    if head[257:262] == b"ustar":
        raise InvalidInput(
            f"{name} is a tar archive, not UTF-8 text",
            fix=f"convert it first: tar -xOf {quoted(name)} {to}",
        )
    if head.startswith(_ARROW_STREAM):
        raise InvalidInput(
            f"{name} is an Arrow stream, not UTF-8 text",
            fix=f"convert it first: {_by_datasets('Dataset.from_file', name)}",
        )
    for start, what, command in _CONVERTED:
        if head.startswith(start):
            written = "> utf8.csv" if "-csv" in command else to  # what sqlite3 writes is a table
            raise InvalidInput(
                f"{name} is {what}, not UTF-8 text",
                fix=f"convert it first: {command.format(quoted(name))} {written}",
            )
    for start, what, fix in _WRITTEN:
        if head.startswith(start):
            raise InvalidInput(f"{name} is {what}, not UTF-8 text", fix=fix)
    if b"\x00" in head[:4]:
        # Of letters and digits UTF-16 has one byte of 0 each, before or after the other.
        order = "BE" if head[:1] == b"\x00" else "LE"
        raise InvalidInput(
            f"{name} is binary, or UTF-16 without a byte order mark, not UTF-8 text",
            fix=f"convert it first: iconv -f UTF-16{order} -t UTF-8 {quoted(name)} {to}",
        )


def is_spread(head: bytes, first: bytes) -> bool:
    """Whether the JSON at the start of `head`, whose first line is `first`, goes on over lines."""
    if not first.lstrip().startswith(b"{"):
        return False
    try:
        msgspec.json.decode(first)
    except (msgspec.DecodeError, RecursionError):
        pass
    else:
        return False
    if first.strip() == b"{":
        return True
    text = head.removeprefix(codecs.BOM_UTF8).decode(errors="replace").lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return end > len(first.decode(errors="replace").strip())


# Requests in a form that is not theirs alone: what tells it, and the command that takes them out.
_WRAPPED = {
    "requests": "jq -c '.requests[]' {}",  # the body of a call to Anthropic's batches
    "modelInput": "jq -c '{{custom_id: .recordId, params: .modelInput | "
    "del(.anthropic_version)}}' {}",  # Bedrock's
}


def to_lines(names: Sequence[str], name: str) -> str:
    """How to make a file of requests of the file `name`, whose first object has those `names`; ""
    where that is not known.
    """
    command = next((_WRAPPED[each] for each in names if each in _WRAPPED), "")
    return f"take them out: {command.format(quoted(name))} > lines.jsonl" if command else ""


def refuse_folder(path: Path) -> NoReturn:
    """Raise `InvalidInput` for the folder `path`, which may be a dataset of Hugging Face's."""
    fix = "give the path of a file"
    if (path / "dataset_info.json").is_file():
        fix = f"convert it first: {_by_datasets('load_from_disk', str(path))}"
    elif (path / "dataset_dict.json").is_file():
        fix = "it holds several datasets: give one of them"
    raise InvalidInput(f"{path} is a folder", fix=fix)


def _by_datasets(opened: str, name: str) -> str:
    code = f"import datasets; datasets.{opened}({json.dumps(name)})"
    return "python -c " + quoted(f'{code}.to_json("lines.jsonl")')


def is_address(name: str) -> bool:
    """Whether `name` is an address, such as ``s3://bucket/file``."""
    return _ADDRESS.match(name) is not None


def refuse_address(name: str) -> None:
    """Raise `InvalidInput` where `name` is no file of this machine, but an address."""
    if (found := _ADDRESS.match(name)) is None:
        return
    scheme = found[1].lower()
    if scheme == "file":
        fix = f"give its path: {quoted(name.removeprefix('file://'))}"
    elif scheme in _COPY:
        fix = f"copy it first: {_COPY[scheme].format(quoted(name))}"
    else:
        fix = "copy it to this machine first, and give the path of the copy"
    raise InvalidInput(f"{name} is an address, and no file of this machine", fix=fix)
