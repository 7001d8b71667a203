"""No secret and nothing that moves a cursor leaves the process, and each key can be named."""

from __future__ import annotations

import pytest

from headway import Scheduler
from headway.errors import HeadwayError
from headway.hooks.watch.names import clean_statistics, key_named, safe_names

KEY = "sk-" + "a" * 20
OTHER = "sk-" + "b" * 20


def test_texts_are_made_safe() -> None:
    scheduler = Scheduler()
    scheduler._shell.state.flow(KEY)
    scheduler._shell.state.refusals.why = f"\x1b[2J {KEY}"
    found = clean_statistics(scheduler.statistics())
    assert found["why"] == r"\x1b[2J ***"
    assert [*found["keys"]] == ["***"]


def test_names_that_look_alike_are_numbered() -> None:
    assert safe_names(["chat", KEY, OTHER]) == {"chat": "chat", KEY: "***", OTHER: "*** (2)"}


@pytest.mark.parametrize(
    ("said", "key"), [("*** (2)", OTHER), ("1", 1), ("1 (str)", "1"), ("('a', 2)", ("a", 2))]
)
def test_a_key_is_found_by_what_is_shown(said: str, key: object) -> None:
    scheduler = Scheduler()
    for each in (KEY, OTHER, 1, "1", ("a", 2)):
        scheduler._shell.state.flow(each)
    assert key_named(scheduler, said) == key


def test_one_that_is_not_there() -> None:
    scheduler = Scheduler()
    scheduler._shell.state.flow("chat")
    with pytest.raises(HeadwayError, match=r"no job had the key 'x'. Fix: one of: chat\."):
        key_named(scheduler, "x")
