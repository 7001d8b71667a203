"""Everything headway raises by itself.

    HeadwayError
    ├── InvalidArgument     (TypeError, ValueError)  an argument that cannot be meant
    │   ├── InvalidLimit                    a rate, a limit or an option of a scheduler's
    │   └── InvalidSettings, InvalidPrices, InvalidInput, InvalidOutput, InvalidRun: what an
    │       argument or a variable names (a key, a file) cannot be used; beside what raises them
    ├── NeverFits           (ValueError)    an attempt that costs more than the limit ever allows
    ├── QueueFull                           max_queue jobs are waiting already
    ├── Cleared                             clear() dropped the job from the queue
    ├── SchedulerClosed     (RuntimeError)  submitted after aclose()
    ├── WrongLoop           (RuntimeError)  used from a second event loop with work pending
    ├── AlreadyUsed         (RuntimeError)  a lease or a run that was entered before
    ├── DeadlineExceeded    (TimeoutError)  the job's timeout is over, or certain to be missed
    ├── Unavailable                         the provider is down, or asks to wait beyond patience
    │   └── StoreUnavailable                of shared limits: their store was never reached
    ├── Latched                             a wrong key or an empty account: every call would fail
    ├── Refused                             a *result* that the user's predicate calls a refusal
    └── MissingExtra        (ImportError)   an optional package that is not installed

The rule for a wrong argument: whatever is public raises an `InvalidArgument`, where the argument is
given, for a value of the wrong type as for one out of range. It is a `TypeError` and a `ValueError`
at once, for the line between the two is nobody's to remember (is ``concurrency=2.5`` of the wrong
type or out of range?). Only a call that Python itself refuses (an argument too many) is a plain
`TypeError`.

What the user's own function raised is raised as it is, with a note when headway tried it more
than once.
"""

from __future__ import annotations

from headway.kinds import Kind
from headway.kinds._words import with_fix

__all__ = [
    "AlreadyUsed",
    "Cleared",
    "DeadlineExceeded",
    "HeadwayError",
    "InvalidArgument",
    "InvalidLimit",
    "Latched",
    "MissingExtra",
    "NeverFits",
    "QueueFull",
    "Refused",
    "SchedulerClosed",
    "StoreUnavailable",
    "Unavailable",
    "WrongLoop",
]


class HeadwayError(Exception):
    """The root of headway's own errors.

    `what` says what happened and why, `fix` what to do about it, "" where that is not known. The
    text of an error is both, as `headway.kinds._words.with_fix` writes them.
    """

    def __init__(self, what: str = "", *, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return with_fix(self.what, self.fix)


class InvalidArgument(HeadwayError, TypeError, ValueError):
    """An argument that cannot be meant, by its type or by its value."""


class InvalidLimit(InvalidArgument):
    """A rate, a limit or an option that cannot be meant."""


class NeverFits(HeadwayError, ValueError):
    """An attempt that costs more than a limit allows in its whole period."""


class QueueFull(HeadwayError):
    """``max_queue`` jobs are waiting already."""


class Cleared(HeadwayError):
    """``clear()`` dropped the job while it was queued."""


class SchedulerClosed(HeadwayError, RuntimeError):
    """The scheduler was closed before this job was submitted."""


class WrongLoop(HeadwayError, RuntimeError):
    """The scheduler was used from a second event loop or thread with work pending."""


class AlreadyUsed(HeadwayError, RuntimeError):
    """A lease, or a run of `map` or `as_completed`, was awaited or entered a second time."""


class DeadlineExceeded(HeadwayError, TimeoutError):
    """The job's ``timeout`` is over, or it is certain that the job cannot make it."""


class Unavailable(HeadwayError):
    """The provider has been failing for ``patience``, or asks to wait for longer than that."""


class StoreUnavailable(Unavailable):
    """The store of shared limits was not reached, not once in ten seconds: nothing was started."""


class Latched(HeadwayError):
    """The key is refused or the account is empty (401, 402): every further call would fail.

    `kind` is `Kind.AUTH` or `Kind.QUOTA`, which are ``"auth"`` and ``"quota"``.
    """

    def __init__(self, what: str, kind: Kind, *, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.args = (what, kind)  # as it is made again: pickled, copied
        self.kind = kind


class Refused(HeadwayError):
    """A *result* that the user's predicate calls a refusal. The result is in ``.result``."""

    def __init__(self, what: str, result: object, *, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.args = (what, result)
        self.result = result


class MissingExtra(HeadwayError, ImportError):
    """An optional package that is not installed; the message says what to install."""
