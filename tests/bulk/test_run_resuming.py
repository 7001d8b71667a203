"""A bulk run that was cut off, wherever: the next one does the rest."""

from __future__ import annotations

import errno
import os
from importlib import import_module
from pathlib import Path

import anyio
import httpx
import pytest
from bulk_runs import (
    ANSWER,
    SCRIPTED,
    cancels_requests,
    finish,
    make_scheduler,
    question,
    scripted,
)

from headway import Retry, bulk
from headway.bulk.output.paths import default_output
from headway.bulk.record.status import Progress
from headway.events import Kind

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # sockets know no virtual time


@cancels_requests
@pytest.mark.parametrize("moment", [*range(1, 30, 3), 50, 63])
async def test_a_cancellation_at_any_moment_loses_nothing(
    moment: int, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment is a write to the disk, of a mark or of a row, or a request on its way."""
    real, left = os.write, moment
    scope = anyio.CancelScope()
    answered: set[str] = set()

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            scope.cancel()

    def write(fd: int, data: bytes) -> int:
        count()
        return real(fd, data)

    async def answer(request: httpx.Request) -> httpx.Response:
        count()
        await anyio.lowlevel.checkpoint()
        answered.add(question(request))
        return httpx.Response(200, content=ANSWER)

    with monkeypatch.context() as patch, scope:
        patch.setattr(os, "write", write)
        async with scripted(answer) as client:  # type: ignore[arg-type]
            await bulk.run(source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED)
    again = await finish(source)
    assert again.report.before == 20 - again.asked
    assert again.report.before >= len(answered) - 8  # in flight at most, in the way of their row


@cancels_requests
@pytest.mark.parametrize("nth", [*range(1, 12), *range(12, 44, 4)])
async def test_a_disk_that_fills_up_loses_nothing(
    nth: int, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.write, nth

    def write(fd: int, data: bytes) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not left:
            return real(fd, data[: len(data) // 2])  # a part of it has room
        return real(fd, data)

    def answer(request: httpx.Request) -> httpx.Response:
        if question(request) in ("q2", "q11"):
            return httpx.Response(400)
        return httpx.Response(200, content=ANSWER)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        async with scripted(answer) as client:
            with pytest.raises(OSError, match="No space left on device"):
                await bulk.run(source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED)
    output = default_output(source)
    assert not output.exists() or output.read_bytes()[-1:] in (b"", b"\n")  # whole rows
    again = await finish(source, retry_failed=True)
    assert again.report.done == 20
    assert not output.with_name("in.results.errors.jsonl").exists()


async def test_a_disk_that_cannot_be_synced_ends_the_run(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(600 if question(request) == "q9" else 0)
        return httpx.Response(200, content=ANSWER)

    with monkeypatch.context() as patch:
        patch.setattr("headway.bulk.output.paths._sync", sync)
        patch.setattr(import_module("headway.bulk.run"), "_FAILING_DISK", 0.1)
        async with scripted(answer) as client:  # type: ignore[arg-type]
            with pytest.raises(OSError, match="Input/output error"), anyio.fail_after(20):
                await bulk.run(source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED)
    await finish(source)


async def test_an_error_of_the_watch_is_itself(source: Path) -> None:
    first = True

    def watch(report: Progress) -> None:
        nonlocal first
        if first:
            first = False
            raise BrokenPipeError("nobody looks")

    async with scripted(lambda request: httpx.Response(200, content=ANSWER)) as client:
        with pytest.raises(BrokenPipeError, match="nobody looks"):
            await bulk.run(
                source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED, watch=watch
            )
    await finish(source)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.Response(401), Kind.AUTH),
        (httpx.Response(402), Kind.QUOTA),
        (httpx.ConnectError("away"), Kind.TRANSIENT),
        (httpx.Response(429, headers={"retry-after": "3600"}), Kind.TRANSIENT),
    ],
)
async def test_what_ends_a_run_leaves_the_rest_to_the_next(
    failure: httpx.Response | Exception, kind: Kind, source: Path
) -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked <= 6:
            return httpx.Response(200, content=ANSWER)
        if isinstance(failure, Exception):
            raise failure
        return httpx.Response(failure.status_code, headers=failure.headers)

    scheduler = make_scheduler(concurrency=4, retry=Retry(base=0.001, patience=0.05))
    with anyio.fail_after(30):
        async with scripted(answer) as client:
            report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    assert report.stopped is not None
    assert report.stopped.kind is kind
    assert (report.done, report.failed, report.remaining) == (6, {}, 14)
    again = await finish(source)
    assert again.asked == 14


async def test_two_runs_of_one_process_one_after_the_other(source: Path) -> None:
    assert (await finish(source, limit=7)).asked == 7
    assert (await finish(source)).asked == 13
    assert (await finish(source)).asked == 0
