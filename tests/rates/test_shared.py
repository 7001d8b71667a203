"""Where limits are shared, as a user says it."""

from __future__ import annotations

from typing import Any

import pytest

from headway import Scheduler, Shared
from headway.errors import InvalidArgument
from headway.providers import InvalidSettings


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), True, "2", None, 10_000])
def test_a_weight_that_is_none(weight: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is no weight of a worker: a number from 0\.001"):
        Shared("acme", weight=weight)


def test_what_happens_without_the_store_is_one_of_three() -> None:
    with pytest.raises(InvalidArgument, match=r'away=\'maybe\' is not known\. Fix: "share"'):
        Shared("acme", away="maybe")  # type: ignore[arg-type]


def test_it_is_shown_without_credentials() -> None:
    for address, shown in {
        "valkey://u:sesame@host/acme": "valkey://host/acme",
        "rediss://u:ses@a/me@host/acme?db=1": "rediss://…",
        "postgresql:///db/acme?host=/tmp&password=sesame": "postgresql:///db/acme",
    }.items():
        assert repr(Shared(address, weight=2)) == f"Shared(where='{shown}', weight=2, away='share')"
    assert repr(Shared("acme")) == "Shared(where='acme', weight=1.0, away='share')"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "is neither a name nor an address"),
        ("  ", "is neither a name nor an address"),
        ("http://host/x", "http:// is no store that headway knows"),
        ("mysql://user:secret@host/x", "mysql:// is no store that headway knows"),
        ("sqlite://", "names no file"),
        ("sqlite://host/x.db", "names no file"),
        ("x" * 2000, "the name has 2000 characters"),
        ("nul\0", "is no name"),
    ],
)
def test_a_place_that_is_none(where: str, message: str) -> None:
    with pytest.raises(InvalidSettings, match=message) as error:
        Scheduler("600/min", shared=where)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("shared", [1, b"acme", ["acme"]])
def test_what_is_no_place_at_all(shared: Any) -> None:
    with pytest.raises(InvalidArgument, match="is neither a name nor an address"):
        Scheduler("600/min", shared=shared)


def test_what_remains_is_not_one_workers_to_spend() -> None:
    with pytest.raises(InvalidArgument, match="of shared limits others"):
        Scheduler("600/min", shared="acme", eager=True)
