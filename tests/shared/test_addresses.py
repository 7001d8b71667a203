"""What is shown of an address holds no credential, whatever stands where."""

from __future__ import annotations

import pytest

from headway.shared.addresses import hidden


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("valkey://u:sesame@host:6379/acme?db=1#x", "valkey://host:6379/acme"),
        ("valkey://u:p@sesame@host/acme", "valkey://host/acme"),
        ("valkey://u:ses/ame@host/acme", "valkey://…"),
        ("valkey://u:ses?ame@host/acme", "valkey://…"),
        ("valkey://u:ses#ame@host/acme", "valkey://…"),
        ("postgresql:///db/acme?host=/tmp&password=sesame", "postgresql:///db/acme"),
        ("postgresql://h/db/acme?options=a@b&password=sesame", "postgresql://…"),
        ("valkey://[::1]:7000/acme", "valkey://[::1]:7000/acme"),
        ("valkey://", "valkey://…"),
    ],
)
def test_credentials_are_hidden(url: str, shown: str) -> None:
    assert hidden(url) == shown
