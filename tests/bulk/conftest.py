"""A file of requests, and a server for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bulk_runs import chat, write_lines
from llmock.pytest_plugin import LLMock


@pytest.fixture
def server(llmock: LLMock, monkeypatch: pytest.MonkeyPatch) -> LLMock:
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    monkeypatch.setenv("TOGETHER_BASE_URL", llmock.url + "/together")
    return llmock


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "in.jsonl", *(chat(f"q{number}") for number in range(20)))
