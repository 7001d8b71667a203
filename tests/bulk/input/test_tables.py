"""Tables of prompts: CSV and JSONL, each error pinned by its text."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from headway.bulk.input.formats import BadLine, Request
from headway.bulk.input.lines import InvalidInput
from headway.bulk.input.source import Shape, open_source


def read(data: bytes, name: str = "in.csv", **shape: Any) -> list[Request | BadLine]:
    file = io.BytesIO(data)
    file.name = name  # type: ignore[attr-defined]
    source = open_source(file, Shape(**{"model": "m", **shape}))
    return list(source.requests(lambda number: False))


def prompts(found: list[Request | BadLine]) -> list[str]:
    return [json.loads(r.body)["messages"][-1]["content"] for r in found if isinstance(r, Request)]


def test_a_record_becomes_a_chat() -> None:
    (request,) = read(b"prompt\nhi\n", system="be brief", parameters={"max_tokens": 9})
    assert request == Request(
        1,
        "1",
        "/v1/chat/completions",
        b'{"model":"m","max_tokens":9,"messages":[{"role":"system","content":"be brief"},'
        b'{"role":"user","content":"hi"}]}',
        9,
        "m",
    )


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("completions", b'{"model":"m","prompt":"hi"}'),
        ("images", b'{"model":"m","prompt":"hi"}'),
        ("embeddings", b'{"model":"m","input":"hi"}'),
        ("/v1/responses", b'{"model":"m","input":"hi"}'),
    ],
)
def test_each_endpoint_has_its_body(endpoint: str, body: bytes) -> None:
    (request,) = read(b"prompt\nhi\n", endpoint=endpoint)
    assert isinstance(request, Request)
    assert request.body == body


def test_quotes_breaks_and_a_mark() -> None:
    data = b'\xef\xbb\xbfid,prompt\r\na,"one\n\ntwo, ""three"""\r\n\r\nb,caf\xc3\xa9\r\n'
    found = read(data, id_column="id")
    assert [(r.line, r.custom_id) for r in found] == [(1, "a"), (2, "b")]
    assert prompts(found) == ['one\n\ntwo, "three"', "café"]


def test_a_template_and_rows_of_jsonl() -> None:
    data = b'{"text":"{x}","n":3}\n{"text":"y"}\n[]\n'
    found = read(data, "in.jsonl", template="{{{n}}} {text}")
    assert prompts(found) == ["{3} {x}"]
    assert found[1:] == [
        BadLine(2, None, "missing_column", "line 2 has no column 'n', only: text. Give it one"),
        BadLine(
            3, None, "invalid_line", "line 3 is not a JSON object with the columns. Make it one"
        ),
    ]


def test_bad_records_and_the_good_one_behind_them() -> None:
    data = (
        b"id,prompt\na,x,y\nb\nc,\x00\nd,\xff\ne,\ng," + b"x" * 17_000_000 + b'\nh,"a"b\na,x\na,x\n'
    )
    found = read(data, id_column="id")
    assert [(r.line, r.code, r.message) for r in found if isinstance(r, BadLine)] == [
        (1, "wrong_fields", "record 1 has 3 fields, and the header 2. "
         "Put quotes around a comma in a field"),
        (2, "wrong_fields", "record 2 has 1 field, and the header 2. "
         "Put quotes around a comma in a field"),
        (3, "nul_byte", "record 3 holds a NUL byte. Remove it"),
        (4, "not_utf8", "record 4 is not UTF-8. Convert it to UTF-8"),
        (5, "empty_prompt", "record 5 has an empty prompt. Fill it in, or remove the record"),
        (6, "line_too_long", "record 6 is 16.2 MiB long; the limit is 16 MiB. "
         "Make the prompt smaller, or split it"),
        (7, "invalid_csv", "record 7 is not valid CSV: ',' expected after '\"'. "
         "Correct its quotes"),
        (9, "duplicate_custom_id", "record 9 has the custom_id 'a', which line 8 has too. "
         "Give each line one of its own"),
    ]  # fmt: skip
    assert [r.line for r in found if isinstance(r, Request)] == [8]


def test_a_quote_that_is_never_closed() -> None:
    (bad,) = read(b'prompt\n"x\ny\n')
    assert isinstance(bad, BadLine)
    assert bad.message == ("record 1 is not valid CSV: a quote is never closed. Correct its quotes")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"model": None}, "a table of prompts names no model. Fix: give one with --model"),
        ({"prompt_column": "q"}, "in.csv has no column 'q'. Fix: name one of these with "
         "--prompt-column, --template or --id-column: id, text"),
        ({}, "in.csv has no column 'prompt'. Fix: name one of these with --prompt-column, "
         "--template or --id-column: id, text"),
        ({"template": "{text"}, "the template '{text' is wrong: expected '}' before end of "
         "string. Fix: write {column} for a column, and {{ or }} for a brace"),
        ({"template": "{text:>9}"}, "the template '{text:>9}' has a field that is no column's "
         "name alone. Fix: write {column} for a column, and {{ or }} for a brace"),
        ({"prompt_column": "text", "template": "x"}, "a prompt column and a template were both "
         "given. Fix: give --prompt-column, or --template with {columns} in it"),
        ({"endpoint": "rerank"}, "a prompt is no request to rerank. Fix: write lines with a "
        "query and "
         "documents"),
        ({"endpoint": "embeddings", "system": "x"}, "/v1/embeddings takes no system prompt. "
         "Fix: leave --system out"),
        ({"parameters": {"stream": True}}, 'the parameter "stream" was given, and a stream is not '
         "one row. Fix: remove it"),
        ({"parameters": {"max_tokens": 1e13}}, "the parameter max_tokens is no count of tokens. "
         "Fix: correct it"),
    ],
)  # fmt: skip
def test_options_that_make_no_request(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read(b"id,text\n1,x\n", **shape)
    assert str(raised.value) == message


def test_a_file_is_measured_in_records_and_skipped_ids_count(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b'id,prompt\na,"x\ny"\nb,x\na,x\n')
    source = open_source(path, Shape(model="m", id_column="id"))
    assert source.lines == 3
    (other, last) = source.requests(lambda number: number == 1)
    assert (other.custom_id, last.line) == ("b", 3)
    assert isinstance(last, BadLine)
    source.close()
    with pytest.raises(InvalidInput, match=r"in.csv has no column 'q'\. Fix: "):
        open_source(path, Shape(model="m", prompt_column="q"))


def test_an_empty_table() -> None:
    with pytest.raises(InvalidInput) as raised:
        read(b"")
    assert str(raised.value) == ("in.csv is empty. Fix: put a header and one record a prompt in it")
