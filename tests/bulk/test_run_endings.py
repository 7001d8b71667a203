"""What ends a bulk run: before it began, at once, or once what is in flight is done."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx
import pytest
from bulk_runs import (
    ANSWER,
    SCRIPTED,
    cancels_requests,
    chat,
    finish,
    make_scheduler,
    question,
    read_rows,
    scripted,
    write_lines,
)
from llmock.pytest_plugin import LLMock

from headway import Retry, Scheduler, bulk
from headway.bulk.output.paths import default_output
from headway.bulk.record.status import Progress
from headway.events import Kind
from headway.providers import InvalidSettings

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # sockets know no virtual time


# -- what ends a run ----------------------------------------------------------------------------


async def test_a_wrong_key_ends_the_run_at_once(server: LLMock, source: Path) -> None:
    server.fail(401, times=None, message="Invalid API key provided")
    report = await bulk.run(source, scheduler=make_scheduler(concurrency=2))
    assert report.stopped == bulk.Stop(
        Kind.AUTH,
        "the provider refuses the key (401: Invalid API key provided). "
        "Set TOGETHER_API_KEY to a valid one",
    )
    assert len(server.requests) <= 2
    assert (report.rows, report.remaining) == (0, 20)
    assert not report.output.exists()


async def test_an_empty_account_ends_the_run_and_keeps_what_is_done(source: Path) -> None:
    sent = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        if sent <= 5:
            return httpx.Response(200, content=ANSWER)
        return httpx.Response(402, json={"error": {"message": "credit limit exceeded"}})

    scheduler = make_scheduler(concurrency=1)
    async with scripted(answer) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    assert report.stopped == bulk.Stop(
        Kind.QUOTA,
        "the account has no credit left (402: credit limit exceeded). Top it up, then run the rest",
    )
    assert sent == 6
    assert (report.done, report.remaining) == (5, 15)
    assert len(read_rows(report.output)) == 5


@cancels_requests
async def test_a_cancelled_run_tells_its_watch_how_far_it_is(server: LLMock, source: Path) -> None:
    reports: list[Progress] = []
    with anyio.CancelScope() as scope:

        def watch(report: Progress) -> None:
            reports.append(report)
            if len(reports) == 1:
                scope.cancel()

        await bulk.run(source, scheduler=make_scheduler(), watch=watch)
    assert scope.cancelled_caught
    assert len(reports) == 2
    assert not default_output(source).exists()


@cancels_requests
async def test_a_full_disk_ends_the_run_with_its_own_error(server: LLMock, source: Path) -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        await bulk.run(
            source, "/dev/full", scheduler=make_scheduler(), options=bulk.RunOptions(overwrite=True)
        )


@cancels_requests
async def test_a_row_that_does_not_fit_on_the_disk_is_cut_off(
    server: LLMock, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            await bulk.run(source, output, scheduler=make_scheduler())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 0 < len(read_rows(output)) < 20  # each of them whole


# -- what is refused before anything is sent ----------------------------------------------------


async def refused(source: Path, output: Path | None = None) -> str:
    with pytest.raises((bulk.InvalidInput, bulk.InvalidOutput, InvalidSettings)) as raised:
        await bulk.run(source, output, scheduler=make_scheduler())
    return str(raised.value)


async def test_inputs_that_cannot_be_read(server: LLMock, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jsonl"
    assert await refused(missing) == f"{missing} does not exist. Fix: check the path"
    for path in (tmp_path, Path("/dev")):
        assert await refused(path) == f"{path} is a folder. Fix: give the path of a file"
    utf16 = tmp_path / "utf16.jsonl"
    utf16.write_text("{}", "utf-16-le")
    assert (await refused(utf16)).startswith(f"{utf16} is binary, or UTF-16 without a byte order")
    assert not server.requests
    assert not [name for name in os.listdir(tmp_path) if "results" in name]


async def test_outputs_that_cannot_be_written(server: LLMock, source: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text("precious\n")
    assert await refused(source, results) == (
        f"{results} exists already, and no run that could be resumed has left it. "
        "Fix: move it away, or give another file with -o"
    )
    assert results.read_text() == "precious\n"
    nowhere = tmp_path / "no" / "out.jsonl"
    assert await refused(source, nowhere) == (
        f"cannot write {nowhere}: the folder {nowhere.parent} does not exist. "
        f"Fix: make it first: mkdir -p {nowhere.parent}"
    )
    long = tmp_path / ("x" * 300)
    assert await refused(source, long) == (
        f"cannot write {long}: File name too long. Fix: give another file with -o"
    )
    dangling = tmp_path / "link.jsonl"
    dangling.symlink_to("nothing.jsonl")
    with pytest.raises(bulk.InvalidOutput) as raised:
        await bulk.run(
            source, dangling, scheduler=make_scheduler(), options=bulk.RunOptions(overwrite=True)
        )
    assert str(raised.value) == (
        f"the output {dangling} is a link to nothing.jsonl, which does not exist. "
        "Fix: remove the link, or give another file with -o"
    )
    inside = source / "out.jsonl"
    assert await refused(source, inside) == (
        f"cannot write {inside}: Not a directory. Fix: give another file with -o"
    )
    assert not server.requests


@pytest.mark.parametrize("link", [os.symlink, os.link, None])
async def test_the_output_is_not_the_input(
    link: Callable[[Path, Path], None] | None, server: LLMock, source: Path, tmp_path: Path
) -> None:
    output = source
    if link is not None:
        output = tmp_path / "link.jsonl"
        link(source, output)
    with pytest.raises(bulk.InvalidOutput) as raised:
        await bulk.run(
            source, output, scheduler=make_scheduler(), options=bulk.RunOptions(overwrite=True)
        )
    assert str(raised.value) == (
        f"the output {output} is the input itself, which would be lost. Fix: give another file "
        f"with -o"
    )
    with source.open("rb") as kept:
        assert len(kept.readlines()) == 20


async def test_overwrite_replaces_a_run_once_there_is_a_row(
    server: LLMock, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    await bulk.run(source, output, scheduler=make_scheduler())
    before = output.read_bytes()
    write_lines(source, *(chat(f"new{number}") for number in range(20)))
    server.fail(401, times=1)
    await bulk.run(
        source,
        output,
        scheduler=make_scheduler(concurrency=1),
        options=bulk.RunOptions(overwrite=True),
    )
    assert output.read_bytes() == before
    await bulk.run(
        source, output, scheduler=make_scheduler(), options=bulk.RunOptions(overwrite=True)
    )
    assert {row["custom_id"] for row in read_rows(output).values()} == {
        f"new{number}" for number in range(20)
    }


@pytest.mark.parametrize("key", [None, "", "  "])
async def test_a_missing_key_is_found_before_anything_is_sent(
    key: str | None, server: LLMock, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is None:
        monkeypatch.delenv("TOGETHER_API_KEY")
    else:
        monkeypatch.setenv("TOGETHER_API_KEY", key)
    assert await refused(source) == (
        "no API key. Fix: set it first: export TOGETHER_API_KEY=… "
        "(https://api.together.ai/settings/api-keys)"
    )
    assert not server.requests


@pytest.mark.parametrize("key", ["a key", "key\n", "k\u00e9y", "key\t"])
async def test_a_key_that_no_header_can_carry(
    key: str, server: LLMock, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", key)
    assert await refused(source) == (
        "the API key in TOGETHER_API_KEY holds a space, a line break or another character that "
        "a key cannot have. Fix: copy it again, without what stands around it"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "localhost:8000",
            "TOGETHER_BASE_URL='localhost:8000' is not a web address. "
            "Fix: use one like https://api.together.ai, or unset it",
        ),
        (
            "http://localhost:8000/together/v1/",
            "TOGETHER_BASE_URL='http://localhost:8000/together/v1/' ends in /v1, which the SDK "
            "adds by itself. Fix: use http://localhost:8000/together",
        ),
    ],
)
async def test_an_address_that_the_sdk_cannot_use(
    url: str, message: str, server: LLMock, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", url)
    assert await refused(source) == message


# -- draining -----------------------------------------------------------------------------------


async def test_a_drain_keeps_what_is_in_flight_and_sends_nothing_more(source: Path) -> None:
    drain, all_here, release = anyio.Event(), anyio.Event(), anyio.Event()
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(question(request))
        if len(asked) == 8:
            all_here.set()
        await release.wait()
        if asked.index(question(request)) == 3:
            return httpx.Response(400, json={"error": {"message": "no"}})
        return httpx.Response(200, content=ANSWER)

    async def end() -> None:
        await all_here.wait()
        drain.set()
        await anyio.wait_all_tasks_blocked()
        release.set()  # all of them answer in one turn of the loop

    with anyio.fail_after(20):
        async with scripted(answer) as client, anyio.create_task_group() as group:  # type: ignore[arg-type]
            group.start_soon(end)
            report = await bulk.run(
                source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED, drain=drain
            )
    assert len(asked) == 8
    assert (report.done, report.failed, report.remaining) == (7, {"http_400": 1}, 12)
    assert (report.tokens, report.stopped, report.in_flight) == (77, None, 0)
    assert len(read_rows(report.output)) == 8
    again = await finish(source)
    assert again.asked == 12
    assert again.report.before == 8


@pytest.mark.parametrize(
    ("status", "options"),
    [
        (429, {}),  # the gate is closed for an hour
        (200, {"tokens": "60/min"}),  # all of it is used: they wait for more
        (200, {"requests": "1/day"}),
    ],
)
async def test_a_drain_ends_at_once_where_nothing_may_be_sent(
    status: int, options: dict[str, str], source: Path
) -> None:
    drain = anyio.Event()
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        drain.set()
        return httpx.Response(
            status, content=b'{"usage":{"total_tokens":60}}', headers={"retry-after": "3600"}
        )

    options = dict(options)
    rate = options.pop("requests", None)
    scheduler = Scheduler(rate, concurrency=1, retry=Retry(base=0.001, patience=9000), **options)
    with anyio.fail_after(20):
        async with scripted(answer) as client:
            report = await bulk.run(
                source, scheduler=scheduler, client=client, endpoint=SCRIPTED, drain=drain
            )
    assert asked == 1
    assert report.remaining == (20 if status == 429 else 19)


class Late(anyio.Event):
    """An event that is set at once, and of which those who wait are not told, as on a busy loop."""

    def __new__(cls) -> Late:
        return object.__new__(cls)

    def __init__(self) -> None:
        self._set = False
        self.told = anyio.Event()

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    async def wait(self) -> None:
        await self.told.wait()


async def test_a_drain_sends_nothing_a_second_time(source: Path) -> None:
    drain, asked = Late(), list[str]()

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(question(request))
        if len(asked) == 2:
            drain.set()
            return httpx.Response(429, headers={"retry-after": "0"})
        with anyio.move_on_after(0.3):  # in which the other would be tried again
            await drain.told.wait()
        return httpx.Response(200, content=ANSWER)

    def watch(progress: Progress) -> None:
        if progress.done:
            drain.told.set()

    with anyio.fail_after(20):
        async with scripted(answer) as client:  # type: ignore[arg-type]
            report = await bulk.run(
                source, scheduler=make_scheduler(concurrency=2), client=client, endpoint=SCRIPTED,
                drain=drain, watch=watch,
            )  # fmt: skip
    assert asked == ["q0", "q1"]
    assert (report.done, report.failed, report.remaining) == (1, {}, 19)


async def test_a_drain_before_anything_was_sent(source: Path) -> None:
    drain = anyio.Event()
    drain.set()
    async with scripted(lambda request: httpx.Response(500)) as client:
        report = await bulk.run(
            source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED, drain=drain
        )
    assert (report.sent, report.remaining) == (0, 20)
    assert os.listdir(source.parent) == ["in.jsonl"]
