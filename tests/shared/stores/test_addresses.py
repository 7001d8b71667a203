"""What an address names, and says beside it."""

from __future__ import annotations

import pytest

from headway.providers import InvalidSettings
from headway.shared.stores.addresses import ledger_name, no_name, parameters

URL = "valkey://u:sesame@host/acme?db=1&color=red"


def test_a_name_is_read_as_it_was_meant() -> None:
    assert ledger_name("a%20b{c}", "valkey://host/a%20b{c}") == "a b{c}"
    assert no_name("x" * 1000) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/ ", "it does not say what the limits are called"),
        ("x" * 1001, "the name has 1001 characters, and may have 1000"),
        ("a%00b", "the name has a character that stands for nothing"),
    ],
)
def test_a_name_that_is_none(name: str, why: str) -> None:
    with pytest.raises(InvalidSettings) as told:
        ledger_name(name, URL)
    assert str(told.value).startswith(f"shared='valkey://host/acme': {why}. Fix: ")


def test_parameters_are_known() -> None:
    assert parameters(URL, {"db", "color"}) == {"db": "1", "color": "red"}
    with pytest.raises(InvalidSettings) as told:
        parameters(URL, {"db"})
    assert str(told.value) == (
        "shared='valkey://host/acme': the parameter 'color' is not known. Fix: one of db, or leave "
        "it out."
    )
