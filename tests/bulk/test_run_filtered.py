"""What a content filter refuses is a result; what ends a run early can be told to go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway import Retry, Scheduler, bulk
from headway.bulk import Progress, RunOptions
from headway.bulk.input.source import Shape

# Threads write the files: a clock that jumps would spin while they do.
pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

ENDPOINT = bulk.Endpoint("custom", "http://server/v1", "a-key", "HEADWAY_API_KEY")
ANSWER = {"choices": [{"text": "x"}]}


async def run(source: Path, answer: Any, shape: Shape | None = None, **options: Any) -> Progress:
    def handler(request: httpx.Request) -> httpx.Response:
        status, body = answer(request) if callable(answer) else answer
        return httpx.Response(status, json=body)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        return await bulk.run(
            source, scheduler=Scheduler("1000/s", concurrency=1, retry=Retry(attempts=1)),
            endpoint=ENDPOINT, client=client,
            options=RunOptions(**({} if shape is None else {"shape": shape}), **options),
        )  # fmt: skip


def lines(folder: Path, count: int = 30) -> Path:
    source = folder / "in.jsonl"
    source.write_text('{"model": "m", "prompt": "?"}\n' * count)
    return source


FILTERED = {
    "Azure's": (400, {"error": {
        "code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"},
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy.", "status": 400}}),
    "OpenAI's images": (400, {"error": {"code": "content_policy_violation", "message": "Your "
                                        "request was rejected by our safety system."}}),
    "OpenAI's prompts": (400, {"error": {
        "code": "invalid_prompt", "message": "Invalid prompt: your prompt was flagged as "
        "potentially violating our usage policy."}}),
    "Anthropic's": (400, {"type": "error", "error": {
        "type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}),
    "OpenRouter's": (403, {"error": {"code": 403, "message": "openai/gpt requires moderation. "
                                     "Your input was flagged", "metadata": {"reasons": ["x"]}}}),
    "DeepSeek's": (400, {"error": {"message": "Content Exists Risk", "code": "invalid_request"}}),
    "Qwen's": (400, {"error": {"code": "data_inspection_failed", "message": "inappropriate "
                               "content"}}),
    "Gemini's": (200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
}  # fmt: skip


@pytest.mark.parametrize("whose", sorted(FILTERED))
async def test_what_a_filter_refuses_is_a_result(whose: str, tmp_path: Path) -> None:
    progress = await run(lines(tmp_path), FILTERED[whose])
    assert progress.stopped is None
    assert sum(progress.failed.values()) == 30


@pytest.mark.parametrize(
    "refusal",
    [(400, {"error": {"message": "model: not found", "code": "invalid_model"}}),
     (404, {"error": {"message": "content filter: no such deployment"}}),
     (400, {"error": {"message": "max_tokens is too large"}})],
)  # fmt: skip
async def test_what_is_wrong_with_all_lines_ends_the_run_unless_it_is_to_go_on(
    refusal: Any, tmp_path: Path
) -> None:
    source = lines(tmp_path)
    stopped = await run(source, refusal)
    assert stopped.stopped is not None
    assert stopped.stopped.reason.endswith("Where they are meant to fail, go on with --keep-going")
    assert stopped.remaining
    progress = await run(source, refusal, keep_going=True)
    assert (progress.stopped, progress.remaining) == (None, 0)
    assert sum(progress.failed.values()) == 30


async def test_a_filter_shows_that_the_address_is_right(tmp_path: Path) -> None:
    answers = iter([FILTERED["Azure's"], *[(400, {"error": {"message": "no"}})] * 29])
    progress = await run(lines(tmp_path), lambda request: next(answers))
    assert (progress.stopped, progress.failed) == (None, {"http_400": 30})


@pytest.mark.parametrize("first", ["7", '"7"', "7.5", "true"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_an_id_is_found_twice_over_a_resumption(
    first: str, form: str, tmp_path: Path
) -> None:
    """A number and its text are one id, in one session as in two."""
    again = json.dumps(first.strip('"'))
    texts = {
        "jsonl": [f'{{"id": {first}, "prompt": "a"}}', '{"id": "other", "prompt": "b"}',
                  f'{{"id": {again}, "prompt": "c"}}'],
        "csv": ["id,prompt", f"{first},a", "other,b", f"{again},c"],
    }[form]  # fmt: skip
    source = tmp_path / f"in.{form}"
    source.write_text("\n".join(texts) + "\n")
    shape = Shape(prompt_column="prompt", id_column="id", model="m")
    assert (await run(source, (200, ANSWER), shape, limit=2)).done == 2
    progress = await run(source, (200, ANSWER), shape)
    assert (progress.done, progress.failed) == (2, {"duplicate_custom_id": 1})
