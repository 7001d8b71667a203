"""Refusals inside other errors, gRPC's codes, and waits that exceptions carry."""

from __future__ import annotations

import asyncio
import urllib.error
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from packages import of_dev

from headway.errors import Latched
from headway.events import Kind
from headway.hints import Refusal, classify

NOW = 1_790_000_000.0


class Carrier(Exception):
    """An error of some SDK: what it carries, and nothing else."""

    def __init__(self, text: str = "boom", **fields: object) -> None:
        super().__init__(text)
        self.__dict__.update(fields)


class AppError(Exception):
    """An error of an application's own, which says nothing."""


class FloodWaitError(Exception):
    """Telethon's and Pyrogram's."""

    def __init__(self, **fields: int) -> None:
        super().__init__("no")
        self.__dict__.update(fields)


class RateLimitError(Exception):
    """What many call theirs."""


def ask(error: BaseException) -> Refusal:
    return classify(error, wall_time=NOW)


def limited(**fields: object) -> Carrier:
    return Carrier("slow down", status_code=429, headers={"retry-after": "7"}, **fields)


def from_cause(outer: Exception, inner: BaseException) -> Exception:
    try:
        raise outer from inner
    except Exception as error:
        return error


def in_context(outer: Exception, inner: Exception, *, suppressed: bool = False) -> Exception:
    try:
        try:
            raise inner
        except Exception:
            if suppressed:
                raise outer from None
            raise outer  # noqa: B904
    except Exception as error:
        return error


WRAPPED: list[tuple[str, Exception]] = [
    ("a cause", from_cause(AppError("no"), limited())),
    ("a cause of a bug's class", from_cause(ValueError("no"), limited())),
    ("a cause of a cause", from_cause(AppError("no"), from_cause(AppError("no"), limited()))),
    ("the context of an application's own", in_context(AppError("no"), limited())),
    ("the context of a plain one", in_context(RuntimeError("no"), limited())),
    ("an original", Carrier(original_exception=limited())),
    ("a reason", Carrier(reason=limited())),
    ("a group", ExceptionGroup("g", [limited(), limited()])),
    ("a group in a group", ExceptionGroup("g", [ExceptionGroup("h", [limited()])])),
    ("a group under a cause", from_cause(AppError("no"), ExceptionGroup("g", [limited()]))),
    (
        "a member that wraps another",
        ExceptionGroup("g", [lim := limited(), from_cause(AppError(), lim)]),
    ),
]


@pytest.mark.parametrize("error", [r[1] for r in WRAPPED], ids=[r[0] for r in WRAPPED])
def test_a_refusal_inside_another_error(error: Exception) -> None:
    found = ask(error)
    assert (found.kind, found.status, found.wait) == (Kind.RATE, 429, 7)


def test_the_message_names_both() -> None:
    found = ask(from_cause(AppError("could not summarise"), limited()))
    assert found.message == "AppError: could not summarise (slow down)"


@pytest.mark.parametrize(
    "error",
    [
        in_context(AppError("no"), limited(), suppressed=True),
        in_context(KeyError("x-request-id"), limited()),
        in_context(TypeError("bug"), limited()),
        in_context(AssertionError("bug"), limited()),
        AppError("no"),
    ],
    ids=["from None", "KeyError", "TypeError", "AssertionError", "nothing"],
)
def test_a_bug_in_the_handler_of_a_refusal_is_no_refusal(error: Exception) -> None:
    assert ask(error).kind is Kind.PERMANENT
    assert ask(error).status is None


def test_what_the_outer_error_says_itself_comes_first_and_the_inner_adds_to_it() -> None:
    outer = from_cause(Carrier(status_code=429), limited(body={"error": {"type": "tokens"}}))
    assert (ask(outer).kind, ask(outer).wait, ask(outer).typed) == (Kind.TOKENS, 7, True)
    other = from_cause(Carrier(status_code=400), limited())
    assert (ask(other).kind, ask(other).wait) == (Kind.PERMANENT, None)


def test_an_error_of_headway_inside_stays_permanent() -> None:
    ours = Latched("wrong key", Kind.AUTH)
    for error in (
        from_cause(AppError("rate limit exceeded"), ours),
        from_cause(Carrier(retry_after=3), ours),
        ExceptionGroup("g", [ours, limited()]),
    ):
        assert ask(error).kind is Kind.PERMANENT


@pytest.mark.parametrize(
    ("members", "kind", "wait"),
    [
        ([limited(), Carrier(status_code=429, headers={"retry-after": "9"})], Kind.RATE, 9),
        ([Carrier(status_code=500), limited()], Kind.RATE, 7),
        ([Carrier(status_code=503), TimeoutError()], Kind.CAPACITY, None),
        ([limited(), Carrier(status_code=400)], Kind.PERMANENT, None),
        ([limited(), AppError("bug")], Kind.PERMANENT, None),
        ([limited(), Carrier(status_code=401)], Kind.AUTH, None),
        ([limited(), Carrier("tokens per min", status_code=429)], Kind.TOKENS, 7),
        ([TimeoutError(), ConnectionResetError()], Kind.TRANSIENT, None),
    ],
)
def test_the_gravest_of_a_group_decides(
    members: list[Exception], kind: Kind, wait: float | None
) -> None:
    for order in members, members[::-1]:
        assert (ask(ExceptionGroup("g", order)).kind, ask(ExceptionGroup("g", order)).wait) == (
            kind,
            wait,
        )


def test_what_any_of_a_group_states_of_the_limits_is_followed() -> None:
    stated = {"x-ratelimit-limit-requests-minute": "60", "retry-after": "7"}
    told = Carrier(status_code=429, headers=stated)
    for bug in AppError("bug"), Carrier(status_code=400):
        refusal = ask(ExceptionGroup("g", [bug, told]))
        assert refusal.kind is Kind.PERMANENT
        assert [(limit.what, limit.limit, limit.per) for limit in refusal.limits] == [
            ("requests", 60, 60)
        ]


def test_a_group_with_an_interruption_is_not_retried() -> None:
    group = BaseExceptionGroup("g", [limited(), KeyboardInterrupt()])
    assert ask(group).kind is Kind.PERMANENT


def test_rings_and_depths_end() -> None:
    one, two = AppError("one"), AppError("two")
    one.__cause__, two.__cause__ = two, one
    assert ask(one).kind is Kind.PERMANENT
    group = ExceptionGroup("g", [one, two])
    one.__context__ = group
    assert ask(group).kind is Kind.PERMANENT
    deep: Exception = limited()
    for _ in range(50):
        deep = from_cause(AppError("no"), deep)
    assert ask(deep).kind is Kind.PERMANENT
    wide: Exception = limited()
    for _ in range(6):
        wide = ExceptionGroup("g", [wide] * 40)
    assert ask(wide).kind in (Kind.RATE, Kind.PERMANENT)  # bounded, whatever it says


def test_the_last_attempt_of_tenacity() -> None:
    tenacity: Any = of_dev("tenacity")

    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    def call() -> None:
        raise limited()

    with pytest.raises(tenacity.RetryError) as caught:
        call()
    assert (ask(caught.value).kind, ask(caught.value).wait) == (Kind.RATE, 7)
    caught.value.__cause__ = None  # the attempt alone tells it too
    assert (ask(caught.value).kind, ask(caught.value).wait) == (Kind.RATE, 7)


def test_an_attempt_that_is_not_done_is_not_waited_for() -> None:
    class Attempt:
        def done(self) -> bool:
            return False

        def exception(self) -> None:
            raise AssertionError("waited for")

    assert ask(Carrier(last_attempt=Attempt())).kind is Kind.PERMANENT


def test_a_real_task_group() -> None:
    async def call() -> None:
        request = httpx.Request("GET", "https://api.example")
        response = httpx.Response(429, headers={"retry-after": "3"}, request=request)
        response.raise_for_status()

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(call())
            group.create_task(call())

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(both())
    assert (ask(caught.value).kind, ask(caught.value).wait) == (Kind.RATE, 3)


def test_a_fault_of_the_network_inside_another_error() -> None:
    found = ask(from_cause(AppError("no"), httpx.ConnectError("no route")))
    assert (found.kind, found.unreached) == (Kind.TRANSIENT, True)
    assert ask(urllib.error.URLError(ConnectionRefusedError(111, "x"))).kind is Kind.TRANSIENT


# What exceptions carry --------------------------------------------------------------------------

CARRIED: list[tuple[str, Exception, float | None]] = [
    ("a number", Carrier(retry_after=30), 30),
    ("a fraction", Carrier(retry_after=0.5), 0.5),
    ("milliseconds", Carrier(retry_after_ms=1500), 1.5),
    ("wait", Carrier(wait=4), 4),
    ("python-telegram-bot", Carrier(retry_after=timedelta(seconds=14)), 14),
    ("wait, of hours", Carrier(wait=timedelta(hours=2)), 7200),
    ("a text", Carrier(retry_after="1m20s"), 80),
    ("prawcore", Carrier("received 429 HTTP response", retry_after=5.0), 5),
    ("a moment", Carrier(resets_at=NOW + 40), 40),
    ("Telethon", FloodWaitError(seconds=31), 31),
    ("Pyrogram", FloodWaitError(value=32), 32),
    ("words", RuntimeError("retry in 30 seconds"), 30),
    ("words of an application", AppError("Please wait 12 seconds"), 12),
    ("Reddit", Exception("RATELIMIT: you are doing that too much. Try again in 9 minutes."), 540),
    ("a limit without a wait", AppError("Rate limit exceeded"), None),
    ("by its class", RateLimitError("no"), None),
]


@pytest.mark.parametrize(("error", "wait"), [r[1:] for r in CARRIED], ids=[r[0] for r in CARRIED])
def test_a_wait_that_an_exception_carries(error: Exception, wait: float | None) -> None:
    found = ask(error)
    assert (found.kind, found.status, found.typed) == (Kind.RATE, None, False)
    assert found.wait == (None if wait is None else pytest.approx(wait))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("not JSON: 'retry in 30 seconds'"),
        KeyError("rate limit exceeded"),
        AppError("x" * 300 + " retry in 30 seconds"),
        AppError("retry 3"),
        Carrier(retry_after=None),
        Carrier(wait=lambda: 3),
        Carrier(retry_after=True),
    ],
)
def test_what_only_looks_like_a_wait(error: Exception) -> None:
    assert ask(error).kind is Kind.PERMANENT


def test_a_status_keeps_its_kind_and_takes_the_wait() -> None:
    assert (ask(Carrier(status_code=429, retry_after=5)).wait) == 5
    assert (ask(Carrier(status=503, retry_after=5)).kind, ask(Carrier(status=503)).wait) == (
        Kind.CAPACITY,
        None,
    )
    header = Carrier(status_code=429, retry_after=5, headers={"retry-after": "2"})
    assert ask(header).wait == 2
    odd = ask(Carrier(status_code=429, retry_after="soon"))
    assert (odd.wait, odd.odd) == (None, "retry_after: 'soon' ignored")


SHAPES: list[tuple[str, Exception, Kind, float | None]] = [
    (
        "botocore",
        Carrier(
            response={
                "Error": {"Code": "ProvisionedThroughputExceededException", "Message": "x"},
                "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {"retry-after": "2"}},
            }
        ),
        Kind.RATE,
        2,
    ),
    (
        "simple-salesforce",
        Carrier(status=403, content=[{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "x"}]),
        Kind.RATE,
        None,
    ),
    (
        "PyGithub",
        Carrier(status=403, data={"message": "secondary rate limit"}, headers={"retry-after": "9"}),
        Kind.RATE,
        9,
    ),
    (
        "Google's client",
        Carrier(
            resp=SimpleNamespace(status=403, headers={}),
            content=b'{"error": {"errors": [{"reason": "userRateLimitExceeded"}]}}',
        ),
        Kind.RATE,
        None,
    ),
    (
        "LiteLLM",
        Carrier(status_code=429, litellm_response_headers={"retry-after": "8"}),
        Kind.RATE,
        8,
    ),
    (
        "Stripe",
        Carrier(http_status=402, json_body={"error": {"type": "card_error"}}),
        Kind.PERMANENT,
        None,
    ),
    ("google.api_core", Carrier(code=429, details=[{"retryDelay": "6s"}]), Kind.RATE, 6),
    (
        "google.api_core, protobuf",
        Carrier(
            code=429, details=[SimpleNamespace(retry_delay=SimpleNamespace(seconds=6, nanos=0))]
        ),
        Kind.RATE,
        6,
    ),
    ("a code in words", Carrier("no", code="rate_limit_exceeded"), Kind.RATE, None),
    ("discord.py", Carrier(status=429, code=0, retry_after=3.5), Kind.RATE, 3.5),
]


@pytest.mark.parametrize(
    ("error", "kind", "wait"), [r[1:] for r in SHAPES], ids=[r[0] for r in SHAPES]
)
def test_the_shapes_of_sdks(error: Exception, kind: Kind, wait: float | None) -> None:
    assert (ask(error).kind, ask(error).wait) == (kind, wait)


# gRPC -------------------------------------------------------------------------------------------


class RpcError(Exception):
    """One of grpc's: methods where others have attributes."""

    def __init__(self, name: str, details: str = "no", trailing: Any = ()) -> None:
        super().__init__(f"<RPC that ended with {name}>")
        self._said = SimpleNamespace(name=name, value=(0, name)), details, trailing

    def code(self) -> Any:
        return self._said[0]

    def details(self) -> str:
        return self._said[1]

    def trailing_metadata(self) -> Any:
        return self._said[2]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("RESOURCE_EXHAUSTED", Kind.RATE),
        ("UNAVAILABLE", Kind.CAPACITY),
        ("DEADLINE_EXCEEDED", Kind.TRANSIENT),
        ("INTERNAL", Kind.TRANSIENT),
        ("UNKNOWN", Kind.TRANSIENT),
        ("ABORTED", Kind.TRANSIENT),
        ("UNAUTHENTICATED", Kind.AUTH),
        ("PERMISSION_DENIED", Kind.PERMANENT),
        ("INVALID_ARGUMENT", Kind.PERMANENT),
        ("NOT_FOUND", Kind.PERMANENT),
        ("FAILED_PRECONDITION", Kind.PERMANENT),
        ("UNIMPLEMENTED", Kind.PERMANENT),
        ("CANCELLED", Kind.PERMANENT),
    ],
)
def test_codes_of_grpc(name: str, kind: Kind) -> None:
    grpc: Any = of_dev("grpc")
    assert (ask(RpcError(name)).kind, ask(RpcError(name)).status) == (kind, None)
    status = getattr(grpc.StatusCode, name)
    real = grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(), details="no")
    assert (ask(real).kind, ask(real).message) == (kind, "no")
    assert ask(Carrier(grpc_status_code=status)).kind is kind  # google.api_core


def test_waits_of_grpc() -> None:
    assert ask(RpcError("RESOURCE_EXHAUSTED", "tokens per min: try again in 4s")).wait == 4
    assert ask(RpcError("UNAVAILABLE", trailing=[("grpc-retry-pushback-ms", "250")])).wait == 0.25
    down = ask(RpcError("UNAVAILABLE", "failed to connect to all addresses"))
    assert (down.kind, down.unreached) == (Kind.TRANSIENT, True)
