"""The pictures of the explanations are drawn, and show what their pages say."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from pages import DOCS, ROOT, text_of

from headway.testing.arrivals import worst_window

PAGES = DOCS / "explanations"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import pictures

    return pictures


def test_a_bucket_lets_nineteen_into_a_second_and_a_pace_ten(pictures: ModuleType) -> None:
    bucket, paced = pictures.starts().values()
    assert worst_window([(at, 1) for at in bucket], 1) == 19
    assert worst_window([(at, 1) for at in paced], 1) == 10
    assert 0.1 < paced[-1] / (len(paced) - 1) < 0.104


def test_the_pace_reaches_what_its_page_says(pictures: ModuleType) -> None:
    assert [round(100 * share, 1) for share in pictures.reached([1, 60])] == [97.1, 99.5]


def test_one_gate_is_refused_once(pictures: ModuleType) -> None:
    (_, herd), (answered, refused) = pictures.comes_back().values()
    assert (len(herd), len(refused), round(answered[-1], 1)) == (189, 1, 6.6)
    assert "189 attempts and 18.6 seconds" in text_of(PAGES / "refusals.md")


def test_the_rate_follows_the_limit(pictures: ModuleType) -> None:
    rates, refused = pictures.follows(minutes=6)
    fallen = [rate for at, rate in rates if 180 < at < 240]
    assert 3.5 < min(fallen) < 4.1
    assert 0 < len(refused) < 60


def test_chat_gets_three_of_four_starts_and_urgent_all(pictures: ModuleType) -> None:
    batch, chat, urgent = pictures.shares().values()
    assert sum(at > 10 for at in chat if at < 20) == pytest.approx(
        3 * sum(10 < at < 20 for at in batch), abs=4
    )
    assert not any(urgent[0] < at < urgent[-1] for at in [*batch, *chat])


@pytest.mark.parametrize(("takes", "reserved", "share"), [(8, 1, 99), (8, 2, 87), (30, 2, 66)])
def test_reservations_cost_what_their_page_says(
    pictures: ModuleType, takes: float, reserved: float, share: int
) -> None:
    assert round(100 * pictures.spent(takes, reserved)) == share


def test_every_picture_is_there(pictures: ModuleType) -> None:
    drawn = {Path(picture).stem for picture in PAGES.glob("*.svg")}
    assert drawn == set(pictures.PICTURES)
