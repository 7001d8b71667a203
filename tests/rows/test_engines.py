"""The engines that are too large for every checkout: Ray Data and Daft."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from echo import REFUSED, Echo
from packages import of_dev, of_engines

from headway import Limits
from headway.rows import Ask, Batches

# Of the engines themselves.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def ask(echo: Echo, tmp_path: Path) -> Iterator[Ask]:
    made = Ask(
        prompt="say: {text}", model="m", base_url=echo.url, limits=Limits(concurrency=3),
        shared=f"sqlite:///{tmp_path}/limits.db",
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray, on a cluster of this machine with as few processes beside its workers as it has."""
    ray = of_engines("ray")
    of_engines("ray.data")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # No process that waits for work which never comes: each imports Ray and pandas.
    monkeypatch.setenv("RAY_prestart_worker_first_driver", "0")
    monkeypatch.setenv("RAY_enable_worker_prestart", "0")
    head = {
        "num_cpus": 2, "include_dashboard": False, "include_log_monitor": False,
        "no_monitor": True,
    }  # fmt: skip
    cluster = import_module("ray.cluster_utils").Cluster(True, head_node_args=head)
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        yield ray
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_ray(ask: Ask, echo: Echo, ray: Any) -> None:
    """Two actors, each in a process of its own, that are given several batches at a time."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    echo.takes = 0.01
    texts = [REFUSED, *(str(number) for number in range(39))]
    asked = ray.data.from_items([{"text": text} for text in texts]).map_batches(
        Batches, fn_constructor_args=(ask,), batch_size=5, batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=2, max_concurrent_calls_per_actor=4),
    )  # fmt: skip
    found = {row["text"]: row for row in asked.take_all()}
    assert {text: row["answer"] for text, row in found.items()} == {
        text: None if text == REFUSED else f"SAY: {text}" for text in texts
    }
    assert found[REFUSED]["answer_error"] == f"http_400: no say: {REFUSED}"
    assert found["7"]["answer_error"] is None
    assert echo.peak <= 3
    assert len(echo.asked) == 40


def test_daft(ask: Ask, echo: Echo) -> None:
    daft = of_engines("daft")
    frame = daft.from_pydict({"text": ["a", REFUSED, None]})
    text = daft.DataType.string()
    kind = daft.DataType.struct({"text": text, "answer": text, "answer_error": text})
    asked = daft.func(ask, return_dtype=kind)
    found = frame.select(asked(daft.functions.to_struct(frame["text"])).alias("said"))
    assert [row["answer"] for row in found.to_pydict()["said"]] == ["SAY: A", None, None]

    @daft.func
    async def say(text: str) -> str | None:
        row: dict[str, Any] = await ask({"text": text})
        answer: str | None = row["answer"]
        return answer

    named = frame.with_column("answer", say(frame["text"])).to_pydict()
    assert named["answer"] == ["SAY: A", None, None]


def test_polars_and_pandas(ask: Ask) -> None:
    """In a lazy plan of polars, whose threads call it, and row by row."""
    polars, pandas = of_dev("polars"), of_dev("pandas")
    lazy = polars.LazyFrame({"text": ["a", None]}).map_batches(
        ask.batch, schema={"text": polars.String, "answer": polars.String,
                           "answer_error": polars.String},
    )  # fmt: skip
    assert lazy.filter(polars.col("answer_error").is_null()).collect().rows() == [
        ("a", "SAY: A", None)
    ]
    frame = pandas.DataFrame({"text": ["a", "b"]}, index=[3, 4])
    assert ask.batch(frame)["answer"].to_dict() == {3: "SAY: A", 4: "SAY: B"}
