"""Which store a name, or an address, means."""

from __future__ import annotations

import re

from headway.kinds._words import hidden, shown
from headway.providers import InvalidSettings
from headway.shared.stores import Store

__all__ = ["forget_here", "names_here", "open_store"]

_SCHEMES = ("sqlite", "valkey", "valkeys", "redis", "rediss", "postgresql", "postgres")
_MEANT = re.compile(rf"(?i:{'|'.join(_SCHEMES)}):|\S+:\S+@\S+$|[\w.-]+:\d+/")
_FIX = (
    'a name such as "my-account" for this machine, or an address: '
    '"valkey://host:6379/my-account", "postgresql://host/database/my-account", '
    '"sqlite:///folder/my-account.db".'
)


def open_store(where: object) -> tuple[Store, str]:
    """The store that `where` names, and the name of the ledger in it. Nothing is opened yet.

    Raises `InvalidSettings` for what is neither a name nor an address that is known.
    """
    if not isinstance(where, str) or not where.strip():
        raise InvalidSettings(f"shared={shown(where)} is neither a name nor an address", fix=_FIX)
    scheme, found, _ = where.partition("://")
    if not found and _MEANT.match(where):
        raise InvalidSettings(
            f"shared={shown(hidden('://' + where).removeprefix('://'))} is an address that lacks "
            "its :// and so would be a name on this machine",
            fix=_FIX,
        )
    if not found:
        from headway.shared.stores.sqlite import SqliteStore

        return SqliteStore.of_name(where), "limits"
    if re.search(r"[\x00-\x1f\x7f]", where):  # parsers of addresses leave some of them out
        raise InvalidSettings(
            f"shared={shown(hidden(where))} has a character that no address has",
            fix="%-encode it: a new line is %0A.",
        )
    if scheme not in _SCHEMES:
        raise InvalidSettings(
            f"shared={shown(hidden(where))}: {scheme}:// is no store that headway knows", fix=_FIX
        )
    if scheme == "sqlite":
        from headway.shared.stores.sqlite import SqliteStore

        return SqliteStore.of_url(where), "limits"
    if scheme.startswith("postgres"):
        from headway.shared.stores.postgres import PostgresStore

        return PostgresStore.of_url(where)
    from headway.shared.stores.valkey import ValkeyStore

    return ValkeyStore.of_url(where)


def names_here() -> list[str]:
    """The names under which processes of this user share limits on this machine."""
    from headway.shared.stores.sqlite import SqliteStore

    return SqliteStore.names_here()


def forget_here(name: str) -> None:
    """Remove what is kept under `name` on this machine, which nobody shares any more."""
    from headway.shared.stores.sqlite import SqliteStore

    SqliteStore.of_name(name).remove()
