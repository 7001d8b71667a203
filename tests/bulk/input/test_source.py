"""Inputs of every kind, opened, measured and read; each error pinned by its text."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from depth import depth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.bulk.input.check import Check, check
from headway.bulk.input.formats import BadLine, Request
from headway.bulk.input.lines import MAX_LINE, InvalidInput
from headway.bulk.input.source import Shape, Shard, Source, open_source

SHARED_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=depth(20, 500),
)


def batch(*ids: str, **body: Any) -> bytes:
    return b"".join(
        json.dumps({"custom_id": i, "body": {"model": "m", "messages": [], **body}}).encode()
        + b"\n"
        for i in ids
    )


def nothing(number: int) -> bool:
    return False


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def ids_in(source: Source, skip: Callable[[int], bool] = nothing) -> list[tuple[int, str | None]]:
    return [(r.line, r.custom_id) for r in source.requests(skip)]


def read(path: Any, shape: Shape | None = None, **options: Any) -> list[Request | BadLine]:
    source = open_source(path, shape or Shape(), **options)
    try:
        return list(source.requests(nothing))
    finally:
        source.close()


def refusal(path: Any, shape: Shape | None = None, **options: Any) -> str:
    with pytest.raises(InvalidInput) as raised:
        read(path, shape, **options)
    return str(raised.value)


# -- what is read ------------------------------------------------------------------------------


def frames(*parts: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in parts)


@pytest.mark.parametrize(
    ("name", "store"),
    [
        ("in.jsonl", bytes),
        ("in.jsonl", lambda data: b"\xef\xbb\xbf" + data),
        ("in.jsonl.gz", gzip.compress),
        ("in.jsonl.gz", lambda data: gzip.compress(data[:70]) + gzip.compress(data[70:])),
        ("in.jsonl.zst", frames),
        ("in.jsonl.zst", lambda data: frames(data[:70], b"", data[70:])),
    ],
)
@pytest.mark.parametrize("through", ["file", "stream", "spool", "pipe"])
def test_a_file_is_read_however_it_is_stored(
    name: str, store: Callable[[bytes], bytes], through: str, tmp_path: Path
) -> None:
    stored = store(batch("a", "b") + b"\n  \r\n" + batch("c").rstrip())
    path = write(tmp_path / name, stored)
    feeder = None
    given_to: Any = path
    if through == "pipe":
        given_to = tmp_path / "pipe"
        os.mkfifo(given_to)
        feeder = threading.Thread(target=given_to.write_bytes, args=(stored,))
        feeder.start()
    elif through != "file":
        given_to = io.BytesIO(stored)
    spool = tmp_path if through == "spool" else None
    source = open_source(given_to, Shape(), spool=spool)
    assert (source.lines, source.size) == (
        (5, len(stored)) if through in ("file", "spool") else (None, 0)
    )
    assert ids_in(source) == [(1, "a"), (2, "b"), (5, "c")]
    if through in ("file", "spool"):
        assert source.lines == 3  # known once it was read
        assert ids_in(source) == [(1, "a"), (2, "b"), (5, "c")]
    else:
        with pytest.raises(InvalidInput, match="is a stream and was read already"):
            ids_in(source)
    source.close()
    if feeder is not None:
        feeder.join()


def test_skipped_lines_count_for_duplicates_unless_ids_are_trusted(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", batch("a", "b") + b"{oops\n" + batch("a"))
    source = open_source(path, Shape())
    (last,) = source.requests(lambda number: number < 4)
    assert isinstance(last, BadLine)
    assert (last.line, last.code) == (4, "duplicate_custom_id")
    source.close()
    source = open_source(path, Shape(), trust_ids=True)
    assert ids_in(source, lambda number: number < 4) == [(4, "a")]
    source.close()


def test_a_limit_counts_lines_that_are_not_blank(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", batch("a") + b"\n" + batch("b", "c"))
    source = open_source(path, Shape(), limit=2)
    assert source.lines == 2
    assert ids_in(source) == [(1, "a"), (3, "b")]
    assert ids_in(source, lambda number: number == 1) == [(3, "b")]
    source.close()
    assert (
        refusal(path, limit=0) == "a limit of 0 lines leaves nothing. Fix: give --limit 1 or more"
    )


def test_the_plain_form_takes_its_model_and_endpoint_from_the_options(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", b'{"prompt":"x"}\n\n{"custom_id":"a","body":{}}\n')
    first, other = read(path, Shape(endpoint="images", model="flux"))
    body = b'{"model":"flux","prompt":"x"}'
    assert first == Request(1, "1", "/v1/images/generations", body, 0, "flux")
    assert other == Request(3, "a", "/v1/images/generations", b'{"model":"flux"}', 0, "flux")
    path = write(path, b'{"prompt":"x"}\n{"custom_id":"a","prompt":"x"}\n')
    _, other = read(path, Shape())
    assert other == BadLine(
        2,
        None,
        "missing_body",
        'line 2 has a custom_id beside the members of its body. Put those into "body": {…}',
    )


# -- shards, growth and fingerprints -----------------------------------------------------------

LINE = st.sampled_from([b"", b"  ", b'{"input":"x"}', b'{"input":"longer \xc3\xa9"}', b"{oops"])
FILES = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\r\n"])), max_size=12),
    st.sampled_from([b"", b'{"input":"last"}']),
).map(lambda parts: parts[0] + b'{"input":0}\n' + b"".join(a + b for a, b in parts[1]) + parts[2])


@SHARED_FOLDER
@given(data=FILES, count=st.integers(1, 40))
def test_shards_hold_each_line_once(tmp_path: Path, data: bytes, count: int) -> None:
    path = write(tmp_path / "in.jsonl", data)
    whole = read(path)
    parts = [open_source(path, Shape(), shard=Shard(i, count)) for i in range(count)]
    raw = data.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    assert sum(part.lines or 0 for part in parts) == len(raw)
    assert [r for part in parts for r in part.requests(nothing)] == whole
    assert [r.line for r in whole] == [n for n, text in enumerate(raw, 1) if text.strip()]
    for part in parts:
        part.close()


@SHARED_FOLDER
@given(data=st.binary(min_size=1, max_size=80), at=st.integers(0), edit=st.integers(0, 2))
def test_any_edit_changes_the_fingerprint(tmp_path: Path, data: bytes, at: int, edit: int) -> None:
    data = b"{}" + data
    at %= len(data)
    other = [
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
        data[:at] + data[at + 1 :] + b"\n",
        data + b"\n",
    ][edit]
    prints = []
    for text in (data, other):
        source = object.__new__(Source)
        with write(tmp_path / "in.jsonl", text).open("rb") as source._file:
            source.name, source.size = "in.jsonl", len(text)
            source._measure_bytes(0, len(text))
        prints.append(source.fingerprint)
    assert (prints[0] == prints[1]) == (data == other)


def test_what_a_file_grows_by_is_not_read(tmp_path: Path) -> None:
    ids = [str(n) for n in range(20_000)]  # more than buffers hold
    path = write(tmp_path / "in.jsonl", batch(*ids))
    source = open_source(path, Shape())
    with path.open("ab") as file:
        file.write(batch("c"))
    assert [custom_id for _, custom_id in ids_in(source)] == ids
    path.write_bytes(batch("a")[:-9])
    with pytest.raises(InvalidInput) as raised:
        ids_in(source)
    assert str(raised.value) == (
        f"{path} became shorter while it was read. Fix: run again once nothing writes to it"
    )
    source.close()


def test_a_line_that_was_being_written_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "in.jsonl", batch("a", "b") + b'{"custom_id":"c",')
    measure = Source._measure_bytes

    def grow(self: Source, low: int, high: int) -> tuple[int, int, int]:
        with path.open("ab") as file:
            file.write(b'"body":{}}\n')
        return measure(self, low, high)

    monkeypatch.setattr(Source, "_measure_bytes", grow)
    source = open_source(path, Shape())
    assert (source.lines, source.size) == (2, len(batch("a", "b")))
    assert ids_in(source) == [(1, "a"), (2, "b")]
    source.close()


# -- what is refused ---------------------------------------------------------------------------


def test_what_is_no_file(tmp_path: Path) -> None:
    missing = tmp_path / "no.jsonl"
    assert refusal(missing) == f"{missing} does not exist. Fix: check the path"
    assert refusal(tmp_path) == f"{tmp_path} is a folder. Fix: give the path of a file"
    for device in ("/dev/zero", "/dev/null"):
        assert refusal(device) == (
            f"{device} is a device, not a file. Fix: write the requests to a file first"
        )
    with socket.socket(socket.AF_UNIX) as listener:
        path = Path(os.path.relpath(tmp_path / "s"))
        listener.bind(str(path))
        assert refusal(path) == (
            f"{path} is a socket, not a file. Fix: write the requests to a file first"
        )


NOTHING = gzip.compress(b"", mtime=0)
GZ, ZST = gzip.compress(batch(*map(str, range(99))), mtime=0), frames(batch(*map(str, range(99))))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.gz", GZ[:-9], "{} ends in the middle of its gzip data: it was not copied whole. "
         "Fix: fetch it again"),
        ("a.zst", ZST[:-9], "{} ends in the middle of its zstd data: it was not copied whole. "
         "Fix: fetch it again"),
        ("a.gz", GZ + b"garbage", "{} holds something that is not gzip data "
         "(Not a gzipped file (b'ga')): it is damaged, or more was appended to it. "
         "Fix: fetch it again"),
        ("a.zst", ZST + b"garbage", "{} holds something that is not zstd data "
         "(zstd decompressor error: Unknown frame descriptor): it is damaged, or more was "
         "appended to it. "
         "Fix: fetch it again"),
        ("a.jsonl", GZ, "{} is compressed with gzip, but its name does not say so. "
         "Fix: rename it: mv {} {}.gz"),
        ("a.gz", ZST, "{} is compressed with zstd, but its name ends in .gz. "
         "Fix: rename it: mv {} {stem}.zst"),
        ("a.zst", b"{}", "{} is not compressed with zstd, but its name ends in .zst. "
         "Fix: rename it: mv {} {stem}"),
        ("a.gz", NOTHING, "{} is empty. Fix: put one request a line, like "
         '{{"custom_id": "1", "body": {{"model": "…", "messages": […]}}}} in it'),
        ("a.gz", b"", "{} is empty. Fix: put one request a line, like "
         '{{"custom_id": "1", "body": {{"model": "…", "messages": […]}}}} in it'),
    ],
)  # fmt: skip
def test_a_damaged_file(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, data)
    text = message.replace("{} {}.gz", f"{path} {path}.gz")
    assert refusal(path) == text.format(path, path, stem=path.with_suffix(""))


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.csv"])
def test_what_has_no_shards(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, GZ if name.endswith("gz") else b"prompt\nx\n")
    what = "compressed with gzip" if name.endswith("gz") else "CSV"
    model = None if name.endswith("gz") else "m"
    fix = (
        "and a shard is a range of bytes of a plain JSONL file. "
        "Fix: turn it into one first, or leave --shard out"
    )
    assert refusal(path, Shape(model=model), shard=Shard(0, 2)) == f"{path} is {what}, {fix}"
    assert refusal(io.BytesIO(b"{}"), shard=Shard(0, 2)) == f"the stream is a stream, {fix}"


def test_options_that_fit_no_file_of_requests(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", batch("a"))
    assert refusal(path, Shape(system="x")) == (
        "an id column, a system prompt and parameters are for tables of prompts, and "
        f"{path} is read as requests. Fix: give --prompt-column or --template too, or leave "
        f"them out"
    )
    assert refusal(path, Shape(endpoint="chats")).startswith(
        "there is no endpoint 'chats'. Fix: use "
    )


def test_a_line_of_200_mb_costs_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        file.write(batch("a"))
        file.truncate(200_000_000)  # a sparse file: a line of NUL bytes
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + batch("b"))
    tracemalloc.start()
    try:
        first, long, last = read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (first.custom_id, last.line, last.custom_id) == ("a", 3, "b")
    assert isinstance(long, BadLine)
    assert long.message == (
        "line 2 is 190.7 MiB long; the limit is 16 MiB. Make the request smaller, or split it"
    )
    assert peak < 3 * MAX_LINE


# -- checking ----------------------------------------------------------------------------------


def test_a_check_counts_everything(tmp_path: Path) -> None:
    lines = batch("a", max_tokens=5) + batch("a", "a", "a", "a") + b"{oops\n"
    source = open_source(write(tmp_path / "in.jsonl", lines), Shape())
    found = check(source)
    source.close()
    body = json.dumps({"model": "m", "messages": [], "max_tokens": 5})
    assert found == Check(
        lines=6,
        urls={"/v1/chat/completions": 1},
        models={"m": 1},
        errors={
            "duplicate_custom_id": (
                4,
                tuple(
                    f"line {n} has the custom_id 'a', which line 1 has too. "
                    "Give each line one of its own"
                    for n in (2, 3, 4)
                ),
            ),
            "invalid_json": (
                1,
                (
                    "line 6 is not valid JSON: JSON is malformed: "
                    "object keys must be strings (byte 1). "
                    "Correct the line",
                ),
            ),
        },
        input_tokens=len(body) // 4,
        max_tokens=5,
        largest_line=len(lines.splitlines()[0]),
    )


def test_a_check_sums_up_models_beyond_a_thousand(tmp_path: Path) -> None:
    text = b"".join(b'{"input":"","model":"m%d"}\n' % n for n in range(10_000))
    source = open_source(write(tmp_path / "in.jsonl", text), Shape())
    models = check(source).models
    source.close()
    assert (len(models), models["m0"], models["other"]) == (1001, 1, 9000)


def test_a_table_that_is_taken_for_requests(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'oops\n{"text": "a", "label": 1}\n{"text": "b"}\n')
    with pytest.raises(InvalidInput) as caught:
        open_source(path, Shape())
    assert str(caught.value) == (
        f"{path} holds no requests: its first object has text, label. Fix: for prompts, say "
        f"where they "
        "are: --prompt-column text, or a --template; for bodies that only their url tells apart: "
        "--endpoint"
    )
    with contextlib.closing(open_source(path, Shape(endpoint="chat"))) as source:
        assert sum(1 for _ in source.requests(lambda number: False)) == 3
