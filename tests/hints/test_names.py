"""Names of headers: one limit has one name, however its words are ordered and spelled."""

from __future__ import annotations

import pytest

from headway.hints._names import is_wait, known_name


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Date", "date"),
        ("Retry-After", "retry-after"),
        ("retry_after_seconds", "retry-after"),
        ("x-ms-retry-after-ms", "retry-after-ms"),
        ("grpc-retry-pushback-ms", "retry-after-ms"),
        ("x-retry-count", None),
        ("x-ratelimit-reset-requests", "x-ratelimit-reset-requests"),
        ("X-RateLimit-Requests-Reset", "x-ratelimit-reset-requests"),
        ("X-Rate-Limit-Request-Reset", "x-ratelimit-reset-requests"),
        ("x-ratelimit-limit-tokens-per-minute", "x-ratelimit-limit-tokens-minute"),
        ("x-ratelimit-left-prompt-tokens", "x-ratelimit-remaining-input-tokens"),
        ("x-ratelimit-reset-seconds", "x-ratelimit-reset"),
        ("x-ratelimit-reset-after", "x-ratelimit-reset-after"),
        ("ratelimit-remaining", "ratelimit-remaining"),
        ("ratelimit", "ratelimit"),
        ("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-limit"),
        ("x-tokenlimit-limit", "x-tokenlimit-limit"),
        ("content-type", None),
        ("", None),
    ],
)
def test_the_name_that_a_header_is_known_by(name: str, known: str | None) -> None:
    assert known_name(name) == known
    assert known_name(name.upper()) == known
    assert known is None or known_name(known) == known


@pytest.mark.parametrize(("name", "wait"), [("retry-after", True), ("retry-after-ms", True),
                                            ("x-ratelimit-reset", False)])  # fmt: skip
def test_names_of_waits(name: str, wait: bool) -> None:
    assert is_wait(name) is wait
