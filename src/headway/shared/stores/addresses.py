"""The addresses of stores: what they name, and say beside it."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl, unquote, urlsplit

from headway.kinds._words import hidden, shown
from headway.providers import InvalidSettings

__all__ = ["ledger_name", "no_name", "parameters"]

_LONGEST = 1000


def ledger_name(path: str, url: str) -> str:
    """The name of a ledger, as the last of `url` says it. Raises `InvalidSettings` for none."""
    name = unquote(path)
    why = no_name(name)
    if why:
        raise InvalidSettings(
            f"shared={shown(hidden(url))}: {why}",
            fix='the address ends with a name: "…/my-account".',
        )
    return name


def no_name(name: str) -> str:
    """Why `name` can be none of a ledger; "" where it can."""
    if not name.strip("/ "):
        return "it does not say what the limits are called"
    if len(name) > _LONGEST:
        return f"the name has {len(name)} characters, and may have {_LONGEST}"
    if "\0" in name or not _encodable(name):
        return "the name has a character that stands for nothing"
    return ""


def parameters(url: str, known: Collection[str]) -> dict[str, str]:
    """The parameters of `url`. Raises `InvalidSettings` for one that is not `known`."""
    found = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    for name in found:
        if name not in known:
            raise InvalidSettings(
                f"shared={shown(hidden(url))}: the parameter {shown(name)} is not known",
                fix=f"one of {', '.join(sorted(known))}, or leave it out.",
            )
    return found


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
