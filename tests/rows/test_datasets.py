"""``Dataset.map`` of the real `datasets`: rows, batches, and worker processes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from echo import REFUSED, Echo
from packages import of_dev

from headway import Limits
from headway.rows import Ask
from headway.shared.stores.places import open_store

datasets = of_dev("datasets")

# Of `datasets` itself: it leaves its event loop open, and forks where threads run.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture
def ask(echo: Echo, tmp_path: Path) -> Iterator[Ask]:
    datasets.disable_caching()
    datasets.disable_progress_bars()
    made = Ask(
        prompt="say: {text}", model="m", base_url=echo.url, limits=Limits(concurrency=3),
        shared=f"sqlite:///{tmp_path}/limits.db", usage=True,
    )  # fmt: skip
    yield made
    made.close()
    gc.collect()  # here its open loops are not told of


def rows(count: int) -> object:
    return datasets.Dataset.from_dict({"text": [str(number) for number in range(count)]})


def test_rows_are_asked_side_by_side(ask: Ask, echo: Echo) -> None:
    echo.takes = 0.01
    done = rows(20).map(ask, features=ask.features(rows(1)))  # type: ignore[attr-defined]
    assert done["answer"][:] == [f"SAY: {number}" for number in range(20)]
    assert done["answer_error"][:] == [None] * 20
    assert {name: str(kind.dtype) for name, kind in done.features.items()} == {
        "text": "string", "answer": "string", "answer_error": "string",
        "answer_input_tokens": "int64", "answer_output_tokens": "int64",
    }  # fmt: skip
    assert echo.peak <= 3


def test_an_error_that_comes_late_has_its_column(ask: Ask, echo: Echo) -> None:
    """What `datasets` itself makes of a column that begins with nothing but None is no type."""
    data = datasets.Dataset.from_dict({"text": ["a", "b", REFUSED]})
    done = data.map(
        ask.batch, batched=True, batch_size=2, writer_batch_size=2, features=ask.features(data)
    )
    assert done["answer_error"][:] == [None, None, f"http_400: no say: {REFUSED}"]
    assert done["answer_output_tokens"][:] == [2, 2, None]


def test_worker_processes_share_the_limits(ask: Ask, echo: Echo) -> None:
    ask.batch({"text": ["x"]})  # the workers are forks of a process that has used it
    echo.takes = 0.01
    data = rows(24)
    done = data.map(ask, num_proc=2, features=ask.features(data))  # type: ignore[attr-defined]
    assert done["answer"][:] == [f"SAY: {number}" for number in range(24)]
    assert echo.peak <= 3
    # They have given back what they held: the one that is left is this process's.
    store, name = open_store(ask._given["shared"])
    state = anyio.run(store.read, name)
    assert state is not None
    assert len(state["workers"]) == 1
    assert ask.batch({"text": ["y"]})["answer"] == ["SAY: Y"]
