"""Processes that start from nothing share the limits of a name."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import anyio
import pytest
from echo import Echo

from headway import InvalidArgument, Limits
from headway.rows import Ask
from headway.shared.stores.places import open_store


def test_a_pool_of_processes(echo: Echo, tmp_path: Path) -> None:
    ask = Ask(
        prompt="say: {text}", model="m", base_url=echo.url, limits=Limits(concurrency=3),
        shared=f"sqlite:///{tmp_path}/limits.db",
    )  # fmt: skip
    echo.takes = 0.01
    parts = [{"text": [f"{part}.{number}" for number in range(20)]} for part in range(4)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(ask.batch, parts))
    assert [part["answer"] for part in done] == [
        [f"SAY: {text}" for text in part["text"]] for part in parts
    ]
    assert echo.peak <= 3
    assert len(echo.asked) == 80
    # They have given back what they held: who comes now has all of it at once.
    store, name = open_store(f"sqlite:///{tmp_path}/limits.db")
    state = anyio.run(store.read, name)
    assert state is not None
    assert state["workers"] == {}


def test_limits_that_contradict_those_of_others_are_raised(echo: Echo, tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/limits.db"
    one = Ask(prompt="{x}", model="m", base_url=echo.url, limits="600/min", shared=where)
    other, others = (
        Ask(prompt="{x}", model="m", provider=name, base_url=echo.url, limits="700/min",
            shared=where, api_key="k")
        for name in (None, "together")
    )  # fmt: skip
    alone = Ask(
        prompt="{x}", model="m", provider="together", base_url=echo.url, api_key="k",
        shared=f"sqlite:///{tmp_path}/others.db",
    )  # fmt: skip
    try:
        assert one.batch({"x": ["a"]})["answer"] == ["A"]
        for each in (other, others):
            with pytest.raises(InvalidArgument, match="are stated already, and differ"):
                each.batch({"x": ["b"]})
        with pytest.raises(InvalidArgument, match="nobody has stated limits"):
            alone.batch({"x": ["b"]})
    finally:
        for each in (one, other, others, alone):
            each.close()
    assert len(echo.asked) == 1
