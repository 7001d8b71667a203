"""``headway probe``: whom it asks for what, and what it says where it cannot."""

from __future__ import annotations

import pytest
from commands import headway, said

from headway.bulk import probe as module
from headway.errors import InvalidArgument


def test_it_asks_the_endpoint_of_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, str] = {}

    async def ask(client: object, **options: str) -> str:
        asked.update(options)
        return "found"

    monkeypatch.setattr(module, "probe", ask)
    monkeypatch.setattr(module, "describe", lambda found: f"what was {found}")
    arguments = ("--model", "m", "--base-url", "http://test/v1", "--endpoint", "embeddings")
    result = headway("probe", *arguments)
    assert (result.exit_code, result.stdout) == (0, "what was found\n")
    assert asked == {"model": "m", "provider": "custom", "url": "http://test/v1/embeddings"}


@pytest.mark.parametrize("error", [InvalidArgument("no limits"), OSError("no limits")])
def test_what_cannot_be_asked_is_2(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(client: object, **options: str) -> str:
        raise error

    monkeypatch.setattr(module, "probe", ask)
    result = headway("probe", "--model", "m", "--base-url", "http://test/v1")
    assert result.exit_code == 2
    assert said(result) == "headway: no limits"


def test_without_a_key_it_says_where_one_is_read() -> None:
    result = headway("probe", "--model", "m")
    assert result.exit_code == 2
    assert "TOGETHER_API_KEY" in said(result)
