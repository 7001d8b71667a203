"""What a check counts of an input."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headway import bulk
from headway.bulk.input.check import Check, check


def checked(folder: Path, lines: Iterable[Any]) -> Check:
    path = folder / "in.jsonl"
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    source = bulk.open_source(path, bulk.Shape())
    try:
        return check(source)
    finally:
        source.close()


def line(name: str, model: str | None = "m", url: str = "/v1/chat/completions", **body: Any) -> Any:
    named = {} if model is None else {"model": model}
    message = {"role": "user", "content": "hello"}
    return {
        "custom_id": name, "method": "POST", "url": url,
        "body": {**named, "messages": [message], **body},
    }  # fmt: skip


def test_lines_are_counted_by_url_and_by_model(tmp_path: Path) -> None:
    other = "/v1/completions"
    found = checked(
        tmp_path, [line("a"), line("b"), line("c", "n", url=other), line("d", None, url=other)]
    )
    assert found.lines == 4
    assert found.urls == {"/v1/chat/completions": 2, other: 2}
    assert found.models == {"m": 2, "n": 1, "(none)": 1}
    assert found.errors == {}


def test_tokens_are_four_bytes_each_and_the_most_is_summed(tmp_path: Path) -> None:
    body = len(json.dumps(line("a", max_tokens=40)["body"]))
    found = checked(tmp_path, [line("a", max_tokens=40), line("b", max_tokens=60), line("c")])
    plain = len(json.dumps(line("c")["body"]))
    assert found.input_tokens == 2 * (body // 4) + plain // 4
    assert found.max_tokens == 100


def test_the_largest_line_is_in_bytes_whether_it_can_be_sent_or_not(tmp_path: Path) -> None:
    long = '{"custom_id": "é", ' + " " * 900
    found = checked(tmp_path, [line("a"), long])
    assert found.largest_line == len(long.encode())
    assert found.lines == 2
    assert found.errors["invalid_json"][0] == 1


def test_an_error_is_counted_and_shown_three_times(tmp_path: Path) -> None:
    found = checked(tmp_path, [line("same")] + [line("same")] * 5)
    count, examples = found.errors["duplicate_custom_id"]
    assert count == 5
    assert [f"line {n}" in said for n, said in zip((2, 3, 4), examples, strict=True)] == [True] * 3
    assert found.models == {"m": 1}


def test_models_beyond_a_thousand_are_others(tmp_path: Path) -> None:
    models = [*(f"m{n}" for n in range(1003)), "m0", "m1002"]
    found = checked(tmp_path, [line(f"q{n}", model) for n, model in enumerate(models)])
    assert len(found.models) == 1001
    assert found.models["m0"] == 2
    assert found.models["other"] == 4
