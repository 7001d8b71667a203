"""Whatever a server sends: nothing raises, nothing stalls, and every number is usable."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import pytest
from depth import depth
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.events import Kind
from headway.hints import LONGEST_WAIT, Refusal, classify, limits_from, refusal_from_response
from headway.hints._reply import MAX_BODY, MAX_HEADER_CHARS

NAMES = [
    "retry-after",
    "Retry-After-Ms",
    "x-ratelimit-reset",
    "x-ratelimit-remaining",
    "x-ratelimit-limit",
    "x-tokenlimit-limit",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-limit-req-minute",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
    "ratelimitbysize-reset",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-reset",
    "date",
    "x-ms-retry-after-ms",
    "X-Rate-Limit-Reset",
    "x-rate-limit-remaining",
    "x-ratelimit-reset-after",
    "x-ratelimit-search-reset",
    "x-amzn-errortype",
    "x-ratelimit-limit-requests-day",
]
PIECES = [
    *("0", "1", "59", "1e9", "1790000000", "1790000000000", "1e400", "-1", "nan", "inf", "٣"),
    *(".", ",", ";", ":", "=", '"', " ", "-", "+", "T", "Z", "GMT", "\x00", "\ud800"),
    *("s", "ms", "m", "h", "d", "6m0s", "r=0", "t=30", "q=9", "w=60", "limit=2", "reset=5"),
    *("Mon, ", "21 Sep 2026 ", "14:13:20", "2026-09-21", "9999-99-99", "Jan"),
    *('"a"', ";", "?1", "@5", ":aGk=:", '%"a"', "(", ")", ".5s", "PT1S", "2026-09-21t14:14z"),
    *("until ", "limit 0", "Limit 5, Requested 9", "per day", "resets in ", "FLOOD_WAIT_"),
    *("Request too large", "can only afford 5", "rate limit exceeded", "<Code>", "</Code>"),
    *("try again in ", "retry after ", "tokens per ", "limit: 0", "600 RPM", "<title>"),
]
texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text(max_size=40))
header_values: Any = st.one_of(
    texts, texts.map(lambda t: t.encode("utf-8", "replace")), st.integers()
)
headers: Any = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from(NAMES), header_values),
    st.lists(st.tuples(st.sampled_from(NAMES), header_values)),
    st.recursive(st.integers() | st.text(), st.lists, max_leaves=5),  # not headers at all
)
KEYS = ["error", "errors", "message", "type", "code", "status", "details", "metadata", "headers"]
KEYS += ["retry_after", "retryAfterMs", "resets_at", "parameters", "raw", "reason", "response"]
KEYS += [
    "quota_limit_value",
    "seconds",
    "nanos",
    "retryDelay",
    "violations",
    "quotaId",
    "detail",
    "error_type",
    "X-RateLimit-Reset",
]
json_values: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)
bodies: Any = st.one_of(
    json_values,
    json_values.map(json.dumps),
    st.binary(max_size=60),
    texts,
    st.just(b"[" * 60_000),
    st.just("9" * 60_000),
)
wall_times = st.floats(0, 4e9)


def check(refusal: Refusal) -> None:
    assert isinstance(refusal.kind, Kind)
    assert refusal.wait is None or 0 <= refusal.wait <= LONGEST_WAIT
    assert len(refusal.message) <= 300
    assert refusal.message.isprintable()
    assert len(refusal.odd) <= 300
    assert refusal.per is None or refusal.per >= 86_400


@settings(deadline=None, max_examples=depth(25, 1000))
@given(st.integers(-1, 1000), headers, bodies, wall_times)
def test_any_response(status: int, headers: Any, body: Any, wall_time: float) -> None:
    refusal = refusal_from_response(status, headers, body, wall_time=wall_time)
    assert (refusal is None) == (status < 400)
    if refusal is not None:
        check(refusal)
        assert refusal.status == status
        assert refusal.message


@settings(deadline=None, max_examples=depth(25, 1000))
@given(headers, bodies, wall_times, st.sampled_from([None, "second", "minute"]))
def test_any_limits(headers: Any, body: Any, wall_time: float, unit: Any) -> None:
    for hint in limits_from(headers, body, wall_time=wall_time, together_unit=unit):
        numbers = [hint.limit, hint.remaining, hint.reset, hint.per]
        assert all(each is None or (math.isfinite(each) and each >= 0) for each in numbers)
        assert any(each is not None for each in numbers[:3])
        assert hint.per is None or hint.per > 0


anything: Any = st.one_of(st.none(), st.integers(), texts, headers, bodies)


@settings(deadline=None, max_examples=depth(25, 1000))
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("status_code", "status", "code", "headers", "body", "response", "details"),
                *("retry_after", "retry_after_ms", "wait", "resp", "grpc_status_code", "reason"),
                *("errors", "last_attempt", "trailing_metadata", "content", "data"),
            ]
        ),
        anything,
    ),
    st.sampled_from([Exception, OSError, ValueError, TimeoutError]),
    wall_times,
)
def test_any_exception(fields: dict[str, Any], base: type[Exception], wall_time: float) -> None:
    error = type("Error", (base,), {})("text")
    error.__dict__.update(fields)
    refusal = classify(error, wall_time=wall_time)
    check(refusal)
    assert refusal.odd != "could not be read"


@given(st.floats(0, 1e6), st.floats(0, 2e9))
def test_a_delay_and_the_moment_it_ends_agree(delay: float, wall_time: float) -> None:
    said = refusal_from_response(429, {"retry-after": repr(delay)}, None, wall_time=wall_time)
    assert said is not None
    assert said.wait == min(delay, LONGEST_WAIT)
    moment = wall_time + delay
    if moment >= 1e9:
        said = refusal_from_response(429, {"retry-after": repr(moment)}, None, wall_time=wall_time)
        assert said is not None
        assert said.wait == pytest.approx(min(delay, LONGEST_WAIT), abs=1e-6)


MEGABYTES = 10_000_000
HUGE: list[Any] = [
    b"x" * MEGABYTES,
    "x" * MEGABYTES,
    b" " * MEGABYTES,
    b'{"error": {"message": "' + b"9" * MEGABYTES + b'"}}',
    {"error": {"message": "try again in " * (MEGABYTES // 13), "type": "t" * MEGABYTES}},
    {"message": "\n" * MEGABYTES},
    "<title" * (MEGABYTES // 6),
    "9" * 65_000,
    "9 tokens " * 7_000,
    "[" * 65_000,
    {"message": "metric: " * 8_000},
    *(
        {"error": {"message": piece * (4_000 // len(piece))}}
        for piece in (
            "try again ",
            "wait until ",
            "retry_",
            "limit: 1 ",
            "limit 1 requested ",
            "exceeded a ",
            "does not have a ",
            "not available in a ",
            "requires a ",
            "per ",
            "/ ",
            "1,000",
            "1.",
            " 1m",
            "2026-09-21T14:14",
            "upgrade to a b c plan ",
            "retry in at least until ",
            "hit a b c rate",
        )
    ),
    {"a": {"retry_after": "1"}} | {f"retry_after_{number}": "x" for number in range(60_000)},
    {"error": {"metadata": {"raw": json.dumps({"error": {"metadata": {"raw": "[" * 9_000}}})}}},
]


# No timings: what is read is what a cut one says, and nothing copies the rest.


@pytest.mark.parametrize("body", HUGE, ids=range(len(HUGE)))
def test_of_a_huge_body_only_the_start_is_read(body: Any) -> None:
    read, memory = _measured({}, body)
    assert read == _read({}, _cut(body))
    assert memory < MEGABYTES / 4


PIECES_OF_ONE = ["9", "1m", "a;", '"', "a=1,", " ", "2026-", "Mon, ", ";a", "(", "\\", "1."]
PIECES_OF_ONE += [".5s", '%"', ":"]


@pytest.mark.parametrize("piece", PIECES_OF_ONE)
def test_of_a_huge_header_only_the_start_is_read(piece: str) -> None:
    value = piece * (MEGABYTES // len(piece))
    for name in NAMES:
        cut = {name: value[:MAX_HEADER_CHARS]}
        read, memory = _measured({name: value}, None)
        assert read == _read(cut, None), name
        assert memory < MEGABYTES / 4, name


def test_endless_headers_end() -> None:
    endless = ((name, "1") for _ in iter(int, 1) for name in ("x-limit", "retry-after"))
    assert refusal_from_response(429, endless, None, wall_time=0.0) is not None


def _cut(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: _cut(value) for key, value in body.items()}
    return body[:MAX_BODY]


def _read(headers: Any, body: Any) -> object:
    return (
        refusal_from_response(429, headers, body, wall_time=1.79e9),
        limits_from(headers, body, wall_time=1.79e9),
    )


def _measured(headers: Any, body: Any) -> tuple[object, int]:
    """What is read, and the most bytes that reading took at any moment, beside what is read."""
    tracemalloc.start()
    try:
        read = _read(headers, body)
        return read, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
