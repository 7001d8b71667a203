"""Structured fields (RFC 9651): lists and dictionaries of items with parameters.

A field that is malformed is ignored as a whole, as the RFC demands, with one exception: Hugging
Face puts a second name where a parameter belongs (``"fixed window";"api";q=500;w=300``).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

__all__ = ["Date", "Item", "Token", "Value", "parse_dictionary", "parse_list"]


class Token(str):
    """A word without quotes."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Date:
    """A moment, in seconds since the epoch."""

    seconds: int


Value: TypeAlias = int | float | str | bytes | bool | Date
"""A bare item; `str` for strings and display strings, `Token` for tokens."""


@dataclass(slots=True)
class Item:
    """One member: its value (None for an inner list, whose items nobody asks for) and parameters.

    `names` are strings in the place of parameters, which only Hugging Face writes.
    """

    value: Value | None
    parameters: dict[str, Value] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


class _MalformedError(ValueError):
    pass


_BARE = re.compile(
    # The RFC has three digits of a fraction; what has more is read, and told where it is absurd.
    r"(?P<decimal>-?\d{1,12}\.\d{1,20}(?!\d))"
    r"|(?P<integer>-?\d{1,15}(?![\d.]))"
    r'|"(?P<string>(?:[ !#-\[\]-~]|\\["\\])*)"'
    r"|(?P<token>[A-Za-z*][!#$%&'*+\-.^_`|~:/0-9A-Za-z]*)"
    r"|:(?P<bytes>[A-Za-z0-9+/=]*):"
    r"|\?(?P<boolean>[01])"
    r"|@(?P<date>-?\d{1,15}(?![\d.]))"
    r'|%"(?P<display>(?:[ !#$&-~]|%[0-9a-f]{2})*)"',
    re.ASCII,
)
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*", re.ASCII)
_PARAMETER = re.compile(r"; *(?:(?P<key>[a-z*][a-z0-9_.*-]*)(?P<valued>=)?|(?=(?P<quoted>\")))")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_SPACES = re.compile(r" *")


def parse_list(text: str) -> list[Item]:
    """The members of a list; [] where it is empty or malformed."""
    try:
        members = []
        at = _start(text)
        while at < len(text):
            item, at = _member(text, at)
            members.append(item)
            at = _next(text, at)
    except ValueError:
        return []
    return members


def parse_dictionary(text: str) -> dict[str, Item]:
    """The members of a dictionary by key, the last of each; {} where it is malformed."""
    members: dict[str, Item] = {}
    try:
        at = _start(text)
        while at < len(text):
            key = _KEY.match(text, at)
            if key is None:
                return {}
            at = key.end()
            if text.startswith("=", at):
                members[key[0]], at = _member(text, at + 1)
            else:
                members[key[0]] = Item(True)
                at = _parameters(text, at, members[key[0]])
            at = _next(text, at)
    except ValueError:
        return {}
    return members


def _start(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _next(text: str, at: int) -> int:
    """Where the next member starts: the end of the text where there is none."""
    comma = _COMMA.match(text, at)
    if comma is None:
        if text[at:].strip(" \t"):
            raise _MalformedError
        return len(text)
    if comma.end() == len(text):
        raise _MalformedError  # a trailing comma
    return comma.end()


def _member(text: str, at: int) -> tuple[Item, int]:
    if not text.startswith("(", at):
        value, at = _bare(text, at)
        item = Item(value)
        return item, _parameters(text, at, item)
    item, at = Item(None), at + 1
    while True:
        before = at
        at = _end_of_spaces(text, at)
        if text.startswith(")", at):
            return item, _parameters(text, at + 1, item)
        if at == before and not text.startswith("(", at - 1):
            raise _MalformedError
        inner, at = _bare(text, at)
        at = _parameters(text, at, Item(inner))


def _end_of_spaces(text: str, at: int) -> int:
    spaces = _SPACES.match(text, at)
    return at if spaces is None else spaces.end()


def _parameters(text: str, at: int, item: Item) -> int:
    while text.startswith(";", at):
        found = _PARAMETER.match(text, at)
        if found is None:
            raise _MalformedError
        at = found.end()
        if found["quoted"]:
            name, at = _bare(text, at)
            item.names.append(str(name))
        elif found["valued"]:
            item.parameters[found["key"]], at = _bare(text, at)
        else:
            item.parameters[found["key"]] = True
    return at


def _bare(text: str, at: int) -> tuple[Value, int]:
    found = _BARE.match(text, at)
    if found is None:
        raise _MalformedError
    return _value(found.lastgroup or "", found[found.lastgroup or 0]), found.end()


def _value(kind: str, text: str) -> Value:
    match kind:
        case "integer":
            return int(text)
        case "decimal":
            return float(text)
        case "string":
            return re.sub(r"\\(.)", r"\1", text)
        case "token":
            return Token(text)
        case "boolean":
            return text == "1"
        case "date":
            return Date(int(text))
        case "bytes":
            try:
                text = text.rstrip("=")  # the RFC: do not fail for padding
                return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            except binascii.Error as error:
                raise _MalformedError from error
        case _:
            return unquote_to_bytes(text).decode("utf-8")  # UnicodeDecodeError is a ValueError
