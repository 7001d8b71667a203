"""What a request is made ready by, right before each time that it is sent."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from headway._http.bodies import repeatable
from headway._runtime.calls import check_plain_function
from headway.errors import InvalidArgument
from headway.kinds._words import shown

__all__ = ["Prepare", "preparer"]

Prepare = Callable[[Any], Awaitable[Any]]

_FIX = "prepare=an async def that takes the request, or an Auth of the same library."


def preparer(prepare: Any, library: Any, *, awaits: bool) -> Prepare | None:
    """What makes a request of `library` ready, as `prepare` says: a function of it, plain or (where
    it `awaits`) async, that changes it or returns another; or an `Auth`, whose first step is taken.

    Raises `InvalidArgument` for something else.
    """
    if prepare is None:
        return None
    if isinstance(prepare, library.Auth):
        return _by_flow(prepare, library) if awaits else _by_sync_flow(prepare, library)
    if inspect.isclass(prepare) or not callable(prepare):
        raise InvalidArgument(f"prepare={shown(prepare)} prepares no request", fix=_FIX)
    if not awaits:
        check_plain_function(prepare, "prepare", "prepare= a def that takes the request")

    async def prepared(request: Any) -> Any:
        fresh = await _fresh(request, library)
        made = prepare(fresh)
        if inspect.isawaitable(made):
            made = await made
        if made is None:
            return fresh
        if not isinstance(made, library.Request):
            raise InvalidArgument(
                f"prepare= returned {shown(made)}, which is no request of {library.__name__}",
                fix="return the request, or None for the one that was given.",
            )
        return made

    return prepared


def _by_flow(auth: Any, library: Any) -> Prepare:
    async def prepared(request: Any) -> Any:
        flow = auth.async_auth_flow(await _fresh(request, library))
        try:
            return await anext(flow)
        finally:
            await flow.aclose()

    return prepared


def _by_sync_flow(auth: Any, library: Any) -> Prepare:
    async def prepared(request: Any) -> Any:
        flow = auth.sync_auth_flow(await _fresh(request, library))
        try:
            return next(flow)
        finally:
            flow.close()

    return prepared


async def _fresh(request: Any, library: Any) -> Any:
    """`request` as it was before any try: what is signed must not hold an older signature. One
    whose body is a stream is sent once, and is used as it is.
    """
    if not repeatable(request):
        return request
    await request.aread()  # a redirect's was not
    return library.Request(
        request.method,
        request.url,
        headers=request.headers,
        content=request.content,
        extensions=dict(request.extensions),
    )
