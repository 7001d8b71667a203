"""The command line beyond a plain run: streams, formats, shards, and the other commands."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zstandard
from commands import (
    Gated,
    headway,
    ids_of,
    prepare,
    request_line,
    requests,
    rows_of,
    run_process,
    said,
    started,
    write_requests,
)  # fmt: skip
from llmock.pytest_plugin import LLMock

TEN = [f"q{number}" for number in range(10)]


@pytest.fixture(autouse=True)
def folder(llmock: LLMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, llmock.url, monkeypatch)


def bodies(llmock: LLMock) -> list[dict[str, Any]]:
    return [record.body for record in llmock.requests]


# -- standard input and output -----------------------------------------------------------------


def test_rows_to_standard_output(folder: Path) -> None:
    result = run_process("run", "requests.jsonl", "-o", "-")
    assert result.returncode == 0
    assert sorted(ids_of(result.stdout)) == TEN
    assert b"done     10 of 10 lines" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["requests.jsonl"]


def test_a_filter(folder: Path) -> None:
    result = run_process("run", "-", stdin=requests(10) + b"\n{oops\n")
    assert result.returncode == 1
    rows = {row["id"]: row for row in rows_of(result.stdout)}
    assert len(rows) == 11
    assert rows["batch_req_12"]["error"]["code"] == "invalid_json"
    assert b"done     10 of 11 lines" in result.stderr
    assert b"--retry-failed" not in result.stderr  # nothing can be taken up from a pipe


def test_standard_input_is_resumed_where_it_is_the_same(llmock: LLMock, folder: Path) -> None:
    arguments = ("run", "-", "-o", "out.jsonl")
    assert run_process(*arguments, "--limit", "4", stdin=requests(10)).returncode == 0
    other = run_process(*arguments, stdin=requests(9))
    assert other.returncode == 2
    assert b"out.jsonl cannot be resumed: the input has changed since" in other.stderr
    assert run_process(*arguments, stdin=requests(10)).returncode == 0
    assert sorted(ids_of(folder / "out.jsonl")) == TEN
    assert len(llmock.requests) == 10
    assert sorted(path.name for path in folder.iterdir()) == [
        "out.jsonl",
        "out.run",
        "requests.jsonl",
    ]


def test_a_named_pipe_that_changed_is_not_resumed(llmock: LLMock, folder: Path) -> None:
    os.mkfifo("pipe")

    def run(data: bytes) -> subprocess.CompletedProcess[bytes]:
        with started("run", "pipe", "-o", "out.jsonl", text=False) as child:
            Path("pipe").write_bytes(data)
            return subprocess.CompletedProcess([], child.wait(), None, child.stderr.read())

    assert run(requests(3)).returncode == 0
    other = run(requests(4))
    assert (other.returncode, len(llmock.requests)) == (2, 3)
    assert b"the input has changed" in other.stderr


@pytest.mark.parametrize("data", [b"", b"[]\n", b"PK\x03\x04\x14\x00"])
def test_bad_standard_input_leaves_nothing(data: bytes, folder: Path) -> None:
    result = run_process("run", "-", "-o", "out.jsonl", stdin=data)
    assert result.returncode == 2
    assert result.stderr.startswith(b"headway: standard input ")
    assert [path.name for path in folder.iterdir()] == ["requests.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(("-o", "-"), "rows"), (("-o", "-", "--ordered"), "rows"), (("--json",), "progress")],
)
def test_a_closed_pipe_ends_the_run(arguments: tuple[str, ...], what: str) -> None:
    write_requests(Path("requests.jsonl"), 200)
    with started("run", "requests.jsonl", *arguments, stdout=True) as child:
        child.stdout.close()
        text = child.stderr.read()
        assert child.wait() == 1
    assert "Traceback" not in text
    assert f"headway: cannot go on: nobody reads the {what} any more" in text


def test_in_order_to_a_file_and_to_a_pipe(gated: Gated, folder: Path) -> None:
    """The answers come in the order of a server that is asked by 32 at once: any."""
    gated.gate.set()
    numbers = [number * 7 % 100 for number in range(100)]
    lines = (json.dumps(request_line(number)) for number in numbers)
    (folder / "in.jsonl").write_text("\n".join(lines))
    expected = [f"q{number}" for number in numbers]
    arguments = ("run", "in.jsonl", "--base-url", gated.url, "--ordered")
    assert headway(*arguments).exit_code == 0
    assert ids_of(folder / "in.results.jsonl") == expected
    result = run_process(*arguments, "-o", "-")
    assert result.returncode == 0
    assert ids_of(result.stdout) == expected


def test_in_order_after_a_stop(llmock: LLMock, folder: Path) -> None:
    llmock.fail(400, times=1)
    assert headway("run", "requests.jsonl", "--ordered", "--limit", "6").exit_code == 1
    assert ids_of(folder / "requests.results.jsonl") == TEN[:6]
    assert headway("run", "requests.jsonl", "--ordered").exit_code == 1
    assert ids_of(folder / "requests.results.jsonl") == TEN
    assert len(llmock.requests) == 10


# -- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "compress"),
    [("in.jsonl.gz", gzip.compress), ("in.jsonl.zst", zstandard.ZstdCompressor().compress)],
)
def test_compressed_input(name: str, compress: Any, folder: Path) -> None:
    (folder / name).write_bytes(compress(requests(10)))
    assert headway("run", name).exit_code == 0
    assert sorted(ids_of(folder / "in.results.jsonl")) == TEN
    piped = run_process("run", "-", stdin=compress(requests(10)))
    assert sorted(ids_of(piped.stdout)) == TEN
    (folder / "in.jsonl").write_bytes(compress(requests(10)))
    refused = headway("run", "in.jsonl")
    assert refused.exit_code == 2
    assert said(refused).endswith(f"Fix: rename it: mv in.jsonl {name}")


def test_a_table_with_a_template(llmock: LLMock, folder: Path) -> None:
    (folder / "in.csv").write_text('id,text,to\na,"one, two",French\nb,"a\nbreak",Dutch\n')
    result = headway(
        "run", "in.csv", "--template", "Say {text} in {to}", "--system", "Be brief.",
        "--param", "temperature=0", "--param", "stop=END", "--param", "user=NaN",
        "--model", "m-1", "--id-column", "id",
    )  # fmt: skip
    assert result.exit_code == 0, said(result)
    assert sorted(ids_of(folder / "in.results.jsonl")) == ["a", "b"]
    one = next(body for body in bodies(llmock) if "one" in str(body))
    assert one == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Say one, two in French"},
        ],
        "temperature": 0,
        "stop": "END",
        "user": "NaN",
    }


def test_a_column_of_prompts(llmock: LLMock, folder: Path) -> None:
    (folder / "in.csv").write_text("text\nhello\n\n")
    result = headway("run", "in.csv", "--prompt-column", "text", "--model", "m")
    assert result.exit_code == 0, said(result)
    assert bodies(llmock)[0]["messages"] == [{"role": "user", "content": "hello"}]
    missing = headway("run", "in.csv", "--prompt-column", "words", "--model", "m", "-o", "o.jsonl")
    assert missing.exit_code == 2
    assert "words" in said(missing)
    nobody = headway("run", "in.csv", "--prompt-column", "text", "-o", "o.jsonl")
    assert "a table of prompts names no model. Fix: give one with --model" in said(nobody)


def test_prompts_from_standard_input(llmock: LLMock) -> None:
    jsonl = b'{"p": "hello"}\n{"p": "bye"}\n'
    result = run_process("run", "-", "--prompt-column", "p", "--model", "m", stdin=jsonl)
    assert result.returncode == 0
    assert sorted(body["messages"][0]["content"] for body in bodies(llmock)) == ["bye", "hello"]


def test_bodies_alone(llmock: LLMock, folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"model": "m", "input": "x"}\n{"input": "y"}\n')
    arguments = ("run", "in.jsonl", "--endpoint", "embeddings", "--model", "e", "--base-url")
    result = headway(*arguments, llmock.url)
    assert result.exit_code == 0, said(result)
    assert sorted(ids_of(folder / "in.results.jsonl")) == ["1", "2"]
    assert {record.path for record in llmock.requests} == {"/v1/embeddings"}
    assert sorted(body["model"] for body in bodies(llmock)) == ["e", "m"]


# -- shards ------------------------------------------------------------------------------------


def test_shards_are_merged(llmock: LLMock, folder: Path) -> None:
    lines = [json.dumps(request_line(number)) for number in range(10)]
    (folder / "in.jsonl").write_text("\n".join([*lines[:4], "", "{oops", *lines[4:]]) + "\n")
    outputs = [f"in.results.{index}-of-3.jsonl" for index in range(3)]
    codes = [headway("run", "in.jsonl", "--shard", f"{index}/3").exit_code for index in range(3)]
    assert sorted(codes) == [0, 0, 1]
    assert len(llmock.requests) == 10
    result = headway("merge", *reversed(outputs), "-o", "all.jsonl")
    assert result.exit_code == 0, said(result)
    assert said(result) == "all.jsonl: 11 rows, 1 of them failed"
    rows = rows_of(folder / "all.jsonl")
    assert [row["custom_id"] for row in rows] == [*TEN[:4], None, *TEN[4:]]
    assert [row["error"]["code"] for row in rows_of(folder / "all.errors.jsonl")] == [
        "invalid_json"
    ]
    for arguments, message in (
        (
            (*outputs, "-o", "all.jsonl"),
            "all.jsonl exists already. Fix: give another file with -o, or",
        ),
        (
            (*outputs[:2], "-o", "x.jsonl"),
            "shards are missing: 2/3. Fix: give the results of all of",
        ),
        (("nothing", "-o", "x.jsonl"), "nothing is no output of a run with a journal beside it"),
    ):
        refused = headway("merge", *arguments)
        assert refused.exit_code == 2
        assert f"headway: {message}" in said(refused)
    assert headway("merge", *outputs, "-o", "all.jsonl", "--overwrite").exit_code == 0


def test_a_shard_that_is_not_done_is_told(llmock: LLMock, folder: Path) -> None:
    lines = (json.dumps(request_line(number, max_tokens=9)) for number in range(10))
    (folder / "requests.jsonl").write_text("\n".join(lines))
    outputs = [f"requests.results.{index}-of-2.jsonl" for index in range(2)]
    assert headway("run", "requests.jsonl", "--shard", "0/2").exit_code == 0
    half = headway(
        "run", "requests.jsonl", "--shard", "1/2", "--concurrency", "1", "--max-tokens", "70"
    )
    assert half.exit_code == 1
    merged = headway("merge", *outputs, "-o", "all.jsonl")
    assert merged.exit_code == 2
    assert said(merged) == (
        "headway: requests.results.1-of-2.jsonl has rows for 3 of its 5 lines. Fix: run that "
        "shard to "
        "its end first, or merge what is there with --partial"
    )
    assert not (folder / "all.jsonl").exists()
    merged = headway("merge", *outputs, "-o", "all.jsonl", "--partial")
    assert said(merged) == "all.jsonl: 8 rows, 0 of them failed, 2 lines have no row"
    assert ids_of(folder / "all.jsonl") == TEN[:8]


# -- check -------------------------------------------------------------------------------------


def test_a_check_sends_nothing(llmock: LLMock, folder: Path) -> None:
    result = headway("run", "requests.jsonl", "--check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[:3] == [
        "10 lines: 10 can be sent, 0 cannot",
        "            10 to /v1/chat/completions",
        "            10 for m",
    ]
    (folder / "bad.jsonl").write_bytes(requests(3) + b"{oops\n" * 5 + requests(1))
    result = headway("run", "bad.jsonl", "--check")
    assert result.exit_code == 1
    assert "9 lines: 3 can be sent, 6 cannot" in result.stdout
    assert "5 invalid_json:\n  line 4 is not valid JSON" in result.stdout
    assert "  and 2 more" in result.stdout
    assert "line 9 has the custom_id 'q0', which line 1 has too" in result.stdout
    piped = run_process("run", "-", "--check", stdin=requests(2))
    assert piped.stdout.startswith(b"2 lines: 2 can be sent, 0 cannot\n")
    assert headway("run", "no.jsonl", "--check").exit_code == 2
    assert not llmock.requests
    assert sorted(path.name for path in folder.iterdir()) == ["bad.jsonl", "requests.jsonl"]


# -- json --------------------------------------------------------------------------------------


def test_json_is_all_that_standard_output_has(llmock: LLMock, folder: Path) -> None:
    llmock.fail(400, times=1)
    result = headway("run", "requests.jsonl", "--json")
    assert result.exit_code == 1
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["progress"] * (len(events) - 1) + ["end"]
    assert events[0]["total"] == 10
    end = events[-1]
    assert (end["done"], end["failed"], end["remaining"]) == (9, {"http_400": 1}, 0)
    assert (end["input"], end["output"]) == ("requests.jsonl", "requests.results.jsonl")
    assert end["tokens"] == end["input_tokens"] + end["output_tokens"] > 0
    assert end["stopped"] is None
    assert "done" not in result.stderr


def test_json_stands_aside_for_rows(folder: Path) -> None:
    result = run_process("run", "requests.jsonl", "-o", "-", "--json")
    assert sorted(ids_of(result.stdout)) == TEN
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert events[-1]["event"] == "end"
    assert events[-1]["done"] == 10


def test_json_says_why_a_run_ended(llmock: LLMock, folder: Path) -> None:
    llmock.fail(401, times=None, message="no")
    result = headway("run", "requests.jsonl", "--json")
    assert result.exit_code == 2
    end = json.loads(result.stdout.splitlines()[-1])
    assert (end["event"], end["remaining"]) == ("end", 10)
    assert end["stopped"].startswith("the provider refuses the key (401: no)")


# -- report ------------------------------------------------------------------------------------


def test_a_report_of_a_run(llmock: LLMock, folder: Path) -> None:
    llmock.fail(400, times=1, message="a secret message")
    assert headway("run", "requests.jsonl").exit_code == 1
    result = headway("report", "requests.results.jsonl")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "report.html\n", "")
    page = (folder / "report.html").read_text()
    assert "http_400" in page
    assert "a secret message" in page
    arguments = ("report", "requests.results.run", "-o", "r.html", "--redact")
    assert headway(*arguments).exit_code == 0
    assert "a secret message" not in (folder / "r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "nothing does not exist. Fix: give the results file of a run"),
        (("requests.jsonl",), "requests.jsonl has no measurements beside it"),
    ],
)
def test_a_report_of_no_run(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    result = headway("report", *arguments)
    assert result.exit_code == 2
    assert f"headway: {message}" in said(result)
    assert not (folder / "report.html").exists()


# -- plan --------------------------------------------------------------------------------------


def test_a_plan_before_and_after_a_run(llmock: LLMock, folder: Path) -> None:
    before = headway("plan", "requests.jsonl", "--rate", "60/min")
    assert before.exit_code == 0
    assert before.stdout.startswith("10 requests would take ")
    assert "10 requests state no max_tokens: 500 a piece." in before.stdout
    assert not llmock.requests
    assert headway("run", "requests.jsonl", "--limit", "5").exit_code == 0
    used = sum(row["response"]["body"]["usage"]["completion_tokens"] for row in rows_of(
        folder / "requests.results.jsonl"
    ))  # fmt: skip
    after = headway("plan", "requests.jsonl", "--rate", "60/min", "--json")
    planned = json.loads(after.stdout)
    assert planned["output_tokens"] == pytest.approx(2 * used)
    assert planned["requests"] == 10
    assert planned["seconds"] == pytest.approx(9, abs=1)
    assert max(planned["binds"], key=planned["binds"].get) == "requests"
    assert "Tokens are as earlier runs used them (5 answers)." in planned["assumed"]
    (folder / "other.jsonl").write_bytes(requests(4))
    like = headway("plan", "other.jsonl", "--like", "requests.results.jsonl")
    assert "(5 answers)" in like.stdout
    unlike = headway("plan", "other.jsonl", "--like", "other.jsonl")
    assert unlike.exit_code == 2
    assert "other.jsonl is no run of which anything is known" in said(unlike)


def test_a_plan_of_standard_input_with_prices(folder: Path) -> None:
    (folder / "prices.toml").write_text("[m]\ninput = 1\noutput = 1000\n")
    result = run_process("plan", "-", "--prices", "prices.toml", stdin=requests(10))
    assert result.returncode == 0
    assert b"cost       $5" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no.jsonl",), "no.jsonl does not exist. Fix: check the path"),
        (("requests.jsonl", "--rate", "fast"), "--rate 'fast': a rate is a number and a period"),
        (("requests.jsonl", "--prices", "no.toml"), "no.toml: cannot be read"),
        (("requests.jsonl", "--concurrency", "0"), "--concurrency 0 is not a whole number from 1"),
    ],
)
def test_no_plan(arguments: tuple[str, ...], message: str) -> None:
    result = headway("plan", *arguments)
    assert result.exit_code == 2
    assert f"headway: {message}" in said(result)


# -- probe -------------------------------------------------------------------------------------


def test_a_probe_prints_what_to_run_with(llmock: LLMock) -> None:
    llmock.limits(rpm=600, tpm=100_000)
    result = headway("probe", "--model", "m", "--provider", "openai", "--base-url", llmock.url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert 'Scheduler("600/min", tokens="100k/min")' in result.stdout
    (flags,) = (line for line in result.stdout.splitlines() if "headway run" in line)
    assert "--rate 600/min --tokens 100k/min" in flags
    assert len(llmock.requests) <= 5
    shown = flags.split()[1:]
    assert headway(*shown[:2], *shown[-4:], "--base-url", llmock.url).exit_code == 0


def test_a_probe_that_fails(llmock: LLMock, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("probe", "--model", "m")
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://127.0.0.1:1")
    away = headway(*arguments)
    assert away.exit_code == 2
    assert said(away).startswith("headway: ")
    assert "Traceback" not in said(away)
    llmock.fail(401, times=None, message="bad key")
    refused = headway(*arguments, "--base-url", llmock.url)
    assert refused.exit_code == 2
    assert "bad key" in said(refused)
    monkeypatch.delenv("TOGETHER_API_KEY")
    assert "export TOGETHER_API_KEY=…" in said(headway(*arguments))
