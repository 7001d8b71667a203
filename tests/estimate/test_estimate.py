"""Tokens before a call and after it: the table of shapes, and that nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.estimate import Estimator, Tokens, is_plausible, is_prompt_alone, usage_in

ASK = [{"role": "user", "content": "x" * 368}]  # 400 bytes as JSON, about 100 tokens


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": ASK, "max_tokens": 50}, 150),
        ({"messages": ASK, "max_completion_tokens": 70}, 170),
        ({"input": ASK, "max_output_tokens": 20}, 120),
        ({"messages": ASK}, 600),  # nothing is known of the answer
        ({"messages": ASK, "max_tokens": None}, 600),
        ({"messages": ASK, "max_tokens": "many"}, 600),
        ({"messages": ASK, "max_tokens": True}, 600),
        ({"messages": ASK, "max_tokens": -5}, 600),
        ({"messages": ASK, "max_tokens": float("nan")}, 600),
        ({"prompt": "x" * 398, "max_tokens": 0}, 100),
        ({"contents": ASK, "max_tokens": 1}, 101),
    ],
)
def test_an_estimate(body: dict[str, Any], tokens: float) -> None:
    assert Estimator()(body) == pytest.approx(tokens, abs=2)


def test_it_learns_what_a_model_answers() -> None:
    estimator = Estimator()
    body = {"model": "m", "messages": ASK, "max_tokens": 4000}
    for n in range(3000):
        estimator.learn(body, 100 + n * 37 % 100)  # evenly from 100 to 199
    assert estimator(body) == pytest.approx(100 + 190, rel=0.12)
    assert estimator({**body, "max_tokens": 10}) == pytest.approx(110, abs=2)
    assert estimator({**body, "model": "other"}) == pytest.approx(4100, abs=2)


def test_of_a_request_that_is_answered_without_tokens_the_prompt_is_all() -> None:
    estimator = Estimator()
    body = {"model": "m", "input": "x" * 398, "max_tokens": 50}
    estimator.learn(body, 90)
    assert is_prompt_alone("https://api.example.com/v1/embeddings")
    assert not is_prompt_alone("/v1/chat/completions")
    assert estimator.estimate_prompt(body)() == pytest.approx(100, abs=2)


def test_it_remembers_no_more_than_so_many_models() -> None:
    estimator = Estimator()
    for n in range(5000):
        estimator.learn({"model": str(n)}, 10)
    assert len(estimator._answers) == 1024


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (b"", None),
        (b'{"usage": null}', None),
        (b'{"usage": {', None),
        (b'{"usage": {"total_tokens": "9"}}', None),
        (b'{"usage": {"total_tokens": -9}}', None),
        (b'{"usage": {"total_tokens": 9}}', (9, 0)),
        (b'{"usage" : {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}}', (9, 5)),
        (b'{"usage": {"input_tokens": 4, "output_tokens": 5}}', (9, 5)),
        (b'{"usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 5, '
         b'"totalTokenCount": 11}}', (11, 7)),  # its thoughts are part of the answer
        (sse({"usage": None}, {"usage": {"prompt_tokens": 4, "completion_tokens": 5,
                                         "total_tokens": 9}}), (9, 5)),
        (sse({"message": {"usage": {"input_tokens": 4, "output_tokens": 1}}},
             {"usage": {"output_tokens": 5}}), (9, 5)),
        # Anthropic's cache, in one body and in a stream
        (b'{"usage": {"input_tokens": 10, "cache_creation_input_tokens": 1000, '
         b'"cache_read_input_tokens": 200, "output_tokens": 5}}', (1215, 5)),
        (sse({"type": "message_start", "message": {"usage": {
                "input_tokens": 4, "cache_read_input_tokens": 90, "output_tokens": 1}}},
             {"type": "message_delta", "usage": {"output_tokens": 5}}), (99, 5)),
        # closed before its last usage: what was read of the answer is not in the first
        (sse({"type": "message_start", "message": {"usage": {
                "input_tokens": 10, "output_tokens": 1}}}, *[{"text": "x"}] * 99), None),
        # OpenAI's Responses API
        (b'{"usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}}', (15, 5)),
        # what hides the real one
        (sse({"usage": {"total_tokens": 9}}, *[{"choices": [], "usage": None}] * 99), (9, 0)),
        (b'{"usage": {"total_tokens": 9}, "metadata": {"usage": {"purpose": 1}}}', (9, 0)),
        (b'{"usage": {"total_tokens": 9}, "timings": {"usage": "x"}}', (9, 0)),
    ],
)  # fmt: skip
def test_usage(answer: bytes, usage: tuple[float, float] | None) -> None:
    said = usage_in(answer)
    assert (said and (said.used, said.written or 0)) == usage


@pytest.mark.parametrize(
    ("used", "reserved", "size", "plausible"),
    [
        (9e11, 1e9, 10**12, False),
        (500_000, 500, 100, True),
        (500_001, 500, 5_000, False),
        (500_001, 500, 5_001, True),
        (10_000, 0, 100, True),
        (10_001, 0, 100, False),
    ],
)
def test_what_a_call_can_have_used(
    used: float, reserved: float, size: int, plausible: bool
) -> None:
    assert is_plausible(used, reserved, size) is plausible


IMAGE = "iVBORw0KGgo/+Abc" * 20_000
PROSE = "why is the sky blue? " * 20_000


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ({"image_url": {"url": "data:image/png;base64," + IMAGE}}, 1_445),
        ({"input_image": "data:image/png;base64," + IMAGE}, 1_445),
        ({"source": {"type": "base64", "data": IMAGE}}, 1_600),
        ({"input_audio": {"data": IMAGE, "format": "mp3"}}, 1_200),  # 240,000 bytes: two minutes
        ([{"inline_data": {"data": IMAGE}}] * 3, 3 * 2_322),
        ({"text": IMAGE}, len(IMAGE) / 4),
        ({"data": PROSE}, len(PROSE) / 4),
        ({"url": "https://server/" + "x" * 30_000}, 30_000 / 4),
    ],
)
@pytest.mark.parametrize("sized", [False, True])
def test_images_and_sound_are_not_read_as_text(content: Any, tokens: float, sized: bool) -> None:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 0}
    size = len(json.dumps(body)) if sized else None
    assert Estimator()(body, size) == pytest.approx(tokens, abs=80)


NAMES = st.sampled_from(
    ["usage", "usageMetadata", "total_tokens", "input_tokens", "output_tokens", "model",
     "messages", "max_tokens", "prompt", "totalTokenCount"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.binary() | st.tuples(st.just(b'"usage":'), st.binary()).map(b"".join))
def test_no_body_makes_it_raise(answer: bytes) -> None:
    usage_in(answer)


@given(st.dictionaries(NAMES, JSON, max_size=5), st.floats(0, 1e9))
def test_no_json_makes_it_raise(body: dict[str, Any], answer: float) -> None:
    estimator = Estimator()
    assert estimator(body) >= 0
    estimator.learn(body, answer)
    assert 0 <= estimator(body) < 1e13
    found = usage_in(json.dumps(body).encode())
    assert found is None or 0 <= (found.cost or 0) < 1e13


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"max_tokens": 100}, 100),
        ({"max_tokens": 100, "max_completion_tokens": 300}, 300),  # whichever the provider obeys
        ({"max_tokens": 300, "max_completion_tokens": 100}, 300),
        ({"generationConfig": {"maxOutputTokens": 70}}, 70),
        ({"max_tokens": 100, "n": 4}, 400),
        ({"max_tokens": 100, "best_of": 5, "n": 2}, 500),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": -1}, 500),
        ({"max_tokens": "100"}, 500),
        ({"n": 3}, 1500),
    ],
)
def test_what_a_request_asks_for_is_reserved(body: dict[str, object], answer: float) -> None:
    assert Estimator()(body, 0) == answer


def test_the_share_in_the_cache_is_learned_by_how_a_prompt_begins_and_on_the_low_side() -> None:
    estimator = Estimator()
    body = {"model": "m", "system": "s" * 4_000, "messages": [{"content": "a"}], "max_tokens": 9}
    estimate = estimator.estimate(body, 4_000)
    assert (estimate().input, estimate().cached) == (1_000, 0)
    estimator.hear(estimate.like, Tokens(1_000, 9, 1_009, 900))
    assert estimate().cached == pytest.approx(850)  # 900, and half as much more uncached
    like = {**body, "messages": [{"content": "b"}]}
    assert estimator(like, 4_000).cached == pytest.approx(850)
    assert estimator({**body, "system": "other"}, 4_000).cached == 0
    assert estimator({**body, "model": "n"}, 4_000).cached == 0
    estimator.hear(estimate.like, Tokens(1_000, 9, 1_009, 0))  # it was dropped from the cache
    assert estimate().cached == 0
    assert estimate() == pytest.approx(1_009, abs=0.1)
