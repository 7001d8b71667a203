"""The report: what it says, what it leaves out, and how it looks in a real browser."""

from __future__ import annotations

import itertools
import re
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import (
    CASES,
    MANY,
    STARTED,
    data_of,
    failure,
    make_run,
    report,
    sample,
    session,
    words,
)

from headway.bulk import InvalidOutput
from headway.bulk.record.measures import Sample, SessionInfo
from headway.bulk.record.trace import Session
from headway.bulk.report import InvalidRun, write_report
from headway.bulk.report.axis import make_axis
from headway.bulk.report.failures import Example, normalise, read_failures


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
    assert "1 line of the error file is no row" in said
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
        ("none.jsonl", "none.jsonl does not exist. Fix: give the results file of a run, like "
                       "requests.results.jsonl"),
        ("other.jsonl", "other.jsonl has no measurements beside it: there is no folder other.run. "
                        "Fix: give the results file of a `headway run`, where it was written"),
        ("bad.run", "Is a directory. Fix: make it readable, then try again"),
    ):  # fmt: skip
        with pytest.raises(InvalidRun, match=re.escape(message)):
            write_report(tmp_path / name, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_what_is_no_report_is_never_replaced(tmp_path: Path) -> None:
    run = make_run(tmp_path, [], [failure(1, "x")])
    run.write_text("answers")
    for output, message in (
        (run, f"{run} exists already and is no report, so it is not replaced. "
              "Fix: give another file with -o, like report.html"),
        (tmp_path, f"{tmp_path} is a folder. Fix: give a file with -o"),
        (tmp_path / "no" / "a.html", f"the folder {tmp_path / 'no'} does not exist. "
                                     f"Fix: make it first: mkdir -p {tmp_path / 'no'}"),
        (run / "a.html", "Not a directory. Fix: give another file with -o"),
    ):  # fmt: skip
        with pytest.raises(InvalidOutput, match=re.escape(message)):
            write_report(run, output)
    assert run.read_text() == "answers"
    assert not list(tmp_path.glob(".*"))
