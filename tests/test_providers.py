"""Where requests go, and with which key."""

from __future__ import annotations

import pytest

from headway import prices
from headway.bulk.probe import Found, describe
from headway.hints import LimitHint
from headway.providers import PROVIDERS, Provider, find_endpoint, provider_at, provider_named
from headway.together import InvalidSettings

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOGETHER_BASE_URL", "HEADWAY_API_KEY"):
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
