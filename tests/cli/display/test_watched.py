"""What top and ctl say of a scheduler, at several widths, and that nothing in it wraps."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from watched import a_status, minutes

from headway.cli.display import watched


def text(width: int, *, plain: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(watched.drawn(a_status(), minutes(), width, title="worker.py (7)", plain=plain))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_all_that_is_known_at_80_columns() -> None:
    lines = text(80)
    assert lines[:10] == [
        "worker.py (7)  at work, watched for 12 min",
        "held back by  the limit on requests, for 80 ms",
        "last change   set_limits() was called",
        "so far        40 of 160 (25%), about 5 min left",
        "queue         1,234 queued (2 in a backoff), 8 in flight",
        "jobs          4,900 succeeded, 3 failed, 1 timed out",
        "attempts      5,000 sent, 60 of them further tries",
        "refused       7 rate",
        "faults        2 transient",
        "tokens        1,250,000 (1,000,000 in, 250,000 out)",
    ]
    assert lines[10] == "cost          $1.50"
    found = {line[:13].strip(): line[14:] for line in lines[11:]}
    assert found["requests"].endswith(" 600/min of 600/min")
    assert found["requests"].startswith("█" * 30)
    assert found["sent"].startswith("█" * 50)  # the full height is the limit
    assert found["refused"].strip("▁▂▃▄▅▆▇█ ").endswith("0/s")
    assert " " * 14 + "the last 1 min 59 s" in lines
    assert any(line.split() == ["chat", "0", "0", "0", "0", "0"] for line in lines)


@pytest.mark.parametrize("width", [30, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, text(width))) <= width


def test_a_terminal_without_blocks() -> None:
    lines = "\n".join(text(80, plain=True)).replace("…", "")
    assert lines.isascii()
    assert "####" in lines


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"blocked": 12.0}, "blocked"),
        ({"binds": "paused"}, "paused"),
        ({"binds": "closed"}, "closed"),
        ({"binds": "gate"}, "waiting"),
        ({}, "at work"),
        ({"queued": 0, "in_flight": 0}, "idle"),
    ],
)
def test_one_word_for_how_it_is(changed: dict[str, object], said: str) -> None:
    status = a_status(**changed)
    status["blocked"] = changed.get("blocked")
    assert watched.state(status) == said


def test_a_blocked_loop_stands_first() -> None:
    first = next(watched.facts({**a_status(), "blocked": 12.0}))
    assert first[:2] == ("event loop", "blocked: it has not turned for 12 s")


def test_limits_of_keys_and_cut_ones_are_bars() -> None:
    limits = [
        {"what": "requests", "limit": 600.0, "per": 60.0, "window": 60.0, "used": None,
         "factor": 0.5, "frees_in": None},
        {"what": "input_tokens", "limit": 90_000.0, "per": 60.0, "window": 60.0, "used": 45_000.0,
         "factor": 1.0, "frees_in": 2.0},
    ]  # fmt: skip
    found = [*watched.bars(a_status(limits=limits), minutes())]
    assert [(one.name, round(one.share, 2), one.said) for one in found] == [
        ("requests", 1.0, "600/min of 600/min, 50% in force"),
        ("input tokens", 0.5, "45k of 90k in 1 min, room in 2 s"),
        ("in flight", 0.25, "8 of 32"),
        ("in flight", 0.0, "0 of 4 (embed)"),
    ]


def test_a_quota_is_no_pace() -> None:
    limits = [
        {"what": "requests", "limit": limit, "per": per, "window": per, "used": None,
         "factor": 1.0, "frees_in": frees_in}
        for limit, per, frees_in in ((600.0, 60.0, None), (1_000.0, 86_400.0, 0.0))
    ]  # fmt: skip
    console = Console(file=io.StringIO(), width=80)
    console.print(watched.drawn(a_status(limits=limits), minutes(), 80))
    assert " of 10/s" in console.file.getvalue()  # type: ignore[attr-defined]


def test_several_are_shown_below_one_another() -> None:
    console = Console(file=io.StringIO(), width=80)
    one = ("a (1)", a_status(), minutes())
    console.print(watched.all_drawn([one, ("b (2)", a_status(), [])], 80))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.index("a (1)") < shown.index("sent") < shown.index("b (2)")
