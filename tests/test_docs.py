"""Every block of Python in the README and the docs runs, and what the README shows is typed."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from llmock.pytest_plugin import LLMock

import headway
import headway.bulk
import headway.events

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S), 1
    )
]


COMMANDS = [
    pytest.param("\n".join(found), id=page.name)
    for page in PAGES
    if (found := [
        block
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
        if "pip install" not in block
    ])
]  # fmt: skip


@pytest.mark.parametrize("commands", COMMANDS)
def test_commands_run(commands: str, llmock: LLMock, tmp_path: Path) -> None:
    prompts = (ROOT / "benchmarks" / "data" / "prompts.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "requests.jsonl").write_text("\n".join(prompts[:6]), "utf-8")
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TOGETHER_API_KEY": "key",
            "TOGETHER_BASE_URL": f"{llmock.url}/together",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").stat().st_size > 10_000
    if (merged := tmp_path / "all.jsonl").exists():
        assert len(merged.read_text().splitlines()) == 6


@pytest.mark.parametrize("block", BLOCKS)
def test_runs(block: str, llmock: LLMock, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(block, "utf-8")
    environment = {
        **os.environ,
        "TOGETHER_API_KEY": "key",
        "TOGETHER_BASE_URL": f"{llmock.url}/together",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_passes_mypy_strict(tmp_path: Path) -> None:
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"block_{number}.py").write_text(str(block.values[0]), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", [headway, headway.events, headway.bulk])
def test_the_reference_has_every_public_name_and_no_other(module: ModuleType) -> None:
    page = (ROOT / "docs" / "reference.md").read_text("utf-8")
    section = page.partition(f"\n## {module.__name__}\n")[2].partition("\n## ")[0]
    first = re.findall(r"^\| (`[^|]+) \|", section, re.M)
    named = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(module.__all__)


def test_the_reference_names_what_is_there() -> None:
    page = (ROOT / "docs" / "reference.md").read_text("utf-8")
    others = re.findall(r"^\| `(headway\.[\w.]+)\.(\w+)` \|", page, re.M)
    assert len(others) == 4
    for module, name in others:
        assert name in importlib.import_module(module).__all__


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
