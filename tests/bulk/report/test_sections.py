"""The sections: each has its template, and says what it is given."""

from __future__ import annotations

from datetime import UTC
from importlib import resources

import pytest

from headway.bulk.record.trace import Trace
from headway.bulk.report.axis import make_axis
from headway.bulk.report.measured import Measured
from headway.bulk.report.sections import SECTIONS
from headway.bulk.report.summary import Sums

EMPTY = Measured("in", Trace(), None, Sums(Trace(), None), make_axis([], UTC), redact=False)
FOLDER = resources.files("headway.bulk.report").joinpath("templates")


def test_every_section_has_a_name_and_a_template_of_its_own() -> None:
    names = [section.name for section in SECTIONS]
    assert len(set(names)) == len(names)
    made = {path.name.removesuffix(".html") for path in FOLDER.iterdir()}
    assert set(names) <= made
    assert {name for name in made if "." not in name} - set(names) == {"page", "parts"}


def test_the_page_begins_with_its_header_and_ends_with_its_footer() -> None:
    assert (SECTIONS[0].name, SECTIONS[-1].name) == ("header", "footer")


def test_half_sections_come_in_pairs() -> None:
    halves = [section.half for section in SECTIONS]
    first = halves.index(True)
    assert halves[first : first + 3] == [True, True, False]
    assert halves.count(True) == 2


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_a_run_without_measurements_has_no_charts(section: object) -> None:
    content = section.make(EMPTY)  # type: ignore[attr-defined]
    left_out = {"progress", "flow", "latency", "tokens"}
    assert (content is None) is (section.name in left_out)  # type: ignore[attr-defined]
    assert content is None or content.charts == ()
