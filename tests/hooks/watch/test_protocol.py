"""A line of JSON each way."""

from __future__ import annotations

import pytest

from headway.errors import HeadwayError
from headway.hooks.watch.protocol import error, line, raise_error, read


def test_a_message_is_one_line() -> None:
    message = {"do": "clear", "key": "a\nb\ud800"}
    assert line(message).count(b"\n") == 1
    assert read(line(message)) == message


@pytest.mark.parametrize("data", [b"", b"\n", b"[]", b"3", b"{", b"\xff\x00", b"[" * 60_000])
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(data)


def test_an_error_is_raised_as_it_was_said() -> None:
    raise_error({"version": 1})
    with pytest.raises(HeadwayError, match=r"^it is closed\. Fix: make another$"):
        raise_error(error("it is closed", "make another"))
