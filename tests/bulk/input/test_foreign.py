"""Files as other programs write them: read, or told by their name with a way that works."""

from __future__ import annotations

import gzip
import json
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from headway import bulk
from headway.bulk.input.foreign import is_spread
from headway.bulk.input.formats import BadLine, Request
from headway.bulk.input.tables import delimiter_of

PROMPTS = bulk.Shape(model="m", prompt_column="text", id_column="id")
BODY = {"model": "m", "messages": [{"role": "user", "content": "schön"}]}


def read(path: Path | str, shape: bulk.Shape = PROMPTS) -> list[Request | BadLine]:
    source = bulk.open_source(path, shape)
    found = list(source.requests(lambda number: False))
    assert source.lines == len(found)
    source.close()
    return found


def said(path: Path | str, shape: bulk.Shape | None = None) -> str:
    with pytest.raises(bulk.InvalidInput) as caught:
        bulk.open_source(path, shape or bulk.Shape()).close()
    return str(caught.value)


def prompts(path: Path) -> list[tuple[str, Any]]:
    return [
        (each.custom_id, json.loads(each.body)["messages"][0]["content"])
        for each in read(path)
        if isinstance(each, Request)
    ]


# -- tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_table_of_any_program(delimiter: str, encoding: str, tmp_path: Path) -> None:
    rows = [["id", "text", "note; |,"], ["1", "schön, gut; ja|nein\tx", "1,5"], ["2", "a\nb", ""]]
    lines = [delimiter.join(f'"{field}"' for field in row) for row in rows]
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path = tmp_path / "in.csv"
    path.write_bytes((mark + "\r\n".join(lines)).encode(encoding))
    assert prompts(path) == [("1", "schön, gut; ja|nein\tx"), ("2", "a\nb")]


@pytest.mark.parametrize(
    ("head", "wanted", "delimiter"),
    [
        ("id;text\n", (), ";"),
        ("a,b;text,c\n", ("text,c",), ";"),
        ("a;b;c,text\n", ("text",), ","),
        ("text\n", ("text",), ","),
        ('"a;b;c",text\n', (), ","),
        ("id|text|x\n", (), "|"),
        ("", (), ","),
    ],
)
def test_the_delimiter_is_what_gives_the_columns(
    head: str, wanted: tuple[str, ...], delimiter: str
) -> None:
    assert delimiter_of(head, wanted) == delimiter


@pytest.mark.parametrize("name", ["in.tsv", "in.tab", "in.csv.gz"])
def test_a_table_under_its_other_names(name: str, tmp_path: Path) -> None:
    data = b"id\ttext\n1\tx\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert prompts(path) == [("1", "x")]


def test_a_record_with_a_field_too_many_names_its_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id;text\n1;a;b\n")
    assert read(path) == [
        BadLine(1, None, "wrong_fields", "record 1 has 3 fields, and the header 2. "
                "Put quotes around a semicolon in a field")
    ]  # fmt: skip


def test_tables_that_were_joined(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    one = "\ufeffid,text\n1,a\n".encode()
    path.write_bytes(one + one.replace(b"1,a", b"2,b"))
    assert prompts(path) == [("1", "a"), ("2", "b")]


# -- lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("times", [1, 3])
def test_lines_in_other_encodings_and_joined_ones(
    encoding: str, times: int, tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes((json.dumps(BODY, ensure_ascii=False) + "\n").encode(encoding) * times)
    found = read(path, bulk.Shape())
    assert [json.loads(each.body) for each in found if isinstance(each, Request)] == [BODY] * times


def test_a_shard_of_what_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(f"{json.dumps(BODY)}\n".encode("utf-16"))
    with pytest.raises(bulk.InvalidInput, match="is UTF-16, and a shard is a range of bytes"):
        bulk.open_source(path, bulk.Shape(), shard=bulk.Shard(0, 2))


def test_utf16_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(f"{json.dumps(BODY)}\n".encode("utf-16")[:-1])
    assert "starts as UTF-16 and is not" in said(path)


FILES = {
    "an array": ("in.json", json.dumps([BODY, BODY]), 2),
    "an array over lines": ("in.json", json.dumps([BODY, BODY], indent=2), 2),
    "an object over lines": ("my in.json", json.dumps(BODY, indent=2), 1),
    "objects over lines": ("in.jsonl", f"{json.dumps(BODY, indent=1)}\n" * 3, 3),
    "objects cut in their middle": (
        "in.jsonl", f"{json.dumps(BODY)}\n".replace(', "messages"', ',\n"messages"') * 2, 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_json_over_lines_is_told_with_a_command_that_works(case: str, tmp_path: Path) -> None:
    name, text, count = FILES[case]
    (tmp_path / name).write_text(text)
    message = said(tmp_path / name)
    assert "not JSONL. Fix: write one request a line, for example: jq -c" in message
    if shutil.which("jq") is None:
        return
    subprocess.run(message.partition("example: ")[2], shell=True, check=True, cwd=tmp_path)
    assert len(read(tmp_path / "lines.jsonl", bulk.Shape())) == count


@pytest.mark.parametrize(
    ("whole", "fix"),
    [
        ({"requests": [{"custom_id": "a", "params": BODY}, {"custom_id": "b", "params": BODY}]},
         "Fix: take them out: jq -c '.requests[]' in.jsonl > lines.jsonl"),
        ({"recordId": "a", "modelInput": {**BODY, "anthropic_version": "bedrock-2023-05-31"}},
         "Fix: take them out: jq -c '{custom_id: .recordId, params: .modelInput | "
         "del(.anthropic_version)}' in.jsonl > lines.jsonl"),
    ],
)  # fmt: skip
def test_requests_inside_another_form(
    whole: dict[str, Any], fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text(json.dumps(whole) + "\n")
    message = said("in.jsonl")
    assert message.endswith(fix)
    if shutil.which("jq") is None:
        return
    subprocess.run(message.partition("out: ")[2], shell=True, check=True)
    first, *_ = read("lines.jsonl", bulk.Shape())
    assert isinstance(first, Request)
    assert (first.url, json.loads(first.body)) == ("/v1/messages", BODY)


def test_a_dataset_of_hugging_faces_as_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    Path("set/state.json").touch()
    assert said("set") == "set is a folder. Fix: give the path of a file"
    Path("set/dataset_dict.json").touch()
    assert said("set") == ("set is a folder. Fix: it holds several datasets: give one of them")
    Path("set/dataset_info.json").touch()
    assert said("set") == (
        "set is a folder. Fix: convert it first: python -c 'import datasets; "
        'datasets.load_from_disk("set").to_json("lines.jsonl")\''
    )
    Path("set/data.arrow").write_bytes(b"\xff\xff\xff\xff\x20\x03\x00\x00\x10\x00")
    assert said("set/data.arrow") == (
        "set/data.arrow is an Arrow stream, not UTF-8 text. Fix: convert it first: python -c "
        '\'import datasets; datasets.Dataset.from_file("set/data.arrow").to_json("lines.jsonl")\''
    )


def test_lines_are_not_taken_for_json_over_lines() -> None:
    assert not is_spread(b'{"a": 1}\n{"b": 2}\n', b'{"a": 1}')
    assert not is_spread(b'{"a": \n{"b": 2}\n', b'{"a": ')
    assert not is_spread(b"x\n", b"x")


# -- no text -----------------------------------------------------------------------------------


def zipped(path: Path, **files: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)


def test_a_spreadsheet_and_an_archive(tmp_path: Path) -> None:
    sheet = tmp_path / "in.xlsx"
    zipped(sheet, xl__workbook="x")
    assert said(sheet) == (
        f"{sheet} is a spreadsheet (XLSX or ODS), not UTF-8 text. Fix: open it in the program that "
        "made it, and save it as CSV (UTF-8)"
    )
    archive = tmp_path / "my in.zip"
    zipped(archive, requests=json.dumps(BODY))
    message = said(archive)
    assert message == (
        f"{archive} is a zip archive, not UTF-8 text. Fix: convert it first: unzip -p "
        f"{shlex.quote(str(archive))} > utf8.jsonl"
    )
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(archive.read_bytes()))
    assert "is a zip archive" in said(packed)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"BZh91AY", "compressed with bzip2, not UTF-8 text. Fix: convert it first: bzip2 -dc in"),
        (b"\xfd7zXZ\x00", "compressed with xz"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"ARROW1\0\0", "an Arrow file, not UTF-8 text. Fix: write it as CSV or JSONL first"),
        (b"FEA1", "an Arrow file, not UTF-8 text. Fix: write it as CSV or JSONL first"),
        (b"\x93NUMPY\1\0", "a NumPy array, not UTF-8 text. Fix: write it as CSV or JSONL first"),
        (b"\x89HDF\r\n", "an HDF5 file, not UTF-8 text. Fix: write it as CSV or JSONL first"),
        (b"Obj\x01", "an Avro file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel file"),
        (b"%PDF-1.7", "a PDF"),
        (b"x" * 257 + b"ustar", "a tar archive"),
    ],
)
def test_what_is_no_text_is_told_by_its_name(
    head: bytes, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").write_bytes(head)
    assert said("in").startswith(f"in is {what}")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("s3://bucket/my in.jsonl", "copy it first: aws s3 cp 's3://bucket/my in.jsonl' ."),
        ("gs://bucket/in", "copy it first: gcloud storage cp gs://bucket/in ."),
        ("https://x.example/in", "copy it first: curl -LO https://x.example/in"),
        ("file:///tmp/in", "give its path: /tmp/in"),
        ("hf://x/in", "copy it to this machine first, and give the path of the copy"),
    ],
)
def test_an_address_is_no_file(name: str, fix: str) -> None:
    assert said(name) == f"{name} is an address, and no file of this machine. Fix: {fix}"
