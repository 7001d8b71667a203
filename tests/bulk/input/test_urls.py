"""Urls under all the names that files have for them."""

from __future__ import annotations

import pytest

from headway.bulk.input.urls import known_url

GENERATE = "/v1beta/models/gemini-2.5-flash:generateContent"


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("chat/completions", "/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/v4/chat/completions", "/v1/chat/completions"),
        ("https://api.openai.com/v1/embeddings", "/v1/embeddings"),
        (
            "https://x.openai.azure.com/openai/deployments/m/chat/completions?api-version=1",
            "/v1/chat/completions",
        ),
        ("https://api.anthropic.com/v1/messages", "/v1/messages"),
        (f"https://generativelanguage.googleapis.com{GENERATE}", GENERATE),
        (GENERATE.replace("generate", "embed"), GENERATE.replace("generate", "embed")),
        ("/v1/fim/completions", "/v1/fim/completions"),
        ("/score", "/v1/score"),
        ("/completions", "/v1/completions"),
        ("https://api.openai.com", None),
        ("/v1/files", None),
        ("/v1/audio/transcriptions", None),
        ("", None),
        (7, None),
        (["/v1/embeddings"], None),
    ],
)
def test_a_url_under_its_other_names(url: object, known: str | None) -> None:
    assert known_url(url) == known
