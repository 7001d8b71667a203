"""Exceptions of SDKs and of nobody: what they carry, and what is hostile."""

from __future__ import annotations

import email.message
import errno
import socket
import ssl
import urllib.error
from types import SimpleNamespace

import pytest
from refusing import (
    GEMINI_TOKENS,
    NOW,
    error_body,
    gemini,
)

from headway.errors import DeadlineExceeded, Latched
from headway.errors import Refused as RefusedResult
from headway.events import Kind
from headway.hints import Refusal, classify


class Carrier(Exception):
    """An error of some SDK: what it carries, and nothing else."""

    def __init__(self, text: str = "boom", **fields: object) -> None:
        super().__init__(text)
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("error", "kind", "status", "wait"),
    [
        (Carrier(status_code=429), Kind.RATE, 429, None),
        (Carrier(status=503), Kind.CAPACITY, 503, None),
        (Carrier(code=401), Kind.AUTH, 401, None),
        (Carrier(http_status=402), Kind.QUOTA, 402, None),
        (Carrier(code="429"), Kind.PERMANENT, None, None),
        (Carrier(code=True), Kind.PERMANENT, None, None),
        (Carrier(status_code=200), Kind.PERMANENT, None, None),
        (Carrier(status_code=1006), Kind.PERMANENT, None, None),
        (Carrier(status_code=429, headers=[("Retry-After", "3")]), Kind.RATE, 429, 3),
        (Carrier("tokens per min: try again in 2s", status_code=429), Kind.TOKENS, 429, 2),
        (Carrier(response=SimpleNamespace(status=500)), Kind.TRANSIENT, 500, None),
        (
            Carrier(
                response=SimpleNamespace(
                    status_code=429, headers={"RETRY-AFTER": "4"}, content=b'{"type":"tokens"}'
                )
            ),
            Kind.TOKENS,
            429,
            4,
        ),
        (
            Carrier(  # botocore
                response={
                    "Error": {"Code": "ThrottlingException", "Message": "Too many tokens"},
                    "ResponseMetadata": {
                        "HTTPStatusCode": 400,
                        "HTTPHeaders": {"retry-after": "1"},
                    },
                }
            ),
            Kind.TOKENS,
            400,
            1,
        ),
        (  # google.genai
            Carrier(code=429, status="RESOURCE_EXHAUSTED", details=gemini(GEMINI_TOKENS)),
            Kind.TOKENS,
            429,
            22,
        ),
        # errors inside a stream: no status
        (Carrier(body={"type": "overloaded_error"}), Kind.CAPACITY, None, None),
        (Carrier(body=error_body("in 2s", type="rate_limit_error")), Kind.RATE, None, None),
        (Carrier(body=error_body("try again in 2s", type="tokens")), Kind.TOKENS, None, 2),
        (Carrier(body=error_body(code=502)), Kind.TRANSIENT, None, None),
        (Carrier(body=error_body(code="429")), Kind.RATE, None, None),
        (Carrier(body={"type": "server_error"}), Kind.TRANSIENT, None, None),
        (Carrier(body={"code": "insufficient_quota"}), Kind.QUOTA, None, None),
        (Carrier(body={"code": "invalid_api_key"}), Kind.AUTH, None, None),
        (Carrier(body={"type": "invalid_request_error"}), Kind.PERMANENT, None, None),
        (Carrier(body="text"), Kind.PERMANENT, None, None),
        # the network
        (ConnectionResetError(), Kind.TRANSIENT, None, None),
        (TimeoutError(), Kind.TRANSIENT, None, None),
        (socket.gaierror(-2, "Name or service not known"), Kind.TRANSIENT, None, None),
        (ssl.SSLError(1, "record layer failure"), Kind.TRANSIENT, None, None),
        (ssl.SSLCertVerificationError(1, "expired"), Kind.PERMANENT, None, None),
        *(
            (OSError(number, "x"), Kind.TRANSIENT, None, None)
            for number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
        ),
        # not recognised
        (OSError(errno.ENOSPC, "x"), Kind.PERMANENT, None, None),
        (OSError("x"), Kind.PERMANENT, None, None),
        (FileNotFoundError(2, "x"), Kind.PERMANENT, None, None),
        (ValueError("x"), Kind.PERMANENT, None, None),
        (KeyboardInterrupt(), Kind.PERMANENT, None, None),
        (SystemExit(429), Kind.PERMANENT, None, None),
        # our own
        (DeadlineExceeded("x"), Kind.PERMANENT, None, None),
        (Latched("x", Kind.AUTH), Kind.PERMANENT, None, None),
    ],
)
def test_exceptions(
    error: BaseException, kind: Kind, status: int | None, wait: float | None
) -> None:
    found = classify(error, wall_time=NOW)
    assert (found.kind, found.status, found.wait, found.odd) == (kind, status, wait, "")


def test_urllib_carries_its_code_and_headers() -> None:
    headers = email.message.Message()
    headers["Retry-After"] = "6"
    error = urllib.error.HTTPError("https://x", 429, "Too Many Requests", headers, None)
    found = classify(error, wall_time=NOW)
    assert (found.kind, found.wait, found.typed) == (Kind.RATE, 6, False)
    error.close()


def test_a_result_that_was_refused_is_a_limit_of_unknown_type() -> None:
    result = SimpleNamespace(headers={"retry-after": "5"})
    found = classify(RefusedResult("too fast", result), wall_time=NOW)
    assert found == Refusal(Kind.RATE, 5, None, "too fast", typed=False)
    assert classify(RefusedResult("too fast", {"a": 1}), wall_time=NOW).wait is None


def test_messages_of_exceptions_name_the_class() -> None:
    assert classify(ValueError("bad\nvalue"), wall_time=NOW).message == "ValueError: bad value"
    assert classify(TimeoutError(), wall_time=NOW).message == "TimeoutError"


def test_content_is_taken_only_where_it_is_held_already() -> None:
    class Unread:
        status_code = 429

        @property
        def content(self) -> bytes:
            raise AssertionError("read from the network")

        text = content

    assert classify(Carrier(response=Unread()), wall_time=NOW).kind is Kind.RATE


def test_hostile_exceptions_never_raise() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        @property
        def status_code(self) -> int:
            raise RuntimeError("no status")

        response = body = status_code

    assert classify(Hostile(), wall_time=NOW) == Refusal(Kind.PERMANENT, message="Hostile")

    class Liar(dict[str, object]):
        def get(self, *_: object) -> object:
            raise RuntimeError("no items")

    assert classify(Carrier(status_code=429, body=Liar(a=1)), wall_time=NOW) == Refusal(
        Kind.PERMANENT, message="Carrier", odd="could not be read"
    )


def test_a_ring_of_causes_ends() -> None:
    one, two = ConnectionError("one"), ConnectionError("two")
    one.__cause__, two.__cause__ = two, one
    found = classify(one, wall_time=NOW)
    assert found.message == "ConnectionError: one (ConnectionError: two)"
