"""Keys are taken out of whatever came, in each form in which it may hold them."""

from __future__ import annotations

import base64
import html
import json
import sys
from typing import Any

import httpx
import pytest
from sites import URL, Site

from headway import Scheduler, events
from headway._http.secrets import Secrets
from headway.kinds._words import redacted

KEY = 'tgp_v1_Ab/c+D"e9'
SECRETS = Secrets(
    {"authorization": f"Bearer {KEY}", "x-custom": "another-one", "accept": "application/json"},
    ("http://me:pass%2Fword@host/v1?api-key=in-the-url&api-version=2024-10-21", None),
)

ECHOES = [
    KEY, json.dumps(KEY)[1:-1], json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "tgp_v1_Ab%2Fc%2BD%22e9", "another-one", "in-the-url", "pass/word", "pass%2Fword",
    base64.b64encode(b"me:pass/word").decode(), base64.b64encode(KEY.encode()).decode(),
    "tgp_v1_Ab/c\\u002BD\\u0022e9", "tgp_v1_Ab/c\\u002bD\\\"e9",  # .NET's, and Go's
    html.escape(KEY), "tgp_v1_Ab/c&#43;D&#34;e9", "tgp_v1_Ab&#x2F;c+D&quot;e9",
    KEY.upper(), KEY.lower(), KEY.title(), base64.urlsafe_b64encode(KEY.encode()).decode(),
    *("".join(form.format(ord(char)) for char in KEY)
      for form in ("\\u{:04x}", "\\u{:04X}", "\\x{:02x}", "%{:02X}", "&#{};", "&#x{:X};")),
]  # fmt: skip


@pytest.mark.parametrize("echo", ECHOES)
def test_each_form_of_a_key_is_hidden(echo: str) -> None:
    text = f"you sent <{echo}>, and {echo} again"
    assert SECRETS.hide(text) == "you sent <***>, and *** again"
    assert SECRETS.hide_in(text.encode()) == b"you sent <***>, and *** again"
    for code in "utf-16-le", "utf-16-be", "utf-16":
        assert SECRETS.hide_in(text.encode(code)).decode(code) == "you sent <***>, and *** again"


@pytest.mark.parametrize("before", ["user:", "me@host:", ":", "Bearer ", "abcd"])
@pytest.mark.parametrize("after", ["", ":", "\n", "more"])
@pytest.mark.parametrize("coded", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_amid_others_in_base64_is_hidden(before: str, after: str, coded: Any) -> None:
    """Of what it stands in there is left what holds its neighbours: no four of its characters."""
    echo = coded((before + KEY + after).encode()).decode()
    left = SECRETS.hide(f"you sent {echo}")
    at = len("you sent ") + len(before) * 4 // 3
    assert left.startswith("you sent ")
    assert "***" in left[at : at + 5]
    held = {coded(KEY.encode()[start:]).decode()[:5] for start in range(len(KEY) - 4)}
    assert not any(each in left for each in held)


def test_what_is_no_key_stays_and_so_does_the_object() -> None:
    body = b'{"accept": "application/json", "version": "2024-10-21", "me": 1}'
    assert SECRETS.hide_in(body) is body
    response = httpx.Response(200, content=body, headers={"x-request-id": "r"})
    assert SECRETS.clean(response) is response
    words = Secrets({"authorization": "Bearer ollama", "api-key": "key"}, ())
    assert words.hide("ollama has a key") == "ollama has a key"
    words = Secrets({"x-stage": "Production"}, ())
    assert words.hide("production, not Production") == "production, not ***"


def test_a_response_is_cleaned_whole() -> None:
    request = httpx.Request("POST", "http://host")
    came = httpx.Response(
        401,
        headers={"x-request-id": KEY, "location": "http://h/?q=another-one", "content-type": "x"},
        content=b"no: another-one",
        request=request,
        extensions={"reason_phrase": b"No another-one"},
    )
    clean = SECRETS.clean(came)
    assert (clean.status_code, clean.content, clean.reason_phrase) == (401, b"no: ***", "No ***")
    assert clean.headers["location"] == "http://h/?q=***"
    assert clean.headers["x-request-id"] == "***"
    assert clean.request is request


def test_an_error_and_its_causes_are_cleaned() -> None:
    error = httpx.ConnectError("no way to http://me:pass%2Fword@host")
    error.__cause__ = OSError(5, "for another-one")
    error.__cause__.__cause__ = error
    SECRETS.clean_error(error)
    assert str(error) == "no way to http://***@host"
    assert error.__cause__.args == (5, "for ***")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:secret@host/v1", "http://***@host/v1"),
        ("socks5://token@proxy", "socks5://***@proxy"),
        ("https://h/?key=AB12&v=1", "https://h/?key=***&v=1"),
        ("https://h/?v=1&api_key=AB12#x", "https://h/?v=1&api_key=***#x"),
        ("/v1?subscription-key=AB12 ended", "/v1?subscription-key=*** ended"),
        ("https://h/?X-Amz-Signature=ab&client_secret=cd", None),
        ("Authorization: Bearer abcdefgh1234", "Authorization: Bearer ***"),
        ("key sk-proj-abcdefghijklmnop1234 is wrong", "key *** is wrong"),
        ("AIzaSyA1234567890abcdefghijklmnop", "***"),
        ("a risk-averse task-force, 10:30@noon, monkey=7, ?page=2&tokens=5", ""),
        ("https://h/a@b?max_tokens=5&keyword=x", ""),
    ],
)
def test_what_looks_as_a_secret_is_hidden(text: str, shown: str | None) -> None:
    if shown is None:
        assert redacted(text) == "https://h/?X-Amz-Signature=***&client_secret=***"
    else:
        assert redacted(text) == (shown or text)


@pytest.mark.anyio
async def test_no_event_and_no_log_holds_what_a_server_echoes(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[events.Event] = []
    scheduler = Scheduler("100/s", on_event=told.append)
    body = json.dumps({"error": {"message": f"wait, {KEY} of ?key=in-the-url"}}).encode()
    site.answers = [(429, {"retry-after": "1"}, body), (401, {}, body)]
    keys: Any = {"authorization": f"Bearer {KEY}"}
    async with site.client(scheduler) as client:
        await client.get(f"{URL}?key=in-the-url", headers=keys)
    assert len(site.sent) == 2
    assert told
    said = f"{told} {caplog.text} {scheduler.statistics()}"
    assert "tgp_v1" not in said
    assert "in-the-url" not in said


def test_it_needs_no_import_for_a_process_that_ends_may_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as ending:
        ending.setattr(sys, "meta_path", None)
        ending.delitem(sys.modules, "re")
        shown = redacted("Bearer  abcdefgh12 at https://u:p@h/?key=abc")
    assert shown == "Bearer *** at https://***@h/?key=***"
