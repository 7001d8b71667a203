"""A run in numbers, and what held it back."""

from __future__ import annotations

from headway.bulk.record.trace import Trace
from headway.bulk.report.failures import Failures
from headway.kinds import Kind, Retried
from headway.kinds._words import binds, money, percent

__all__ = ["Sums"]

# Faults, and what is wrong with one line: the provider has not asked to be sent less.
_NO_REFUSALS = {
    str(kind) for kind in Kind if kind.retried is Retried.ATTEMPTS or kind is Kind.PERMANENT
}


class Sums:
    """The run in numbers."""

    def __init__(self, trace: Trace, failures: Failures | None) -> None:
        last = trace.sessions[-1] if trace.sessions else None
        by_code = trace.count("failed")
        self.codes = failures.codes if failures else {code: int(n) for code, n in by_code.items()}
        self.failed = sum(self.codes.values())
        # A killed session lost its last span: what the next one found there makes up for it.
        rows = last.info.already_done if last else 0
        rows += sum(s.done + sum(s.failed.values()) for s in last.samples) if last else 0
        self.answered = max(0, max(rows, trace.rows) - self.failed)
        self.total = last.info.total if last else None
        left = None if self.total is None else self.total - self.answered - self.failed
        self.left = None if left is None else max(0, left)
        self.seconds = trace.sum("span")
        self.sessions = len(trace.sessions)
        self.sent = trace.sum("sent")
        self.refused = trace.count("refused")
        self.limited = sum(n for kind, n in self.refused.items() if kind not in _NO_REFUSALS)
        self.reasons = trace.count("reasons")
        models = trace.models.values()
        self.input = max(trace.sum("input"), sum(use.input for use in models))
        self.output = max(trace.sum("output"), sum(use.output for use in models))
        self.cost = trace.sum("cost")
        self.unpriced = [name for name, use in trace.models.items() if use.cost is None]
        known = [s for s in trace.samples if s.limit is not None]
        allowed = sum((s.limit or 0) * s.span for s in known)
        self.reached = sum(s.sent for s in known) / allowed if allowed > 0 else None
        self.allowed = allowed / sum(s.span for s in known) if allowed > 0 else None
        self.binds = trace.count("binds")
        self.binds["nothing"] = max(0.0, self.seconds - sum(self.binds.values()))

    @property
    def rate(self) -> float:
        """Attempts a second of work."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def money(self) -> str:
        """What was spent, as far as prices are known."""
        if not self.input + self.output and not self.cost:
            return "none"
        if self.unpriced and not self.cost:
            return "unknown"
        return f"{'≥ ' if self.unpriced else ''}{money(self.cost)}"

    def held(self) -> str:
        """The sentence about what held the run back most."""
        if not self.seconds:
            return ""
        what = max(self.binds, key=lambda key: self.binds[key])
        share = percent(self.binds[what] / self.seconds)
        if what == "nothing":
            return (
                f"For {share} of the time nothing held it back: "
                "every request that was ready could be sent at once."
            )
        return f"What held it back most was {binds(what)}: {share} of the time."
