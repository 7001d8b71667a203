"""The options of a bulk run are checked when they are made, and are the flags of the command."""

from __future__ import annotations

import dataclasses
import inspect
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from headway import InvalidArgument, InvalidLimit, Scheduler, bulk
from headway.bulk import RunOptions
from headway.bulk import options as module
from headway.cli import build, run

REFUSED = [
    ({"limit": 0}, "limit=0 is no number of lines: a whole number from 1",
     "limit=1000, or None for no bound."),
    ({"limit": True}, "limit=True is no number of lines: a whole number from 1",
     "limit=1000, or None for no bound."),
    ({"limit": 1.5}, "limit=1.5 is no number of lines: a whole number from 1",
     "limit=1000, or None for no bound."),
    ({"max_tokens": -1}, "max_tokens=-1 is no number of tokens: a whole number from 1",
     "max_tokens=1000, or None for no bound."),
    ({"max_tokens": "1k"}, "max_tokens='1k' is no number of tokens: a whole number from 1",
     "max_tokens=1000, or None for no bound."),
    ({"max_cost": -0.01}, "max_cost=-0.01 is no sum of money: a number of dollars from 0",
     "max_cost=5.0, or None for no bound."),
    ({"max_cost": math.nan}, "max_cost=nan is no sum of money: a number of dollars from 0",
     "max_cost=5.0, or None for no bound."),
    ({"max_cost": math.inf}, "max_cost=inf is no sum of money: a number of dollars from 0",
     "max_cost=5.0, or None for no bound."),
    ({"max_cost": "$5"}, "max_cost='$5' is no sum of money: a number of dollars from 0",
     "max_cost=5.0, or None for no bound."),
    ({"timeout": 0}, "timeout=0 is no time that an answer may take: a number of seconds above 0",
     "timeout=600, as it is where nothing is said."),
    ({"timeout": math.inf},
     "timeout=inf is no time that an answer may take: a number of seconds above 0",
     "timeout=600, as it is where nothing is said."),
    ({"max_answer": 0}, "max_answer=0 is no number of bytes: a whole number from 1",
     "max_answer=67_108_864, as it is where nothing is said."),
    ({"max_answer": "64MB"}, "max_answer='64MB' is no number of bytes: a whole number from 1",
     "max_answer=67_108_864, as it is where nothing is said."),
    ({"ambiguous": "fail"}, "ambiguous='fail' is no way to treat lines that were in flight",
     'ambiguous="retry" to send them again, or ambiguous="report".'),
    ({"ordered": "no"}, "ordered='no' is not a bool", "ordered=True or ordered=False."),
    ({"overwrite": 1}, "overwrite=1 is not a bool", "overwrite=True or overwrite=False."),
    ({"trust_ids": None}, "trust_ids=None is not a bool", "trust_ids=True or trust_ids=False."),
    ({"retry_failed": "yes"}, "retry_failed='yes' is not a bool",
     "retry_failed=True or retry_failed=False."),
    ({"shape": None}, "shape=None is not a Shape", "shape=Shape(model=...)."),
    ({"shard": "0/8"}, "shard='0/8' is not a Shard",
     "shard=Shard(0, 8), or None for the whole file."),
    ({"prices": "prices.toml"}, "prices='prices.toml' is not a Prices",
     'prices=Prices.read("prices.toml"), or leave it out.'),
]  # fmt: skip


@pytest.mark.parametrize(("options", "what", "fix"), REFUSED)
def test_what_cannot_be_meant(options: dict[str, Any], what: str, fix: str) -> None:
    with pytest.raises(InvalidLimit) as raised:
        RunOptions(**options)
    assert (raised.value.what, raised.value.fix) == (what, fix)


@pytest.mark.parametrize(
    "options",
    [{"max_cost": 0}, {"max_cost": 0.5}, {"max_tokens": 1}, {"limit": 1}, {"ambiguous": "report"},
     {"shard": bulk.Shard(7, 8)}],
)  # fmt: skip
def test_what_can_be_meant(options: dict[str, Any]) -> None:
    made = RunOptions(**options)
    assert {name: getattr(made, name) for name in options} == options
    assert made == dataclasses.replace(made)


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunOptions().limit = 3  # type: ignore[misc]
    with pytest.raises(InvalidLimit):
        dataclasses.replace(RunOptions(), limit=0)
    shape = bulk.Shape(parameters={"temperature": 0})
    assert pickle.loads(pickle.dumps(RunOptions(shape=shape))).shape == shape


def test_each_option_is_documented_where_it_is_a_field() -> None:
    source = Path(module.__file__).read_text(encoding="utf-8")
    for field in dataclasses.fields(RunOptions):
        _, _, after = source.partition(f"\n    {field.name}: ")
        assert after.split("\n")[1].startswith('    """'), field.name


def test_the_run_takes_them_in_place_of_parameters() -> None:
    taken = inspect.signature(bulk.run).parameters
    assert list(taken) == [
        "source", "output", "scheduler", "options", "endpoint", "client", "watch", "drain",
    ]  # fmt: skip


def test_every_option_has_its_flag() -> None:
    flags = set(inspect.signature(run.run).parameters)
    names = {field.name for field in dataclasses.fields(RunOptions)}
    assert names - flags == {"shape"}  # which the flags on lines make
    assert {field.name for field in dataclasses.fields(bulk.Shape)} - flags == {"parameters"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunOptions]:
    """The options with which the command runs."""
    seen: list[RunOptions] = []

    async def instead(*_: object, options: RunOptions, **__: object) -> bulk.Progress:
        seen.append(options)
        raise bulk.InvalidInput("seen")

    monkeypatch.setattr(bulk, "run", instead)
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    return seen


def test_the_flags_become_the_options(asked: list[RunOptions], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    prices = tmp_path / "prices.toml"
    prices.write_text("[m]\ninput = 1\noutput = 2\n")
    flags = (
        "--shard 1/4 --limit 7 --trust-ids --ordered --overwrite --retry-failed --ambiguous report "
        "--keep-going --timeout 30 --max-answer 999 "
        f"--max-cost 2.5 --max-tokens 900 --prices {prices} --model m --param top_p=1"
    )
    result = CliRunner().invoke(build(), ["run", "in.jsonl", *flags.split()])
    assert result.exit_code == 2, result.output
    [options] = asked
    assert options == RunOptions(
        shape=bulk.Shape(model="m", parameters={"top_p": 1}), shard=bulk.Shard(1, 4), limit=7,
        trust_ids=True, ordered=True, overwrite=True, retry_failed=True, ambiguous="report",
        max_cost=2.5, max_tokens=900, prices=options.prices, keep_going=True, timeout=30.0,
        max_answer=999,
    )  # fmt: skip
    assert set(options.prices.own) == {"m"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"source": 3}, 'source=3 is not a path. Fix: the name of a file, or "-".'),
        ({"source": "x", "output": 3}, 'output=3 is not a path. Fix: the name of a file, or "-".'),
        (
            {"source": "x", "options": 3},
            "options=3 is not a RunOptions. Fix: options=headway.bulk.RunOptions(ordered=True).",
        ),
    ],
)
async def test_arguments_of_a_run_that_are_none(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bulk.run(scheduler=Scheduler(), **given)
    assert str(caught.value) == says


def test_a_source_and_a_shape_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(bulk.InvalidInput, match="3 is not a Source"):
        bulk.check(3)  # type: ignore[arg-type]
    with pytest.raises(bulk.InvalidInput, match="shape=3 is not a Shape"):
        bulk.open_source(tmp_path / "x", 3)  # type: ignore[arg-type]
