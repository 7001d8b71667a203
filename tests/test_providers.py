"""Where requests go, and with which key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest

from headway import Scheduler, bulk, prices
from headway.bulk.probe import Found, describe, probe
from headway.hints import LimitHint, classify
from headway.httpx import AsyncTransport
from headway.providers import (
    PROVIDERS,
    Dialect,
    InvalidSettings,
    Provider,
    dialect_at,
    find_endpoint,
    provider_at,
    provider_named,
)

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = [each.url_variable for each in PROVIDERS.values() if each.url_variable]
    for name in (*variables, "HEADWAY_API_KEY", "OPENAI_API_VERSION"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("provider", "variable", "url"),
    [
        (None, "TOGETHER_API_KEY", "https://api.together.ai/v1/chat/completions"),
        ("openai", "OPENAI_API_KEY", "https://api.openai.com/v1/chat/completions"),
        ("groq", "GROQ_API_KEY", "https://api.groq.com/openai/v1/chat/completions"),
        (
            "gemini",
            "GEMINI_API_KEY",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
    ],
)
def test_a_provider_by_its_name(
    provider: str | None, variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "secret")
    endpoint = find_endpoint(provider)
    assert endpoint.url(CHAT) == url
    assert endpoint.headers["authorization"] == "Bearer secret"
    monkeypatch.delenv(variable)
    with pytest.raises(
        InvalidSettings, match=f"no API key. Fix: set it first: export {variable}=…"
    ):
        find_endpoint(provider)
    assert find_endpoint(provider, key="given").key == "given"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_an_address(provider: str) -> None:
    assert find_endpoint(provider, key="k").url(CHAT).endswith("/chat/completions")


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("http://x/api/v2beta", "http://x/api/v2beta/chat/completions"),
        ("http://x/together", "http://x/together/v1/chat/completions"),
    ],
)
def test_any_other_server_by_its_address(base_url: str, url: str) -> None:
    endpoint = find_endpoint(base_url=base_url)
    assert (endpoint.url(CHAT), endpoint.key, endpoint.provider) == (url, None, "custom")
    assert "authorization" not in endpoint.headers


def test_the_key_of_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_API_KEY", "secret")
    assert find_endpoint(base_url="http://x").headers["authorization"] == "Bearer secret"


def test_a_provider_behind_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    endpoint = find_endpoint("openai", "http://gateway/openai/v1")
    assert endpoint.url(CHAT) == "http://gateway/openai/v1/chat/completions"
    assert (endpoint.provider, endpoint.key) == ("openai", "secret")


def test_together_at_the_address_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://localhost:1/together")
    assert find_endpoint(key="k").url(CHAT) == "http://localhost:1/together/v1/chat/completions"


@pytest.mark.parametrize(
    ("provider", "base_url", "message"),
    [
        (
            "acme",
            None,
            "the provider 'acme' is not known. Fix: use one of together, openai, anthropic, "
            "deepseek, "
            "fireworks, gemini, groq, huggingface, mistral, openrouter, xai, or give the address "
            "of any other server that speaks OpenAI's HTTP with --base-url",
        ),
        (
            None,
            "localhost:8000",
            "--base-url 'localhost:8000' is not a web address. "
            "Fix: use one like http://localhost:8000/v1",
        ),
    ],
)
def test_what_is_no_provider(provider: str | None, base_url: str | None, message: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        find_endpoint(provider, base_url, "k")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.together.ai", "together"),
        ("api.together.xyz", "together"),
        ("api-inference.together.ai", "together"),
        ("api.openai.com", "openai"),
        ("generativelanguage.googleapis.com", "gemini"),
        ("api.x.ai", "xai"),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "bedrock"),
        ("s3.eu-west-1.amazonaws.com", None),
        ("localhost", None),
        ("evil-api.together.ai.example", None),
    ],
)
def test_a_provider_by_its_host(host: str, name: str | None) -> None:
    found = provider_at(host)
    assert (None if found is None else found.name) == name


@pytest.mark.parametrize(
    ("said", "name"),
    [("together", "together"), (" TogetherAI", "together"), ("mistralai", "mistral"), ("x", None)],
)
def test_a_provider_by_what_people_call_it(said: str, name: str | None) -> None:
    found = provider_named(said)
    assert (None if found is None else found.name) == name


def test_one_more_record_is_one_more_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    acme = Provider(
        "acme",
        "https://llm.acme.example/openai/v1",
        "ACME_KEY",
        key_header="api-key",
        key_form="{}",
        keys_page="https://acme.example/keys",
        url_variable="ACME_URL",
        headers=(("x-version", "7"),),
        lane="account",
        prices="openai",
    )
    monkeypatch.setattr("headway.providers.PROVIDERS", {**PROVIDERS, "acme": acme})
    provider_at.cache_clear()
    # Where its requests go, and with what.
    endpoint = find_endpoint("acme", key="secret")
    assert endpoint.url(CHAT) == "https://llm.acme.example/openai/v1/chat/completions"
    assert endpoint.headers["api-key"] == "secret"
    assert endpoint.headers["x-version"] == "7"
    assert "authorization" not in endpoint.headers
    monkeypatch.setenv("ACME_URL", "http://localhost:1/acme")
    assert find_endpoint("acme", key="k").url(CHAT) == "http://localhost:1/acme/v1/chat/completions"
    with pytest.raises(InvalidSettings) as caught:
        find_endpoint("acme")
    assert str(caught.value) == (
        "no API key. Fix: set it first: export ACME_KEY=… (https://acme.example/keys)"
    )
    # What the transports, the probe and the prices make of it.
    assert provider_at("llm.acme.example") is acme
    found = Found("acme", "m", 1, (LimitHint("requests", 600, 599, None, 60.0),))
    assert "They are limits of the account: all its models share them." in describe(found)
    assert prices.Prices().cost("acme", "gpt-4o", 1e6, 0) == prices.Prices().cost(
        "openai", "gpt-4o", 1e6, 0
    )
    provider_at.cache_clear()


# Of a provider whose headers nobody else sends: 7,200 an hour, and a reset in milliseconds.
SAID = {"x-acme-limit-calls": "7200", "x-acme-remaining-calls": "7", "x-acme-reset-calls": "1500"}
USED_UP = {**SAID, "x-acme-remaining-calls": "0"}
ANSWER = {
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "x"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """One more record, with a dialect of its own: nothing else is touched."""
    dialect = Dialect((("x-acme-{}-calls", "x-ratelimit-{}-requests-hour"),), reset="milliseconds")
    provider = Provider("acme", "https://llm.acme.example/v1", "ACME_KEY", dialect=dialect)
    monkeypatch.setattr("headway.providers.PROVIDERS", {**PROVIDERS, "acme": provider})
    provider_at.cache_clear()
    yield provider
    provider_at.cache_clear()


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers=SAID, json=ANSWER)


@pytest.mark.anyio
async def test_a_dialect_is_met_in_a_transport(acme: Provider) -> None:
    scheduler = Scheduler()
    refused = [httpx.Response(429, headers=USED_UP)]

    def server(request: httpx.Request) -> httpx.Response:
        return refused.pop() if refused else answer(request)

    transport = AsyncTransport(scheduler, httpx.MockTransport(server))
    began = anyio.current_time()
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.post(acme.base_url)).status_code == 200
    assert 1.5 <= anyio.current_time() - began < 3
    assert scheduler.statistics().pace < 2.01


@pytest.mark.anyio
@pytest.mark.parametrize("base_url", [None, "http://gateway/v1"])
async def test_a_dialect_is_met_in_a_bulk_run(
    base_url: str | None, acme: Provider, tmp_path: Path
) -> None:
    source = tmp_path / "requests.jsonl"
    source.write_text(json.dumps({"model": "m", "messages": []}) + "\n")
    scheduler = Scheduler()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        await bulk.run(
            source,
            scheduler=scheduler,
            client=client,
            endpoint=find_endpoint("acme", base_url, key="k"),
        )
    assert scheduler.statistics().pace == pytest.approx(2, rel=0.02)


@pytest.mark.anyio
async def test_a_dialect_is_met_in_the_probe(acme: Provider) -> None:
    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url=acme.base_url) as client:
        found = await probe(client, model="m", provider="acme")
    (limit,) = found.limits
    assert (limit.what, limit.limit, limit.per, limit.reset) == ("requests", 7200, 3600, 1.5)


def response_of_httpx(url: str) -> Any:
    return httpx.Response(429, headers=USED_UP, request=httpx.Request("POST", url))


def response_of_requests(url: str) -> Any:
    return SimpleNamespace(status_code=429, headers=USED_UP, request=SimpleNamespace(url=url))


@pytest.mark.parametrize("form", [response_of_httpx, response_of_requests])
@pytest.mark.parametrize(
    ("url", "wait"),
    [("https://llm.acme.example/v1", 1.5), ("http://other/v1", None), ("http://[", None)],
)
def test_a_dialect_is_met_in_an_exception(
    form: Any, url: str, wait: float | None, acme: Provider
) -> None:
    """By the host that was asked."""
    if form is response_of_httpx and url == "http://[":
        url = "http://other"
    error = RuntimeError("no")
    error.response = form(url)  # type: ignore[attr-defined]
    assert classify(error, wall_time=1.79e9, dialect_at=dialect_at).wait == wait


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:a-secret@host/v1", "http://***@host/v1"),
        ("https://host/v1?key=a-secret", "https://host/v1?key=***"),
        ("http://host/v1", "http://host/v1"),
    ],
)
def test_an_endpoint_shows_no_secret(url: str, shown: str) -> None:
    endpoint = bulk.Endpoint("custom", url, "a-secret", "HEADWAY_API_KEY")
    assert repr(endpoint) == (
        f"Endpoint(provider='custom', base_url='{shown}', key='***', "
        "key_variable='HEADWAY_API_KEY')"
    )
    assert "key=None" in repr(bulk.Endpoint("custom", url, None, "HEADWAY_API_KEY"))


@pytest.mark.parametrize("url", ["htp://me:a-secret@host", "http//h?key=a-secret&x=://me:p@h"])
def test_an_address_that_is_none_is_shown_without_its_secrets(url: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        find_endpoint(base_url=url)
    assert "a-secret" not in str(refused.value)
