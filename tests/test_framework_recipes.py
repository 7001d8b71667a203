"""The recipes of frameworks: each runs, prints what its page says, and sends nothing by itself."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock
from packages import imported, of_frameworks
from pages import DOCS, blocks

# Of the frameworks themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

# What DSPy reads the field `answer` from, and the others pass on.
REPLY = "[[ ## answer ## ]]\nblue\n\n[[ ## completed ## ]]"

PACKAGES = {
    "litellm": "litellm",  # before DSPy, which imports it at a call, while garbage is collected
    "dspy": "dspy",
    "langchain": "langchain_openai",
    "openai-agents": "agents",
    "pydantic-ai": "pydantic_ai",
}


@pytest.fixture
def server(llmock: LLMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMock]:
    for name, value in llmock.env().items():
        monkeypatch.setenv(name, value)
    # No test leaves this machine: prices, and a cache of answers in the user's folder.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path))
    yield llmock
    gc.collect()  # what frameworks leave open warns in this test, which lets them, not in another


def run(page: str, why: str = "Why") -> Any:
    """Run the recipe on `page`, which asks why, or so; its scheduler."""
    (code,) = blocks(DOCS / "recipes" / f"{page}.md", "python framework")
    code = code.replace("Why", why)
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(code, f"{page}.md", "exec", dont_inherit=True), names)
    return names["scheduler"]


@pytest.mark.parametrize("page", PACKAGES)
def test_a_recipe(page: str, server: LLMock, capsys: pytest.CaptureFixture[str]) -> None:
    of_frameworks(PACKAGES[page])
    imported(PACKAGES[page])
    server.reply(REPLY, times=None)
    statistics = run(page).statistics()
    (said,) = blocks(DOCS / "recipes" / f"{page}.md", "text")
    assert capsys.readouterr().out == said
    assert statistics.sent == len(server.requests)
    server.reset()
    server.fail(503, retry_after=0).reply(REPLY, times=None)
    statistics = run(page, "Since when").statistics()  # DSPy knows why, from its cache
    assert statistics.retried == 1
    assert statistics.sent == len(server.requests)  # the framework retried nothing
