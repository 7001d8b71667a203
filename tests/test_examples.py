"""The examples, as far as they run without a cluster: their commands, apps, tasks and processes."""

from __future__ import annotations

import csv
import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from commands import headway, ids_of, write_requests
from echo import Echo, echo
from llmock.pytest_plugin import LLMock
from packages import of_dev

__all__ = ["echo"]

EXAMPLES = Path(__file__).parent.parent / "examples"
LINES = 16


@pytest.fixture(autouse=True)
def folder(echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWAY_SHARED", f"sqlite:///{tmp_path}/limits.db")
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    monkeypatch.setenv("TOGETHER_BASE_URL", echo.url.removesuffix("/v1"))
    monkeypatch.chdir(tmp_path)
    write_requests(tmp_path / "requests.jsonl", LINES)
    return tmp_path


def asked_by(command: list[str], folder: Path, **environment: str) -> list[str]:
    """The arguments with which `command`, of a shell, calls headway in the end."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "headway").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (tools / "headway").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.split("\0")[:-1]


def check_shards(calls: list[list[str]], folder: Path) -> None:
    """They answer every line once, and merge."""
    for call in calls:
        result = headway(*call)
        assert result.exit_code == 0, result.output
    rows = sorted(map(str, folder.glob("requests.results.*-of-8.jsonl")))
    assert len(rows) == 8
    assert headway("merge", *rows, "-o", "all.jsonl").exit_code == 0
    assert sorted(ids_of(folder / "all.jsonl")) == sorted(f"q{n}" for n in range(LINES))


def test_slurm(folder: Path) -> None:
    script = EXAMPLES / "slurm-array.sh"
    text = script.read_text()
    assert "#SBATCH --array=0-7\n" in text
    assert text.index("#SBATCH") < text.index("\nset -euo")  # sbatch reads none behind a command
    # Slurm says which and how many: the command is the same for each but for that.
    calls = [
        asked_by(["bash", str(script), "requests.jsonl"], folder,
                 SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="8")
        for task in range(8)
    ]  # fmt: skip
    check_shards(calls, folder)
    done = subprocess.run(
        ["bash", str(script), "requests.jsonl"], env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "HEADWAY_SHARED: set it before sbatch" in done.stderr


def test_kubernetes(folder: Path) -> None:
    yaml = of_dev("yaml")
    text = (EXAMPLES / "kubernetes-indexed-job.yaml").read_text()
    (job,) = yaml.safe_load_all(text)
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", 8)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which backoffLimitPerIndex requires
    (container,) = pod["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {pod["volumes"][0]["name"]: "/data"}
    given = {each["name"] for each in container["env"]}
    assert given == {"HEADWAY_SHARED", "TOGETHER_API_KEY"}
    calls = [
        asked_by(container["command"], folder, JOB_COMPLETION_INDEX=str(pod)) for pod in range(8)
    ]
    check_shards(
        [[each.replace("/data/", f"{folder}/") for each in call] for call in calls], folder
    )


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_a_script(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    example("script").main(["why?", "how?"])
    assert capsys.readouterr().out == "why?\n    WHY?\nhow?\n    HOW?\n"
    assert echo.keys == {"Bearer a-key"}


@pytest.mark.anyio
async def test_a_stream(
    llmock: LLMock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", f"{llmock.url}/together")
    llmock.fail(503, retry_after=0).reply("It scatters light.")
    await example("stream").main("Why is the sky blue?")
    assert capsys.readouterr().out == "It scatters light.\n"
    assert [request.status for request in llmock.requests] == [503, 200]


def test_a_table(echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "words.csv").write_text("id,text\n1,good night\n2,refuse\n", "utf-8")
    monkeypatch.setattr("sys.argv", ["table.py", "words.csv", "answers.csv"])
    runpy.run_path(str(EXAMPLES / "table.py"), run_name="__main__")
    with (folder / "answers.csv").open(newline="") as file:
        answers = {row["text"]: row for row in csv.DictReader(file)}
    assert answers["good night"]["answer"] == "TRANSLATE INTO FRENCH: GOOD NIGHT"
    assert answers["good night"]["error"] == ""
    assert "no Translate into French: refuse" in answers["refuse"]["error"]


@pytest.mark.anyio
async def test_a_web_server(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", echo.url)
    of_dev("fastapi")
    web: Any = example("web")
    async with web.app.router.lifespan_context(web.app):
        transport = httpx.ASGITransport(web.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
            reply = await client.post("/translate", params={"text": "hi"})
    assert (reply.status_code, reply.json()) == (200, {"answer": "TRANSLATE INTO FRENCH: HI"})
    assert echo.keys == {"Bearer a-key"}


def test_celery(echo: Echo) -> None:
    of_dev("celery")
    tasks: Any = example("tasks")
    try:
        found = tasks.translate.apply(args=(["a", "refuse"],)).get()
        assert tasks.ask.statistics().sent == 2
    finally:
        tasks.worker_process_shutdown.send(None)
    assert tasks.ask.statistics().sent == 0  # of another scheduler: that one has ended
    tasks.ask.close()
    assert found == [
        {"answer": "TRANSLATE INTO FRENCH: A", "error": None},
        {"answer": None, "error": "http_400: no Translate into French: refuse"},
    ]


def test_a_pool_of_processes(echo: Echo, folder: Path) -> None:
    echo.takes = 0.002
    with (folder / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["review"], *([f"no. {n}"] for n in range(24))])
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "pool.py"), "reviews.csv"],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == len(echo.asked) == 24
    assert all(row["answer"].endswith(row["review"].upper()) for row in rows)
    assert {row["error"] for row in rows} == {""}
