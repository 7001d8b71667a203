"""What may be changed of a scheduler from outside, carried out where the scheduler is at home."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import anyio

from headway.errors import HeadwayError
from headway.hooks.watch.names import key_named
from headway.hooks.watch.protocol import LIMITS
from headway.kinds._words import shown

__all__ = ["change", "hand", "is_at_work", "take_no_more"]

logger = logging.getLogger("headway")


def is_at_work(scheduler: Any) -> bool:
    """Whether an event loop runs, in which alone `scheduler` may be changed. One of plain functions
    may be changed from any thread.
    """
    return hasattr(scheduler, "aclose") and scheduler._shell.at_work


def hand(scheduler: Any, call: Callable[[], object]) -> Future[Any]:
    """Have the loop of `scheduler` make `call`, where one is at work; else a thread, in which no
    loop runs that the scheduler could take for its own.

    One that is cancelled before the loop comes to it is not made.
    """
    future: Future[Any] = Future()

    def carry_out() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)

    if not is_at_work(scheduler) or not scheduler._shell.hand(carry_out):
        threading.Thread(target=carry_out, name="headway-change", daemon=True).start()
    return future


def change(
    scheduler: Any, drain: Callable[[], object], request: Mapping[str, Any]
) -> Callable[[], object]:
    """What `request` asks for, as a call to be made in the scheduler's loop. Raises `HeadwayError`
    for what it cannot ask for.
    """
    match request["do"]:
        case "pause":
            return lambda: scheduler.pause()
        case "resume":
            return lambda: scheduler.resume()
        case "set":
            limits = _limits(request)
            return lambda: scheduler.set_limits(**limits)
        case "clear":
            if request.get("key") is None:
                return lambda: scheduler.clear()
            key = key_named(scheduler, str(request["key"]))
            return lambda: scheduler.clear(key=key)
    return drain


def take_no_more(scheduler: Any) -> None:
    """Have `scheduler` take no new jobs, and end those that it has. It is called where `hand` calls
    it.
    """
    if not hasattr(scheduler, "aclose"):
        threading.Thread(target=scheduler.close, name="headway-drain", daemon=True).start()
    elif is_at_work(scheduler):
        scheduler._shell.spawn(partial(_close, scheduler))
    else:
        anyio.run(scheduler.aclose)


async def _close(scheduler: Any) -> None:
    try:
        await scheduler.aclose()
    except Exception:
        logger.exception("headway ctl drain: aclose() raised")


def _limits(request: Mapping[str, Any]) -> dict[str, Any]:
    """The limits that a ``set`` names, as `set_limits` takes them; ``null`` is no limit."""
    found = {name: request[name] for name in LIMITS if name in request}
    if not found:
        raise HeadwayError(
            "nothing to set was named", fix="name a limit, such as --requests 300/min."
        )
    for name, value in found.items():
        texts = value if isinstance(value, list) else [value]
        kind = int if name == "concurrency" else str
        if value is not None and not all(type(text) is kind for text in texts):
            raise HeadwayError(f"{name}={shown(value)} is no limit", fix="one such as 300/min.")
    return found
