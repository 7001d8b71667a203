"""The page: escaped text, a policy that names its own parts, and data that ends no script."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC

import pytest

from headway.bulk.record.measures import Sample, SessionInfo
from headway.bulk.record.trace import Session, Trace
from headway.bulk.report.render import page, plain

EVIL = "</script><q>&\u2028"


def a_page(name: str = "in.jsonl", model: str = "m") -> str:
    sample = Sample(1e9, 10.0, sent=50, done=50, refused={model: 1}, limit=10.0)
    return page(name, Trace([Session(SessionInfo(), [sample])]), None, redact=False, zone=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [("é\n\t\xa0", "é\n\t\xa0"), ("a\x00b\x1b", "a\ufffdb\ufffd"), ("\ud800", "?"), (7, "7")],
)
def test_what_no_page_can_hold_is_replaced(value: object, text: str) -> None:
    assert plain(value) == text


def test_a_name_is_text_wherever_it_stands() -> None:
    text = a_page(EVIL, EVIL)
    assert "<q>" not in text
    assert text.count("</script>") == text.count("<script")
    assert "&lt;q&gt;" in text
    assert "\\u003c/script\\u003e\\u003cq\\u003e\\u0026\ufffd" in text


def test_the_policy_names_the_hashes_of_what_is_there() -> None:
    text = a_page()
    policy = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', text)
    assert policy is not None
    for tag in ("style", "script"):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found]
        assert hashes
        assert all(one in policy[1].replace("&#43;", "+") for one in hashes)


def test_the_same_run_is_the_same_page() -> None:
    assert a_page() == a_page()
