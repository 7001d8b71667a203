"""The report: what it says, what it leaves out, and how it looks in a real browser."""

from __future__ import annotations

import base64
import html
import itertools
import json
import math
import os
import random
import re
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway._core.counters import Recent, Statistics
from headway.bulk import InvalidOutput
from headway.bulk.record.measures import Sample, SessionInfo
from headway.bulk.record.trace import Recorder, Session
from headway.bulk.report import InvalidRun, write_report
from headway.bulk.report.axis import make_axis
from headway.bulk.report.failures import Example, normalise, read_failures

STARTED = 1_764_000_000.0


def statistics(**changes: Any) -> Statistics:
    base: dict[str, Any] = dict.fromkeys(Statistics.__slots__, 0)
    base |= {"refused": {}, "recent": Recent(0.0, 0, {}), "binds": "", "why": ""}
    return Statistics(**{**base, "capacity": math.inf, "pace": math.inf, **changes})


MODELS = [("meta-llama/Llama-3.3-70B-Instruct-Turbo", 0.7), ("Qwen/Qwen3-235B-A22B", 0.22),
          ("acme/private-finetune-7b", 0.08)]  # fmt: skip


def simulate(folder: Path, *, total: int = 60_000) -> Path:
    """A run with a ramp, a fall of the limit, an outage, a kill and a resume; its output's path."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "requests.results.jsonl"
    (folder / "requests.results.run").mkdir()
    chance = random.Random(4)
    errors: list[bytes] = []
    sent, done, line = 0, 0, 0
    refused: dict[str, int] = {}
    sessions = [(STARTED, 3900), (STARTED + 3900 + 9_480, 2700)]
    for number, (started, seconds) in enumerate(sessions):
        sent, refused = 0, {}
        recorder = Recorder(
            output.with_suffix(".run") / "trace.jsonl",
            {"version": "0.2.0", "started": started, "input": "requests.jsonl",
             "output": output.name, "provider": "together", "total": total, "already_done": line,
             "limits": {"requests": ["600/min"], "tokens": ["360k/min"], "concurrency": 64}},
        )  # fmt: skip
        recorder.sample(started, statistics())
        due, flight, slow = 0.0, 0, 1.0
        for second in range(1, seconds + 1):
            slow = max(0.6, min(2.5, slow + chance.gauss(0, 0.03)))
            limit = 9.7
            binds = "requests"
            wave = 1 + 0.6 * math.sin(second / 300)
            if number == 0 and second < 120:
                limit, binds = 1 + 8.7 * second / 120, "requests"
            elif number == 0 and 1500 <= second < 2100:
                limit = 6.2 if second > 1504 else 9.7
                if second <= 1504 or chance.random() < 0.02:
                    refused["rate"] = refused.get("rate", 0) + chance.randint(1, 4)
            elif 2300 < second < 2900 and number == 0:
                binds, limit = "tokens", 9.7
            if number == 1 and 1000 < second < 1500:
                binds = "concurrency"
            outage = number == 0 and 3000 <= second < 3240
            rate = limit
            if binds == "tokens":
                rate = 6.9 + chance.gauss(0, 0.3)
            if binds == "concurrency":
                rate = 7.5 + chance.gauss(0, 0.8)
            if outage:
                binds, rate = "gate", 0.05
                if chance.random() < 0.06 or second < 3004:
                    refused["transient"] = refused.get("transient", 0) + (5 if second < 3004 else 1)
            if chance.random() < 0.004:
                refused["capacity"] = refused.get("capacity", 0) + 1
            if second > seconds - 20 and number == 1:
                binds = ""
            due += rate
            count, due = int(due), due % 1
            sent += count
            for _ in range(count if not outage else 0):
                if line >= total:
                    break
                line += 1
                latency = slow * wave**0.5 * chance.lognormvariate(0.4, 0.5)
                attempts = 1 + (chance.random() < 0.03) + (chance.random() < 0.004)
                (model, price) = MODELS[chance.choices((0, 1, 2), (70, 25, 5))[0]]
                code = None
                draw = chance.random()
                if draw < 0.006:
                    code = (
                        "http_400"
                        if draw < 0.004
                        else "timeout"
                        if draw < 0.005
                        else "invalid_answer"
                    )
                    errors.append(failed_row(line, code, chance))
                else:
                    done += 1
                used = (
                    int(chance.lognormvariate(5.5, 0.4)),
                    int(chance.lognormvariate(5, 0.5) * wave),
                )
                if code:
                    used = (0, 0)
                recorder.row(
                    model=model, code=code, attempts=attempts, waited=0.08 * chance.expovariate(1),
                    latency=latency, size=900, input_tokens=used[0], output_tokens=used[1],
                    cost=None if price == 0.08 else price * sum(used) / 1e6,
                )  # fmt: skip
            flight = 1 if outage else round(rate * slow * 1.7 + chance.gauss(0, 1.5))
            recorder.sample(
                started + second,
                statistics(sent=sent, refused=dict(refused), in_flight=max(0, flight), queued=16,
                           binds=binds, pace=limit),
            )  # fmt: skip
        if number == 1:
            recorder.end(started + seconds, "stopped", "--max-cost 6 is reached: $5.99 are spent")
        recorder.close()
    output.write_bytes(b"")
    output.with_name("requests.results.errors.jsonl").write_bytes(b"".join(errors))
    return output


def failed_row(line: int, code: str, chance: random.Random) -> bytes:
    number = chance.randint(8200, 120_000)
    said = {
        "http_400": f"This model's maximum context length is 8192 tokens, but {number} were given",
        "timeout": "no answer within 600 s. It was tried 3 times",
        "invalid_answer": "the answer is not JSON (text/html): '<html><title>502 Bad Gateway'",
    }[code]
    if code == "http_400" and number % 5 == 0:
        said = "messages.0.content: Input should be a valid string"
    body: object = {"error": {"message": said, "type": "invalid_request_error", "param": None}}
    if code == "invalid_answer":
        body = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
    status = {"http_400": 400, "invalid_answer": 200}.get(code)
    response = status and {"status_code": status, "request_id": f"req_{line}", "body": body}
    row = {"id": f"batch_req_{line}", "custom_id": f"review-{line:06}", "response": response,
           "error": {"code": code, "message": said}}  # fmt: skip
    return msgspec.json.encode(row) + b"\n"


# -- runs of every shape -----------------------------------------------------------------------


def session(number: int = 0, started: float = STARTED, **changes: Any) -> dict[str, Any]:
    return {"version": "0.2.0", "started": started, "input": "in.jsonl", "output": "out.jsonl",
            "provider": "together", "limits": {"requests": ["600/min"], "tokens": [],
            "concurrency": 8}, "total": 100, "already_done": number, **changes}  # fmt: skip


def sample(t: float, span: float, **changes: Any) -> dict[str, Any]:
    return {"t": STARTED + t, "span": span, "sent": int(9 * span), "done": int(9 * span),
            "limit": 10, "binds": {"requests": span}, "latency": {"40": int(9 * span)},
            "wait": {"-1": int(9 * span)}, "attempts": {"1": int(9 * span)}, "input": 100,
            "cost": 0.01, "output": 9, "in_flight": 3,
            "models": {"m": {"rows": int(9 * span), "input": 100, "output": 9, "cost": 0.01}},
            **changes}  # fmt: skip


def make_run(folder: Path, lines: list[Any], errors: list[Any] | None = None) -> Path:
    """A run with this trace and these error rows (bytes are written as they are)."""
    (folder / "in.results.run").mkdir(parents=True)

    def write(path: Path, rows: list[Any]) -> None:
        path.write_bytes(b"".join(
            row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows
        ))  # fmt: skip

    write(folder / "in.results.run" / "trace.jsonl", lines)
    if errors is not None:
        write(folder / "in.results.errors.jsonl", errors)
    return folder / "in.results.jsonl"


HOSTILE = "</script><script>document.title='owned'</script>\ud800\u0000\u202e&quot;'\"<img src=x>"
HOSTILE_ERROR = {
    "id": "batch_req_7", "custom_id": HOSTILE,
    "response": {"status_code": 400, "request_id": None, "body": HOSTILE},
    "error": {"code": f"c{HOSTILE}", "message": HOSTILE},
}  # fmt: skip


def hostile() -> list[Any]:
    return [
        {"session": session(input=f"x/{HOSTILE}.jsonl", provider=HOSTILE,
                            limits={"requests": [HOSTILE]}, version=HOSTILE)},
        sample(1, 1, models={HOSTILE: {"rows": 1}}, refused={HOSTILE: 2}, binds={HOSTILE: 1},
               failed={HOSTILE: 1}),
        {"end": {"t": STARTED + 2, "reason": HOSTILE, "said": HOSTILE}},
    ]  # fmt: skip


def days() -> list[Any]:
    lines: list[Any] = [{"session": session(total=3_000_000)}]
    t, span, count = 0.0, 1.0, 0
    while t < 3 * 86400:
        t, count = t + span, count + 1
        lines.append(sample(t, span, sent=int(span * (6 + 3 * math.sin(t / 9000))),
                            refused={"rate": 1} if count % 50 == 0 else {}))  # fmt: skip
        span *= 2 if count % 600 == 0 else 1
    return lines


def resumed(sessions: int, samples: int) -> list[Any]:
    lines: list[Any] = []
    for i in range(sessions):
        start = i * 5000.0
        lines.append({"session": session(i * samples * 9, STARTED + start, total=10_000)})
        lines += [sample(start + n, 1) for n in range(1, samples * (i % 3 + 1) + 1)]
    return lines


MANY = {f"org/model-{i}": {"rows": 10_000 - i, "input": 5, "output": 1, "cost": 0.001}
        for i in range(10_000)}  # fmt: skip

CASES: dict[str, Callable[[], list[Any]]] = {
    "nothing": list,
    "no_sample": lambda: [{"session": session()}],
    "one_sample": lambda: [{"session": session()}, sample(1, 1)],
    "no_rows": lambda: [{"session": session(total=0)}, {"t": STARTED + 1, "span": 1},
                        {"end": {"t": STARTED + 1, "reason": "done"}}],
    "no_span": lambda: [{"session": session()}, sample(1, 0)],
    "no_limits": lambda: [{"session": session(limits={}, total=None)},
                          *(sample(i, 1, limit=None, binds={}) for i in range(1, 50))],
    "far_limit": lambda: [{"session": session()}, *(sample(i, 1, limit=1e6) for i in range(1, 50))],
    "models": lambda: [{"session": session()}, sample(1, 1, models=MANY)],
    "unknown_prices": lambda: [{"session": session()}, sample(
        1, 1, cost=None, models={"m": {"rows": 9, "input": 8, "cost": None}})],
    "five_sessions": lambda: resumed(5, 40),
    "many_sessions": lambda: resumed(200, 2),
    "three_days": days,
    "clock_back": lambda: [{"session": session()}, sample(50, 1), sample(2, 1), sample(4, 1e8)],
    "hostile": hostile,
}  # fmt: skip


def report(folder: Path, case: str, **options: Any) -> str:
    errors = [HOSTILE_ERROR] if case == "hostile" else None
    run = make_run(folder, CASES[case](), errors)
    write_report(run, folder / "report.html", **options)
    return (folder / "report.html").read_text("utf-8")


# -- what the page says ------------------------------------------------------------------------


def words(page: str) -> str:
    """The text of a page, tags left out."""
    body = page[page.index("<body>") : page.index('<script type="application/json"')]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def data_of(page: str) -> dict[str, Any]:
    """The JSON inside a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return dict(json.loads(found[1]))


def test_the_headline_says_how_far_it_came_and_what_held_it_back(tmp_path: Path) -> None:
    lines = [
        {"session": session(0)},
        sample(10, 10, sent=50, done=40, failed={"http_400": 2}, refused={"rate": 8},
               binds={"requests": 7, "gate": 1}, input=1000, output=500, cost=0.25),
        # a kill: what it did after its last sample is only known to the next session
        {"session": session(45, STARTED + 3610)},
        sample(3620, 10, sent=30, done=30, binds={"requests": 5}, input=1000, cost=0.25),
        {"end": {"t": STARTED + 3620, "reason": "interrupted", "said": "Ctrl-C"}},
    ]  # fmt: skip
    write_report(make_run(tmp_path, lines), tmp_path / "report.html")
    said = words((tmp_path / "report.html").read_text())
    assert (
        "73 of 100 rows were answered, 2 failed, and 25 have no answer yet, in 20 s of work over "
        "2 sessions. It sent 4 requests a second, 40% of the limit. It used 2.51k tokens, for "
        "$0.50. What held it back most was the limit on requests: 60% of the time."
    ) in said.replace(" ,", ",").replace(" .", ".").replace("\xa0", " ")
    assert "resumed after 1 h" in said
    assert "no end: killed, or still running" in said
    assert "interrupted: Ctrl-C" in said


@pytest.mark.parametrize(
    ("binds", "sentence"),
    [
        ({"tokens": 6}, "What held it back most was the limit on tokens: 60% of the time."),
        ({"concurrency": 10}, "the limit on requests in flight: 100% of the time."),
        ({"gate": 9.999}, "a wait after refusals: 99.9% of the time."),
        ({"closed": 6}, "a key or an account that was refused: 60% of the time."),
        ({}, "For 100% of the time nothing held it back"),
        ({"tokens": 4}, "For 60% of the time nothing held it back"),
    ],
)
def test_one_sentence_says_what_held_it_back(
    tmp_path: Path, binds: dict[str, float], sentence: str
) -> None:
    run = make_run(tmp_path, [{"session": session()}, sample(10, 10, binds=binds)])
    write_report(run, tmp_path / "report.html")
    assert sentence in words((tmp_path / "report.html").read_text())


@pytest.mark.parametrize("case", CASES)
def test_every_run_has_a_report(tmp_path: Path, case: str) -> None:
    page = report(tmp_path, case)
    assert len(page.encode()) < 300_000
    assert "NaN" not in page
    assert "nan" not in words(page).replace("finance", "").split()
    data = data_of(page)
    for chart in data["charts"].values():
        for series in chart["series"]:
            assert len(series["values"]) == len(data["left"]) <= 600
    assert data["left"] == sorted(data["left"])
    assert all(0 <= x <= 4000 for x in data["left"] + data["right"])
    for heading in ("Attempts a row", "Sessions", "Models", "Errors"):
        assert f"<h2>{heading}</h2>" in page
    assert ("Over time" in page) == (case in ("nothing", "no_sample", "no_span"))


def test_the_largest_models_are_shown_and_the_rest_summed(tmp_path: Path) -> None:
    said = words(report(tmp_path, "models"))
    assert "org/model-19 9,981 $0.001 5 1 9,980 other models" in said
    rest = sum(use["rows"] for name, use in MANY.items() if int(name.split("-")[1]) >= 20)
    assert f"9,980 other models {rest:,} $9.98 49.9k 9.98k" in said
    assert "org/model-20" not in said


def test_a_limit_far_above_does_not_flatten_the_chart(tmp_path: Path) -> None:
    page = report(tmp_path, "far_limit")
    assert "Sent, a second sent limit far above 10 7.5 5 2.5" in words(page)


def test_a_price_that_is_not_known_is_said(tmp_path: Path) -> None:
    said = words(report(tmp_path, "unknown_prices"))
    assert "m 9 unknown price 8 0" in said
    assert "Cost unknown one model without a price" in said


@given(
    runs=st.lists(
        st.lists(
            st.tuples(st.sampled_from([0.3, 1.0, 2.0, 64.0]), st.integers(0, 100)), max_size=80
        ),
        max_size=70,
    )
)
def test_columns_hold_all_that_was_measured(runs: list[list[tuple[float, int]]]) -> None:
    found, at = [], 1000.0
    for run in runs:
        samples = []
        for span, sent in run:
            at += span
            samples.append(Sample(t=at, span=span, sent=sent, latency={7: sent}, limit=5.0))
        found.append(Session(SessionInfo(), samples))
        at += 500
    axis = make_axis(found, UTC)
    every = [s for one in found for s in one.samples]
    assert len(axis.bins) <= 600
    assert sum(b.span for b in axis.bins) == pytest.approx(sum(s.span for s in every))
    sent = sum(s.sent for s in every)
    assert sum(b.counts["sent"] for b in axis.bins) == pytest.approx(sent)
    assert sum(b.latency.total for b in axis.bins) == pytest.approx(sent)
    assert all(b.means["limit"] == pytest.approx(5.0) for b in axis.bins)
    for one, other in pairwise(axis.bins):
        assert one.left < one.right <= other.left + 1e-6
    if axis.bins:
        assert (axis.bins[0].left, axis.bins[-1].right) == pytest.approx((0, 4000))


def test_the_time_between_two_sessions_is_cut_out() -> None:
    parts = [[Sample(t=100 + i, span=1, sent=2) for i in range(10)],
             [Sample(t=7000 + i, span=1, sent=2) for i in range(10)]]  # fmt: skip
    axis = make_axis([Session(SessionInfo(), samples) for samples in parts], UTC)
    [(left, right, idle)] = axis.gaps
    assert (left + right) / 2 == pytest.approx(2000)
    assert idle == pytest.approx(6890)
    assert {b.rate("sent") for b in axis.bins} == {2.0}


def test_no_line_is_drawn_over_a_cut(tmp_path: Path) -> None:
    page = report(tmp_path, "five_sessions")
    for shape in ("line c-sent", "area c-sent", "limit c-limit", "line c-p99"):
        [path] = re.findall(rf'<path class="{shape}" d="([^"]*)"', page)
        assert path.count("M") == 5


# -- errors ------------------------------------------------------------------------------------


def failure(line: int, message: str, code: str = "http_400", **changes: Any) -> dict[str, Any]:
    return {"id": f"batch_req_{line}", "custom_id": f"id-{line}",
            "response": {"status_code": 400, "request_id": None, "body": {"said": "secret answer"}},
            "error": {"code": code, "message": message}, **changes}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("8192 tokens, but 9,001.5 were given", "N tokens, but N were given"),
        ("request req_8fa2c91b failed", "request … failed"),
        ("id 123e4567-e89b-12d3-a456-426614174000 is\n gone", "id … is gone"),
        ("the model is unknown", "the model is unknown"),
        ("x" * 400, "x" * 300),
    ],
)
def test_messages_are_grouped_without_numbers_and_ids(message: str, expected: str) -> None:
    assert normalise(message) == expected


def test_errors_are_grouped_with_their_first_examples(tmp_path: Path) -> None:
    rows: list[Any] = [failure(n, f"too long: {n} tokens") for n in range(1, 6)]
    rows += [failure(9, "no answer within 600 s", "timeout", response=None), b"torn {\n", b"\n"]
    rows += [failure(10, "a body", response={"status_code": 500, "body": "y" * 5000})]
    run = make_run(tmp_path, [{"session": session()}, sample(1, 1)], rows)
    write_report(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    said = words(page)
    assert "http_400 6 5 too long: N tokens (HTTP 400)" in said
    assert "id-3 · line 3 · HTTP 400 too long: 3 tokens" in said
    assert '{"said": "secret answer"}' in said
    assert "id-4" not in said
    assert "timeout 1 1 no answer within N s" in said
    assert "y" * 2000 + " … (3,000 more)" in said
    assert "y" * 2001 not in said
    assert "1 lines of the error file are no rows" in said
    assert "7 failed" in said


def test_however_many_messages_there_are_memory_and_the_page_are_bounded(tmp_path: Path) -> None:
    letters = "".join
    names = [letters(p) for p in itertools.product("abcdefgh", repeat=4)]
    rows: list[Any] = [failure(n, f"no {name}") for n, name in enumerate(names)]
    rows += [failure(9999, "often")] * 50
    rows.insert(0, failure(9999, "often"))
    failures_file = make_run(tmp_path, [], rows).with_name("in.results.errors.jsonl")
    found = read_failures(failures_file, redact=False)
    assert len(found.groups) == 1001
    assert [(g.message, g.count) for g in found.groups[:2]] == [
        ("(other messages)", 8**4 - 999), ("often", 51)
    ]  # fmt: skip
    assert found.total == 8**4 + 51 == sum(g.count for g in found.groups)
    write_report(tmp_path / "in.results.run", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<details>") == 30
    assert "and 971 rows in 971 smaller groups" in words(page)


def test_without_an_error_file_the_codes_are_shown(tmp_path: Path) -> None:
    lines = [{"session": session()}, sample(1, 1, failed={"timeout": 3, "http_400": 8})]
    write_report(make_run(tmp_path, lines), tmp_path / "report.html")
    said = words((tmp_path / "report.html").read_text())
    assert "Errors http_400 8 timeout 3 Examples come from the error file" in said


SECRETS = ("secret", "id-", "too long", "invoice", "Ctrl-C")


def test_redact_leaves_out_prompts_answers_messages_and_ids(tmp_path: Path) -> None:
    rows = [failure(n, f"too long: 'my invoice {n}'") for n in range(1, 6)]
    lines = [{"session": session()}, sample(1, 1), {"end": {"t": 1, "reason": "stopped",
             "said": "Ctrl-C"}}]  # fmt: skip
    run = make_run(tmp_path, lines, rows)
    write_report(run, tmp_path / "open.html")
    write_report(run, tmp_path / "redacted.html", redact=True)
    open_page = (tmp_path / "open.html").read_text()
    redacted = (tmp_path / "redacted.html").read_text()
    body = redacted[redacted.index("<body>") :]
    assert all(secret in open_page for secret in SECRETS)
    assert not [secret for secret in SECRETS if secret in body.replace('id="data"', "")]
    assert "http_400 5 5 HTTP 400 line 1 · HTTP 400 line 2 · HTTP 400" in words(redacted)
    assert "Prompts, answers, messages and ids were left out." in words(redacted)


def test_redacted_rows_are_not_even_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path, [], [failure(1, "mine"), failure(2, "other")])
    found = read_failures(run.with_name("in.results.errors.jsonl"), redact=True)
    [group] = found.groups
    assert (group.code, group.message, group.status, group.count) == ("http_400", "", 400, 2)
    assert group.examples == [Example(n, None, "", 400, None) for n in (1, 2)]


# -- safety ------------------------------------------------------------------------------------


@pytest.mark.parametrize("redact", [False, True])
def test_nothing_of_the_data_is_markup(tmp_path: Path, redact: bool) -> None:
    page = report(tmp_path, "hostile", redact=redact)
    assert re.findall(r"<script[^>]*>", page) == [
        '<script type="application/json" id="data">', "<script>"
    ]  # fmt: skip
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "\x00" not in page
    assert "\u202e" not in page
    names = [s["name"] for chart in data_of(page)["charts"].values() for s in chart["series"]]
    assert any("</script>" in name for name in names)
    if not redact:
        assert page.count("&lt;script&gt;document.title=") >= 6


def test_the_page_asks_nothing_of_a_network(tmp_path: Path) -> None:
    page = report(tmp_path, "five_sessions")
    assert page.index("Content-Security-Policy") < page.index("<style")
    assert not re.findall(r"\bsrc=|url\(|@import|https?:|fetch\(|XMLHttp", page)


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        full = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    bright, dark = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read(tmp_path: Path, scheme: int) -> None:
    page = report(tmp_path, "nothing")
    blocks = re.findall(r":root \{\s*(--page.*?)\}", page, re.S)
    colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[scheme]))
    for text in ("ink", "soft"):
        for ground in ("page", "card", "code"):
            assert contrast(colours[text], colours[ground]) >= 4.5
    for shape in ("blue", "violet", "teal", "red", "pink", "green", "slate"):
        assert contrast(colours[shape], colours["card"]) >= 3.0


# -- files -------------------------------------------------------------------------------------


def test_the_folder_and_the_file_are_the_same_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, CASES["five_sessions"](), [failure(1, "x")])
    write_report(run, tmp_path / "a.html")  # the results file itself may be gone
    write_report(run.with_suffix(".run"), tmp_path / "b.html")
    run.write_bytes(b"")
    write_report(run, tmp_path / "b.html")  # an earlier report is replaced
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.html", "b.html", "in.results.errors.jsonl", "in.results.jsonl", "in.results.run"
    ]  # fmt: skip


def test_a_path_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text("{}")
    (tmp_path / "bad.run" / "trace.jsonl").mkdir(parents=True)
    for name, message in (
        ("none.jsonl", "none.jsonl does not exist. Give the results file of a run, like "
                       "requests.results.jsonl"),
        ("other.jsonl", "other.jsonl has no measurements beside it: there is no folder other.run. "
                        "Give the results file of a `headway run`, where it was written"),
        ("bad.run", "Is a directory. Make it readable, then try again"),
    ):  # fmt: skip
        with pytest.raises(InvalidRun, match=re.escape(message)):
            write_report(tmp_path / name, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_what_is_no_report_is_never_replaced(tmp_path: Path) -> None:
    run = make_run(tmp_path, [], [failure(1, "x")])
    run.write_text("answers")
    for output, message in (
        (run, f"{run} exists already and is no report, so it is not replaced. "
              "Give another file with -o, like report.html"),
        (tmp_path, f"{tmp_path} is a folder. Give a file with -o"),
        (tmp_path / "no" / "a.html", f"the folder {tmp_path / 'no'} does not exist. "
                                     f"Make it first: mkdir -p {tmp_path / 'no'}"),
        (run / "a.html", "Not a directory. Give another file with -o"),
    ):  # fmt: skip
        with pytest.raises(InvalidOutput, match=re.escape(message)):
            write_report(run, output)
    assert run.read_text() == "answers"
    assert not list(tmp_path.glob(".*"))


# -- a browser ---------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
]  # fmt: skip


class Browser:
    """Chromium without a window, over the DevTools protocol on two pipes."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        # The protocol is read from descriptor 3 and written to 4; a shell puts them there.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash", CHROMIUM, *FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], 60)
            assert ready, "Chromium does not answer"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers; events that come before are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def open(self, url: str, width: int, height: int, scheme: str) -> None:
        """Load a page as a screen of that size shows it."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A picture of what is in view, or of the whole page."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        """End the browser."""
        self.session = None
        with suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None and os.environ.get("CI") == "true":
        pytest.fail("Chromium is not installed, and CI=true (Debian: apt-get install chromium)")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


def troubles(browser: Browser) -> list[Any]:
    """What the console said, and requests for anything but the page itself."""
    found = []
    for event in browser.events:
        method, params = event.get("method"), event.get("params", {})
        url = params.get("request", {}).get("url", "")
        if method in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") or (
            method == "Network.requestWillBeSent" and not url.startswith(("file:", "data:"))
        ):
            found.append(event)
    return found


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("case", CASES)
def test_a_browser_shows_it(browser: Browser, tmp_path: Path, case: str, width: int) -> None:
    page = report(tmp_path, case)
    browser.open((tmp_path / "report.html").as_uri(), width, 800, "light")
    assert troubles(browser) == []
    assert any(event.get("method") == "Network.requestWillBeSent" for event in browser.events)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.title") != "owned"
    count = "[...document.querySelectorAll('.plot svg')].filter(s => s.clientWidth > 150).length"
    assert browser.ask(count) == page.count('class="plot ')
    if case not in ("nothing", "no_sample", "no_span"):
        assert browser.ask("document.querySelector('[data-chart=sends] path.line') !== null") == (
            case not in ("no_rows",)
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pointer_and_the_keys_show_values(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    output = simulate(tmp_path / "run")
    write_report(output, tmp_path / "report.html")
    browser.open((tmp_path / "report.html").as_uri(), 360, 800, scheme)
    assert troubles(browser) == []
    ground = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(243, 244, 247)", "dark": "rgb(13, 16, 22)"}[scheme]
    assert browser.ask("getComputedStyle(tip).display") == "none"
    place = browser.ask(
        "(() => { const plot = document.querySelector('[data-chart=sends]');"
        " plot.scrollIntoView(); const box = plot.getBoundingClientRect();"
        " return [box.left + box.width * 0.3, box.top + 60]; })()"
    )
    browser.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    said = browser.ask("tip.textContent")
    assert re.search(r"\d\d Nov \d\d:\d\d:\d\d\s*limit 6\.2/s\s*sent 6\.\d+/s", said)
    browser.ask("document.querySelector('[data-chart=bound]').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight",
                     windowsVirtualKeyCode=39)  # fmt: skip
    assert re.search(r"the limit on requests\s+100%", browser.ask("tip.textContent"))
    assert browser.ask("tip.getBoundingClientRect().right") <= 360
    assert troubles(browser) == []
