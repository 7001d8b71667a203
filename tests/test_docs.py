"""Every block of Python in the README and docs runs, prints what its page says, and is typed."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from commands import headway as run_here
from llmock.pytest_plugin import LLMock
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from pages import DOCS, PAGES, ROOT, blocks, file_name, languages, name_of, printed_by, text_of

import headway
import headway.bulk
import headway.events
import headway.sync
import headway.testing

BLOCKS = [block for page in PAGES for block in blocks(page, "python")]
FILES = [file_name(block, number) for number, block in enumerate(BLOCKS)]
PRINTED = [text for page in PAGES for text in printed_by(page)]
COMMANDS = [
    pytest.param("\n".join(found), id=name_of(page))
    for page in PAGES
    if (found := [block for block in blocks(page, "sh") if "pip install" not in block])
]


# In bash's own hands stay quotes, loops and patterns; each `headway` is done by this process.
SHELL = """
trap 'echo end > turn' EXIT
headway() { printf '%s\\0' "$@" > asked; echo > turn; read -r code < answered; return "$code"; }
"""


@pytest.fixture
def environment(llmock: LLMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = (ROOT / "benchmarks" / "data" / "prompts.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "requests.jsonl").write_text("\n".join(prompts[:6]), "utf-8")
    for name, value in llmock.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TOGETHER_API_KEY", "key")
    monkeypatch.setenv("TOGETHER_BASE_URL", f"{llmock.url}/together")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("commands", COMMANDS)
def test_commands_run(commands: str, environment: None, tmp_path: Path) -> None:
    os.mkfifo("turn")
    os.mkfifo("answered")
    said = []
    with subprocess.Popen(["bash", "-euc", f"{SHELL}{commands}"]) as shell:
        while not Path("turn").read_text().strip():
            result = run_here(*Path("asked").read_text("utf-8").split("\0")[:-1])
            said.append(result.output)
            Path("answered").write_text(f"{result.exit_code}\n")
    assert shell.returncode == 0, said
    assert said
    if "headway report" in commands:
        assert (tmp_path / "report.html").stat().st_size > 10_000
    if (merged := tmp_path / "all.jsonl").exists():
        assert len(merged.read_text().splitlines()) == 6


def test_runs(environment: None, tmp_path: Path) -> None:
    """One process for all: what takes the time is the SDK's import."""
    for name, block in zip(FILES, BLOCKS, strict=True):
        Path(name).write_text(block, "utf-8")
    program = (
        "import gc, logging, runpy, sys\n"
        "gc.disable()\n"  # of what is imported nothing is garbage
        "for path in sys.argv[1:]:\n"
        "    runpy.run_path(path, run_name='__main__')\n"
        "    logging.root.handlers.clear()\n"
        "    for path in sys.argv[1:]:\n"
        "        sys.modules.pop(path.removesuffix('.py'), None)\n"
        "    print(end='\\f')\n"
        "gc.freeze()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *FILES],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("\f")[:-1]
    assert len(printed) == len(BLOCKS) > 2
    assert all(printed), printed
    wrong = [
        (text, said)
        for text, said in zip(printed, PRINTED, strict=True)
        if said is not None and text != said
    ]
    assert wrong == []
    # No block does what its own log advises against, but for the one that shows a wrong key.
    advised = [line for line in done.stderr.splitlines() if " Fix: " in line]
    assert [line.partition(":")[0] for line in advised] == ["auth"]


def test_every_block_runs() -> None:
    """But for code of others and what is done by hand; some pages have tests of their own."""
    others = {
        "README.md": {"bash"},  # make
        "docs/release.md": {"bash"},
        "docs/watching.md": {"console"},  # screens
        "docs/coming-from/bottleneck.md": {"js"},
        "docs/coming-from/cookbook.md": {"console"},
        "docs/coming-from/litellm-router.md": {"py"},
        "docs/coming-from/p-queue.md": {"js"},
        "docs/recipes/django.md": {"py"},  # tests/test_web_recipes.py
        "docs/recipes/instructor.md": {"python apart"},  # its newest release holds openai back
        "docs/recipes/llamaindex.md": {"python apart"},  # the same
        "docs/rows.md": {"py"},  # tests/rows/test_page.py
        "docs/testing.md": {"py"},  # tests/testing/test_plugin.py
    }
    run = {"python", "python cell", "python framework", "sh", "text"}
    found = {name_of(page): languages(page) - run for page in PAGES}
    assert {page: left for page, left in found.items() if left} == others


def test_cells_run_in_a_kernel() -> None:
    """The page on notebooks is one, whose cells print, or show, what the page says."""
    page = DOCS / "recipes" / "notebooks.md"
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in blocks(page, "python cell")])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    said = [shown_by(cell.outputs) for cell in notebook.cells]
    assert said == blocks(page, "text")


def shown_by(outputs: list[NotebookNode]) -> str:
    """What a reader sees under a cell."""
    return "".join(each.get("text") or each["data"]["text/plain"] + "\n" for each in outputs)


def test_passes_mypy_strict(tmp_path: Path) -> None:
    """With the project's own options, which are stricter than strict, and its cache."""
    for name, block in zip(FILES, BLOCKS, strict=True):
        (tmp_path / name).write_text(block, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module", [headway, headway.events, headway.bulk, headway.sync, headway.testing]
)
def test_the_reference_has_every_public_name_and_no_other(module: ModuleType) -> None:
    page = text_of(DOCS / "reference.md")
    section = page.partition(f"\n## {module.__name__}\n")[2].partition("\n## ")[0]
    first = re.findall(r"^\| (`[^|]+) \|", section, re.M)
    named = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(module.__all__)


def test_the_reference_names_what_is_there() -> None:
    page = text_of(DOCS / "reference.md")
    others = re.findall(r"^\| `(headway\.[\w.]+)\.(\w+)` \|", page, re.M)
    named: dict[str, set[str]] = {}
    for module, name in others:
        named.setdefault(module, set()).add(name)
    for module, names in named.items():
        assert names <= set(importlib.import_module(module).__all__)
    for module in ("headway.httpx", "headway.httpx2", "headway.rows"):
        assert named[module] == set(importlib.import_module(module).__all__)
