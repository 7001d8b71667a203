"""Options in the words of the command line: parameters, limits, shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headway.bulk import InvalidInput, Shape
from headway.cli.command.options import endpoint, limits, parameters, shape
from headway.errors import InvalidLimit
from headway.providers import InvalidSettings
from headway.rates import Limits


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("temperature=0", "temperature", 0),
        ("stop=[1, 2]", "stop", [1, 2]),
        ("a=b=c", "a", "b=c"),
        ("user=me", "user", "me"),
        ('user="7"', "user", "7"),
        ("x=", "x", ""),
        ("x=NaN", "x", "NaN"),  # which JSON has not
        ("x=null", "x", None),
    ],
)
def test_a_parameter_is_json_where_it_can_be(text: str, name: str, value: object) -> None:
    assert parameters([text]) == {name: value}


def test_of_two_parameters_of_one_name_the_last_one_counts() -> None:
    assert parameters(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("temperature", "a --param is not KEY=VALUE"),
        ("=1", "a --param is not KEY=VALUE"),
        ("model=m", "--param model would take the place of the model. Fix: use --model"),
        ("messages=[]", "Fix: use --prompt-column, --template and --system"),
        ("stream=true", "the answer by a stream, which is not one row. Fix: leave it out"),
    ],
)
def test_what_is_no_parameter(text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parameters([text])
    assert says in str(caught.value)


def test_headers_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "headers.txt"
    file.write_text("\ufeffAuthorization: Bearer a-secret\r\n\n  x-team :search\n", "utf-8")
    found = endpoint(None, "http://x", ["X-Team: other", f"@{file}", "a: b"])
    wanted = {"authorization": "Bearer a-secret", "x-team": "search", "a": "b"}
    assert dict(found.headers).items() >= wanted.items()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read the headers in {}: No such file or directory. Fix: give a file with "
               "one Name: value a line"),
        (b"\xff\xfe\xff", "cannot read the headers in {}: it is no text"),
        (b"a: b\nBearer a-secret\n", "a --header is not Name: value"),
    ],
)  # fmt: skip
def test_files_that_hold_no_headers(content: bytes | None, says: str, tmp_path: Path) -> None:
    file = tmp_path / "headers.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidSettings) as caught:
        endpoint(None, "http://x", [f"@{file}"])
    assert str(caught.value).startswith(says.format(file))
    assert "secret" not in str(caught.value)


def test_a_shape_has_all_that_was_said() -> None:
    assert shape("chat", "m", "p", "i", None, "s", ["n=2"]) == Shape(
        endpoint="chat", model="m", prompt_column="p", id_column="i", system="s",
        parameters={"n": 2},
    )  # fmt: skip
    assert shape(None, None, None, None, None, None, None) == Shape()


def test_limits_are_those_of_the_library() -> None:
    assert limits(["600/min"], ["180k/min"], 8) == Limits(
        "600/min", tokens="180k/min", concurrency=8
    )
    assert limits(["30/min", "1000/day"], None, 8).quotas == Limits("1000/day").requests
    assert limits(None, None, 32) == Limits(concurrency=32)
    assert limits(None, None, 8, ["100k/min"], ["20k/min"]) == Limits(
        input_tokens="100k/min", output_tokens="20k/min", concurrency=8
    )


@pytest.mark.parametrize(
    ("of_class", "fix"),
    [
        ((["100k"], None), "--input-tokens 100k/min"),
        ((None, ["fast"]), "--output-tokens 20k/min"),
    ],
)
def test_a_limit_of_a_class_that_is_none_is_named_by_its_option(of_class: Any, fix: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        limits(None, None, 8, *of_class)
    assert caught.value.what.startswith(fix.partition(" ")[0])
    assert str(caught.value).endswith(f"Fix: {fix}")


@pytest.mark.parametrize(
    ("rate", "tokens", "concurrency", "option", "fix"),
    [
        (["600"], None, 1, "--rate ", "--rate 600/min"),
        (["fast"], None, 1, "--rate ", "--rate 600/min"),
        (None, ["180k"], 1, "--tokens ", "--tokens 180k/min"),
        (None, [""], 1, "--tokens ", "--tokens 180k/min"),
        (None, None, 0, "--concurrency ", "--concurrency 32"),
    ],
)
def test_a_limit_that_is_none_is_named_by_its_option(
    rate: list[str] | None, tokens: list[str] | None, concurrency: int, option: str, fix: str
) -> None:
    with pytest.raises(InvalidLimit) as caught:
        limits(rate, tokens, concurrency)
    assert caught.value.what.startswith(option)
    assert "concurrency=" not in caught.value.what
    assert str(caught.value).endswith(f"Fix: {fix}")
