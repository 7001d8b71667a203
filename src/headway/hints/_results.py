"""What the result of a call says of limits, where it carries the headers of its response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.hints._carried import attribute, host_of
from headway.hints._exceptions import DialectAt, generic_at
from headway.hints._limits import limits_from
from headway.hints._model import LimitHint

__all__ = ["carries_headers", "limits_of_result"]

# Where results keep them: responses of HTTP and the raw ones of SDKs, what holds a response,
# LiteLLM's, LangChain's, botocore's.
_PLACES = (
    ("headers",),
    ("response", "headers"),
    ("http_response", "headers"),
    ("_response", "headers"),
    ("_response_headers",),
    ("_hidden_params", "additional_headers"),
    ("response_metadata", "headers"),
    ("ResponseMetadata", "HTTPHeaders"),
)


def carries_headers(result: object) -> bool:
    """Whether others of the type of `result` may have headers with them."""
    return any(_member(result, names[0]) is not None for names in _PLACES)


def limits_of_result(
    result: object, *, wall_time: float, dialect_at: DialectAt = generic_at
) -> tuple[LimitHint, ...]:
    """The limits that the headers with `result`, of whatever SDK, state; () for none. Never raises,
    and never makes a response be read.
    """
    for names in _PLACES:
        found: Any = result
        for name in names:
            found = _member(found, name)
        if found is None or isinstance(found, str):
            continue
        try:
            host = host_of(result)
            if host is None:
                return limits_from(found, wall_time=wall_time)
            return limits_from(found, wall_time=wall_time, dialect=dialect_at(host))
        except Exception:  # what is called headers is something else
            return ()
    return ()


def _member(holder: object, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name)
    return None if holder is None else attribute(holder, name)
