"""Every store does the same: the pure function in memory, SQLite, Valkey, a cluster, Postgres."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from made_calls import STATED, a_call, ask

from headway.shared.ledger import seen, step, step_all
from headway.shared.stores import Calls, Replies, Store, packed, postgres, sqlite, unpacked, valkey
from headway.shared.stores.places import open_store

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # threads and servers are on real time


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a busy machine takes is no property of a store."""
    monkeypatch.setattr(valkey, "_TIMEOUT", 20.0)
    monkeypatch.setattr(postgres, "_PATIENCE", 20.0)
    monkeypatch.setattr(postgres, "_BEGIN", re.sub(r"'\d+ms'", "'20s'", postgres._BEGIN))
    monkeypatch.setattr(sqlite, "_WAIT_MS", 20_000)


class InMemory:
    """The function alone."""

    where = "memory"

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    async def call(self, calls: Calls) -> Replies:
        before = [self.states.get(name) for name in calls]
        states, replies = step_all(before, [*calls.values()], time.monotonic())
        self.states |= zip(calls, states, strict=True)
        return dict(zip(calls, replies, strict=True))

    async def read(self, name: str) -> dict[str, Any] | None:
        state = deepcopy(self.states.get(name))
        return None if state is None else seen(state, time.monotonic())

    async def names(self) -> list[str]:
        return sorted(self.states)

    async def reset(self, name: str) -> bool:
        ours = [one for one in self.states if one == name or one.startswith(f"{name}/")]
        for one in ours:
            del self.states[one]
        return bool(ours)

    def again(self) -> InMemory:
        return self

    async def aclose(self) -> None:
        return


Opener = Callable[[str], tuple[Store, str]]


@pytest.fixture(params=["memory", "sqlite", "valkey", "cluster", "postgres"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the ledger of a name in one of the stores."""
    if request.param == "memory":
        return lambda name: (InMemory(), name)
    if request.param == "sqlite":
        return lambda name: open_store(f"sqlite:///{tmp_path}/ledger.db")
    server = request.getfixturevalue(request.param)
    if request.param == "postgres":
        return lambda name: open_store(server.url(quote(name, safe="")))
    more = "?cluster=true" if request.param == "cluster" else ""
    return lambda name: open_store(server.url(quote(name, safe="")) + more)


@pytest.fixture
async def opened(opener: Opener) -> AsyncIterator[tuple[Store, str]]:
    store, name = opener("acme")
    await store.reset(name)
    yield store, name
    await store.aclose()


async def test_a_worker_is_answered_and_remembered(opened: tuple[Store, str]) -> None:
    store, name = opened
    assert await store.read(name) is None
    call = a_call()
    reply = await ask(store, name, call)
    assert reply == step(None, call, 1.0)[1]
    assert (reply["now"], reply["count"]) == (0, 0)  # a new ledger is cold
    again = await ask(store, name, call)
    assert again == reply
    state = await store.read(name)
    assert state is not None
    assert state["stated"] == call["stated"]
    assert state["epoch"] == call["fresh"]
    assert list(state["workers"]) == ["a"]
    assert state["workers"]["a"]["reply"] == reply
    assert state["at"] > 0  # time has gone on since


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_its_time_goes_on_and_it_grants(opened: tuple[Store, str]) -> None:
    store, name = opened
    epoch, held, n = "", 0, 0
    began = time.monotonic()
    while True:
        n += 1
        call = a_call(n=n, epoch=epoch, version=min(n - 1, 1), held=held, limits=STATED[1])
        reply = await ask(store, name, {**call, "sent": time.monotonic()})
        assert reply["error"] == ""
        epoch, held = reply["epoch"], int(reply["held"])
        if reply["count"]:
            break
        assert time.monotonic() < began + 30
    assert 0.1 < reply["now"] <= time.monotonic() - began + 0.01
    assert reply["count"] == len(reply["slots_of"]) == 1
    assert reply["amounts"] == [100]
    assert held == 1


async def test_several_ledgers_are_stepped_in_one_call(opened: tuple[Store, str]) -> None:
    store, name = opened
    calls = {name: a_call(), f"{name}/str:'a'": a_call(limits=STATED[2], beside="a")}
    _, expected = step_all([None, None], [*calls.values()], 1.0)
    replies = await store.call(calls)
    assert [*replies.items()] == [*zip(calls, expected, strict=True)]
    assert await store.call(calls) == replies
    other = await ask(store, name, a_call("b"))
    assert other["epoch"] == replies[name]["epoch"]


async def test_who_states_other_limits_or_is_a_twin_is_told(opened: tuple[Store, str]) -> None:
    store, name = opened
    first = await ask(store, name, a_call())
    other = await ask(store, name, a_call("b", limits=STATED[2]))
    assert (other["error"], other["stated"]) == ("differs", a_call()["stated"])
    none = await ask(store, name, a_call("c", stated="", rates=[], budgets=[], slots=0, costs=[]))
    assert (none["error"], none["stated"]) == ("", a_call()["stated"])
    twin = await ask(store, name, a_call(sent=77.0))
    assert twin["error"] == "twin"
    restated = await ask(
        store, name, a_call(n=2, version=1, epoch=first["epoch"], set=1, limits=STATED[2])
    )
    assert (restated["version"], restated["stated"]) == (2, a_call(limits=STATED[2])["stated"])
    left = await ask(store, name, a_call(n=3, version=2, epoch=first["epoch"], bye=1))
    assert left["error"] == "bye"
    state = await store.read(name)
    assert state is not None
    assert list(state["workers"]) == ["c"]


async def test_an_emptied_ledger_may_hold_others_under_the_same_version(
    opened: tuple[Store, str],
) -> None:
    store, name = opened
    first = await ask(store, name, a_call())
    await store.reset(name)
    other = await ask(store, name, a_call("b", limits=STATED[3]))
    assert other["version"] == first["version"] == 1
    reply = await ask(store, name, a_call(n=2, epoch=first["epoch"], version=1))
    assert reply["epoch"] == other["epoch"]
    assert reply["stated"] == a_call(limits=STATED[3])["stated"]
    assert reply["count"] == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_ledger_and_those_of_its_keys_are_forgotten_alone(
    opened: tuple[Store, str],
) -> None:
    store, name = opened
    ours = [name, f"{name}/int:1", f"{name}/str:'a*[b]?\\x'", f"{name}other"]
    await store.reset(f"{name}other")
    for each in ours:
        await ask(store, each, a_call())
    assert set(await store.names()) >= set(ours)
    assert await store.reset(name)
    assert not await store.reset(name)
    assert {*await store.names()} & {*ours} == {f"{name}other"}


ODD = ["{b}r}a{ces", "}", "/a", "two\nlines\t", "x" * 300, "ünïcødé 🚀", "50%_'\"\\;--", "*?[a]",
       "a:b/c"]  # fmt: skip


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_odd_names_are_names(opener: Opener) -> None:
    for each in ODD:
        store, name = opener(each)
        try:
            await store.reset(name)
            ours = {name, f"{name}/str:'}}{{/'"}
            replies = await store.call({each: a_call() for each in ours})
            assert [replies[each]["error"] for each in ours] == ["", ""]
            assert {*await store.names()} >= ours
            assert (await store.read(name) or {})["version"] == 1
            assert await store.reset(name)
            assert not {*await store.names()} & ours
        finally:
            await store.aclose()


async def test_two_at_once_lose_nothing(opened: tuple[Store, str]) -> None:
    store, name = opened
    other = store.again()

    names = [name, f"{name}/str:'a'"]
    await store.call({each: a_call("of nobody", bye=1) for each in names})

    async def work(where: Store, worker: str) -> None:
        order = names if int(worker) % 2 else names[::-1]
        epochs = dict.fromkeys(names, "")
        for n in range(1, 26):
            version = min(n - 1, 1)
            replies = await where.call(
                {
                    each: a_call(worker, n=n, epoch=epochs[each], version=version, strays=1)
                    for each in order
                }
            )
            epochs = {each: replies[each]["epoch"] for each in names}

    try:
        async with anyio.create_task_group() as group:
            for index in range(4):
                group.start_soon(work, (store, other)[index % 2], f"{index}")
    finally:
        await other.aclose()
    for each in names:
        state = await store.read(each)
        assert state is not None
        assert {worker: found["n"] for worker, found in state["workers"].items()} == dict.fromkeys(
            "0123", 25
        )
        # Each of the hundred calls has paid for one stray start: 10 ms and the slack.
        assert state["tats"][0] > 1.0


async def test_a_call_that_is_given_up_leaves_the_store_usable(opened: tuple[Store, str]) -> None:
    store, name = opened
    await ask(store, name, a_call())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await ask(store, name, a_call(n=2))
    reply = await ask(store, name, a_call(n=3))
    assert reply["n"] == 3
    await store.aclose()
    assert (await ask(store, name, a_call(n=4)))["n"] == 4  # it opens itself again


def test_a_call_unpacks_its_own_workers_reply_alone() -> None:
    state, first = step(None, a_call("a"), 1.0)
    state, second = step(unpacked(packed(state), "b"), a_call("b"), 1.0)
    kept = packed(state)
    workers = unpacked(kept, "b")["workers"]
    assert workers["b"]["reply"] == second
    assert isinstance(workers["a"]["reply"], bytes)
    workers = unpacked(kept)["workers"]
    assert {name: each["reply"] for name, each in workers.items()} == {"a": first, "b": second}
