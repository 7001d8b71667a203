"""Tokens by class under a transport: whom it talks to, and what answers say of the cache."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anyio import create_task_group, current_time, sleep
from sites import Site

from headway import Scheduler
from headway.events import Event, Ignored

pytestmark = pytest.mark.anyio

ANTHROPIC = "https://api.anthropic.com/v1/messages"
PROMPT = {"model": "claude-x", "max_tokens": 50, "system": "s" * 200_000, "messages": []}


def server(site: Site, usage: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    class Server(site.library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        async def handle_async_request(self, request: Any) -> Any:
            await sleep(0.5)
            return site.library.Response(200, json={"usage": usage}, headers=headers)

    return Server()


async def ask(site: Site, scheduler: Scheduler, inner: Any, calls: int, url: str) -> float:
    transport = site.face.AsyncTransport(scheduler, inner)
    began = current_time()
    async with site.library.AsyncClient(transport=transport) as client:

        async def call(number: int) -> None:
            body = {**PROMPT, "messages": [{"role": "user", "content": f"question {number}"}]}
            (await client.post(url, content=json.dumps(body))).raise_for_status()

        async with create_task_group() as group:
            for number in range(calls):
                group.start_soon(call, number)
    return current_time() - began


CACHED = {"input_tokens": 150, "cache_read_input_tokens": 50_000, "output_tokens": 20}


async def test_what_the_cache_holds_is_free_where_the_provider_says_so(site: Site) -> None:
    scheduler = Scheduler("600/min", input_tokens="100k/min")
    seconds = await ask(site, scheduler, server(site, CACHED), 60, ANTHROPIC)
    assert seconds < 12  # and not an hour: 60 times 50,000 at 100,000 a minute
    figures = scheduler.statistics()
    assert (figures.input_tokens, figures.cached_tokens, figures.output_tokens) == (
        60 * 150, 60 * 50_000, 60 * 20,
    )  # fmt: skip


async def test_elsewhere_it_counts(site: Site) -> None:
    scheduler = Scheduler("600/min", input_tokens="100k/min")
    seconds = await ask(site, scheduler, server(site, CACHED), 4, "https://llm.example/v1/messages")
    assert seconds > 60


async def test_the_window_of_a_provider_is_put_to_work(site: Site) -> None:
    for url, window in (
        ("https://api.together.ai/v1/chat/completions", 1.0),
        ("https://llm.example/v1/chat/completions", 60.0),
    ):
        scheduler = Scheduler("600/min")
        await ask(site, scheduler, server(site, {}), 1, url)
        (limit,) = scheduler.statistics().limits
        assert (limit.limit, limit.per, limit.window) == (600, 60, window)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ("anthropic-ratelimit-input-tokens-limit", "input_tokens"),
        ("anthropic-ratelimit-output-tokens-limit", "output_tokens"),
        ("x-ratelimit-limit-tokens-prompt", "input_tokens"),  # Fireworks
        ("x-ratelimit-limit-tokens-generated", "output_tokens"),
        ("x-ratelimit-limit-tokens", "tokens"),  # OpenAI, Azure, Groq
        ("x-ratelimit-limit-tokens-minute", "tokens"),  # Mistral
    ],
)
async def test_each_class_is_followed_in_the_headers(names: str, what: str, site: Site) -> None:
    scheduler = Scheduler(tokens="60k/min", input_tokens="60k/min", output_tokens="60k/min")
    inner = server(site, {}, {names: "30000"})
    transport = site.face.AsyncTransport(scheduler, inner)
    async with site.library.AsyncClient(transport=transport) as client:
        await client.post("https://llm.example/v1/chat/completions", json={"max_tokens": 5})
    factors = {each.what: each.factor for each in scheduler.statistics().limits}
    assert factors.pop(what) == pytest.approx(0.5, abs=0.01)  # type: ignore[call-overload]
    assert set(factors.values()) == {1.0}


async def test_what_embeds_has_no_answer_to_reserve_or_count(site: Site) -> None:
    scheduler = Scheduler(input_tokens="60k/min", output_tokens="600/min")
    url = "https://api.voyageai.com/v1/embeddings"
    assert await ask(site, scheduler, server(site, {"total_tokens": 100}), 4, url) < 5
    figures = scheduler.statistics()
    assert (figures.input_tokens, figures.output_tokens) == (400, 0)


async def test_headers_count_what_a_body_does_not(site: Site) -> None:
    """`InvokeModel` of Mistral's and Cohere's models, over plain HTTP."""
    counts = {
        "x-amzn-bedrock-input-token-count": "40",
        "x-amzn-bedrock-output-token-count": "7",
        "x-amzn-bedrock-cache-read-input-token-count": "1000",
    }
    scheduler = Scheduler("600/min", tokens="100k/min")
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/mistral.m/invoke"
    await ask(site, scheduler, server(site, {}, counts), 1, url)
    figures = scheduler.statistics()
    assert (figures.input_tokens, figures.cached_tokens, figures.output_tokens) == (40, 1000, 7)


async def test_a_usage_that_contradicts_itself_is_told(site: Site) -> None:
    events: list[Event] = []
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "total_tokens": 105,
        "cached_tokens": 900,
    }
    async with Scheduler("600/min", input_tokens="1M/min", on_event=events.append) as scheduler:
        await ask(
            site, scheduler, server(site, usage), 2, "https://llm.example/v1/chat/completions"
        )
    assert scheduler.statistics().cached_tokens == 0
    (event,) = [each for each in events if isinstance(each, Ignored)]
    assert event.what == "an answer says of its usage: 900 of 100 tokens were cached"
