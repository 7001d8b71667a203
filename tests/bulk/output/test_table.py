"""Answers as tables: the input with a column for them, in order, and rows alone."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from kills import STEPS, killed_after
from packages import of_dev

from headway import Scheduler, bulk
from headway.bulk import open_source
from headway.bulk.output.merge import merge
from headway.bulk.output.opening import paths_of
from headway.bulk.output.table import answer_in, export, rows_of, write_table
from headway.bulk.plan.calibration import calibration_of
from headway.bulk.report import write_report
from headway.providers import find_endpoint


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"choices": [{"message": {"content": "x"}}]}, "x"),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}]}, "x"),
        ({"choices": [{"text": "x"}]}, "x"),
        ({"choices": [{"message": {"content": "x"}}, {"message": {"content": "y"}}]}, '["x","y"]'),
        ({"choices": [{"message": {"content": None, "tool_calls": [1]}}]}, "[1]"),
        ({"choices": [{"message": {"content": ""}}]}, ""),
        (
            {
                "output": [
                    {"type": "reasoning", "summary": []},
                    {"type": "message", "content": [{"type": "output_text", "text": "x"}]},
                ]
            },
            "x",
        ),
        ({"content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}, "xy"),
        (
            {
                "candidates": [
                    {"content": {"parts": [{"text": "t", "thought": True}, {"text": "x"}]}}
                ]
            },
            "x",
        ),
        ({"message": {"content": [{"type": "text", "text": "x"}]}}, "x"),
        ({"data": [{"embedding": [0.5, 1]}]}, "[0.5,1]"),
        ({"data": [{"url": "https://x"}]}, "https://x"),
        ({"results": [{"index": 0, "score": 1}]}, '{"index":0,"score":1}'),
        ({"other": 1}, '{"other":1}'),
        (None, None),
        (["x"], '["x"]'),
    ],
)
def test_what_an_answer_says(body: Any, answer: str | None) -> None:
    assert answer_in(body) == answer


def server(request: httpx.Request) -> httpx.Response:
    asked = json.loads(request.content)["messages"][0]["content"]
    if asked == "no":
        return httpx.Response(400, json={"error": {"message": "not this, please"}})
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"finish_reason": "stop", "message": {"content": f"{asked}, {asked}\n!"}}
    return httpx.Response(200, json={"model": "m-1", "choices": [choice], "usage": usage})


def refusing(request: httpx.Request) -> httpx.Response:
    raise AssertionError("it was asked for once more")


async def run(source: Path, output: Path, handler: Any = server, **options: Any) -> bulk.Progress:
    shape = bulk.Shape(model="m", prompt_column="text")
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        return await bulk.run(
            source, output, scheduler=Scheduler(), client=client,
            endpoint=find_endpoint(base_url="http://x"),
            options=bulk.RunOptions(shape=shape, **options),
        )  # fmt: skip


def table(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


@pytest.mark.anyio
async def test_the_input_with_its_answers_in_a_column(tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "answers.csv"
    source.write_text("text;answer\n" + "".join(f"q{n};{n}\n" for n in range(40)) + "no;x\n")
    done = await run(source, output, limit=20)
    assert done.done == 20
    header, *rows = table(output)
    assert header == ["text", "answer", "answer_2", "error"]
    assert rows[:20] == [[f"q{n}", str(n), f"q{n}, q{n}\n!", ""] for n in range(20)]
    assert rows[20:] == [*([f"q{n}", str(n), "", ""] for n in range(20, 40)), ["no", "x", "", ""]]
    # Run again it goes on, and the table is whole.
    await run(source, output)
    assert table(output)[40] == ["q39", "39", "q39, q39\n!", ""]
    assert table(output)[41] == ["no", "x", "", "http_400: not this, please"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("first", [True, False])
def test_a_kill_between_any_two_steps_of_the_table_loses_nothing(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first table, or one that replaces another; every row is there, and is asked for once."""
    source, output = tmp_path / "in.csv", tmp_path / "answers.csv"
    rows = rows_of(output)
    source.write_text("text\na\nb\n")
    shape = bulk.Shape(model="m", prompt_column="text")

    def write() -> None:
        with closing(open_source(str(source), shape)) as lines:
            write_table(output, lines, rows)

    if not first:
        asyncio.run(run(source, output, limit=1))
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["headway.bulk.run"], "write_table", lambda *given: None)
        asyncio.run(run(source, output))
    left, done = shutil.copytree(tmp_path, tmp_path / "copy"), rows.read_bytes()
    step, states = 0, set[str]()
    while killed_after(step := step + 1, write, (*STEPS, "lstat")):
        states.add(output.read_text() if output.exists() else "")
        asyncio.run(run(source, output, handler=refusing))
        assert rows.read_bytes() == done
        assert [line[1] for line in table(output)] == ["answer", "a, a\n!", "b, b\n!"]
        shutil.rmtree(tmp_path / "answers.rows.run")
        output.unlink()
        shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    assert len(states) == 2  # the one before and the new one, whole
    assert step > 5


@pytest.mark.anyio
async def test_a_table_that_is_not_the_runs_is_never_replaced(tmp_path: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "answers.csv"
    source.write_text("text\nq\n")
    output.write_text("mine\n")
    with pytest.raises(bulk.InvalidOutput, match="is in the way: the table of"):
        await run(source, output, overwrite=True)
    assert output.read_text() == "mine\n"
    output.unlink()
    await run(source, output)
    output.write_text(output.read_text() + "corrected by hand\n")
    with pytest.raises(bulk.InvalidOutput, match="is in the way: the table of"):
        await run(source, output)


@pytest.mark.anyio
async def test_lines_of_json_as_a_table_of_tabs(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "answers.tsv"
    source.write_text('{"text": "a", "n": 1}\n\n{"text": "b", "m": [2]}\nnot json\n')
    await run(source, output)
    header, first, second, third = table(output, "\t")
    assert header == ["text", "n", "m", "answer", "error"]
    assert first == ["a", "1", "", "a, a\n!", ""]
    assert second == ["b", "", "[2]", "b, b\n!", ""]
    assert third[4].startswith("invalid_json: line 4 is not valid JSON")


@pytest.mark.anyio
async def test_a_shard_is_no_table(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n')
    with pytest.raises(bulk.InvalidOutput, match="would hold the answers of one shard alone"):
        await run(source, tmp_path / "a.csv", shard=bulk.Shard(0, 2))


@pytest.mark.anyio
async def test_rows_become_a_table(tmp_path: Path) -> None:
    source, rows, output = tmp_path / "in.csv", tmp_path / "rows.jsonl", tmp_path / "out.csv"
    source.write_text("text\nno\nq\n")
    await run(source, rows)
    with rows.open("a") as file:
        file.write("torn")
    assert export(rows, output) == (2, 1)
    header, failed, answered = table(output)
    assert header[:5] == ["custom_id", "answer", "error", "finish_reason", "model"]
    assert failed[:3] == ["1", "", "http_400: not this, please"]
    assert answered == ["2", "q, q\n!", "", "stop", "m-1", "3", "2"]
    with pytest.raises(bulk.InvalidOutput, match="exists already"):
        export(rows, output)
    assert export(rows, output, overwrite=True) == (2, 1)
    for mine in (source, tmp_path / "mine.tsv"):
        mine.write_text("custom_id,answer\nmine,1\n")
        with pytest.raises(bulk.InvalidOutput, match="is in the way: the table of"):
            export(rows, mine, overwrite=True)
        assert mine.read_text() == "custom_id,answer\nmine,1\n"
    with pytest.raises(bulk.InvalidOutput, match="no table by its name"):
        export(rows, tmp_path / "out.xlsx")
    assert [name for name in os.listdir(tmp_path) if "out" in name] == ["out.csv"]


@pytest.mark.anyio
@pytest.mark.parametrize("ordered", [False, True])
async def test_rows_that_are_not_as_the_run_wrote_them_are_left_out(
    ordered: bool, tmp_path: Path
) -> None:
    source, rows, output = tmp_path / "in.csv", tmp_path / "rows.jsonl", tmp_path / "out.csv"
    source.write_text("text\na\nb\nc\n")
    await run(source, rows, ordered=ordered)
    first, *others = rows.read_bytes().splitlines(keepends=True)
    changed = first.replace(b"stop", b"step")  # still a row by its form
    rows.write_bytes(b"".join([changed, *others, others[0]]))
    assert export(rows, output) == (2, 2)
    assert [line[0] for line in table(output)[1:]] == sorted(
        json.loads(line)["custom_id"] for line in others
    )


@pytest.mark.anyio
async def test_a_table_names_its_run(tmp_path: Path) -> None:
    source, answers = tmp_path / "in.csv", tmp_path / "answers.csv"
    source.write_text("text\nq\n")
    await run(source, answers)
    assert set(calibration_of(str(source), str(answers)).models) == {"m"}
    write_report(answers, tmp_path / "report.html")
    assert "in.csv: run report" in (tmp_path / "report.html").read_text()
    assert export(answers, tmp_path / "out.csv") == (1, 0)


@pytest.mark.anyio
async def test_parquet(tmp_path: Path) -> None:
    of_dev("pyarrow")
    parquet = of_dev("pyarrow.parquet")
    source, output = tmp_path / "in.csv", tmp_path / "answers.parquet"
    source.write_text("text\nq\nno\n")
    await run(source, output)
    assert parquet.read_table(output).to_pylist() == [
        {"text": "q", "answer": "q, q\n!", "error": None},
        {"text": "no", "answer": None, "error": "http_400: not this, please"},
    ]
    export(tmp_path / "answers.rows.jsonl", tmp_path / "out.parquet")
    export(tmp_path / "answers.rows.jsonl", tmp_path / "out.parquet", overwrite=True)
    with pytest.raises(bulk.InvalidOutput, match="is in the way"):  # the run's, not an export
        export(tmp_path / "answers.rows.jsonl", output, overwrite=True)
    (first, _) = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert (first["answer"], first["input_tokens"]) == ("q, q\n!", 3)


@pytest.mark.anyio
async def test_columns_of_parquet_keep_their_types(tmp_path: Path) -> None:
    of_dev("pyarrow")
    parquet = of_dev("pyarrow.parquet")
    source, output = tmp_path / "in.jsonl", tmp_path / "answers.parquet"
    lines = [
        {"text": "a", "label": 1, "share": 0.5, "new": True, "mixed": 1, "large": 1 << 70, "x": 1},
        {"text": "b", "label": None, "share": 1, "new": False, "mixed": "1", "large": 2},
    ]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    await run(source, output)
    first, second = parquet.read_table(output).to_pylist()
    assert first == {
        "text": "a", "label": 1, "share": 0.5, "new": True, "mixed": "1", "large": str(1 << 70),
        "x": 1, "answer": "a, a\n!", "error": None,
    }  # fmt: skip
    assert second["share"] == 1.0
    assert (second["label"], second["mixed"], second["large"], second["x"]) == (
        None,
        "1",
        "2",
        None,
    )


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        (
            "s3://bucket/in.jsonl",
            None,
            "s3://bucket/in.jsonl is an address, and no file of this machine. "
            "Fix: copy it first: aws s3 cp s3://bucket/in.jsonl .",
        ),
        (
            "in.jsonl",
            "s3://bucket/out.csv",
            "the output s3://bucket/out.csv is an address, and no file of this machine. "
            "Fix: give a file with -o, and copy it when the run is done",
        ),
        (
            "/dev/fd/63",
            None,
            "beside /dev/fd/63 is no place for the results. Fix: give a file with -o, or -o -",
        ),
    ],
)
def test_names_that_are_no_files(source: str, output: str | None, message: str) -> None:
    with pytest.raises((bulk.InvalidInput, bulk.InvalidOutput)) as caught:
        paths_of(source, output, None)
    assert str(caught.value) == message


def test_rows_are_not_merged_into_a_table(tmp_path: Path) -> None:
    with pytest.raises(bulk.InvalidOutput, match=r"rows are merged. Fix: give a .jsonl with -o"):
        merge([], tmp_path / "all.csv")
