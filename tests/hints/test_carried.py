"""What an exception of any SDK carries, read without asking more than it holds already."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from headway.hints._carried import Carried, attribute, called, held, text_of, wait_of

NOW = 1_790_000_000.0


def error(**held: Any) -> Exception:
    made = Exception("said")
    vars(made).update(held)
    return made


@pytest.mark.parametrize(
    ("carried", "status", "headers", "body"),
    [
        ({}, None, None, None),
        ({"status_code": 429, "headers": {"a": "b"}, "body": {"x": 1}}, 429, {"a": "b"}, {"x": 1}),
        ({"response": SimpleNamespace(status_code=503, headers={"a": "b"}, _content=b"no")},
         503, {"a": "b"}, b"no"),
        ({"resp": SimpleNamespace(status=429, headers={"a": "b"}, text="no")},
         429, {"a": "b"}, "no"),
        ({"statusCode": 429, "response_headers": {"a": "b"}, "detail": "no"},
         429, {"a": "b"}, "no"),
        ({"status": 200}, None, None, None),  # of a stream's success
        ({"status": "429"}, None, None, None),
        ({"body": ""}, None, None, None),
    ],
)  # fmt: skip
def test_the_answer(carried: dict[str, Any], status: Any, headers: Any, body: Any) -> None:
    found = Carried(error(**carried))
    assert (found.status, found.headers, found.body) == (status, headers, body)


def test_botocore_keeps_the_answer_in_a_dict() -> None:
    metadata = {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "5"}}
    response = {"Error": {"Code": "Throttling"}, "ResponseMetadata": metadata}
    found = Carried(error(response=response))
    assert (found.status, found.headers, found.body) == (429, {"retry-after": "5"}, response)


@pytest.mark.parametrize(
    ("code", "status"),
    [("RESOURCE_EXHAUSTED", 429), ("UNAVAILABLE", 503), ("UNAUTHENTICATED", 401), ("OK", None)],
)
def test_the_code_of_grpc(code: str, status: int | None) -> None:
    named = SimpleNamespace(name=code)
    assert Carried(error(code=lambda: named)).grpc == status
    assert Carried(error(grpc_status_code=named)).grpc == status


@pytest.mark.parametrize(
    ("carried", "wait"),
    [
        ({}, None),
        ({"retry_after": 5}, 5.0),
        ({"retry_after": "5s"}, 5.0),
        ({"retry_after_ms": 1500}, 1.5),
        ({"retry_after": timedelta(minutes=2)}, 120.0),
        ({"reset_at": NOW + 30}, 30.0),
        ({"retry_after": True}, None),
        ({"retry_after": None, "wait": 7}, 7.0),
        ({"seconds": 9}, None),
    ],
)
def test_the_wait_on_the_error_itself(carried: dict[str, Any], wait: float | None) -> None:
    odd: list[str] = []
    assert wait_of(error(**carried), NOW, odd) == wait
    assert odd == []


def test_a_flood_wait_calls_it_seconds() -> None:
    class FloodWaitError(Exception):
        seconds = 9

    assert wait_of(FloodWaitError(), NOW, []) == 9.0


class Hostile:
    @property
    def text(self) -> str:
        raise RuntimeError("reads from the network")

    def __str__(self) -> str:
        raise RuntimeError("never shown")


def test_nothing_raises_and_no_property_is_read_for_a_body() -> None:
    assert attribute(Hostile(), "text") is None
    assert held(Hostile()) is None
    assert text_of(Hostile()) == ""
    assert called(lambda wanted: wanted) is None
    assert called(3) is None
