"""Batches as the engines hand them over: a mapping of columns, or a table of pandas, polars or
pyarrow. None of them is imported here: whoever has such a table has its library.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from headway.errors import InvalidArgument
from headway.kinds._words import shown

__all__ = ["Column", "cell", "columns_in", "values_in", "with_columns"]

Column = tuple[str, type, Sequence[Any]]
"""A column to add: its name, `str` or `int`, and its values, None where there is none."""

_WRITTEN = (date, datetime, time, Decimal, UUID)


def kind_of(table: object) -> str:
    """``"mapping"``, ``"pandas"``, ``"polars"`` or ``"pyarrow"``. Raises `InvalidArgument`."""
    if isinstance(table, Mapping):
        return "mapping"
    library, name = type(table).__module__.partition(".")[0], type(table).__name__
    if (library, name) in _TABLES:
        return library
    fix = "ask.batch(...) of a dict of columns, or of a DataFrame or Table."
    if library == "polars" and name == "LazyFrame":
        fix = "frame.collect() first, or let polars call it: frame.map_batches(ask.batch)."
    if isinstance(table, list):
        fix = "ask.batch({...}) of columns; for one row, `await ask(row)`."
    raise InvalidArgument(f"{shown(table)} is no batch that headway reads", fix=fix)


_TABLES = {
    ("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table"),
    ("pyarrow", "RecordBatch"),
}  # fmt: skip


def columns_in(table: Any) -> list[str]:
    """The names of the columns. Raises `InvalidArgument` for what is no table."""
    kind = kind_of(table)
    if kind == "mapping":
        return list(table)
    return list(table.schema.names if kind == "pyarrow" else table.columns)


def values_in(table: Any, name: str) -> list[Any]:
    """The values of the column `name`."""
    kind = kind_of(table)
    column = table.column(name) if kind == "pyarrow" else table[name]
    for method in ("to_pylist", "to_list", "tolist"):
        if (read := getattr(column, method, None)) is not None:
            return list(read())
    return list(column)


def with_columns(table: Any, columns: Sequence[Column]) -> Any:
    """A table of the same kind, with `columns` at its end, or in the place of those of their names.

    Their types do not depend on their values: one in which nothing has failed yet has that of the
    others.
    """
    kind = kind_of(table)
    if kind == "mapping":
        return {**table, **{name: list(values) for name, _, values in columns}}
    library: Any = sys.modules[kind]
    if kind == "pandas":
        types: dict[type, Any] = {str: object, int: "Int64"}
        made = {
            name: library.Series(list(values), index=table.index, dtype=types[each])
            for name, each, values in columns
        }
        return table.assign(**made)
    if kind == "polars":
        types = {str: library.String, int: library.Int64}
        return table.with_columns(
            [library.Series(name, list(values), types[each]) for name, each, values in columns]
        )
    types = {str: library.string(), int: library.int64()}
    fields, arrays = list(table.schema), list(table.columns)
    for name, each, values in columns:
        at = table.schema.get_field_index(name)
        array = library.array(list(values), types[each])
        if at < 0:
            fields.append(library.field(name, types[each]))
            arrays.append(array)
        else:
            fields[at], arrays[at] = library.field(name, types[each]), array
    return type(table).from_arrays(arrays, schema=library.schema(fields, table.schema.metadata))


def cell(value: Any) -> Any:
    """`value` as what JSON has, None where it is missing: NaN, and what numpy and pandas have.

    Raises `ValueError` for what no prompt can hold.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if value != value else value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, _WRITTEN):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): cell(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [cell(each) for each in value]
    for method in ("tolist", "to_list", "to_pylist", "as_py"):
        if (read := getattr(value, method, None)) is not None and callable(read):
            return cell(read())
    raise ValueError(f"it holds {shown(value)}, which is no text")
