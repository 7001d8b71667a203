"""headway: an async scheduler for calls to rate-limited APIs, large language models first."""

from headway._core.counters import Recent, Statistics
from headway._core.refusals.retry import Retry
from headway._runtime.lease import Lease
from headway.errors import (
    DeadlineExceeded,
    HeadwayError,
    InvalidLimit,
    Latched,
    MissingExtra,
    NeverFits,
    QueueFull,
    Refused,
    SchedulerClosed,
    Unavailable,
    WrongLoop,
)
from headway.events import Kind
from headway.rates import Limits, Rate
from headway.scheduler import Scheduler, View
from headway.streams import Outcome

__all__ = [
    "DeadlineExceeded",
    "HeadwayError",
    "InvalidLimit",
    "Kind",
    "Latched",
    "Lease",
    "Limits",
    "MissingExtra",
    "NeverFits",
    "Outcome",
    "QueueFull",
    "Rate",
    "Recent",
    "Refused",
    "Retry",
    "Scheduler",
    "SchedulerClosed",
    "Statistics",
    "Unavailable",
    "View",
    "WrongLoop",
]

__version__ = "0.1.0"
