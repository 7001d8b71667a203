"""What stands above the charts: its sentences, from known sums."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from headway.bulk.record.measures import LimitsInfo, ModelUse, Sample, SessionInfo
from headway.bulk.record.trace import Session, Trace
from headway.bulk.report.axis import make_axis
from headway.bulk.report.measured import Measured
from headway.bulk.report.overview import cards, footer, header, lead, progress
from headway.bulk.report.summary import Sums

INFO = SessionInfo(
    version="9", started=1e9, provider="together", total=100, limits=LimitsInfo(["600/min"], [], 8)
)
SAMPLE = Sample(1e9 + 10, 10.0, sent=80, done=60, failed={"c": 5, "d": 1}, limit=10.0,
                input=600, output=400, cost=3.0, refused={"rate": 8})  # fmt: skip


def measured(trace: Trace, *, redact: bool = False) -> Measured:
    return Measured("in", trace, None, Sums(trace, None), make_axis(trace.sessions, UTC), redact)


RUN = measured(Trace([Session(INFO, [SAMPLE])]))
EMPTY = measured(Trace())


def said(content: Any) -> str:
    return "".join(text for text, _ in content.parts)


def test_the_header_names_the_provider_and_the_limits() -> None:
    found: Any = header(RUN)
    assert found.name == "in"
    assert found.said == ("together", "started 09 Sep 01:46", "limits: 600/min, 8 in flight")
    bare: Any = header(measured(Trace([Session(SessionInfo())])))
    assert bare.said == ("no limits stated",)


def test_the_headline() -> None:
    assert said(lead(RUN)).replace("\xa0", " ") == (
        "60 of 100 rows were answered, 6 failed, and 34 have no answer yet, in 10 s of work. It "
        "sent 8 requests a second, 80% of the limit. It used 1k tokens, for $3.00. For 100% of "
        "the time nothing held it back: every request that was ready could be sent at once."
    )
    assert said(lead(EMPTY)) == "0 rows were answered. "


def test_the_tiles() -> None:
    found: Any = cards(RUN)
    assert {card.name: (card.value, card.note) for card in found.cards} == {
        "Answered": ("60", "60% of all rows"),
        "Failed": ("6", "2 kinds, most c"),
        "Not answered": ("34", "left to do"),
        "Time": ("10 s", "at work"),
        "Rate": ("8/s", "80% of 10/s"),
        "Refusals": ("8", "10% of sends"),
        "Tokens": ("1k", "600 in, 400 out"),
        "Cost": ("$3.00", "$50.00 per 1,000 rows"),
    }


def test_models_without_a_price_are_counted() -> None:
    trace = Trace([Session(INFO, [SAMPLE])], models={"m": ModelUse(cost=None)})
    found: Any = cards(measured(trace))
    assert (found.cards[-1].value, found.cards[-1].note) == ("≥ $3.00", "one model without a price")


def test_the_bar_is_the_whole() -> None:
    found: Any = progress(RUN)
    assert [(part.kind, part.share) for part in found.parts] == [
        ("done", 0.6), ("failed", 0.06), ("left", 0.34)
    ]  # fmt: skip
    assert found.label == "60 answered, 6 failed, 34 not answered"
    assert progress(EMPTY) is None


def test_the_footer_says_what_is_to_be_known() -> None:
    trace = Trace([Session(INFO, [SAMPLE])], ignored=2)
    found: Any = footer(measured(trace, redact=True))
    assert found.made == "headway 9"
    assert found.said == (
        "Times are UTC.",
        "2 lines of the trace could not be read, as after a kill.",
        "Prompts, answers, messages and ids were left out.",
    )
