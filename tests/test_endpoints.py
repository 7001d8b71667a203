"""Addresses as people have them, headers of their own, and keys that are shown to nobody."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import httpx
import pytest

from headway import Scheduler, bulk
from headway.providers import PROVIDERS, Endpoint, InvalidSettings, find_endpoint, header_in

CHAT = "/v1/chat/completions"
DEPLOYMENT = "https://x.openai.azure.com/openai/deployments/mini"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in PROVIDERS.values():
        monkeypatch.delenv(each.url_variable or "", raising=False)
        monkeypatch.delenv(each.key_variable, raising=False)
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    monkeypatch.delenv("AZURE_OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("HEADWAY_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_VERSION", raising=False)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://x/v1/chat/completions", "http://x/v1/chat/completions"),
        ("http://x/v1/chat/completions/", "http://x/v1/chat/completions"),
        # A whole address says itself that there is no version.
        ("https://x/chat/completions", "https://x/chat/completions"),
        ("https://x/inference/embeddings", "https://x/inference/chat/completions"),
        ("http://x/v1/completions", "http://x/v1/chat/completions"),
        ("http://x/v1/responses", "http://x/v1/chat/completions"),
        ("http://x:8000", "http://x:8000/v1/chat/completions"),
        (" http://x/api/v3/ ", "http://x/api/v3/chat/completions"),
        ("http://x/v1?tag=a", "http://x/v1/chat/completions?tag=a"),
        ("http://x/v1beta/openai/", "http://x/v1beta/openai/chat/completions"),
        (
            "https://models.github.ai/inference",
            "https://models.github.ai/inference/chat/completions",
        ),
        ("http://x/v1/a/gw/compat", "http://x/v1/a/gw/compat/chat/completions"),  # Cloudflare's
        ("http://x/v1/endpoints/openapi", "http://x/v1/endpoints/openapi/chat/completions"),
        # Azure's.
        (f"{DEPLOYMENT}?api-version=1", f"{DEPLOYMENT}/chat/completions?api-version=1"),
        (
            f"{DEPLOYMENT}/chat/completions?api-version=1",
            f"{DEPLOYMENT}/chat/completions?api-version=1",
        ),
        (
            "https://x.openai.azure.com",
            "https://x.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            "https://x.openai.azure.com/openai/v1/",
            "https://x.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            "https://x.services.ai.azure.com/openai/v1/chat/completions",
            "https://x.services.ai.azure.com/openai/v1/chat/completions",
        ),
    ],
)
def test_an_address_as_it_is_copied(base_url: str, url: str) -> None:
    assert find_endpoint(base_url=base_url, key="k").url(CHAT) == url


def test_a_provider_by_its_name_in_any_case() -> None:
    assert find_endpoint(" OpenAI ", key="k") == find_endpoint("openai", key="k")


def test_azure_takes_its_key_in_a_header_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    endpoint = find_endpoint(base_url=DEPLOYMENT)
    assert endpoint.url("/v1/embeddings") == f"{DEPLOYMENT}/embeddings?api-version=2024-10-21"
    assert endpoint.headers["api-key"] == "secret"
    assert "authorization" not in endpoint.headers
    assert not endpoint.names_models
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com/")
    assert find_endpoint("azure").base_url == "https://x.openai.azure.com/openai/v1"


@pytest.mark.parametrize(
    ("provider", "base_url", "message"),
    [
        (
            None,
            DEPLOYMENT,
            f"--base-url '{DEPLOYMENT}' is a deployment of Azure's without its api-version. Fix: "
            "end it in ?api-version=2024-10-21, or set OPENAI_API_VERSION",
        ),
        (
            "azure",
            None,
            "every customer of azure's has an address, and none was given. Fix: export "
            "AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com, or give it with --base-url",
        ),
        (
            None,
            "http://x:99999/v1",
            "--base-url 'http://x:99999/v1' is not a web address. Fix: use one like "
            "http://localhost:8000/v1",
        ),
        (
            "openai",
            "http://[x",
            "--base-url 'http://[x' is not a web address. Fix: use one like "
            "http://localhost:8000/v1",
        ),
    ],
)
def test_what_is_no_address(provider: str | None, base_url: str | None, message: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        find_endpoint(provider, base_url, "k")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("provider", "variable", "value", "base_url"),
    [
        ("openai", "OPENAI_BASE_URL", "http://proxy/v1", "http://proxy/v1"),
        ("openai", "OPENAI_BASE_URL", "http://proxy/", "http://proxy/v1"),
        ("openai", "OPENAI_BASE_URL", "http://proxy/v1/chat/completions", "http://proxy/v1"),
        ("openai", "OPENAI_BASE_URL", " ", "https://api.openai.com/v1"),
        ("anthropic", "ANTHROPIC_BASE_URL", "http://proxy", "http://proxy/v1"),
        # Its SDK adds /openai/v1 to the host.
        ("groq", "GROQ_BASE_URL", "https://api.groq.com", "https://api.groq.com/openai/v1"),
        ("groq", "GROQ_BASE_URL", "http://proxy/openai", "http://proxy/openai/v1"),
        ("groq", "GROQ_BASE_URL", "http://proxy/groq/v1", "http://proxy/groq/v1"),
        ("openrouter", "OPENROUTER_BASE_URL", "http://proxy/api", "http://proxy/api/v1"),
        ("fireworks", "FIREWORKS_BASE_URL", "http://proxy", "http://proxy/inference/v1"),
        ("gemini", "GOOGLE_GEMINI_BASE_URL", "http://proxy", "http://proxy/v1beta/openai"),
        ("mistral", "MISTRAL_BASE_URL", "http://proxy/mistral", "http://proxy/mistral/v1"),
        (None, "TOGETHER_BASE_URL", "http://proxy/", "http://proxy/v1"),
        ("xai", "XAI_BASE_URL", "http://proxy/v1", "http://proxy/v1"),
    ],
)
def test_an_address_in_the_environment(
    provider: str | None,
    variable: str,
    value: str,
    base_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    assert find_endpoint(provider, key="k").base_url == base_url
    assert find_endpoint(provider, "http://y/v1", "k").base_url == "http://y/v1"


def test_an_address_in_the_environment_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "proxy:8080")
    with pytest.raises(InvalidSettings) as caught:
        find_endpoint("openai", key="k")
    assert str(caught.value) == (
        "OPENAI_BASE_URL='proxy:8080' is not a web address. Fix: use one like "
        "https://api.openai.com/v1"
    )


def test_a_form_of_the_providers_own_has_headers_of_its_own() -> None:
    anthropic = find_endpoint("anthropic", key="secret")
    assert anthropic.url("/v1/messages") == "https://api.anthropic.com/v1/messages"
    headers = anthropic.headers_of("/v1/messages")
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("secret", "2023-06-01")
    assert "authorization" not in headers
    assert anthropic.headers["authorization"] == "Bearer secret"
    gemini = find_endpoint("gemini", key="secret")
    path = "/v1beta/models/gemini-2.5-flash:generateContent"
    assert gemini.url(path) == f"https://generativelanguage.googleapis.com{path}"
    assert gemini.headers_of(path)["x-goog-api-key"] == "secret"


# -- headers -----------------------------------------------------------------------------------


def test_headers_of_the_users_own_go_before_the_others() -> None:
    assert header_in("X-Team:  search ") == ("X-Team", "search")
    assert header_in("Authorization: Bearer a:b") == ("Authorization", "Bearer a:b")
    endpoint = find_endpoint("openai", headers={"Authorization": "Bearer a:b", "X-Team": "s"})
    assert endpoint.key is None
    assert endpoint.headers["authorization"] == "Bearer a:b"
    assert endpoint.headers["x-team"] == "s"
    with pytest.raises(InvalidSettings, match="no API key"):
        find_endpoint("openai", headers={"X-Team": "s"})


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"X Team": "secret"},
            "the name of a header holds a space or another character that none can have. "
            "Fix: write it as in 'X-Team: search'",
        ),
        (
            {"X-Team": "secret\n"},
            "the value of the header X-Team holds a line break or another character that no header "
            "can have. Fix: copy it again, without what stands around it",
        ),
        (
            {"Content-Length": "secret"},
            "the header Content-Length is set for each request by itself. Fix: leave it out",
        ),
        (
            {"X-Team": 7},
            "the headers are not a mapping of names to values, both of them text. "
            'Fix: headers={"x-team": "search"}, or none',
        ),
        (
            "X-Team: secret",
            "the headers are not a mapping of names to values, both of them text. "
            'Fix: headers={"x-team": "search"}, or none',
        ),
    ],
)
def test_what_is_no_header_is_told_without_its_value(headers: object, message: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        find_endpoint("openai", key="k", headers=headers)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["secret", ": secret", "X Team: secret"])
def test_what_is_no_header_of_the_command_line(text: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        header_in(text)
    assert str(caught.value) == (
        "a --header is not Name: value. Fix: write it as in --header 'X-Team: search'"
    )


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.anyio
async def test_what_is_secret_is_written_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"model": "m", "messages": []}) + "\n")
    asked: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(400, json={"error": {"message": "no"}})

    endpoint = find_endpoint(
        None, "http://x/v1?sig=hush1", "hush2", headers={"X-Team-Key": "hush3"}
    )
    assert isinstance(endpoint, Endpoint)
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as client:
        await bulk.run(source, scheduler=Scheduler(), client=client, endpoint=endpoint)
    (request,) = asked
    assert str(request.url) == "http://x/v1/chat/completions?sig=hush1"
    assert request.headers["x-team-key"] == "hush3"
    written = b"".join(path.read_bytes() for path in files_in(tmp_path))
    ours = [record.getMessage() for record in caplog.records if record.name == "headway"]
    assert b"http://x/v1" in written
    assert b"hush" not in written
    assert not [text for text in (*ours, repr(endpoint)) if "hush" in text]
