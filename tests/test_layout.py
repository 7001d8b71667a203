"""Imports go one way, the core and the hints are pure, and no extra is imported unasked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headway

SOURCE = Path(headway.__file__).parent

# From the bottom to the top: a module imports those of the lines before it, and of its own line
# only inside a package that orders itself (hints, bulk).
ORDER = [
    "errors",
    "providers",
    "_words",
    "kinds",
    "events",
    "rates",
    "hints",
    "_core.counters",
    "_core.limits.pace",
    "_core.limits.budget",
    "_core.limits.gate",
    "_core.limits.control",
    "_core.limits.evidence",
    "_core.limits.stated",
    "_core.limits.scope",
    "_core.queue.job",
    "_core.queue.lines",
    "_core.queue.waiting",
    "_core.queue.flows",
    "_core.refusals.outage",
    "_core.refusals.retry",
    "_core.refusals.refusals",
    "_core.picture",
    "_core.state",
    "hooks.log",
    "_runtime.calls",
    "_runtime.checks",
    "_runtime.waiter",
    "_runtime.clock",
    "_runtime.attempt",
    "_runtime.shell",
    "_runtime.lease",
    "_runtime.workers",
    "streams",
    "estimate",
    "_http.observer",
    "_http.streams",
    "_http.arguments",
    "_http.bodies",
    "_http.transport",
    "httpx",
    "httpx2",
    "_http.pool",
    "prices",
    "scheduler",
    "",  # headway itself: the public names
    "together",
    "bulk.bitmap",
    "bulk.lines",
    "bulk.seen",
    "bulk.rows",
    "bulk.status",
    "bulk.formats",
    "bulk.tables",
    "bulk.source",
    "bulk.check",
    "bulk.output",
    "bulk.checks",
    "bulk.strangers",
    "bulk.replaced",
    "bulk.ledger",
    "bulk.lock",
    "bulk.journal",
    "bulk.pipe",
    "bulk.measures",
    "bulk.record",
    "bulk.merge",
    "bulk.plan.simulation",
    "bulk.plan.text",
    "bulk.plan.calibration",
    "bulk.plan.plan",
    "bulk.report.failures",
    "bulk.report.axis",
    "bulk.report.charts",
    "bulk.report.summary",
    "bulk.report.measured",
    "bulk.report.overview",
    "bulk.report.overtime",
    "bulk.report.rows",
    "bulk.report.sections",
    "bulk.report.render",
    "bulk.report.page",
    "bulk.report",
    "bulk.probe",
    "bulk.answers",
    "bulk.send",
    "bulk.machine",
    "bulk.budget",
    "bulk.feed",
    "bulk.meter",
    "bulk.progress",
    "bulk.run",
    "bulk",
    "cli._streams",
    "cli.options",
    "cli.others",
    "cli.run",
    "cli",
    "__main__",
]
PACKAGES = {"hints"}
EMPTY = {
    "_core", "_core.limits", "_core.queue", "_core.refusals", "_http", "_runtime",
    "bulk.plan", "hooks",
}  # fmt: skip  # packages that hold nothing by themselves

IMPURE = {
    "anyio", "asyncio", "concurrent", "contextvars", "datetime", "io", "logging",
    "multiprocessing", "os", "random", "secrets", "select", "signal", "socket", "subprocess",
    "sys", "threading", "time", "trio", "uuid",
}  # fmt: skip
EXTRAS = {
    "aiohttp", "aiolimiter", "filelock", "genai_prices", "httpx", "httpx_aiohttp", "httpx_sse",
    "httpx2", "jinja2", "llmock", "msgspec", "opentelemetry", "rich", "together", "trio", "typer",
    "zstandard",
}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules that a file imports when it runs, wherever in it; not those for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for child in block.body
        for node in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = SOURCE.parent.joinpath(*node.module.split("."), alias.name)
                a_module = inner.is_dir() or inner.with_suffix(".py").exists()
                name = f"{node.module}.{alias.name}" if a_module else node.module
                yield name, node.lineno


def rank(module: str) -> int:
    """The line of `ORDER` that `module` (without "headway.") stands on."""
    for known in (module, module.split(".")[0]):
        if known in ORDER and (known == module or known in PACKAGES):
            return ORDER.index(known)
    raise AssertionError(f"{module!r} is not in the layout: give it its place in ORDER")


ALL = [(name, path) for name, path in modules() if name not in EMPTY]


@pytest.mark.parametrize(("name", "path"), ALL, ids=[name or "headway" for name, _ in ALL])
def test_imports_go_one_way(name: str, path: Path) -> None:
    for imported, line in imports(path):
        if imported.split(".")[0] != "headway":
            continue
        inner = imported.removeprefix("headway").removeprefix(".")
        ours = name.split(".")[0]
        if ours in PACKAGES and inner.split(".")[0] == ours:
            continue
        assert rank(inner) < rank(name), f"{path}:{line}: {name or 'headway'} imports {imported}"


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_no_cycle_inside_a_package(package: str) -> None:
    graph = {
        name: {
            imported.removeprefix("headway.")
            for imported, _ in imports(path)
            if imported.startswith(f"headway.{package}.")
        }
        for name, path in ALL
        if name.split(".")[0] == package
    }
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"these import one another: {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in leaves}


BASE = {"_core", "_words", "hints", "events", "errors", "kinds", "rates"}
PURE = [(name, path) for name, path in ALL if name.split(".")[0] in BASE]


@pytest.mark.parametrize(("name", "path"), PURE, ids=[name for name, _ in PURE])
def test_the_core_and_the_hints_are_pure(name: str, path: Path) -> None:
    for imported, line in imports(path):
        top = imported.split(".")[0]
        if top == "headway":
            assert imported.split(".")[1] in BASE
            continue
        where = f"{path}:{line}: {imported}"
        assert top in sys.stdlib_module_names, where
        if top == "datetime" and name.startswith("hints."):
            continue  # to read dates; that it asks for no present time is tested below
        assert top not in IMPURE, where


@pytest.mark.parametrize(("name", "path"), PURE, ids=[name for name, _ in PURE])
def test_nothing_pure_asks_for_the_time(name: str, path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            asks = ("now", "utcnow", "today", "monotonic", "localtime", "gmtime")
            value = ast.unparse(node.value)
            assert not (node.attr in asks and value.split(".")[-1] in ("datetime", "date", "time"))


@pytest.mark.parametrize(("name", "path"), ALL, ids=[name or "headway" for name, _ in ALL])
def test_modules_are_small(name: str, path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def loaded(code: str) -> set[str]:
    """The top-level modules that a new interpreter holds after `code`."""
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_importing_headway_imports_no_extra() -> None:
    found = loaded("import headway; headway.Scheduler('600/min', tokens='1M/min', concurrency=3)")
    assert "anyio" in found
    assert not found & EXTRAS


def test_a_job_on_asyncio_imports_no_extra() -> None:
    code = (
        "import asyncio, headway\n"
        "async def f(x): return x\n"
        "assert asyncio.run(headway.Scheduler(concurrency=3).submit(f, 1)) == 1"
    )
    assert not loaded(code) & EXTRAS
