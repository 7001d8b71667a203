"""Structured fields: RFC 9651's own examples, and what is malformed is nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.hints._fields import Date, Item, Token, Value, parse_dictionary, parse_list


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42), ("-7", -7), ("4.5", 4.5), ('"hello"', "hello"), (r'"a\"b\\c"', r'a"b\c'),
        ("sugar", Token("sugar")), ("*a/b:c", Token("*a/b:c")), ("?1", True), ("?0", False),
        (":cHJldGVuZA==:", b"pretend"), (":cHJldGVuZA:", b"pretend"), ("@1659578233",
        Date(1659578233)), ('%"f%c3%bc"', "fü"),
    ],
)  # fmt: skip
def test_bare_items(text: str, value: Value) -> None:
    (item,) = parse_list(text)
    assert item == Item(value)
    assert type(item.value) is type(value)


def test_lists() -> None:
    assert [item.value for item in parse_list("sugar, tea,\trum")] == ["sugar", "tea", "rum"]
    (item,) = parse_list('abc;a=1;b="2"; c')
    assert item == Item(Token("abc"), {"a": 1, "b": "2", "c": True})
    inner, other = parse_list('("foo" "bar");lvl=5, 3')
    assert (inner, other) == (Item(None, {"lvl": 5}), Item(3))
    (named,) = parse_list('"fixed window";"api";q=500;w=300')  # Hugging Face
    assert named == Item("fixed window", {"q": 500, "w": 300}, ["api"])


def test_dictionaries() -> None:
    found = parse_dictionary("a=1, b;x=2, c=(1 2), a=3")
    assert found == {"a": Item(3), "b": Item(True, {"x": 2}), "c": Item(None)}


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a,", "a b", '"open', "(1 2", "1.", "9" * 16, "?2", ":a:", '"tab\t"', "a;", "é",
        '%"%ff"', "(1,2)",
    ],
)  # fmt: skip
def test_what_is_malformed_is_ignored_as_a_whole(text: str) -> None:
    assert parse_list(text) == []
    assert parse_list(f"fine, {text}" if text.strip() else text) == []


@pytest.mark.parametrize("text", ["", "1=2", "a=", "a=1,", "A=1", "a=1 b=2"])
def test_a_malformed_dictionary(text: str) -> None:
    assert parse_dictionary(text) == {}


@given(st.text(alphabet='ab1 ,;=("):?@%\\.-*\t', max_size=40))
def test_nothing_raises(text: str) -> None:
    assert isinstance(parse_list(text), list)
    assert isinstance(parse_dictionary(text), dict)
