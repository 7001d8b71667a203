"""The blocks of the page on rows that want an engine, each with what it takes as given."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from packages import of_dev, of_engines
from pages import DOCS, blocks

from headway.rows import Ask

# Of the engines themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

DATASETS, RAY, DAFT, FRAMES = blocks(DOCS / "rows.md", "py")
SAID = ["SAY: A", "SAY: B"]


@pytest.fixture
def ask(make: Callable[..., Ask]) -> Iterator[Ask]:
    yield make(into="french")
    gc.collect()  # `datasets` leaves its event loop open: here that is not told of


def run(block: str, **given: Any) -> dict[str, Any]:
    exec(block, given)
    return given


def test_datasets(ask: Ask) -> None:
    datasets = of_dev("datasets")
    datasets.disable_caching()
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"text": ["a", "b"]})
    assert run(DATASETS, data=data, ask=ask)["data"]["french"][:] == SAID


def test_daft(ask: Ask) -> None:
    daft = of_engines("daft")
    frame = daft.from_pydict({"text": ["a", "b"]})
    assert run(DAFT, daft=daft, frame=frame, ask=ask)["frame"].to_pydict()["french"] == SAID


def test_frames(ask: Ask) -> None:
    pandas, polars = of_dev("pandas"), of_dev("polars")
    table = {"text": ["a", "b"]}
    given = {"ask": ask, "polars": polars, "lazy": polars.LazyFrame(table)}
    done = run(FRAMES, frame=pandas.DataFrame(table), **given)
    assert done["frame"]["french"].to_list() == SAID
    assert done["lazy"].collect()["french"].to_list() == SAID
    assert run(FRAMES, frame=polars.DataFrame(table), **given)["frame"]["french"].to_list() == SAID


def test_ray_is_given_what_the_test_of_ray_gives_it() -> None:
    """Ray takes half a minute to start: tests/rows/test_engines.py does it once."""
    compile(RAY, "rows.md", "exec")
    assert "Batches" in RAY
    assert "fn_constructor_args=(ask,)" in RAY
    assert "max_concurrent_calls_per_actor=4" in RAY
