"""What answers for one scheduler: a thread with an event loop of its own, so that a scheduler whose
loop is blocked can still be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from headway.errors import HeadwayError
from headway.hooks.watch.control import change, hand, is_at_work
from headway.hooks.watch.history import History, Moment
from headway.hooks.watch.listeners import Listener, listen
from headway.hooks.watch.names import clean, clean_statistics
from headway.hooks.watch.protocol import CHANGES, MOST_REQUEST, VERSION, error, line, program, read
from headway.kinds import Retried

__all__ = ["Server"]

logger = logging.getLogger("headway")

_EVERY = 1.0  # seconds between two moments of the history
_PATIENCE = 5.0  # seconds for a request to come, a reply to be taken, and a change to be made
_TURN = 0.2  # seconds in which a loop that is not blocked comes to what it is asked
_MOST = 32  # connections at once


class Server:
    """Listens for `scheduler`, which is shown under `name`. `drain` is what asks it for its end.

    Raises `OSError` where no socket can be made.
    """

    def __init__(
        self,
        scheduler: Any,
        name: str,
        drain: Callable[[], object],
        *,
        listener: Callable[[], Listener] = listen,
    ) -> None:
        self.name = name
        self.figures: Mapping[str, float | None] = {}
        self.listener = listener()
        self._scheduler = scheduler
        self._drain = drain
        self._pid = os.getpid()
        self._began = time.monotonic()
        self._history = History()
        self._failed = False  # statistics() has raised
        self._open: dict[asyncio.Task[None], socket.socket] = {}  # by what answers it
        self._asked: Future[Any] | None = None  # of the scheduler's loop: to turn
        self._asked_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headway-watch", daemon=True)
        _servers.add(self)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """Listen no more, and end the thread; in a forked child nothing is left to do."""
        if self._pid != os.getpid():
            return
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._end.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(_PATIENCE)
        self.listener.close()

    def forget(self) -> None:
        """Close in a forked child what it has of its parent's: it does not answer for it."""
        self.listener.forget()
        for connection in [*self._open.values()]:
            connection.close()

    # In the thread

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        finally:
            self._ready.set()  # whatever happened, nobody waits for it any more

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(
            self._connected, sock=self.listener.listening, limit=MOST_REQUEST
        )
        self._sample()
        self._ready.set()
        while not self._end.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), _EVERY)
            self._sample()
        # What was accepted is handed over for a few turns more, which a server that is closed fails
        # to do, and loses.
        self._loop.remove_reader(self.listener.listening)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for answer in self._open:
                answer.cancel()
            await asyncio.wait(others)
        server.close()

    def _sample(self) -> None:
        try:
            now = self._scheduler.statistics()
        except Exception:
            if not self._failed:
                self._failed = True
                logger.exception("statistics() raised for headway top; this is told once")
            return
        refused = sum(n for kind, n in now.refused.items() if kind.retried is Retried.PATIENCE)
        self._history.add(
            Moment(
                time.monotonic() - self._began, now.sent, now.succeeded, refused,
                now.in_flight, now.queued, now.tokens, self.figures.get("cost"),
            )
        )  # fmt: skip

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer in a task. The connection is let go of whatever becomes of that: one that is
        cancelled before it begins does nothing itself.
        """
        if len(self._open) >= _MOST:
            writer.transport.abort()
            return

        def let_go(answer: asyncio.Task[None]) -> None:
            del self._open[answer]
            writer.transport.abort()

        answer = asyncio.get_running_loop().create_task(self._answer(reader, writer))
        self._open[answer] = writer.get_extra_info("socket")
        answer.add_done_callback(let_go)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Who connected may be gone, or send or read nothing.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                reply = await self._reply(reader, writer.get_extra_info("socket"))
            writer.write(line({"version": VERSION, "headway": program(), **reply}))
            async with asyncio.timeout(_PATIENCE):
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    async def _reply(self, reader: asyncio.StreamReader, connection: Any) -> dict[str, Any]:
        try:
            request = read(await reader.readline())
        except ValueError:  # no JSON, or longer than any request
            return error("this is no request of headway's")
        if not self.listener.admits(connection, request):
            return error("only the user whose process this is may ask it anything")
        if request.get("version") != VERSION:
            return error("another version of what top and ctl ask")
        asked = request.get("do")
        try:
            made = None
            if asked in CHANGES:
                made = await self._change(request)
            elif asked != "status":
                return error(f"{clean(str(asked))[:80]} is nothing that can be asked for")
            status = await self._status(request)
            return {**status, "dropped": made} if asked == "clear" else status
        except HeadwayError as found:
            return error(clean(found.what), clean(found.fix))
        except Exception as found:  # of the scheduler's or of the user's own
            logger.warning("headway ctl: %s raised %r", asked, found)
            return error(f"{asked} raised {clean(repr(found))}")

    async def _change(self, request: Mapping[str, Any]) -> Any:
        """What the change returned. Raises `HeadwayError`, and what the change raised."""
        made = hand(self._scheduler, change(self._scheduler, self._drain, request))
        waited = asyncio.wrap_future(made)
        done, _ = await asyncio.wait([waited], timeout=_PATIENCE - 1.0)
        if not done and made.cancel():
            raise HeadwayError(
                "its event loop is blocked, and nothing was changed",
                fix="ask again when the loop turns: something in it calls what is not async.",
            )
        if not done:
            raise HeadwayError(
                f"{request['do']} was begun, and has not come to its end yet",
                fix="ask for the status in a while.",
            )
        return await waited

    async def _status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        since = request.get("since")
        blocked = await self._blocked()
        limits = self._scheduler.limits
        said: dict[str, Any] = {
            "name": self.name,
            "pid": self._pid,
            "seconds": time.monotonic() - self._began,
            "blocked": blocked,
            "limits": {
                **{name: [str(rate) for rate in getattr(limits, name)] for name in _RATES},
                "concurrency": limits.concurrency,
            },
            "figures": dict(self.figures),
            "statistics": clean_statistics(self._scheduler),
        }
        if isinstance(since, int | float):
            said["history"] = self._history.since(since)
        return said

    async def _blocked(self) -> float | None:
        """For how many seconds the scheduler's loop has not turned; None where it does."""
        if not is_at_work(self._scheduler):
            self._asked = None
            return None
        if self._asked is None:
            self._asked, self._asked_at = hand(self._scheduler, _nothing), time.monotonic()
        asked = self._asked
        await asyncio.wait([asyncio.wrap_future(asked)], timeout=_TURN)
        if asked.done():
            self._asked = None
            return None
        return time.monotonic() - self._asked_at


_RATES = ("requests", "tokens", "input_tokens", "output_tokens")


def _nothing() -> None:
    """What a loop does that is asked to turn."""


_servers: weakref.WeakSet[Server] = weakref.WeakSet()


def _forget_all() -> None:
    for server in [*_servers]:
        server.forget()
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
