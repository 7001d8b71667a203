"""Fields of a body that say when to try again, wherever they stand."""

from __future__ import annotations

from typing import Any

import pytest

from headway.hints._body_waits import BodyWait, unit_of, waits_in


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("retry_after", "s"), ("retryAfter", "s"), ("retryDelay", "s"), ("Retry-After-Secs", "s"),
        ("resets_in_seconds", "s"), ("estimated_time", "s"), ("wait", "s"), ("cooldown", "s"),
        ("retry_after_ms", "ms"), ("retryAfterMilliseconds", "ms"),
        ("resets_at", "moment"), ("reset", "moment"), ("next_retry_at", "moment"),
        ("retries", None), ("waiting_list", None), ("", None), ("preset", None),
    ],
)  # fmt: skip
def test_the_name_tells_the_unit(name: str, unit: str | None) -> None:
    assert unit_of(name) == unit


@pytest.mark.parametrize(
    ("body", "waits"),
    [
        ({"retry_after": 5}, [("retry_after", "5", "s")]),  # Discord
        ({"parameters": {"retry_after": 1.5}}, [("retry_after", "1.5", "s")]),  # Telegram
        ({"error": {"details": [{"retryDelay": "22s"}]}}, [("retryDelay", "22s", "s")]),  # Google
        ({"retryDelay": {"seconds": 7, "nanos": 1}}, [("retryDelay", "7", "s")]),  # protobuf
        ({"resets_at": 1e9, "retry_after_ms": 3}, [("resets_at", "1000000000.0", "moment"),
                                                   ("retry_after_ms", "3", "ms")]),
        ({"retry_after": 10**15}, [("retry_after", "inf", "s")]),
        ({"messages": [{"retry_after": 5}]}, []),  # what the request said
        ({"retry_after": True}, []),
        ({"retry_after": "x" * 65}, []),
        ({"retry_after": ""}, []),
        ({5: {"retry_after": 5}}, []),
        ("retry_after", []),
        (None, []),
    ],
)  # fmt: skip
def test_what_a_body_states(body: object, waits: list[Any]) -> None:
    assert waits_in(body) == tuple(BodyWait(*wait) for wait in waits)


def test_no_body_is_walked_without_end() -> None:
    deep: dict[str, Any] = {"retry_after": 5}
    for level in range(7):
        assert len(waits_in(deep)) == (level < 6)
        deep = {"in": deep}
    wide = {f"field {n}": n for n in range(600)}
    assert waits_in({**wide, "retry_after": 5}) == ()
    assert len(waits_in({"retry_after": 5, **wide})) == 1
