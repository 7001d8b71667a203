"""A name or an address says which store, and any other text is refused."""

from __future__ import annotations

import pytest

from headway.providers import InvalidSettings
from headway.shared.stores.places import open_store


@pytest.mark.parametrize(
    ("where", "store", "name"),
    [
        ("acme", "SqliteStore", "limits"),
        ("a/b", "SqliteStore", "limits"),
        ("sqlite:///acme.db", "SqliteStore", "limits"),
        ("valkey://host/acme", "ValkeyStore", "acme"),
        ("valkeys://host/acme", "ValkeyStore", "acme"),
        ("redis://host/acme", "ValkeyStore", "acme"),
        ("rediss://host/acme", "ValkeyStore", "acme"),
        ("postgresql://host/database/acme", "PostgresStore", "acme"),
        ("postgres://host/database/acme", "PostgresStore", "acme"),
    ],
)
def test_what_an_address_means(where: str, store: str, name: str) -> None:
    found, ledger = open_store(where)
    assert (type(found).__name__, ledger) == (store, name)


@pytest.mark.parametrize("url", ["mysql://u:sesame@host/acme", "http://:sesame@host/acme"])
def test_a_scheme_that_is_not_known(url: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        open_store(url)
    assert "is no store that headway knows" in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_what_a_parser_of_addresses_leaves_out_is_told() -> None:
    for where in ("valkey://host/a\nb", "sqlite:///a\tb.db", "postgresql://h/d/a\r"):
        with pytest.raises(InvalidSettings, match="has a character that no address has"):
            open_store(where)


def test_an_address_that_lacks_something_is_no_name() -> None:
    for where, said in (
        ("valkey:/u:sesame@host/acme", "…"),
        ("u:sesame@host:6379/acme", "host:6379/acme"),
        ("postgresql:host/database/acme", "postgresql:host/database/acme"),
        ("sqlite:acme.db", "sqlite:acme.db"),
        ("localhost:6379/acme", "localhost:6379/acme"),
    ):
        with pytest.raises(InvalidSettings) as caught:
            open_store(where)
        assert str(caught.value).startswith(f"shared='{said}' is an address that lacks its ://")
        assert "sesame" not in str(caught.value)
    for name in ("team: acme@corp", "me@corp.com", "a:b", "run of 12:30/7"):
        assert open_store(name)[1] == "limits"


@pytest.mark.parametrize("where", ["", "  ", None, 3, b"acme"])
def test_what_is_neither_a_name_nor_an_address(where: object) -> None:
    with pytest.raises(InvalidSettings, match="is neither a name nor an address"):
        open_store(where)
