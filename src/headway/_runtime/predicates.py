"""What the user's functions say of what a call came back with: ``is_refused=``, ``Retry(on=)``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from headway._core.refusals.retry import Failure, Retry
from headway._runtime.calls import Stopped, kind_of
from headway.errors import Refused
from headway.events import Kind
from headway.hints import Refusal, classify
from headway.hooks.log import logger
from headway.kinds import Retried
from headway.providers import dialect_at

__all__ = ["Predicate", "Predicates", "RefusedResult", "check_result", "shown"]

Predicate = Callable[[Any], "bool | Kind | None"]


class Predicates:
    """Those of a scheduler. One that raises counts for nothing, and that is told once."""

    def __init__(self, is_refused: Predicate | None, retry: Retry) -> None:
        self._is_refused = is_refused
        self._retry = retry
        self._refused_failed = False  # that `is_refused` raised
        self._on_failed = False  # that ``Retry(on=)`` raised

    def refusal(self, error: Exception) -> Refusal:
        """What `error` says, by the user's predicate first."""
        if isinstance(error, RefusedResult):
            return error.refusal
        refusal = classify(error, wall_time=time.time(), dialect_at=dialect_at)
        if self._is_refused is not None:
            try:
                kind = kind_of(self._is_refused(error))
            except Exception:  # the slot must be given back whatever happens here
                if not self._refused_failed:
                    self._refused_failed = True
                    logger.exception(
                        "is_refused= raised for %r, which counts for no refusal; it is asked about "
                        "exceptions too, and this is told once", error,
                    )  # fmt: skip
                return refusal
            if kind is not None:
                return Refusal(kind, refusal.wait, refusal.status, refusal.message)
        return refusal

    def chosen(self, refusal: Refusal, method: str | None) -> Refusal:
        """`refusal`, final where ``Retry(on=)`` says that it is not tried again."""
        retry = self._retry
        if retry.on is None or refusal.kind.retried is Retried.NEVER:
            return refusal
        failure = Failure(refusal.kind, refusal.status, method, refusal.message)
        try:
            wanted = retry.wants(failure)
        except Exception:  # the slot must be given back whatever happens here
            if not self._on_failed:
                self._on_failed = True
                logger.exception(
                    "Retry(on=) raised for %r, which is tried again as if there were none; this is "
                    "told once", failure,
                )  # fmt: skip
            return refusal
        return refusal if wanted else replace(refusal, final="Retry(on=) leaves it out")


def shown(error: Exception) -> Exception:
    """`error`, which ends a job, as its caller sees it."""
    if isinstance(error, StopIteration):  # of a predicate
        return Stopped(error)
    if not isinstance(error, RefusedResult):
        return error
    refused = Refused(error.refusal.message, error.result)
    refused.__suppress_context__ = True  # `error` was ours, and says the same
    return refused


def check_result(is_refused: Predicate, result: object) -> None:
    """Raise for a result that the user's predicate calls a refusal."""
    kind = kind_of(is_refused(result))
    if kind is not None:
        raise RefusedResult(kind, result)


class RefusedResult(Exception):
    """A result that the user's predicate calls a refusal, on its way to the retry layer."""

    def __init__(self, kind: Kind, result: object) -> None:
        text = repr(result)
        text = text if len(text) <= 120 else text[:117] + "..."
        super().__init__(text)
        self.result = result
        self.refusal = Refusal(
            kind, None, None, f"is_refused= calls this result a refusal ({kind}): {text}"
        )
