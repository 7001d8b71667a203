"""Signals are noted, and interrupt nothing once a run has begun."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from headway.cli.command import signals
from headway.cli.command.signals import STOPS, noting_signals


class Ended(Exception):
    """In place of the end of the process."""


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def leave(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", leave)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
def test_once_a_run_has_begun_they_are_noted(number: signal.Signals) -> None:
    with noting_signals() as caught:
        caught.begun = True
        signal.raise_signal(number)
        caught.heard = True
        signal.raise_signal(number)
        assert caught == [number, number]
    assert signal.getsignal(number) is signal.SIG_IGN  # the process is about to end


@pytest.mark.parametrize("number", STOPS)
def test_before_anything_is_sent_the_first_one_ends_it(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with noting_signals(), pytest.raises(Ended) as ended:
        signal.raise_signal(number)
    assert ended.value.args == (128 + number,)
    assert capfd.readouterr().err == f"headway: stopped by {STOPS[number]}\n"


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_a_second_one_ends_what_hears_nothing(
    seconds: float, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    with noting_signals() as caught:
        caught.begun = True
        signal.raise_signal(signal.SIGINT)
        now += seconds
        if seconds < 1.0:
            signal.raise_signal(signal.SIGTERM)
            assert caught == [signal.SIGINT, signal.SIGTERM]
        else:
            with pytest.raises(Ended) as ended:
                signal.raise_signal(signal.SIGTERM)
            assert ended.value.args == (130,)  # that of the first


def test_without_a_signal_everything_is_as_it_was() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as under nohup
    with noting_signals() as caught:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert callable(signal.getsignal(signal.SIGINT))
        assert not caught
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
