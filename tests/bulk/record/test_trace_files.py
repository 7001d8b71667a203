"""Measurements: what was recorded is what is read, over sessions, kills and strange clocks."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from cases import each
from hypothesis import given
from hypothesis import strategies as st
from reports import statistics

from headway.bulk.record.measures import Histogram, ModelUse, bucket, edges
from headway.bulk.record.trace import SAMPLES_A_SPAN, Recorder, Trace, read_trace
from headway.events import Kind

ROW: dict[str, Any] = {
    "model": "m", "code": None, "attempts": 1, "waited": 0.01, "latency": 1.0, "size": 100,
    "input_tokens": 10, "output_tokens": 5, "cost": 0.5,
}  # fmt: skip


def begin(path: Path, started: float = 1000.0, **session: Any) -> Recorder:
    recorder = Recorder(path, {"started": started, "total": 10, **session})
    recorder.sample(started, statistics())
    return recorder


# -- buckets -----------------------------------------------------------------------------------


@each(
    "seconds, expected",
    [(0, -1), (-5, -1), (math.nan, -1), (0.000999, -1), (0.001, 0), (0.0011, 0), (0.00116, 1),
     (1, 49), (math.inf, 160), (1e30, 160)],
)  # fmt: skip
def test_a_duration_has_its_bucket(seconds: float, expected: int) -> None:
    assert bucket(seconds) == expected


@each("k", range(160))
def test_an_edge_belongs_to_the_bucket_that_it_begins(k: int) -> None:
    low, high = edges(k)
    assert low == pytest.approx(0.001 * 1.15**k)
    assert bucket(low) == k == bucket((low + high) / 2)
    assert bucket(high * (1 - 1e-6)) == k


def histogram(durations: list[float]) -> Histogram:
    found = Histogram()
    for duration in durations:
        found.add({bucket(duration): 1})
    return found


@given(
    durations=st.lists(st.floats(0, 1e6), min_size=1, max_size=200),
    q=st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_percentiles_are_right_to_within_their_bucket(durations: list[float], q: float) -> None:
    rank = max(0, math.ceil(q * len(durations) - 1e-9) - 1)
    exact = sorted(durations)[rank]
    low, high = edges(bucket(exact))
    found = histogram(durations).percentile(q)
    assert found is not None
    assert low <= found <= high * (1 + 1e-9)


def test_percentiles_are_in_order_and_none_without_data() -> None:
    assert Histogram().percentile(0.5) is None
    assert Histogram({3: 0}).percentile(1.0) is None
    counts = histogram([0.01 * n for n in range(1, 1001)])
    found = [counts.percentile(q) for q in (0.1, 0.5, 0.9, 0.99, 1.0)]
    assert found == sorted(found)  # type: ignore[type-var]


# -- a round trip ------------------------------------------------------------------------------

rows = st.fixed_dictionaries({
    "model": st.sampled_from([None, "a", "b/c", "ü\ud800"]),
    "code": st.sampled_from([None, None, "http_400", "timeout"]),
    "attempts": st.integers(0, 4),
    "waited": st.floats(0, 100),
    "latency": st.floats(0, 100),
    "size": st.integers(0, 10**6),
    "input_tokens": st.none() | st.integers(0, 10**6),
    "output_tokens": st.none() | st.integers(0, 10**6),
    "cost": st.none() | st.integers(0, 8).map(lambda n: n / 8),
})  # fmt: skip
steps = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 3.0]), st.lists(rows, max_size=4)))
sessions = st.lists(st.tuples(steps, st.booleans(), st.binary(max_size=20)), max_size=3)


@given(runs=sessions)
def test_what_was_recorded_is_what_is_read(
    runs: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    written: list[dict[str, Any]] = []
    sent = 0
    for number, (parts, torn, garbage) in enumerate(runs):
        now = 1000.0 + 100_000 * number
        recorder = begin(path, now, already_done=number)
        count = 0
        for seconds, batch in parts:
            now += seconds
            for row in batch:
                recorder.row(**row)
                count += 2
            written += batch
            refused = {Kind.RATE: count // 2} if count else {}
            recorder.sample(now, statistics(sent=count, refused=refused, binds="tokens"))
        sent += count
        recorder.end(now, "done", "said")
        recorder.close()
        if torn:  # a kill in the middle of a line that would have come next
            with path.open("ab") as file:
                file.write(b'{"t":' + garbage.replace(b"\n", b""))
    trace = read_trace(path) if path.exists() else Trace()
    assert len(trace.sessions) == len(runs)
    assert [s.info.already_done for s in trace.sessions] == list(range(len(runs)))
    assert all(s.end is not None and s.end.said == "said" for s in trace.sessions)
    assert trace.ignored == sum(torn for _, torn, _ in runs)
    assert trace.sum("sent") == sent
    assert trace.count("refused").get("rate", 0) == sent / 2
    assert trace.sum("done") == sum(row["code"] is None for row in written)
    assert trace.sum("span") == sum(seconds for parts, _, _ in runs for seconds, _ in parts)
    assert trace.count("binds").get("tokens", 0) == trace.sum("span")
    assert trace.sum("input") == sum(row["input_tokens"] or 0 for row in written)
    assert trace.sum("cost") == sum(row["cost"] or 0 for row in written)
    sent_rows = [row for row in written if row["attempts"]]
    for name, found in (("waited", trace.wait), ("latency", trace.latency)):
        values = [row[name] for row in sent_rows]
        known = [value for value in values if value > 0 or name == "waited"]
        assert found.counts == histogram(known).counts
    codes = [row["code"] for row in written if row["code"]]
    assert trace.count("failed") == {code: codes.count(code) for code in codes}
    names = {None: "", "ü\ud800": "ü\ufffd"}
    for model in {row["model"] for row in written}:
        mine = [row for row in written if row["model"] == model]
        use = trace.models[names.get(model, model)]
        assert (use.rows, use.bytes) == (len(mine), sum(row["size"] for row in mine))
        unknown = any(
            row["cost"] is None and (row["input_tokens"] or row["output_tokens"]) for row in mine
        )
        assert use.cost == (None if unknown else sum(row["cost"] or 0 for row in mine))


@pytest.mark.parametrize("cut", range(1, 400, 7))
def test_a_trace_cut_anywhere_is_read_up_to_there_and_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "trace.jsonl"
    recorder = begin(path)
    for second in range(1, 4):
        recorder.row(**ROW)
        recorder.sample(1000.0 + second, statistics(sent=second))
    recorder.close()
    whole = path.read_bytes()
    kept = whole[:-cut]
    path.write_bytes(kept)
    begin(path, 5000.0).close()
    trace = read_trace(path)
    assert trace.sessions[-1].info.started == 5000.0
    samples = [line for line in kept.split(b"\n") if line.startswith(b'{"t"')]
    complete = [line for line in samples if line.endswith(b"}}}")]
    assert trace.sum("done") == len(complete)


# -- spans and time ----------------------------------------------------------------------------


def test_a_span_doubles_with_each_600_samples(tmp_path: Path) -> None:
    recorder = begin(tmp_path / "trace")
    now, steps = 1000.0, SAMPLES_A_SPAN * (1 + 2 + 4) * 4
    for step in range(steps):
        recorder.row(**ROW)
        now = 1000.0 + (step + 1) / 4
        recorder.sample(now, statistics(sent=step + 1))
    recorder.close()
    trace = read_trace(tmp_path / "trace")
    spans = [sample.span for sample in trace.samples]
    assert spans == [1.0] * 600 + [2.0] * 600 + [4.0] * 600
    assert trace.sum("sent") == trace.sum("done") == steps


def test_what_was_sent_before_the_first_look_is_not_the_runs(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "trace", {"started": 1000.0})
    recorder.sample(1000.0, statistics(sent=50, refused={Kind.RATE: 7}))
    recorder.sample(1001.0, statistics(sent=53, refused={Kind.RATE: 8}, pace=9.5, in_flight=2))
    recorder.close()
    [sample] = read_trace(tmp_path / "trace").samples
    assert (sample.sent, sample.refused, sample.limit) == (3, {"rate": 1}, 9.5)
    assert (sample.in_flight, sample.t, sample.span) == (2, 1001.0, 1.0)


def test_the_end_writes_what_is_left_of_the_span(tmp_path: Path) -> None:
    recorder = begin(tmp_path / "trace")
    recorder.row(**ROW)
    recorder.sample(1000.5, statistics(sent=1, binds="gate"))
    recorder.end(1000.5, "interrupted", "Ctrl-C")
    recorder.close()
    recorder.close()
    trace = read_trace(tmp_path / "trace")
    [sample] = trace.samples
    assert (sample.span, sample.done, sample.sent, sample.binds) == (0.5, 1, 1, {"gate": 0.5})
    assert trace.sessions[0].end is not None
    assert trace.sessions[0].end.reason == "interrupted"


def test_a_clock_that_was_set_back_loses_no_counts(tmp_path: Path) -> None:
    recorder = begin(tmp_path / "trace")
    recorder.row(**ROW)
    recorder.sample(1000.5, statistics(sent=1, binds="gate"))
    recorder.row(**ROW)
    recorder.sample(400.0, statistics(sent=2, binds="gate"))
    recorder.sample(401.0, statistics(sent=3, binds="gate"))
    recorder.end(401.0, "done", "")
    recorder.close()
    trace = read_trace(tmp_path / "trace")
    assert trace.sum("sent") == 3
    assert trace.sum("done") == 2
    assert trace.sum("span") == 1.0
    assert trace.count("binds") == {"gate": 1.0}


# -- money, models, limits ---------------------------------------------------------------------


def test_a_price_that_is_not_known_is_null_and_not_zero(tmp_path: Path) -> None:
    recorder = begin(tmp_path / "trace")
    recorder.row(**{**ROW, "cost": None})
    recorder.row(**{**ROW, "model": "free", "cost": 0.0})
    recorder.row(**{**ROW, "model": "failed", "code": "timeout", "input_tokens": None,
                    "output_tokens": None, "cost": None})  # fmt: skip
    recorder.sample(1001.0, statistics())
    recorder.row(**{**ROW, "cost": None})
    recorder.sample(1002.0, statistics())
    recorder.close()
    trace = read_trace(tmp_path / "trace")
    assert [sample.cost for sample in trace.samples] == [0.0, None]
    assert {name: use.cost for name, use in trace.models.items()} == {
        "m": None, "free": 0.0, "failed": 0.0
    }  # fmt: skip
    lines = (tmp_path / "trace").read_bytes().splitlines()
    assert json.loads(lines[2])["cost"] is None


def test_ten_thousand_models_are_all_counted_in_small_samples(tmp_path: Path) -> None:
    recorder = begin(tmp_path / "trace")
    for n in range(10_050):
        recorder.row(**{**ROW, "model": f"m{n}"})
    recorder.row(**{**ROW, "model": "m77"})
    recorder.sample(1001.0, statistics())
    first = (tmp_path / "trace").read_bytes().splitlines()[1]
    assert len(first) < 10_000
    assert len(json.loads(first)["models"]) == 64
    assert "m77" in json.loads(first)["models"]
    recorder.end(1001.0, "done", "")
    recorder.close()
    models = read_trace(tmp_path / "trace").models
    assert len(models) == 10_001
    assert sum(use.rows for use in models.values()) == 10_051
    assert models["m77"].rows == 2
    assert models["(other models)"].rows == 50


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["180k/min", "1M/min"], 3000.0),
        ([], None),
        (["nonsense", None, 5], None),
        (None, None),
    ],
)
def test_the_token_limit_is_the_lowest_that_was_told(
    tmp_path: Path, told: Any, expected: float | None
) -> None:
    recorder = begin(tmp_path / "trace", limits={"tokens": told})
    recorder.sample(1001.0, statistics())
    recorder.close()
    line = json.loads((tmp_path / "trace").read_bytes().splitlines()[1])
    assert line.get("token_limit") == expected


def test_models_add_up() -> None:
    use = ModelUse(rows=1, bytes=2, input=3, output=4, cost=0.5)
    use.add(ModelUse(rows=10, bytes=20, input=30, output=40, cost=5.0))
    assert (use.rows, use.bytes, use.input, use.output, use.cost) == (11, 22, 33, 44, 5.5)
    use.add(ModelUse(cost=None))
    use.add(ModelUse(cost=1.0))
    assert use.cost is None


# -- bad files ---------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_does_not_end_the_run() -> None:
    recorder = begin(Path("/dev/full"))
    recorder.row(**ROW)
    recorder.sample(1001.0, statistics())
    recorder.end(1002.0, "done", "")
    recorder.close()
    assert isinstance(recorder.fault, OSError)


def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Recorder(tmp_path, {})


@pytest.mark.parametrize(
    ("line", "ignored"),
    [
        (b"", 0),
        (b"\n\n", 0),
        (b"not json\n", 1),
        (b"[]\n", 1),
        (b"null\n", 1),
        (b'{"t":1}\n', 1),
        (b'{"t":1e999,"span":1}\n', 1),
        (b'{"t":1,"span":-1}\n', 1),
        (b'{"t":1,"span":1,"sent":"many"}\n', 1),
        (b'{"t":1,"span":1,"failed":{"\xff":1}}\n', 0),
        (b'{"session":7}\n', 1),
        (b'{"end":{"t":1}}\n', 0),
        (b"[" * 100_000 + b"\n", 1),
        (b"\x00" * 50 + b"\n", 1),
    ],
)
def test_lines_that_are_no_measurements_are_left_out(
    tmp_path: Path, line: bytes, ignored: int
) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(line + b'{"t":50,"span":1,"sent":3}\n')
    trace = read_trace(path)
    assert trace.ignored == ignored
    assert trace.sum("sent") == 3
