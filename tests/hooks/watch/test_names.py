"""No secret and nothing that moves a cursor leaves the process, and each key can be named."""

from __future__ import annotations

import asyncio

import pytest

from headway import Retry, Scheduler
from headway.errors import HeadwayError
from headway.hooks.watch.names import clean_statistics, key_named, safe_names

KEY = "sk-" + "a" * 20
OTHER = "sk-" + "b" * 20


def test_keys_are_made_safe() -> None:
    scheduler = Scheduler()
    scheduler._shell.state.flow(KEY)
    found = clean_statistics(scheduler)
    assert [*found["keys"]] == ["***"]


PROMPT = "Dear Ms Miller"


@pytest.mark.parametrize(
    ("status", "cause"),
    [(429, "refused (rate)"), (401, "every call would fail (auth)"), (503, "refused (capacity)")],
)
def test_why_quotes_nobody(status: int, cause: str) -> None:
    async def ask() -> None:
        error = RuntimeError(f"no answer to: {PROMPT}")
        error.status_code = status  # type: ignore[attr-defined]
        raise error

    scheduler = Scheduler(retry=Retry(patience=0))
    with pytest.raises((RuntimeError, HeadwayError)):
        asyncio.run(scheduler.submit(ask))
    assert PROMPT in scheduler.statistics().why
    assert clean_statistics(scheduler)["why"] == cause
    assert PROMPT not in str(clean_statistics(scheduler))


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
