"""Limits that results state, where they carry the headers of their response."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest

from headway import Scheduler
from headway.hints import LimitHint, carries_headers, limits_of_result
from headway.providers import dialect_at

HEADERS = {
    "anthropic-ratelimit-requests-limit": "60",
    "anthropic-ratelimit-requests-remaining": "9",
}
STATED = (LimitHint("requests", 60, 9, None, 60.0),)
GROQ = {"x-ratelimit-limit-requests": "14400", "x-ratelimit-remaining-requests": "14370"}


def response(headers: dict[str, str], url: str = "https://api.example/v1") -> httpx.Response:
    return httpx.Response(200, headers=headers, request=httpx.Request("POST", url))


class Explodes:
    """Whose every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "result",
    [
        response(HEADERS),
        SimpleNamespace(headers=HEADERS),
        SimpleNamespace(response=response(HEADERS)),  # what carries one
        SimpleNamespace(http_response=response(HEADERS)),  # raw responses of SDKs
        SimpleNamespace(_response_headers=HEADERS),  # LiteLLM
        SimpleNamespace(_hidden_params={"additional_headers": HEADERS}),
        SimpleNamespace(response_metadata={"headers": HEADERS}),  # LangChain
        {"ResponseMetadata": {"HTTPHeaders": HEADERS}},  # botocore
        {"headers": HEADERS},
    ],
    ids=lambda each: type(each).__name__,
)
def test_where_results_keep_their_headers(result: object) -> None:
    assert carries_headers(result)
    assert limits_of_result(result, wall_time=0.0) == STATED


@pytest.mark.parametrize(
    "result",
    [{}, {"headers": 7}, SimpleNamespace(headers="x"), Explodes(), SimpleNamespace(response=None)],
    ids=lambda each: type(each).__name__,
)
def test_what_carries_none_says_nothing(result: object) -> None:
    assert limits_of_result(result, wall_time=0.0) == ()


def test_the_dialect_is_that_of_the_host_that_answered() -> None:
    result = response(GROQ, "https://api.groq.com/openai/v1/chat/completions")
    (hint,) = limits_of_result(result, wall_time=0.0, dialect_at=dialect_at)
    assert hint.per == 86_400  # and not a minute


async def answer(result: object) -> object:
    return result


async def refuse(error: Exception) -> None:
    raise error


@pytest.mark.anyio
async def test_submit_follows_the_headers_of_results() -> None:
    scheduler = Scheduler()
    await scheduler.submit(answer, response(HEADERS))
    assert scheduler.statistics().pace == pytest.approx(0.99, rel=0.01)


@pytest.mark.anyio
async def test_submit_and_lease_follow_the_headers_of_exceptions() -> None:
    refused = response({**HEADERS, "retry-after": "1"})
    refused.status_code = 429
    error = httpx.HTTPStatusError("429", request=refused.request, response=refused)
    wrapped = RuntimeError("the application's own")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        scheduler = Scheduler()
        with pytest.raises(type(each)):
            async with scheduler.lease():
                raise each
        assert 0.8 < scheduler.statistics().pace < 1.0  # 1 a second, and it was refused
        tries = iter([each])

        async def call(tries: Any = tries) -> str:
            for error in tries:
                raise error
            return "done"

        scheduler = Scheduler()
        assert await scheduler.submit(call) == "done"
        assert 0.8 < scheduler.statistics().pace < 1.0  # 1 a second, and it was refused


@pytest.mark.anyio
@pytest.mark.parametrize("heard", [response(HEADERS), response(HEADERS).headers])
async def test_a_lease_is_told_what_was_answered(heard: object) -> None:
    scheduler = Scheduler()
    async with scheduler.lease() as lease:
        lease.hear(heard)
        lease.hear("which carries none")
    assert scheduler.statistics().pace == pytest.approx(0.99, rel=0.01)


@pytest.mark.anyio
async def test_types_that_carry_none_are_asked_once() -> None:
    class Plain:
        asked: ClassVar[list[str]] = []

        def __getattr__(self, name: str) -> Any:
            self.asked.append(name)
            raise AttributeError(name)

    scheduler = Scheduler("6000/min")
    await scheduler.map(answer, [Plain() for _ in range(3)])
    await scheduler.submit(answer, {"text": "a mapping may carry some, another time"})
    await scheduler.submit(answer, {"ResponseMetadata": {"HTTPHeaders": HEADERS}})
    await scheduler.map(answer, [Plain() for _ in range(3)])
    assert Plain.asked.count("headers") == 1
    assert scheduler.statistics().pace == pytest.approx(0.99, rel=0.01)
