"""Lines in and rows out, each error pinned by its text."""

from __future__ import annotations

import io
import itertools
import json
import tracemalloc
from typing import Any

import msgspec
import pytest

from headway import estimate
from headway.bulk.input import formats, lines
from headway.bulk.input.formats import BadLine, Request
from headway.bulk.input.lines import InvalidInput, Line
from headway.bulk.input.seen import SeenIds

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}


CHATTY = {"messages": []}


def parse(*texts: bytes) -> list[Request | BadLine]:
    reader, seen = formats.RequestReader(), SeenIds()
    read = lines.read_lines(io.BytesIO(b"\n".join(texts) + b"\n"))
    return [reader.parse(line, seen) for line in read]


def line_of(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


# -- what is read ------------------------------------------------------------------------------


def test_each_line_tells_its_own_form() -> None:
    openai = line_of(custom_id="a", method="POST", url="/v1/embeddings", body={"input": "x"})
    together = line_of(custom_id="b", body=CHAT)
    body = json.dumps(CHAT).encode()
    expected = {
        openai: Request(1, "a", "/v1/embeddings", b'{"input": "x"}', 0, None),
        together: Request(1, "b", "/v1/chat/completions", body, 20, "m"),
        body: Request(1, "1", "/v1/chat/completions", body, 20, "m"),
    }
    for order in itertools.permutations(expected):
        for number, (read, line) in enumerate(zip(parse(*order), order, strict=True), 1):
            wanted = expected[line]
            name = str(number) if line is body else wanted.custom_id
            assert read == msgspec.structs.replace(wanted, line=number, custom_id=name)


@pytest.mark.parametrize(
    ("body", "url"),
    [
        ({"messages": []}, "/v1/chat/completions"),
        ({"prompt": "x"}, "/v1/completions"),
        ({"input": "x"}, "/v1/embeddings"),
        ({"query": "x", "documents": []}, "/v1/rerank"),
    ],
)
@pytest.mark.parametrize("plain", [False, True])
def test_a_body_tells_its_endpoint(body: dict[str, object], url: str, plain: bool) -> None:
    (request,) = parse(line_of(**body) if plain else line_of(custom_id="1", body=body))
    assert request == Request(1, "1", url, json.dumps(body).encode(), 0, None)


def test_every_name_that_an_estimate_reads_is_read_of_a_line() -> None:
    for name in estimate.MAX_NAMES:
        bodies = [{name: 7}, *({group: {name: 7}} for group in estimate.GROUP_NAMES)]
        for number in estimate.CHOICE_NAMES:
            (*each, both) = parse(
                *(line_of(**CHATTY, **b) for b in (*bodies, {name: 7, number: 3}))
            )
            assert [one.max_tokens for one in each if isinstance(one, Request)] == [7, 7, 7]
            assert isinstance(both, Request)
            assert (both.max_tokens, both.choices) == (21, 3)


def test_a_plain_body_without_a_model_gets_the_one_given() -> None:
    reader = formats.RequestReader("/v1/moderations", "m")
    bodies = [b'{ "model": "own" }', b"{}", b' { "input": "x"} ']
    read = [reader.parse(Line(n, len(b), b), None) for n, b in enumerate(bodies, 1)]
    assert [r.body for r in read if isinstance(r, Request)] == [
        b'{ "model": "own" }',
        b'{"model":"m"}',
        b'{"model":"m","input": "x"}',
    ]
    assert [r.model for r in read if isinstance(r, Request)] == ["own", "m", "m"]


def test_the_body_is_kept_as_the_bytes_it_is() -> None:
    body = b'{ "temperature" : 1.0e-2,"model":"m", "\\u00e9":1e400 , "s":"\\/"  }'
    (request,) = parse(b'{"custom_id":"a", "body": ' + body + b"  }")
    assert isinstance(request, Request)
    assert request.body == body


def test_blank_lines_are_skipped_and_counted_in_the_numbers() -> None:
    file = io.BytesIO(b"\n  \r\n\n{}\r\n\n{}")
    assert [(line.number, line.data) for line in lines.read_lines(file)] == [
        (4, b"{}"),
        (6, b"{}"),
    ]


def test_a_byte_order_mark_is_not_part_of_the_first_line() -> None:
    (request,) = parse(b"\xef\xbb\xbf" + line_of(custom_id="a", body=CHAT))
    assert isinstance(request, Request)


@pytest.mark.parametrize(
    ("text", "count"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2)]
)
def test_lines_are_counted(text: bytes, count: int) -> None:
    assert lines.count_lines(io.BytesIO(text)) == count


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9, "max_tokens": 7}, 9),
        ({"max_tokens": 7.0}, 7),
        ({"max_tokens": 10**12}, 10**12),
        ({"max_tokens": -3}, 0),
        ({"max_tokens": -(10**400)}, 0),
        ({"max_tokens": "many"}, 0),
    ],
)
def test_the_estimate_is_a_quarter_of_the_bytes_and_the_answers_budget(
    options: dict[str, object], tokens: int
) -> None:
    (request,) = parse(line_of(custom_id="a", body={"model": "m", **options}))
    assert isinstance(request, Request)
    assert formats.estimate_tokens(request) == len(request.body) // 4 + tokens


# -- what is wrong with a line -----------------------------------------------------------------

BAD_LINES = {
    "a NUL byte": (
        b'{"custom_id": "a\x00", "body": {}}',
        None,
        "invalid_json",
        "line 1 is not valid JSON: it holds a NUL byte (byte 17). Correct the line",
    ),
    "half a surrogate pair in the id": (
        b'{"custom_id": "\\ud800", "body": {}}',
        None,
        "invalid_json",
        "line 1 is not valid JSON: it holds half of a surrogate pair, \\ud800 (byte 16). "
        "Correct the line",
    ),
    "half a surrogate pair in the body": (
        b'{"custom_id": "a", "body": {"x": "\\udc00"}}',
        None,
        "invalid_json",
        "line 1 is not valid JSON: it holds half of a surrogate pair, \\udc00 (byte 35). "
        "Correct the line",
    ),
    "broken": (
        b'{"custom_id": "a", "body": {',
        None,
        "invalid_json",
        "line 1 is not valid JSON: Input data was truncated. Correct the line",
    ),
    "not an object": (
        b'"text"',
        None,
        "invalid_line",
        "line 1 is not a JSON object of the batch form: Expected `object`, got `str`",
    ),
    "not UTF-8": (
        b'{"custom_id": "caf\xe9"}',
        None,
        "not_utf8",
        "line 1 is not UTF-8 (byte 19). Convert it to UTF-8",
    ),
    "too deep": (
        b'{"custom_id": "a", "body": ' + b"[" * 100_000,
        None,
        "invalid_json",
        "line 1 is not valid JSON: maximum recursion depth exceeded while deserializing an "
        "object. Correct the line",
    ),
    "no custom_id": (
        line_of(body=CHAT),
        None,
        "missing_custom_id",
        'line 1 has no custom_id. Give each line one of its own, like "custom_id": "request-1"',
    ),
    "an empty custom_id": (
        line_of(custom_id="", body=CHAT),
        None,
        "missing_custom_id",
        'line 1 has no custom_id. Give each line one of its own, like "custom_id": "request-1"',
    ),
    "a number for a custom_id": (
        line_of(custom_id=17, body=CHAT),
        None,
        "invalid_custom_id",
        "line 1 has a custom_id that is not a string: 17. Put it in quotes",
    ),
    "no body": (
        line_of(custom_id="a"),
        "a",
        "missing_body",
        'line 1 has no body. Give it one, like "body": {"model": "…", "messages": […]}',
    ),
    "a body that is not an object": (
        line_of(custom_id="a", body=[CHAT]),
        "a",
        "invalid_body",
        "line 1 has a body that is not a JSON object. Make it one",
    ),
    "another url": (
        line_of(custom_id="a", url="/v1/files", body=CHAT),
        "a",
        "unsupported_url",
        "line 1 has the url '/v1/files'. Use one of /v1/chat/completions, /v1/completions, "
        "/v1/embeddings, /v1/images/generations, /v1/rerank, /v1/responses, /v1/moderations, "
        "/v1/messages, /v1/fim/completions, /v1/chat/moderations, /v1/classifications, "
        "/v1/chat/classifications, /v1/ocr, /v1/score",
    ),
    "a url of uploads": (  # as Groq's documentation has it
        line_of(custom_id="a", url="/v1/audio/transcriptions", body={"model": "w", "url": "x"}),
        "a",
        "unsupported_url",
        "line 1 is for '/v1/audio/transcriptions', where none can go: its requests upload files "
        "(multipart/form-data), and a line is sent as JSON. Call it from Python, with "
        "Scheduler.submit",
    ),
    "a body of uploads": (  # Together's
        line_of(custom_id="a", body={"model": "openai/whisper-large-v3", "file": "https://x.mp3"}),
        "a",
        "unsupported_url",
        "line 1 is for '/v1/audio/transcriptions', where none can go: its requests upload files "
        "(multipart/form-data), and a line is sent as JSON. Call it from Python, with "
        "Scheduler.submit",
    ),
    "a url of sound": (
        line_of(custom_id="a", url="https://api.openai.com/v1/audio/speech", body=CHAT),
        "a",
        "unsupported_url",
        "line 1 is for 'https://api.openai.com/v1/audio/speech', where none can go: its answers "
        "are sound, and a row holds JSON. Call it from Python, with Scheduler.submit",
    ),
    "another method": (
        line_of(custom_id="a", method="GET", body=CHAT),
        "a",
        "invalid_method",
        "line 1 has the method 'GET'. Use POST",
    ),
    "a stream": (
        line_of(custom_id="a", body={**CHAT, "stream": True}),
        "a",
        "stream_not_supported",
        'line 1 has "stream" in its body, and a stream is not one row. Remove it',
    ),
    "a number of 400 digits": (
        line_of(custom_id="a", body={**CHAT, "max_tokens": 10**399}),
        "a",
        "invalid_max_tokens",
        "line 1 has a max_tokens that is no count of tokens: it is above 1,000,000,000,000. "
        "Correct it",
    ),
    "a float that no limiter can count": (
        line_of(custom_id="a", body={**CHAT, "max_completion_tokens": 1.1e12}),
        "a",
        "invalid_max_tokens",
        "line 1 has a max_completion_tokens that is no count of tokens: it is above "
        "1,000,000,000,000. Correct it",
    ),
    "a number without end": (
        b'{"custom_id": "a", "body": {"max_tokens": 1e999}}',
        "a",
        "invalid_body",
        "line 1 has a body that cannot be read: Number out of range - at `$.max_tokens`. "
        "Correct it",
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_says_what_why_and_the_fix(case: str) -> None:
    data, custom_id, code, message = BAD_LINES[case]
    assert parse(data) == [BadLine(1, custom_id, code, message)]


def test_a_duplicate_custom_id_names_both_lines() -> None:
    line = line_of(custom_id="a", body=CHAT)
    first, other, second = parse(line, line_of(custom_id="b", body=CHAT), line)
    assert isinstance(first, Request)
    assert isinstance(other, Request)
    assert second == BadLine(
        3,
        "a",
        "duplicate_custom_id",
        "line 3 has the custom_id 'a', which line 1 has too. Give each line one of its own",
    )


def test_a_line_of_20_mb_is_refused_and_the_next_one_is_read() -> None:
    long = line_of(custom_id="long", body={**CHAT, "pad": "x" * 20_000_000})
    first, second = parse(long, line_of(custom_id="b", body=CHAT))
    assert first == BadLine(
        1,
        None,
        "line_too_long",
        "line 1 is 19.1 MiB long; the limit is 16 MiB. Make the request smaller, or split it",
    )
    assert isinstance(second, Request)
    assert second.line == 2


@pytest.mark.parametrize("extra", [-1, 0, 1, 2])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_limit_of_a_line_is_exact(extra: int, end: bytes) -> None:
    (line,) = lines.read_lines(io.BytesIO(b"x" * (lines.MAX_LINE + extra) + end))
    assert line.size - extra == lines.MAX_LINE + (end == b"\r\n" and extra > 0)
    assert bool(line.data) == (extra <= 0)


def test_a_long_line_costs_no_more_than_the_limit() -> None:
    class Endless(io.RawIOBase):
        """100 MB without a line break."""

        left = 100_000_000

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            size = min(len(buffer), self.left)
            buffer[:size] = b"x" * size
            self.left -= size
            return size

    tracemalloc.start()
    try:
        (line,) = lines.read_lines(io.BufferedReader(Endless()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert line.size == 100_000_000
    assert peak < 2.5 * lines.MAX_LINE


# -- what is wrong with a file -----------------------------------------------------------------

BAD_FILES = {
    "empty": (
        b"",
        "in.jsonl is empty. Fix: put one request a line, like "
        '{"custom_id": "1", "body": {"model": "…", "messages": […]}} in it',
    ),
    "blank": (
        b"\n \n\n",
        "in.jsonl is empty. Fix: put one request a line, like "
        '{"custom_id": "1", "body": {"model": "…", "messages": […]}} in it',
    ),
    "UTF-16": (
        "{}".encode("utf-16"),
        "in.jsonl is UTF-16, not UTF-8 text. Fix: convert it "
        "first: iconv -f UTF-16 -t UTF-8 in.jsonl > utf8.jsonl",
    ),
    "UTF-32": (
        "{}".encode("utf-32"),
        "in.jsonl is UTF-32, not UTF-8 text. Fix: convert it "
        "first: iconv -f UTF-32 -t UTF-8 in.jsonl > utf8.jsonl",
    ),
    "UTF-16 without a byte order mark": (
        "{}".encode("utf-16-le"),
        "in.jsonl is binary, or UTF-16 without a byte order mark, not UTF-8 text. Fix: convert it "
        "first: iconv -f UTF-16LE -t UTF-8 in.jsonl > utf8.jsonl",
    ),
    "UTF-16 of the other order": (
        "{}".encode("utf-16-be"),
        "in.jsonl is binary, or UTF-16 without a byte order mark, not UTF-8 text. Fix: convert it "
        "first: iconv -f UTF-16BE -t UTF-8 in.jsonl > utf8.jsonl",
    ),
    "a database, of which tables are made": (
        b"SQLite format 3\0",
        "in.jsonl is an SQLite database, not UTF-8 text. Fix: convert it first: "
        "sqlite3 -csv -header in.jsonl 'SELECT …' > utf8.csv",
    ),
    "a web page": (
        b"<!doctype html>\n<html>",
        "in.jsonl starts with '<': a web page or XML, not JSONL. Fix: look at what it says: it may "
        "be a sign-in page in the place of the file.",
    ),
    "gzip": (
        b"\x1f\x8b\x08\x00",
        "in.jsonl is compressed with gzip, not UTF-8 text. Fix: convert it first: "
        "gunzip -c in.jsonl > utf8.jsonl",
    ),
    "zstd": (
        b"\x28\xb5\x2f\xfd",
        "in.jsonl is compressed with zstd, not UTF-8 text. Fix: convert it first: "
        "unzstd -c in.jsonl > utf8.jsonl",
    ),
    "Latin-1": (
        b'\n{"custom_id": "\xe9"}\n',
        "in.jsonl is not UTF-8 text (line 2, byte 16). Fix: convert it first, for example: "
        "iconv -f LATIN1 -t UTF-8 in.jsonl > utf8.jsonl",
    ),
    "an array": (
        b' [{"custom_id": "a"}]',
        "in.jsonl starts with '[': a JSON array, not JSONL. Fix: write one request a line, "
        "for example: jq -c '.[]' in.jsonl > lines.jsonl",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_says_what_why_and_the_fix(case: str) -> None:
    data, message = BAD_FILES[case]
    with pytest.raises(InvalidInput) as raised:
        lines.check_head(data, "in.jsonl")
    assert str(raised.value) == message


def test_a_good_file_passes() -> None:
    lines.check_head(line_of(custom_id="a", body=CHAT), "in.jsonl")


def test_seen_ids_keep_the_first_line() -> None:
    seen = SeenIds()
    assert [seen.first_line("a", 1), seen.first_line("b", 2), seen.first_line("a", 3)] == [1, 2, 1]


def test_a_line_is_measured_without_its_break() -> None:
    assert list(lines.read_lines(io.BytesIO(b"{}\r\n"))) == [Line(1, 2, b"{}")]
