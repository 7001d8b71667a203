"""Probing: what headers say of the limits, and what goes wrong, told plainly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
import respx
from llmock.pytest_plugin import LLMock

from headway import Limits, Scheduler
from headway.bulk.probe import ProbeFailed, describe, probe

pytestmark = pytest.mark.anyio

ANSWER = {"choices": [{"message": {"content": "a"}}], "usage": {"total_tokens": 9}}
BASE = "https://api.example.org"


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=BASE)


async def probed(
    reply: httpx.Response | Callable[[httpx.Request], httpx.Response], **options: Any
) -> Any:
    async with client() as http:
        with respx.mock(base_url=BASE, assert_all_called=False) as router:
            route = router.post(options.get("url", "/v1/chat/completions"))
            if isinstance(reply, httpx.Response):
                route.mock(return_value=reply)
            else:
                route.mock(side_effect=reply)
            return await probe(http, **{"model": "m", "provider": "together", **options})


def answered(**headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, json=ANSWER, headers=named)


def check_line(text: str) -> None:
    """The lines that `describe` offers can be used as they are."""
    line = next(line.strip() for line in text.splitlines() if line.strip().startswith("Scheduler"))
    assert isinstance(eval(line, {"Scheduler": Scheduler}), Scheduler)
    words = next(line for line in text.splitlines() if "headway run" in line).split()
    rates = [words[n + 1] for n, word in enumerate(words) if word == "--rate"]
    tokens = [words[n + 1] for n, word in enumerate(words) if word == "--tokens"]
    assert Limits(rates, tokens=tokens) == eval(line, {"Scheduler": Scheduler}).limits


async def test_openai_s_headers() -> None:
    found = await probed(
        answered(
            x_ratelimit_limit_requests="500",
            x_ratelimit_remaining_requests="499",
            x_ratelimit_reset_requests="120ms",
            x_ratelimit_limit_tokens="200000",
            x_ratelimit_remaining_tokens="199990",
            x_ratelimit_reset_tokens="3ms",
        ),
        provider="openai",
    )
    assert found.calls == 3
    assert found.unit is None
    text = describe(found)
    check_line(text)
    assert (
        text
        == """\
m at openai, 3 calls of one token:

  requests       500 per min, 499 remain
  tokens         200,000 per min, 199,990 remain

  Scheduler("500/min", tokens="200k/min")
  headway run requests.jsonl --rate 500/min --tokens 200k/min

They are limits of this model: other models have their own (keys=).
No header states how many calls may be in flight: --concurrency is yours."""
    )


async def test_nothing_stated() -> None:
    text = describe(await probed(answered(), provider="gemini"))
    check_line(text)
    assert "  No header states a limit.\n\n  Scheduler()\n" in text
    assert (
        "With no limit stated headway finds it by itself: it starts slowly, goes faster as long as "
        "nothing is refused, and slows down where something is." in text
    )


async def test_only_requests_stated() -> None:
    found = await probed(answered(ratelimit_policy='"burst";q=100;w=60,"daily";q=1000;w=86400'))
    text = describe(found)
    check_line(text)
    assert 'Scheduler(["100/min", "1000/day"])' in text
    assert "No limit of tokens is known" in text


async def test_input_and_output_tokens_apart() -> None:
    found = await probed(
        answered(
            anthropic_ratelimit_requests_limit="50",
            anthropic_ratelimit_input_tokens_limit="30000",
            anthropic_ratelimit_output_tokens_limit="8000",
        ),
        provider="anthropic",
    )
    text = describe(found)
    check_line(text)
    assert "  input tokens   30,000 per min\n" in text
    assert "headway counts both together, so no --tokens is given" in text
    assert "--rate 50/min" in text
    assert "--tokens 3" not in text


# -- Together's unsuffixed limit --


class Bucket:
    """What Together's headers say of a bucket that fills `limit` in `per` seconds."""

    def __init__(self, limit: int, per: float, reset: str | None = "1") -> None:
        self.limit, self.per, self.reset = limit, per, reset
        self.level = float(limit)
        self.at: float | None = None
        self.asked: list[Any] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content))
        now = anyio.current_time()
        if self.at is not None:
            self.level = min(self.limit, self.level + (now - self.at) * self.limit / self.per)
        self.at = now
        self.level -= 1
        headers = {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(int(self.level)),
            "x-ratelimit-limit-dynamic": "7",
        }
        if self.reset is not None:
            headers["x-ratelimit-reset"] = self.reset
        return httpx.Response(200, json=ANSWER, headers=headers)


@pytest.mark.parametrize(
    ("bucket", "unit", "rate", "why"),
    [
        (Bucket(10, 1.0), "second", "10/s", "a second later what remains was full again, twice"),
        (Bucket(60, 1.0), "second", "60/s", "a second later what remains was full again, twice"),
        (Bucket(60, 60.0), "minute", "60/min", "a second later what remains was not full again"),
        (Bucket(20, 60.0, None), "minute", "20/min",
         "a second later what remains was not full again"),
        (Bucket(6000, 60.0, "45"), "minute", "6000/min", "they reset 45 s later"),
    ],
    ids=lambda value: "",
)  # fmt: skip
async def test_the_unit_shows(bucket: Bucket, unit: str, rate: str, why: str) -> None:
    bucket.__init__(bucket.limit, bucket.per, bucket.reset)  # type: ignore[misc]
    found = await probed(bucket)
    assert (found.unit, found.unit_from) == (unit, why)
    text = describe(found)
    check_line(text)
    assert f"--rate {rate}\n" in text
    assert f"The limits are per {unit}: {why}." in text
    assert "A dynamic limit moves with your traffic" in text
    assert found.calls == len(bucket.asked) <= 11
    assert all(asked["max_tokens"] == 1 for asked in bucket.asked)


@pytest.mark.parametrize("per", [1.0, 60.0])
async def test_the_unit_that_does_not_show(per: float) -> None:
    """6,000 a minute are 100 a second: a few calls are back in no time either way."""
    found = await probed(Bucket(6000, per))
    assert found.unit is None
    text = describe(found)
    check_line(text)
    assert "  Scheduler()\n" in text
    assert (
        "The limit of requests states no period, and a few calls did not show whether it is per "
        "second or per minute: it is left out. If you know it, state it." in text
    )


async def test_a_window_that_ends_is_no_second() -> None:
    """Of 60 a minute all are back when the minute ends; not again after the next second."""
    sent = 0

    def reply(_: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        left = 60 - sent if sent <= 5 else 60 - (sent - 5)  # the minute ends after five
        return answered(x_ratelimit_limit="60", x_ratelimit_remaining=str(left))

    assert (await probed(reply)).unit == "minute"


@pytest.mark.parametrize("unit", ["second", "minute"])
async def test_a_stated_unit_is_taken(unit: Any) -> None:
    bucket = Bucket(60, 60.0)
    found = await probed(bucket, together_unit=unit)
    assert found.calls == len(bucket.asked) == 3
    assert (found.unit, found.unit_from) == (unit, "as stated")
    assert f"--rate 60/{'s' if unit == 'second' else 'min'}\n" in describe(found)


async def test_a_refusal_tells_too() -> None:
    message = "You have reached your rate limit: 600 RPM (10 QPS) and 180000 TPM (3000 TPS)."
    error = {"error": {"message": message, "type": "rate_limit", "code": "rate_limit_exceeded"}}
    sent = 0

    def reply(_: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        return httpx.Response(429, json=error) if sent > 1 else answered()

    found = await probed(reply)
    assert found.calls == 2
    text = describe(found)
    check_line(text)
    assert 'Scheduler(["600/min", "10/s"], tokens=["180k/min", "3000/s"])' in text
    assert f"A call was refused: {message[:-1]}" in text


# -- what goes wrong --


def failed(status: int, message: str, **error: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, **error}})


PAGE = httpx.Response(200, html="<!doctype html><h1>Welcome</h1>")
WRONG = {
    "key": (
        failed(401, "Invalid API key provided."),
        "the provider refuses the key (status 401). together says: Invalid API key provided. "
        "Fix: set the right key in the variable of its provider (TOGETHER_API_KEY, OPENAI_API_KEY, "
        "…).",
    ),
    "money": (
        failed(402, "Monthly limit reached", type="credit_limit"),
        "the account has no credit left (status 402). together says: Monthly limit reached. "
        "Fix: raise the account's spending limit or add credit.",
    ),
    "quota": (
        failed(429, "You exceeded your quota", code="insufficient_quota"),
        "the account has no credit left (status 429). together says: You exceeded your quota. "
        "Fix: raise the account's spending limit or add credit.",
    ),
    "model": (
        failed(404, "The model `m` does not exist"),
        "the model 'm' cannot be used (status 404). together says: The model `m` does not exist. "
        "Fix: --model with a name that the provider lists.",
    ),
    "url": (
        failed(404, "Not Found"),
        f"there is no {BASE}/v1/chat/completions (status 404). together says: Not Found. "
        "Fix: the address of the API (--base-url), or another --endpoint.",
    ),
    "nothing": (
        httpx.Response(405),
        f"there is no {BASE}/v1/chat/completions (status 405). together says no more than that. "
        "Fix: the address of the API (--base-url), or another --endpoint.",
    ),
    "html": (
        PAGE,
        f"{BASE}/v1/chat/completions answered a web page (status 200), not JSON: it is not the "
        "API. Fix: the address of the API (--base-url).",
    ),
    "html without a type": (
        httpx.Response(502, content=b"  <html>Bad gateway"),
        f"{BASE}/v1/chat/completions answered a web page (status 502), not JSON: it is not the "
        "API. Fix: the address of the API (--base-url).",
    ),
    "text": (
        httpx.Response(200, content=b"hello"),
        f"{BASE}/v1/chat/completions answered 'hello', which is not a JSON object. "
        "Fix: the address of the API (--base-url).",
    ),
    "garbage": (
        httpx.Response(200, content=b"[" * 5000),
        f"{BASE}/v1/chat/completions answered '{'[' * 199}…', which is not a JSON object. "
        "Fix: the address of the API (--base-url).",
    ),
    "down": (
        failed(503, "overloaded"),
        "together is down or busy (status 503). together says: overloaded. Fix: try later.",
    ),
    "other": (
        failed(400, "max_tokens is too small"),
        "the call was refused (status 400). together says: max_tokens is too small. "
        "Fix: what it says.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_errors_are_told(name: str) -> None:
    reply, message = WRONG[name]
    with pytest.raises(ProbeFailed) as caught:
        await probed(reply)
    assert str(caught.value) == message


async def test_errors_in_the_middle_are_told() -> None:
    sent = 0

    def reply(_: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        if sent == 3:
            return failed(401, "revoked")
        return answered(x_ratelimit_limit="60", x_ratelimit_remaining="50")

    with pytest.raises(ProbeFailed, match="revoked"):
        await probed(reply)


async def test_a_server_that_is_not_there() -> None:
    def reply(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed")

    with pytest.raises(ProbeFailed) as caught:
        await probed(reply)
    assert str(caught.value) == (
        "together could not be reached: All connection attempts failed. "
        "Fix: check the network and the address."
    )


@pytest.mark.parametrize("url", ["/v1/embeddings", "/v1/completions"])
async def test_other_endpoints(url: str) -> None:
    bodies = []

    def reply(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return answered()

    await probed(reply, url=url)
    field = "input" if url.endswith("embeddings") else "prompt"
    assert len({body[field] for body in bodies}) == 3


class TestARealServer:
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        found: str = request.param
        return found

    async def test_its_limits_are_found(self, llmock: LLMock) -> None:
        llmock.limits(rpm=300, tpm=50_000)
        async with httpx.AsyncClient(
            base_url=llmock.url, headers={"authorization": "Bearer k"}
        ) as http:
            found = await probe(http, model="gpt-4o", provider="openai")
        assert len(llmock.requests) == found.calls == 3
        text = describe(found)
        check_line(text)
        assert "tokens         50,000 per min" in text
        assert "--tokens 50k/min" in text
        llmock.assert_resilient()
