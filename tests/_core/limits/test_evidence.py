"""What was sent and accepted lately: what a window held, and which limit a refusal was about."""

from __future__ import annotations

import pytest

from headway._core.limits.evidence import Evidence, Tally


def tally(*starts: float, share: float = 60.0, span: float = 60.0) -> Tally:
    made = Tally(share, span)
    for at in starts:
        made.started(at)
    return made


def every_second(seconds: int) -> list[float]:
    return [float(second) for second in range(seconds)]


@pytest.mark.parametrize(
    ("starts", "share", "held"),
    [
        ([0.0], 60, 0.0),  # the attempt that was refused is left out
        (every_second(31), 60, 30 / 60),
        (every_second(61), 60, 59 / 60),  # a full window
        ([*[0.0] * 40, 10.0], 60, 40 / 60),  # a burst
        (every_second(121), 60, 59.5 / 60),
        # The older window was fuller: a server that counts by two takes it for even.
        ([*every_second(60), 100.0], 60, 30 / 60),
        ([*[0.0] * 40, 10.0], 20, 40 / 20),  # more than was stated
    ],
)
def test_a_tally_says_what_part_of_the_limit_the_window_held(
    starts: list[float], share: float, held: float
) -> None:
    last = starts[-1]
    assert tally(*starts, share=share).filled(last, last) == pytest.approx(held, abs=0.035)


def test_what_started_after_the_attempt_is_not_counted_against_it() -> None:
    counts = tally(*every_second(11), *[30.0] * 30)
    assert counts.filled(10.0, 31.0) == pytest.approx(10 / 60, abs=0.02)
    assert counts.filled(30.0, 31.0) == pytest.approx(10 / 60, abs=0.02)
    assert counts.filled(32.0, 32.0) == pytest.approx(40 / 60, abs=0.02)


def test_the_room_of_a_window_and_when_it_clears() -> None:
    counts = tally(0.0, 0.0, 20.0)
    assert counts.room(20.0) == 57
    assert counts.clears_in(20.0) == pytest.approx(60 - 20 + 60 / 32)
    assert counts.room(70.0) == 59
    assert counts.room(100.0) == 60
    assert counts.clears_in(100.0) == 0.0


def test_what_was_counted_on_another_clock_is_forgotten() -> None:
    counts = tally(*every_second(30))
    counts.shift(-500.0)
    assert counts.room(30.0) == 60
    assert counts.clears_in(30.0) == 0.0


def test_how_much_of_the_window_anything_was_sent_in() -> None:
    assert tally(100.0, 120.0).seen_for(120.0) == pytest.approx(20, abs=60 / 32)
    assert tally(*every_second(200)).seen_for(199.0) == 60
    assert tally().seen_for(5.0) == 0.0


def test_an_attempt_remembers_the_rate_of_the_last_twenty() -> None:
    evidence = Evidence()
    for start in range(19):
        assert evidence.sent(1, start / 10) == (1, float("inf"))  # too few to tell
    assert evidence.sent(2, 1.9) == (2, pytest.approx(10))
    evidence.shift(100.0)
    assert evidence.sent(3, 102.0) == (3, pytest.approx(10))


@pytest.mark.parametrize(
    ("seen", "about_concurrency"),
    [
        ((20, 5.0), True),  # as many in flight, at half the rate
        ((19, 5.0), True),  # 95%
        ((18, 5.0), False),  # fewer than were accepted: the rate
        ((20, 9.0), False),  # at the highest of both: taken for the rate
        ((20, 8.4), True),
        ((7, 1.0), False),
    ],
)
def test_which_limit_a_refusal_was_about(seen: tuple[int, float], about_concurrency: bool) -> None:
    for known in (False, True):
        evidence = Evidence()
        evidence.accepted((20, 10.0), 0.0)
        first = evidence.is_concurrency(seen, 10.0, 0.0, known=known)
        assert first is (about_concurrency and known)  # one alone may be chance
        assert evidence.is_concurrency(seen, 10.0, 0.0, known=known) is about_concurrency


def test_signs_have_to_come_one_after_the_other() -> None:
    evidence = Evidence()
    evidence.accepted((20, 10.0), 0.0)
    for _ in range(3):
        assert not evidence.is_concurrency((20, 5.0), 10.0, 0.0, known=False)
        assert not evidence.is_concurrency((20, 10.0), 10.0, 0.0, known=False)


@pytest.mark.parametrize(
    ("in_flight", "sent_at", "about_concurrency"),
    [(21, 2.1, True), (21, 3.5, False), (27, 2.0, False)],
    ids=["the next one", "ten later", "seven more at once"],
)
def test_where_more_in_flight_have_passed_two_signs_are_chance(
    in_flight: int, sent_at: float, about_concurrency: bool
) -> None:
    evidence = Evidence()
    evidence.accepted((20, 10.0), 0.0)
    assert not evidence.is_concurrency((20, 5.0), 10.0, 1.9, known=False)
    evidence.shift(100.0)
    evidence.sent(20, 101.95)  # not more
    evidence.sent(21, 102.0)
    seen = in_flight, 5.0
    assert evidence.is_concurrency(seen, 10.0, 100.0 + sent_at, known=False) is about_concurrency
    assert evidence.is_concurrency(seen, 10.0, 100.0 + sent_at, known=False)  # at that number


def test_a_handful_in_flight_is_no_crowd() -> None:
    evidence = Evidence()
    evidence.accepted((4, 10.0), 0.0)
    assert not evidence.is_concurrency((7, 1.0), 10.0, 0.0, known=True)
    assert evidence.is_concurrency((8, 1.0), 10.0, 0.0, known=True)


def test_what_was_accepted_long_ago_fades_and_a_clock_that_moves_changes_nothing() -> None:
    evidence = Evidence()
    evidence.accepted((100, 10.0), 0.0)
    evidence.shift(5000.0)
    assert not evidence.is_concurrency((40, 1.0), 10.0, 5000.0, known=True)
    assert evidence.is_concurrency((40, 1.0), 10.0, 6800.0, known=True)  # 37 are left, after 1/e


def test_as_many_in_flight_as_are_mostly_accepted_are_no_sign() -> None:
    evidence = Evidence()
    for in_flight in (20, 21) * 5:
        evidence.accepted((in_flight, 10.0), 0.0)
    assert not evidence.is_usual((20, 5.0))  # of too few
    evidence.accepted((20, 10.0), 0.0)
    assert evidence.is_usual((20, 5.0))
    assert not evidence.is_usual((21, 5.0))
    for _ in range(3):
        assert not evidence.is_concurrency((20, 5.0), 10.0, 0.0, known=True)
    assert evidence.is_concurrency((21, 5.0), 10.0, 0.0, known=True)


def test_two_refusals_of_what_is_mostly_accepted_show_that_the_slots_are_not_the_limit() -> None:
    evidence = Evidence()
    for _ in range(20):
        evidence.accepted((20, 10.0), 0.0)
    assert not evidence.clears((20, 5.0), 20)
    assert not evidence.clears((19, 5.0), 20)  # below them: it says nothing of them
    assert not evidence.clears((20, 5.0), 20)
    assert evidence.clears((20, 5.0), 20)


def test_a_tally_counts_in_the_units_of_its_rate() -> None:
    made = Tally(6_000.0, 60.0)
    for at in range(31):
        made.started(float(at), 100.0)
    assert made.filled(31.0, 31.0) == pytest.approx(0.5)  # the newest is left out
