"""Parquet, where pyarrow is installed, and where it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from packages import of_dev

from headway import bulk
from headway.bulk.input.formats import BadLine, Request
from headway.bulk.input.parquet import pyarrow_or_none

PROMPTS = bulk.Shape(model="m", prompt_column="text", id_column="id")
BODY = {"model": "m", "messages": [{"role": "user", "content": "schön"}]}


def read(path: Path, shape: bulk.Shape) -> list[Request | BadLine]:
    source = bulk.open_source(path, shape)
    found = list(source.requests(lambda number: False))
    assert source.lines == len(found)
    source.close()
    return found


def test_parquet_is_read_where_pyarrow_is(tmp_path: Path) -> None:
    pyarrow = of_dev("pyarrow")
    parquet = of_dev("pyarrow.parquet")
    path = tmp_path / "in.parquet"
    parquet.write_table(pyarrow.table({"id": ["1", "2"], "text": ["schön", "b"]}), path)
    found = read(path, PROMPTS)
    assert [each.custom_id for each in found] == ["1", "2"]
    rows = [{"custom_id": "a", "body": BODY}, {"custom_id": "b", "body": BODY}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = read(path, bulk.Shape())
    assert [json.loads(each.body) for each in found if isinstance(each, Request)] == [BODY] * 2
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(bulk.InvalidInput, match="starts as a Parquet file, and cannot be read"):
        read(path, PROMPTS)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert pyarrow_or_none() is None
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(bulk.InvalidInput) as caught:
        read(path, PROMPTS)
    assert str(caught.value) == (
        f"{path} is a Parquet file, which takes pyarrow to read. Fix: install it, and run the same "
        "command again: pip install pyarrow"
    )
