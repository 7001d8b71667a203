"""Usage that cannot be meant: it counts for nothing, or for what is safe, and an event says so."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest

from headway import Scheduler
from headway.estimate import said_by, said_by_headers, said_in, usage_in, used_by
from headway.events import Event, Ignored

pytestmark = pytest.mark.anyio

ODD: list[tuple[dict[str, Any], tuple[int | None, int], str]] = [  # used, cached, what is said
    ({"prompt_tokens": -5, "completion_tokens": 5}, (None, 0), "prompt_tokens is -5"),
    ({"input_tokens": 10**13, "output_tokens": 5}, (None, 0), "input_tokens is 10000000000000"),
    ({"total_tokens": -9}, (None, 0), "total_tokens is -9"),
    ({"input_tokens": 9, "output_tokens": 1.5}, (9, 0), "output_tokens is 1.5"),
    ({"input_tokens": 9, "cache_read_input_tokens": -2, "output_tokens": 1}, (10, 0),
     "cache_read_input_tokens is -2"),
    ({"inputTokens": 9, "outputTokens": 1, "totalTokens": 3}, (10, 0),
     "3 in all is less than its parts"),
    ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10,
      "prompt_tokens_details": {"cached_tokens": 50}}, (10, 0), "50 of 9 tokens were cached"),
    ({"promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 10,
      "cachedContentTokenCount": 10}, (10, 0), "10 of 9 tokens were cached"),
    ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10,
      "completion_tokens_details": {"reasoning_tokens": -7}}, (10, 0), "reasoning_tokens is -7"),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "counted", "odd"), ODD, ids=lambda value: str(value)[:40])
def test_what_cannot_be_meant_is_said(
    usage: dict[str, Any], counted: tuple[int | None, int], odd: str
) -> None:
    result = SimpleNamespace(usage=SimpleNamespace(**usage))
    body = json.dumps({"usage": usage}).encode()
    for said in (said_by({"usage": usage}), said_by(result), said_in(body)):
        assert said is not None
        assert said.odd == odd
        assert (said.used, said.cached) == counted
    if counted[0] is None:
        assert usage_in(body) is None


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 30},  # reasoning, beside
        {"input_tokens": 4, "cache_read_input_tokens": 90, "output_tokens": 5},
        {"inputTokens": 4, "cacheReadInputTokens": 90, "outputTokens": 5, "totalTokens": 9},
        {"prompt_tokens": 9, "completion_tokens": 1, "completion_tokens_details": None},
        {"promptTokenCount": 9, "thoughtsTokenCount": 70, "totalTokenCount": 79},
        {"prompt_tokens": "9", "completion_tokens": None, "total_tokens": True},  # no numbers
        {"output_tokens": 5, "cache_read_input_tokens": 90},  # the end of a stream
    ],
)
def test_what_providers_say_every_day_is_not_odd(usage: dict[str, Any]) -> None:
    said = said_by({"usage": usage})
    assert said is None or not said.odd


def test_counts_without_a_usage_object() -> None:
    for answer in ({"prompt_eval_count": -3, "eval_count": 2}, {"inputTextTokenCount": -3}):
        assert "is -3" in said_in(json.dumps(answer).encode()).odd
        said = said_by(answer)
        assert said is not None
        assert "is -3" in said.odd


@pytest.mark.parametrize("used", [-1, math.nan, 10**13, 10**400])
async def test_a_job_tells_of_it_once(used: float, caplog: pytest.LogCaptureFixture) -> None:
    async def answer() -> object:
        return {"usage": {"total_tokens": used}}

    events: list[Event] = []
    with caplog.at_level(logging.WARNING, "headway"):
        async with Scheduler(tokens="1k/s", on_event=events.append) as scheduler:
            for _ in range(2):
                await scheduler.with_options(tokens=100).submit(answer)
    (event,) = [each for each in events if isinstance(each, Ignored)]
    assert event.what.startswith("an answer says of its usage: total_tokens is ")
    told = "a server stated something that cannot be meant: an answer says of its usage: "
    assert sum(record.getMessage().startswith(told) for record in caplog.records) == 1


# Bedrock's headers, where a body says nothing

COUNTED = {
    "x-amzn-bedrock-input-token-count": "40",
    "x-amzn-bedrock-output-token-count": "7",
    "x-amzn-bedrock-cache-read-input-token-count": "1000",
    "x-amzn-bedrock-cache-write-input-token-count": "200",
}


def test_the_headers_of_bedrock_count_what_is_cached_apart() -> None:
    said = said_by_headers(COUNTED)
    assert (said.read, said.written, said.total, said.cached) == (1240, 7, 1247, 1000)
    embedded = said_by_headers({"x-amzn-bedrock-input-token-count": "40"})
    assert (embedded.used, embedded.written) == (40, None)
    assert said_by_headers({"content-type": "application/json"}).used is None
    assert said_by_headers({"x-amzn-bedrock-input-token-count": "many"}).used is None
    assert said_by_headers({"x-amzn-bedrock-input-token-count": "-4"}).odd == "inputTokens is -4"


def test_what_boto3_returns_carries_them() -> None:
    result = {"body": object(), "ResponseMetadata": {"HTTPHeaders": COUNTED}}
    said = used_by(result)
    assert said is not None
    assert said.used == 1247
    both = {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, **result}
    said = used_by(both)
    assert said is not None
    assert said.used == 5
    assert used_by({"ResponseMetadata": {"HTTPHeaders": {}}}) is None
    assert used_by({"ResponseMetadata": {"HTTPStatusCode": 200}}) is None
