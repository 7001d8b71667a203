"""Batches of every library: columns are read, and added with types that no value changes."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import numpy
import pytest
from packages import of_dev

from headway import InvalidArgument
from headway.rows._tables import cell, columns_in, values_in, with_columns

pandas, polars, pyarrow = of_dev("pandas"), of_dev("polars"), of_dev("pyarrow")

COLUMNS: Any = [("said", str, [None, None]), ("n", int, [None, 2]), ("a", str, ["x", None])]


def test_a_mapping() -> None:
    table = {"a": numpy.array(["p", "q"]), "b": (1, 2)}
    assert columns_in(table) == ["a", "b"]
    assert [values_in(table, name) for name in table] == [["p", "q"], [1, 2]]
    found = with_columns(table, COLUMNS)
    assert {name: list(values) for name, values in found.items()} == {
        "a": ["x", None], "b": [1, 2], "said": [None, None], "n": [None, 2],
    }  # fmt: skip
    assert list(table) == ["a", "b"]


def test_pandas() -> None:
    table = pandas.DataFrame({"a": ["p", "q"], "b": [1, 2]}, index=[7, 9])
    assert columns_in(table) == ["a", "b"]
    assert values_in(table, "b") == [1, 2]
    found = with_columns(table, COLUMNS)
    assert list(found.index) == [7, 9]
    assert list(found.columns) == ["a", "b", "said", "n"]
    assert (found["said"].dtype, str(found["n"].dtype)) == (object, "Int64")
    assert found["n"].isna().tolist() == [True, False]
    assert found["a"].tolist() == ["x", None]
    assert table["a"].tolist() == ["p", "q"]


def test_polars() -> None:
    table = polars.DataFrame({"a": ["p", "q"], "b": [1, 2]})
    assert columns_in(table) == ["a", "b"]
    assert values_in(table, "a") == ["p", "q"]
    found = with_columns(table, COLUMNS)
    assert found.schema == {
        "a": polars.String, "b": polars.Int64, "said": polars.String, "n": polars.Int64
    }  # fmt: skip
    assert found["n"].to_list() == [None, 2]


@pytest.mark.parametrize("kind", ["Table", "RecordBatch"])
def test_pyarrow(kind: str) -> None:
    table = getattr(pyarrow, kind).from_pydict({"a": ["p", "q"], "b": [1, 2]})
    table = table.replace_schema_metadata({"k": "v"})
    assert columns_in(table) == ["a", "b"]
    assert values_in(table, "a") == ["p", "q"]
    found = with_columns(table, COLUMNS)
    assert type(found) is type(table)
    assert [str(each) for each in found.schema.types] == ["string", "int64", "string", "int64"]
    assert found.to_pydict() == {
        "a": ["x", None], "b": [1, 2], "said": [None, None], "n": [None, 2]
    }  # fmt: skip
    assert found.schema.metadata == {b"k": b"v"}


@pytest.mark.parametrize(
    ("table", "fix"),
    [
        (
            polars.LazyFrame({"a": [1]}),
            r"frame\.collect\(\) first, or .*frame\.map_batches\(ask\.batch",
        ),
        ([{"a": 1}], r"ask\.batch\({\.\.\.}\) of columns"),
        ("a", "of a dict of columns, or of a DataFrame or Table"),
        (pandas.Series([1]), "is no batch that headway reads"),
    ],
)
def test_what_is_no_batch(table: object, fix: str) -> None:
    with pytest.raises(InvalidArgument, match=fix):
        columns_in(table)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("text", "text"),
        (True, True),
        (3, 3),
        (2.5, 2.5),
        (float("nan"), None),
        (pandas.NA, None),
        (pandas.NaT, None),
        (numpy.float64("nan"), None),
        (numpy.int64(3), 3),
        (numpy.str_("x"), "x"),
        (numpy.array([1, 2]), [1, 2]),
        (pyarrow.scalar("x"), "x"),
        (polars.Series([1]), [1]),
        ({"a": numpy.int8(1)}, {"a": 1}),
        ((1, None), [1, None]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (pandas.Timestamp("2026-01-02"), "2026-01-02 00:00:00"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_cell(value: object, found: object) -> None:
    assert cell(value) == found


@pytest.mark.parametrize("value", [b"x", object(), [b"x"]])
def test_what_no_prompt_can_hold(value: object) -> None:
    with pytest.raises(ValueError, match="which is no text"):
        cell(value)
