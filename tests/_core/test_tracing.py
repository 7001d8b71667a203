"""Events that are made quickly are the events that their constructors make."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any

import pytest

from headway._core.queue.job import Flow, Job
from headway._core.tracing import finished, queued, started
from headway.events import Ended, Event, Finished, Queued, Started
from headway.rates import Cost


def job() -> Job:
    made = Job(Flow("a", 1.0, None), 2.0, Cost(input=3.0, output=4.0))
    made.number, made.attempts = 7, 5
    return made


MADE: list[tuple[Event, Event]] = [
    (queued(1.5, job()), Queued(1.5, 7, "a", 2.0)),
    (started(1.5, job(), 0.25), Started(1.5, 7, "a", 5, 0.25, Cost(input=3.0, output=4.0))),
    (finished(1.5, job(), Ended.OK, 6.0), Finished(1.5, 7, "a", 5, Ended.OK, 6.0)),
]


@pytest.mark.parametrize(("made", "meant"), MADE)
def test_what_is_made_quickly_cannot_be_told_from_what_a_constructor_makes(
    made: Any, meant: Any
) -> None:
    assert type(made) is type(meant)
    assert made == meant
    assert hash(made) == hash(meant)
    assert repr(made) == repr(meant)
    assert asdict(made) == asdict(meant)
    assert replace(made, at=2.0) == replace(meant, at=2.0)
    assert not hasattr(made, "__dict__")
    for copied in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert copied == meant
        assert type(copied) is type(meant)


@pytest.mark.parametrize("made", [made for made, _ in MADE])
def test_what_is_made_quickly_cannot_be_changed(made: Any) -> None:
    for each in fields(made):
        with pytest.raises(FrozenInstanceError):
            setattr(made, each.name, 0)
        with pytest.raises(FrozenInstanceError):
            delattr(made, each.name)


def test_it_is_matched_by_place_and_name() -> None:
    match MADE[2][0]:
        case Finished(1.5, 7, "a", outcome=Ended.OK, tokens=tokens):
            assert tokens == 6.0
        case other:
            pytest.fail(f"not matched: {other}")
