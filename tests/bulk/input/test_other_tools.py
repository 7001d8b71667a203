"""Batch files as other tools' documentation shows them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway import Scheduler, bulk
from headway.bulk.input.formats import BadLine, Request
from headway.providers import find_endpoint

TALK = [{"role": "user", "content": "Which cheese is the best?"}]
GENERATE = "/v1beta/models/gemini-2.5-flash:generateContent"
EMBED = "/v1beta/models/gemini-2.5-flash:embedContent"


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path, model: str | None = None) -> list[Request | BadLine]:
    source = bulk.open_source(path, bulk.Shape(model=model))
    found = list(source.requests(lambda number: False))
    source.close()
    return found


LINES: dict[str, tuple[dict[str, Any], str | None, str, str]] = {
    # name: a line, --model, the url and the model
    "OpenAI, chat": (
        {"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "gpt-4o-mini", "messages": TALK, "max_tokens": 1000}},
        None, "/v1/chat/completions", "gpt-4o-mini",
    ),
    "OpenAI, responses": (
        {"custom_id": "r", "method": "POST", "url": "/v1/responses",
         "body": {"model": "gpt-5", "input": "Say hi", "max_output_tokens": 50}},
        None, "/v1/responses", "gpt-5",
    ),
    "Mistral": (
        {"custom_id": "0", "body": {"max_tokens": 100, "messages": TALK}},
        "mistral-small-latest", "/v1/chat/completions", "mistral-small-latest",
    ),
    "Fireworks": (
        {"custom_id": "request-1", "body": {"messages": TALK, "max_tokens": 100}},
        "accounts/fireworks/models/llama-v3p1-8b-instruct", "/v1/chat/completions",
        "accounts/fireworks/models/llama-v3p1-8b-instruct",
    ),
    "Groq": (
        {"custom_id": "job-1", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "llama-3.1-8b-instant", "messages": TALK}},
        None, "/v1/chat/completions", "llama-3.1-8b-instant",
    ),
    "Azure": (
        {"custom_id": "task-0", "method": "POST", "url": "/chat/completions",
         "body": {"model": "my-deployment", "messages": TALK}},
        None, "/v1/chat/completions", "my-deployment",
    ),
    "vLLM": (
        {"custom_id": "request-1", "method": "POST", "url": "/v1/embeddings",
         "body": {"model": "intfloat/e5-mistral-7b-instruct", "input": "You are helpful."}},
        None, "/v1/embeddings", "intfloat/e5-mistral-7b-instruct",
    ),
    "vLLM, rerank": (
        {"custom_id": "request-1", "method": "POST", "url": "/v2/rerank",
         "body": {"model": "BAAI/bge-reranker-v2-m3", "query": "?", "documents": ["a"]}},
        None, "/v1/rerank", "BAAI/bge-reranker-v2-m3",
    ),
    "Anthropic": (
        {"custom_id": "first", "params": {"model": "claude-sonnet-4-5", "max_tokens": 1024,
                                          "messages": TALK}},
        None, "/v1/messages", "claude-sonnet-4-5",
    ),
    "Gemini": (
        {"key": "request-1", "request": {"contents": [{"parts": [{"text": "Describe it."}]}],
                                         "generation_config": {"temperature": 0.7}}},
        "gemini-2.5-flash", GENERATE, "gemini-2.5-flash",
    ),
    "Gemini, its model in the line": (
        {"key": "request-1", "request": {"model": "models/gemini-2.5-flash", "contents": []}},
        None, GENERATE, "gemini-2.5-flash",
    ),
    "Vertex": (
        {"request": {"contents": [{"role": "user", "parts": [{"text": "Give me a recipe."}]}]}},
        "gemini-2.5-flash", GENERATE, "gemini-2.5-flash",
    ),
    "Mistral, OCR": (
        {"custom_id": "0", "body": {"document": {"type": "document_url", "document_url": "x"}}},
        "mistral-ocr-latest", "/v1/ocr", "mistral-ocr-latest",
    ),
    "Mistral, classifications": (
        {"custom_id": "0", "url": "/v1/chat/classifications", "body": {"model": "m", "input": []}},
        None, "/v1/chat/classifications", "m",
    ),
    "vLLM, score": (
        {"custom_id": "request-1", "method": "POST", "url": "/score",
         "body": {"model": "m", "queries": "?", "documents": ["a"]}},
        None, "/v1/score", "m",
    ),
    "Alibaba": (
        {"custom_id": "1", "method": "POST", "url": "/compatible-mode/v1/chat/completions",
         "body": {"model": "qwen-plus", "messages": TALK}},
        None, "/v1/chat/completions", "qwen-plus",
    ),
    "Gemini, embeddings": (
        {"key": "request-1", "request": {"output_dimensionality": 512,
                                         "content": {"parts": [{"text": "Embed it."}]}}},
        "gemini-2.5-flash", EMBED, "gemini-2.5-flash",
    ),
    "a method in lower case": (
        {"custom_id": "a", "method": "post", "url": "v1/chat/completions/",
         "body": {"model": "m", "messages": TALK}},
        None, "/v1/chat/completions", "m",
    ),
    "a model that is null": (
        {"custom_id": "a", "body": {"model": None, "messages": TALK}},
        "m", "/v1/chat/completions", "m",
    ),
    "a conversation without a url": (
        {"custom_id": "a", "body": {"model": "m", "input": TALK}}, None, "/v1/responses", "m",
    ),
    "instructions without a url": (
        {"custom_id": "a", "body": {"model": "m", "input": "x", "instructions": "y"}},
        None, "/v1/responses", "m",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_line_as_its_documentation_shows_it(name: str, tmp_path: Path) -> None:
    line, model, url, named = LINES[name]
    (request,) = read(written(tmp_path, line), model)
    assert isinstance(request, Request)
    assert request.custom_id == line.get("custom_id", line.get("key", "1"))
    assert (request.url, request.model) == (url, named)
    body = line.get("body") or line.get("params") or line["request"]
    sent = json.loads(request.body)
    geminis = url in (GENERATE, EMBED)
    if not geminis:
        assert sent.pop("model") == named
    assert sent == {key: value for key, value in body.items() if key != "model" or geminis}


def test_all_of_them_in_one_file(tmp_path: Path) -> None:
    lines = [
        {**line, ("key" if "request" in line else "custom_id"): name}
        for name, (line, *_) in LINES.items()
    ]
    found = read(written(tmp_path, *lines), "gemini-2.5-flash")
    assert [each.url for each in found if isinstance(each, Request)] == [
        url for _, _, url, _ in LINES.values()
    ]


# -- models ------------------------------------------------------------------------------------


def test_a_model_that_would_change_nothing_is_refused(tmp_path: Path) -> None:
    lines = [{"custom_id": f"{n}", "body": {"model": "m", "messages": TALK}} for n in range(40, 45)]
    with pytest.raises(bulk.InvalidInput) as caught:
        read(written(tmp_path, *lines), "other")
    assert str(caught.value) == (
        "the lines of a batch file name their models themselves, and --model other would change "
        "nothing. Fix: leave --model out"
    )
    assert len(read(written(tmp_path, *lines), "m")) == 5
    lines.append({"custom_id": "x", "body": {"messages": TALK}})
    models = [
        each.model for each in read(written(tmp_path, *lines), "other") if isinstance(each, Request)
    ]
    assert models == [*["m"] * 5, "other"]


def test_a_line_of_geminis_without_a_model_says_so(tmp_path: Path) -> None:
    assert read(written(tmp_path, {"key": "a", "request": {"contents": []}})) == [
        BadLine(1, "a", "missing_model", "line 1 names no model. Give one with --model")
    ]


async def ran(path: Path, endpoint: bulk.Endpoint, answer: Callable[[httpx.Request], Any]) -> Any:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer(request)))
    async with httpx.AsyncClient(transport=transport) as client:
        return await bulk.run(path, scheduler=Scheduler(), client=client, endpoint=endpoint)


@pytest.mark.anyio
async def test_a_run_says_at_once_that_its_lines_name_no_models(tmp_path: Path) -> None:
    path = written(tmp_path, {"custom_id": "a", "body": {"messages": TALK}})
    with pytest.raises(bulk.InvalidInput) as caught:
        await ran(path, find_endpoint("openai", key="k"), lambda request: {})
    assert str(caught.value) == f"line 1 of {path} names no model. Fix: give one with --model"
    assert os.listdir(tmp_path) == ["in.jsonl"]
    # A server of one's own may have one alone.
    done = await ran(
        path, find_endpoint(base_url="http://x"), lambda request: {"choices": [{"x": 1}]}
    )
    assert done.done == 1


@pytest.mark.anyio
async def test_a_line_without_a_model_among_others_fails_alone(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"custom_id": "a", "body": {"model": "m", "messages": TALK}},
        {"custom_id": "b", "body": {"messages": TALK}},
        {"custom_id": "c", "url": "/v1/moderations", "body": {"input": "x"}},
    )
    done = await ran(
        path, find_endpoint("openai", key="k"), lambda request: {"choices": [{"x": 1}]}
    )
    assert (done.done, dict(done.failed)) == (2, {"missing_model": 1})


@pytest.mark.anyio
async def test_forms_of_the_providers_own_go_where_they_belong(tmp_path: Path) -> None:
    asked: list[httpx.Request] = []

    def claude(request: httpx.Request) -> Any:
        asked.append(request)
        return {"model": "claude-x", "content": [{"type": "text", "text": "Comté"}],
                "usage": {"input_tokens": 9, "output_tokens": 3}}  # fmt: skip

    line, *_ = LINES["Anthropic"]
    done = await ran(written(tmp_path, line), find_endpoint("anthropic", key="k"), claude)
    assert (done.done, done.input_tokens, done.output_tokens) == (1, 9, 3)
    assert str(asked[0].url) == "https://api.anthropic.com/v1/messages"
    assert asked[0].headers["x-api-key"] == "k"

    def gemini(request: httpx.Request) -> Any:
        asked.append(request)
        return {"candidates": [{"content": {"parts": [{"text": "Comté"}]}}]}

    line, *_ = LINES["Gemini, its model in the line"]
    folder = tmp_path / "two"
    folder.mkdir()
    done = await ran(written(folder, line), find_endpoint("gemini", key="k"), gemini)
    assert done.done == 1
    assert str(asked[1].url) == f"https://generativelanguage.googleapis.com{GENERATE}"
    assert asked[1].headers["x-goog-api-key"] == "k"
