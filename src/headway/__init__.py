"""headway: an async scheduler for calls to rate-limited APIs, large language models first."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from collections.abc import Iterable as _Iterable

    from headway._core.counters import (
        KeyStatistics,
        LimitStatistics,
        Recent,
        SharedStatistics,
        Statistics,
    )
    from headway._core.outlook import Wait
    from headway._core.refusals.retry import Failure, Retry
    from headway._runtime.lease import Lease
    from headway._runtime.progress import Advance
    from headway._runtime.streams import AsCompleted, Map, Outcome
    from headway.errors import (
        AlreadyUsed,
        Cleared,
        DeadlineExceeded,
        HeadwayError,
        InvalidArgument,
        InvalidLimit,
        Latched,
        MissingExtra,
        NeverFits,
        QueueFull,
        Refused,
        SchedulerClosed,
        StoreUnavailable,
        Unavailable,
        WrongLoop,
    )
    from headway.events import Binds, Ended, Kind, LimitName
    from headway.hooks.watch import Watched, watch
    from headway.kinds import Moves, Retried
    from headway.rates import Cost, Limiter, Limits, Rate, Shared, TokenRate
    from headway.scheduler import Scheduler, View

__all__ = [
    "Advance",
    "AlreadyUsed",
    "AsCompleted",
    "Binds",
    "Cleared",
    "Cost",
    "DeadlineExceeded",
    "Ended",
    "Failure",
    "HeadwayError",
    "InvalidArgument",
    "InvalidLimit",
    "KeyStatistics",
    "Kind",
    "Latched",
    "Lease",
    "LimitName",
    "LimitStatistics",
    "Limiter",
    "Limits",
    "Map",
    "MissingExtra",
    "Moves",
    "NeverFits",
    "Outcome",
    "QueueFull",
    "Rate",
    "Recent",
    "Refused",
    "Retried",
    "Retry",
    "Scheduler",
    "SchedulerClosed",
    "Shared",
    "SharedStatistics",
    "Statistics",
    "StoreUnavailable",
    "TokenRate",
    "Unavailable",
    "View",
    "Wait",
    "Watched",
    "WrongLoop",
    "watch",
]

__version__ = "0.1.0"


# Where these are. To import them, and asyncio under them, takes a third of a second at worst, which
# a command that only says its version does not wait for.
_HOMES = (
    "_core.counters",
    "_core.outlook",
    "_core.refusals.retry",
    "_runtime.lease",
    "_runtime.progress",
    "_runtime.streams",
    "events",
    "errors",  # after the events: `Refused` is the error here
    "hooks.watch",
    "kinds",
    "rates",
    "scheduler",
)


def __getattr__(name: str) -> object:
    """What is exported, all of it once one of it is asked for, and the modules it comes from."""
    if not name.startswith("_"):
        for home in _HOMES:
            module = _import_module(f"{__name__}.{home}")
            here = set(__all__).intersection(module.__all__)
            globals().update((each, getattr(module, each)) for each in here)
        _show_under(__name__, [globals()[each] for each in __all__])
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _show_under(package: str, things: "_Iterable[object]") -> None:
    """Let the classes among `things` be shown, and pickled, under the package that exports them.

    Annotations are read in the namespace of a class's module, so they are resolved before it
    changes. (`inspect.getsource` of such a class finds nothing; of its methods it does.)
    """
    import inspect

    for each in things:
        if not isinstance(each, type) or each.__module__ == package:
            continue
        if "__annotations__" in vars(each):
            each.__annotations__ = found = inspect.get_annotations(each, eval_str=True)
            for name, field in getattr(each, "__dataclass_fields__", {}).items():
                field.type = found.get(name, field.type)
        each.__module__ = package
