"""A run writes no key down, whoever says it, and nothing that others can read or lead elsewhere."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from headway import Retry, Scheduler, bulk
from headway.bulk import InvalidOutput, Progress, RunOptions
from headway.bulk.output.table import export
from headway.bulk.report import write_report

# Threads write the files: a clock that jumps would spin while they do.
pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

KEY = "tgp_v1_0123456789abcdef"
ADDRESS = "http://me:pass-word@server/v1?key=in-the-url"
ENDPOINT = bulk.Endpoint("custom", ADDRESS, KEY, "HEADWAY_API_KEY")
SECRETS = (KEY, "pass-word", "in-the-url")
ECHO = f"of {KEY} at {ADDRESS}"


def answers(request: httpx.Request) -> httpx.Response:
    """Each line another way to echo what was sent."""
    which = request.content.decode()[-3:-2]
    if which == "0":
        return httpx.Response(400, json={"error": {"message": ECHO}})
    if which == "1":
        return httpx.Response(200, json={"choices": [{"text": ECHO}], "id": KEY})
    if which == "2":
        raise httpx.ConnectError(f"no way {ECHO}")
    if which == "3":
        return httpx.Response(302, headers={"location": ECHO, "x-request-id": KEY})
    if which == "4":
        return httpx.Response(200, text=f"<p>{ECHO}", headers={"content-type": f"text/{KEY}"})
    if which == "5":
        return httpx.Response(200, content=f'{{"choices": [], "a": "{ECHO}"}}'.encode("utf-16"))
    return httpx.Response(418, text="", extensions={"reason_phrase": ECHO.encode()})


async def run(source: Path, handler: Callable[[httpx.Request], httpx.Response]) -> Progress:
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        return await bulk.run(
            source,
            scheduler=Scheduler("100/s", retry=Retry(attempts=1)),
            endpoint=ENDPOINT,
            client=client,
            options=RunOptions(max_tokens=10**9),
        )


def source_of(folder: Path, lines: int) -> Path:
    source = folder / "in.jsonl"
    source.write_text("".join(f'{{"model":"m","prompt":"{n}"}}\n' for n in range(lines)))
    return source


def below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


@pytest.mark.parametrize("more", ["", "stopped"])
async def test_no_file_and_no_log_of_a_run_holds_a_key(
    more: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "headway")
    source = source_of(tmp_path, 7)

    def stopping(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, json={"error": {"message": f"wrong key {KEY}"}})

    progress = await run(source, stopping if more else answers)
    assert (progress.done, progress.stopped is not None) == ((0, True) if more else (1, False))
    assert progress.output is not None
    if not more:
        write_report(progress.output, tmp_path / "report.html")
    written = [path for path in below(tmp_path) if path.is_file()]
    assert len(written) >= (1 if more else 5)
    for secret in SECRETS:
        assert [path for path in written if secret.encode() in path.read_bytes()] == []
        assert secret not in caplog.text
        assert secret not in repr(progress)


async def test_what_a_run_makes_is_nobody_elses(tmp_path: Path) -> None:
    progress = await run(source_of(tmp_path, 2), answers)
    assert progress.output is not None
    write_report(progress.output, tmp_path / "report.html")
    export(progress.output, tmp_path / "answers.csv")
    made = [path for path in below(tmp_path) if path.name != "in.jsonl"]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in made}
    assert len(modes) >= 8
    assert {path: mode for path, mode in modes.items()
            if mode != (0o700 if path.is_dir() else 0o600)} == {}  # fmt: skip


@pytest.mark.parametrize("planted", ["journal.draft", "trace.jsonl", "billed.jsonl", "errors"])
async def test_no_link_that_stands_there_is_followed(planted: str, tmp_path: Path) -> None:
    source, victim = source_of(tmp_path, 2), tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "in.results.run"
    folder.mkdir()
    link = tmp_path / "in.results.errors.jsonl" if planted == "errors" else folder / planted
    link.symlink_to(victim)
    with pytest.raises(InvalidOutput, match="in the way"):
        await run(source, answers)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("what", ["the output", "its folder"])
async def test_a_link_of_another_user_is_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, elsewhere = source_of(tmp_path, 2), tmp_path / "elsewhere"
    if what == "the output":
        elsewhere.write_text("")
        (tmp_path / "in.results.jsonl").symlink_to(elsewhere)
    else:
        elsewhere.mkdir()
        (tmp_path / "in.results.run").symlink_to(elsewhere)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(InvalidOutput, match=r"another user has made|in the way"):
        await run(source, answers)
    monkeypatch.setattr(os, "geteuid", lambda: me)
    assert (await run(source, answers)).done == 1  # one's own is followed
