"""A row function: what it sends, what it returns, and what it says of what cannot be meant."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from echo import REFUSED, Echo

from headway import InvalidArgument, InvalidLimit, Kind, Retry
from headway.rows import Ask, Batches

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # a real server
Make = Callable[..., Ask]


async def test_a_row_gets_its_answer(make: Make, echo: Echo) -> None:
    ask = make()
    row = {"text": "hi", "n": 1}
    assert await ask(row) == {
        "text": "hi", "n": 1, "answer": "SAY: HI", "answer_error": None
    }  # fmt: skip
    assert row == {"text": "hi", "n": 1}
    assert echo.asked == [{"model": "m", "messages": [{"role": "user", "content": "say: hi"}]}]
    assert echo.keys == {"Bearer a-key"}


async def test_what_goes_into_the_body(make: Make, echo: Echo) -> None:
    ask = make(
        prompt="{{{b}}} of {a}", system="be brief", max_tokens=9, temperature=0.0,
        params={"top_p": 0.5}, into="said", usage=True,
    )  # fmt: skip
    assert await ask({"a": 1.5, "b": ["x"], "said": "old"}) == {
        "a": 1.5, "b": ["x"], "said": '{["X"]} OF 1.5', "said_error": None,
        "said_input_tokens": 3, "said_output_tokens": 2,
    }  # fmt: skip
    assert echo.asked == [
        {
            "model": "m", "top_p": 0.5, "max_tokens": 9, "temperature": 0.0,
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": '{["x"]} of 1.5'},
            ],
        }
    ]  # fmt: skip


async def test_options_that_are_no_constants(make: Make) -> None:
    params, on = {"top_p": 0.5}, {Kind.RATE}
    ask = make(retry=Retry(on=on), params=params, headers={"X-Team": "a"})
    params["top_p"] = 2.0
    assert (await ask({"text": "x"}))["answer"] == "SAY: X"
    assert pickle.loads(pickle.dumps(ask))._given["params"] == {"top_p": 0.5}
    assert ask._setup() == pickle.loads(pickle.dumps(ask))._setup()


async def test_what_befalls_a_row_is_in_its_column(make: Make, echo: Echo) -> None:
    ask = make(usage=True)
    assert await ask({"text": REFUSED}) == {
        "text": REFUSED, "answer": None, "answer_error": "http_400: no say: refuse",
        "answer_input_tokens": None, "answer_output_tokens": None,
    }  # fmt: skip
    errors = [(await make(prompt="{text}")({"text": text}))["answer_error"]
              for text in (None, " ", b"x")]  # fmt: skip
    assert errors == [
        "missing_value: the column 'text' is empty in this row",
        "empty_prompt: the prompt of this row is empty",
        "invalid_value: the column 'text' cannot be asked: it holds b'x', which is no text",
    ]
    assert len(echo.asked) == 1


async def test_no_key_is_in_an_error(make: Make, echo: Echo) -> None:
    said = await make(api_key="key-of-mine")({"text": f"{REFUSED} key-of-mine"})
    assert said["answer_error"] == "http_400: no say: refuse ***"


async def test_a_refusal_is_waited_for(make: Make, llmock: Any) -> None:
    llmock.rate_limit(times=1, retry_after=0.01)
    ask = make(base_url=f"{llmock.url}/together/v1")
    assert (await ask({"text": "x"}))["answer_error"] is None
    stats = await anyio.to_thread.run_sync(ask.statistics)
    assert (stats.sent, stats.refused) == (2, {Kind.RATE: 1})


async def test_the_async_batch(make: Make, echo: Echo) -> None:
    batch = {"text": ["a", None, REFUSED, "d"], "n": [1, 2, 3, 4]}
    found = await Batches(make())(batch)
    assert list(found) == ["text", "n", "answer", "answer_error"]
    assert found["answer"] == ["SAY: A", None, None, "SAY: D"]
    assert [bool(error) for error in found["answer_error"]] == [False, True, True, False]


def test_a_prompt_without_columns(make: Make) -> None:
    ask = make(prompt="a joke")
    assert ask.batch({"n": [1, 2]})["answer"] == ["A JOKE", "A JOKE"]
    assert ask.batch({}) == {"answer": [], "answer_error": []}
    assert asyncio.run(ask({})) == {"answer": "A JOKE", "answer_error": None}  # type: ignore[arg-type]


def test_it_is_pickled_without_the_environment(
    make: Make, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_API_KEY", "of-this-machine")
    ask = make(api_key=None, retry=Retry(attempts=2), usage=True)
    data = pickle.dumps(ask)
    assert b"of-this-machine" not in data
    assert pickle.dumps(pickle.loads(data)) == data  # what Dataset.map's cache goes by
    monkeypatch.setenv("HEADWAY_API_KEY", "of-that-one")
    assert pickle.loads(data).batch({"text": ["x"]})["answer"] == ["SAY: X"]
    assert echo.keys == {"Bearer of-that-one"}
    assert "key" not in repr(ask)
    ask.close()


def test_dataset_map_awaits_it() -> None:
    ask = Ask(prompt="{x}", model="m", api_key="k")
    assert inspect.iscoroutinefunction(ask)
    assert not inspect.iscoroutinefunction(ask.batch)
    assert list(inspect.signature(ask).parameters) == ["row"]
    assert "prompt" in inspect.signature(Ask).parameters


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prompt": ""}, "prompt='' is no text. Fix: prompt=\"Translate: {text}\""),
        ({"prompt": "{text"}, "the template '{text' is wrong: expected '}' before end of string"),
        ({"prompt": "{}"}, "has a field that is no column's name alone. Fix: write {column}"),
        ({"model": None}, "model=None is no text"),
        ({"into": 3}, "into=3 is no text. Fix: into=\"answer\", the column for the answers"),
        ({"system": 1}, "system=1 is no text"),
        ({"endpoint": 1}, "endpoint=1 is no text. Fix: endpoint=\"chat\""),
        ({"endpoint": "chats"}, "there is no endpoint 'chats'. Fix: use one of chat"),
        ({"endpoint": "rerank"}, "a prompt is no request to rerank"),
        ({"usage": "yes"}, "usage='yes' says neither yes nor no. Fix: usage=True to have columns"),
        ({"timeout": 0}, "timeout=0 is no time that an answer may take"),
        ({"max_tokens": 1.5}, "max_tokens=1.5 is no number that it can be. Fix: max_tokens=256"),
        ({"temperature": "0"}, "temperature='0' is no number that it can be"),
        ({"params": [1]}, r"params=\[1\] is not a mapping of names to values. Fix: params={"),
        ({"params": {"model": "x"}}, "params= would take the place of what model= says"),
        ({"params": {"top_p": object()}}, "the parameters cannot be JSON"),
        ({"params": {"stream": True}}, "a stream is not one row"),
        ({"params": {"temperature": 0}, "temperature": 1}, "temperature is said twice"),
        ({"shared": 1}, "shared=1 is neither a name nor an address"),
        ({"limits": "6/parsec"}, "parsec"),
        ({"retry": 3}, "retry=3 is not a Retry"),
        ({"provider": "acme"}, "the provider 'acme' is not known"),
        ({"headers": {"a b": "c"}}, "the name of a header holds a space"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(options: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"prompt": "{text}", "model": "m", **options}
    with pytest.raises(InvalidArgument, match=says):
        Ask(**given)


def test_a_limiter_of_another_library() -> None:
    aiolimiter = pytest.importorskip("aiolimiter")
    with pytest.raises(InvalidArgument, match=r"one process alone can ask\. Fix: limits=Limits"):
        Ask(prompt="{x}", model="m", limits=aiolimiter.AsyncLimiter(10, 1))
    with pytest.raises(InvalidLimit):
        Ask(prompt="{x}", model="m", limits="")


def test_rows_without_the_column(make: Make) -> None:
    ask = make()
    says = (
        "the prompt names the column 'text', and the rows have none of that name. Fix: name one of "
        "these in its braces, and write {{ for a brace: body, title."
    )
    for call in (
        lambda: asyncio.run(ask({"body": 1, "title": 2})),
        lambda: ask.batch({"body": [1], "title": [2]}),
    ):
        with pytest.raises(InvalidArgument) as caught:
            call()
        assert str(caught.value) == says
    with pytest.raises(InvalidArgument, match=r"a row is a mapping .* Fix: ask.batch"):
        asyncio.run(ask("text"))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="is not an Ask"):
        Batches("text")  # type: ignore[arg-type]
