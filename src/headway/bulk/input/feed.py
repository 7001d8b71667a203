"""An iterator that may block, such as the lines of a pipe, read beside the event loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import suppress
from typing import TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import current_token

__all__ = ["feed", "still_reading"]

_AHEAD = 64  # items that are read before they are wanted

T = TypeVar("T")

_threads: set[threading.Thread] = set()


def still_reading() -> bool:
    """Whether a thread waits for an input that nobody wants any more."""
    return any(thread.is_alive() for thread in _threads)


async def feed(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """`items`, by a thread that is ahead by some of them. Raises what they raise.

    The thread ends with the process where it is still reading when nobody wants more: a read from
    a pipe cannot be interrupted.
    """
    token = current_token()
    ready: deque[T] = deque()
    room = threading.Semaphore(_AHEAD)
    news = anyio.Event()
    ended: list[BaseException | None] = []
    left = False  # nobody wants more

    def tell() -> None:
        nonlocal news
        news.set()
        news = anyio.Event()

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                room.acquire()
                if left:
                    break
                ready.append(item)
                from_thread.run_sync(tell, token=token)
            if isinstance(items, Generator):
                items.close()
        except BaseException as raised:
            error = raised
        ended.append(error)
        _threads.discard(thread)
        with suppress(Exception):  # the event loop may be gone
            from_thread.run_sync(tell, token=token)

    thread = threading.Thread(target=read, name="headway input", daemon=True)
    _threads.add(thread)
    thread.start()
    try:
        while True:
            while ready:
                room.release()
                yield ready.popleft()
            if ended:
                if ready:
                    continue
                if ended[0] is not None:
                    raise ended[0]
                return
            await news.wait()
    finally:
        left = True
        room.release()
