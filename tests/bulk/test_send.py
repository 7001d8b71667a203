"""What the lack of an answer says: the row, the bill, the fault, and whether the run ends."""

from __future__ import annotations

import httpx
import pytest

from headway import StoreUnavailable
from headway.bulk.output.answers import Reading
from headway.bulk.output.rows import Answer
from headway.bulk.send import UNTOLD, InvalidAnswer, billed_of, describe, fault_of, stop_of
from headway.errors import Cleared, NeverFits
from headway.estimate import Tokens
from headway.kinds import Kind
from headway.providers import Endpoint

ENDPOINT = Endpoint("custom", "http://test/v1", "a-key", "HEADWAY_API_KEY")
REQUEST = httpx.Request("POST", "http://test/v1")


def status(number: int, body: bytes = b"") -> httpx.HTTPStatusError:
    response = httpx.Response(number, content=body, request=REQUEST)
    return httpx.HTTPStatusError(str(number), request=REQUEST, response=response)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (status(400, b'{"error":{"message":"bad model"}}'), "http_400", "bad model"),
        (status(400, b'{"error":"bad"}'), "http_400", "bad"),
        (status(500, b"<p>"), "http_500", "Internal Server Error"),
        (httpx.ReadTimeout("x"), "timeout", "no answer in time (ReadTimeout)"),
        (httpx.ConnectTimeout("x"), "timeout", "no connection in time (ConnectTimeout)"),
        (httpx.ConnectError("refused"), "connection_error", "ConnectError: refused"),
        (httpx.ReadError(""), "connection_error", "ReadError"),
        (httpx.DecodingError("gzip"), "invalid_answer", "the answer cannot be decompressed: gzip"),
        (NeverFits("too large"), "never_fits", "too large"),
        (Cleared("dropped"), "cleared", "dropped"),
        (InvalidAnswer("none", Answer(200, None, b"x")), "invalid_answer", "none"),
        (KeyError("k"), "KeyError", "'k'"),
    ],
)
def test_the_code_and_the_message_of_a_row(error: Exception, code: str, message: str) -> None:
    assert describe(error)[:2] == (code, message)


def test_a_row_has_the_last_answer_and_notes() -> None:
    assert describe(status(400, b"{}"))[2] == Answer(400, None, b"{}")
    error = httpx.ReadTimeout("x")
    error.add_note("tried 5 times")
    assert describe(error) == ("timeout", "no answer in time (ReadTimeout). tried 5 times", None)


@pytest.mark.parametrize(
    ("error", "billed"),
    [
        (httpx.ReadTimeout("x"), UNTOLD),
        (httpx.ReadError("x"), UNTOLD),
        (httpx.RemoteProtocolError("x"), UNTOLD),
        (httpx.ConnectError("x"), None),
        (httpx.ConnectTimeout("x"), None),
        (httpx.PoolTimeout("x"), None),
        (status(500), None),
        (InvalidAnswer("x", Answer(200, None, b"x")), None),
        (InvalidAnswer("x", Answer(200, None, b"x"), Reading(b"x", Tokens())), None),
    ],
)
def test_what_was_sent_and_not_answered_may_have_been_billed(
    error: Exception, billed: Reading | None
) -> None:
    assert billed_of(error) == billed


def test_an_error_that_states_tokens_was_billed() -> None:
    body = b'{"error":{"message":"x"},"usage":{"prompt_tokens":3,"total_tokens":3}}'
    found = billed_of(status(500, body))
    assert found is not None
    assert found.tokens.read == 3


@pytest.mark.parametrize(
    ("error", "fault"),
    [(status(503), "http_503"), (status(429), None), (httpx.ReadTimeout("x"), "ReadTimeout"),
     (ValueError("x"), None)],
)  # fmt: skip
def test_a_fault_is_what_kept_an_answer(error: Exception, fault: str | None) -> None:
    assert fault_of(error) == fault


def test_a_wrong_key_ends_the_run_and_a_wrong_line_does_not() -> None:
    stop = stop_of(status(401, b'{"error":{"message":"bad key"}}'), ENDPOINT, 0.0)
    assert stop is not None
    assert stop.kind is Kind.AUTH
    assert "401: bad key" in stop.reason
    assert "HEADWAY_API_KEY" in stop.reason
    for error in (status(400), status(500), httpx.ReadTimeout("x"), ValueError("x")):
        assert stop_of(error, ENDPOINT, 1e9) is None


def test_a_store_that_was_never_reached_ends_the_run_with_its_own_fix() -> None:
    error = StoreUnavailable("the shared limits at h were not reached", fix="open the port.")
    stop = stop_of(error, ENDPOINT, 0.0)
    assert stop is not None
    assert stop.reason == "the shared limits at h were not reached. Fix: open the port."


def test_an_invalid_answer_is_copied_whole() -> None:
    error = InvalidAnswer("what", Answer(200, "r", b"x"), UNTOLD)
    again = type(error)(*error.args)
    assert (str(again.args[0]), again.answer, again.read) == ("what", error.answer, UNTOLD)


def test_a_certificate_that_is_not_known_is_told_with_the_variable_to_set() -> None:
    error = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    assert describe(error)[1] == (
        "ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate. Where a proxy or "
        "a server of yours has certificates of its own, name their file: export "
        "SSL_CERT_FILE=/path/to/certificates.pem"
    )
