"""What a section is made of cannot be changed by one, and has no charts of its own accord."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC

import pytest

from headway.bulk.record.trace import Trace
from headway.bulk.report.axis import make_axis
from headway.bulk.report.measured import Content, Measured
from headway.bulk.report.summary import Sums


def test_a_section_cannot_change_what_the_next_one_sees() -> None:
    trace = Trace()
    run = Measured("in", trace, None, Sums(trace, None), make_axis([], UTC), redact=True)
    with pytest.raises(FrozenInstanceError):
        run.redact = False  # type: ignore[misc]
    assert run.redact


def test_a_content_has_no_charts_unless_it_says_so() -> None:
    assert Content().charts == ()
