"""An error says what, why and its fix, and stays the same when it is copied or pickled."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import pkgutil
import re
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import pytest
from packages import imported
from sources import SOURCE, parsed

import headway
from headway import Latched, Refused, Scheduler
from headway.errors import DeadlineExceeded, HeadwayError, InvalidLimit, Unavailable


def kinds(root: type[HeadwayError] = HeadwayError) -> Iterator[type[HeadwayError]]:
    yield root
    for one in root.__subclasses__():
        if one.__module__.split(".")[0] == "headway":
            yield from kinds(one)


@pytest.fixture(scope="module")
def all_kinds() -> list[type[HeadwayError]]:
    """Of every module, imported when a test asks, and not in each process that collects."""
    for module in pkgutil.walk_packages(headway.__path__, "headway."):
        # The last imports an SDK, and has no kinds of its own: `test_together` sees to that.
        if module.name not in ("headway.__main__", "headway.together"):
            imported(module.name)
    return sorted(set(kinds()), key=lambda kind: f"{kind.__module__}.{kind.__name__}")


WAYS: dict[str, Callable[[Any], Any]] = {
    "copied": copy.copy,
    "copied with what it holds": copy.deepcopy,
    **{
        f"pickled by protocol {number}": lambda error, number=number: pickle.loads(
            pickle.dumps(error, number)
        )
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def made(kind: type[HeadwayError], fix: str) -> HeadwayError:
    """One of that kind, with whatever else it takes."""
    taken = inspect.signature(kind).parameters
    more = [
        f"the {name}"
        for name, one in list(taken.items())[1:]
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    return kind("what, and why", *more, **({"fix": fix} if "fix" in taken else {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_an_error_is_the_same_when_it_is_made_again(
    all_kinds: list[type[HeadwayError]], way: Callable[[Any], Any]
) -> None:
    wrong = [
        f"{kind.__name__}, fix {fix!r}: {problem}"
        for kind in all_kinds
        for fix in ("", "do that.")
        for problem in changed(kind, fix, way)
    ]
    assert wrong == []


def changed(kind: type[HeadwayError], fix: str, way: Callable[[Any], Any]) -> Iterator[str]:
    """What is not the same of one that is made again."""
    try:
        error = made(kind, fix)
        error.add_note("tried twice")
        again = way(error)
    except Exception as problem:
        yield repr(problem)
        return
    if again is error:
        yield "is no other"
    if type(again) is not kind:
        yield f"is a {type(again)}"
    for what in (str, attrgetter("args"), vars):
        if what(again) != what(error):
            yield f"{what(again)!r} is not {what(error)!r}"


def test_every_kind_of_error_was_found(all_kinds: list[type[HeadwayError]]) -> None:
    names = {kind.__name__ for kind in all_kinds}
    assert names >= {
        "InvalidLimit",
        "Latched",
        "Refused",
        "InvalidInput",
        "NoAnswer",
        "ProbeFailed",
    }


@pytest.mark.parametrize("kind", [HeadwayError, InvalidLimit, DeadlineExceeded, Unavailable])
def test_the_text_is_what_and_the_fix(kind: type[HeadwayError]) -> None:
    assert str(kind("it is late", fix="go home.")) == "it is late. Fix: go home."
    assert str(kind("it is late")) == "it is late"
    assert kind("it is late", fix="go home.").what == "it is late"
    assert kind("it is late").fix == ""
    assert str(kind()) == ""


def test_what_an_error_holds() -> None:
    latched = Latched("the key is wrong", headway.Kind.AUTH, fix="another key.")
    assert (str(latched), latched.kind) == ("the key is wrong. Fix: another key.", "auth")
    refused = Refused("a refusal", {"error": 1})
    assert (str(refused), refused.result) == ("a refusal", {"error": 1})


def test_the_fix_of_an_error_that_is_raised() -> None:
    with pytest.raises(InvalidLimit) as raised:
        headway.Retry(attempts=0)
    assert raised.value.fix == "attempts=5, or attempts=1 for no retries."
    assert "Fix" not in raised.value.what


@pytest.mark.asyncio
async def test_the_fix_of_a_closed_scheduler() -> None:
    scheduler: Scheduler = Scheduler()
    await scheduler.aclose()

    async def never() -> None:
        raise AssertionError

    with pytest.raises(headway.SchedulerClosed) as raised:
        await scheduler.submit(never)
    assert raised.value.fix == "make a new Scheduler, or close it later."


@pytest.mark.usefixtures("all_kinds")
def test_a_wrong_argument_and_a_missing_extra_have_a_fix() -> None:
    names = {kind.__name__ for kind in (*kinds(headway.InvalidArgument), headway.MissingExtra)}
    without = [
        f"{path}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for node in parsed(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in names
        and not any(each.arg == "fix" for each in node.keywords)
    ]
    assert not without


def test_fixes_have_one_writer() -> None:
    assert [path.name for path in SOURCE.rglob("*.py") if "Fix: " in path.read_text("utf-8")] == [
        "_words.py"
    ]


def test_no_prose_is_parsed_back() -> None:
    parses = re.compile(r"""(partition|split|find|index)\(["'][^"']*Fix""")
    for path in SOURCE.rglob("*.py"):
        assert not parses.search(path.read_text(encoding="utf-8")), path
