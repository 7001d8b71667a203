"""A store behind an address: opened for a test, or refused with what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from made_calls import a_call, ask

from headway.providers import InvalidSettings
from headway.shared.stores import Store
from headway.shared.stores.places import open_store

# A part of each secret in an address of the tests is `ses`: nothing of one is shown.


@asynccontextmanager
async def at(url: str) -> AsyncIterator[tuple[Store, str]]:
    store, name = open_store(url)
    try:
        yield store, name
    finally:
        await store.aclose()


async def fails(url: str, kind: type[Exception]) -> str:
    """What a call says that fails at `url`."""
    async with at(url) as (store, name):
        with pytest.raises(kind) as caught:
            await ask(store, name, a_call())
    assert "sesame" not in str(caught.value)
    return str(caught.value)


def is_no_address(url: str, said: str) -> None:
    """`url` is refused with `said`."""
    with pytest.raises(InvalidSettings) as caught:
        open_store(url)
    assert said in str(caught.value)
    assert "ses" not in str(caught.value)
