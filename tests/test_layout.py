"""Imports go one way, the core and the hints are pure, and no extra is imported unasked."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from sources import SOURCE, parsed

ROOT = Path(__file__).parent.parent

IMPURE = {
    "anyio", "asyncio", "concurrent", "contextvars", "datetime", "io", "logging",
    "multiprocessing", "os", "random", "secrets", "select", "signal", "socket", "subprocess",
    "sys", "threading", "time", "trio", "uuid",
}  # fmt: skip
EXTRAS = {
    "aiohttp", "aiolimiter", "dask", "distributed", "filelock", "genai_prices", "httpx", "httpx2",
    "httpx_aiohttp", "httpx_sse", "jinja2", "llmock", "msgspec", "opentelemetry",
    "prometheus_client", "psycopg", "redis", "rich", "structlog", "textual", "together", "tqdm",
    "trio", "typer", "zstandard",
}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


NAMING = {"id", "arg", "attr", "name"}  # the fields of a node that hold a name


@cache
def naming(kind: type[ast.AST]) -> list[str]:
    """The fields of such a node that hold a name."""
    return [field for field in kind._fields if field in NAMING]


def names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that the nodes hold themselves."""
    for node in nodes:
        for field in naming(type(node)):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules that a file imports when it runs, wherever in it; not those for types alone."""
    nodes = parsed(path)
    for_types = {
        id(node)
        for block in nodes
        if isinstance(block, ast.If) and "TYPE_CHECKING" in names(ast.walk(block.test))
        for child in block.body
        for node in ast.walk(child)
    }
    for node in nodes:
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


ALL = list(modules())


def layers() -> dict[str, list[str]]:
    """The layers of each room, from the top down, as pyproject.toml states them."""
    stated = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))
    contracts = stated["tool"]["importlinter"]["contracts"]
    return {one["name"]: one["layers"] for one in contracts if one["type"] == "layers"}


def test_the_design_shows_the_layers_that_are_checked() -> None:
    design = ROOT.joinpath("docs", "design.md").read_text(encoding="utf-8")
    shown: dict[str, list[str]] = {}
    for room, block in re.findall(r"The layers of `(\S+)`:\n\n((?:    .+\n)+)", design):
        shown[room] = [" | ".join(re.split(r" {3,}", line.strip())[0].split(" | "))
                       for line in block.splitlines() if not line.startswith("     ")]  # fmt: skip
    assert shown == layers()


def test_rooms_are_few() -> None:
    def rooms(folder: Path) -> int:
        return sum(
            not one.name.startswith("__")
            for one in folder.iterdir()
            if one.suffix == ".py" or (one.is_dir() and list(one.glob("*.py")))
        )

    # Twenty, and the doors for sync code and for the tests of users.
    assert rooms(SOURCE) <= 22
    assert rooms(SOURCE / "bulk") <= 12


# What has no test of its own: the packages' exports are in test_exports, and commands run in all.
UNTESTED = {"__init__.py", "__main__.py"}


def test_each_file_has_its_tests_at_the_same_place() -> None:
    without = [
        place
        for _, path in ALL
        if path.name not in UNTESTED
        and not ROOT.joinpath(
            "tests", (place := path.relative_to(SOURCE)).parent, f"test_{path.stem.strip('_')}.py"
        ).exists()
    ]
    assert not without


def test_what_is_let_pass_the_checks_says_why() -> None:
    escape = re.compile(r"# (?:noqa|type: ignore|pyright:)(.*)")
    for _, path in ALL:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if (found := escape.search(line)) is not None:
                assert " - " in found[1], f"{path}:{number} does not say why"


def test_contributing_names_what_is_there() -> None:
    page = ROOT.joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = page.partition("## Where things are")[2].partition("## To add")[0]
    for room in {name.split(".")[0] for name, _ in ALL} - {"", "__main__"}:
        assert re.search(rf"`{room}(?:/|\.py)`", rooms), f"the room {room}"
    makefile = ROOT.joinpath("Makefile").read_text(encoding="utf-8")
    commands = set(re.findall(r"(?:^|`)make (\w+)", page, re.M))
    assert commands >= {"test", "demo", "help", "lint"}
    for command in commands:
        assert re.search(rf"^{command}:", makefile, re.M), f"make {command}"
    found = 0
    for line in page.splitlines():
        places = [ROOT, SOURCE, SOURCE / "bulk"]  # and the room that the line is about
        for name in re.findall(r"`([\w.]*[\w/]+(?:/|\.(?:py|toml|md)))`", line):
            path = next((one for place in places if (one := place / name).exists()), None)
            assert path is not None, f"{name} in: {line}"
            places.append(path if path.is_dir() else path.parent)
            found += 1
    assert found > 60


# Words of the glossary that had several meanings: where each may name something.
ONE_MEANING = {
    "told": set[str](),
    "mark": {"bulk.output.journal"},
    "marks": {"bulk.output.journal"},
    "owner": {"_runtime.ports", "_runtime.shell", "shared.owner", "shared.port", "shared.sharing"},
    "owners": {"_runtime.ports", "_runtime.shell"},
    "report": {"cli", "cli.report"},
}
# The error and the event are two sides of one thing; the two libraries' faces are alike, and so are
# the faces for tasks and for threads.
TWICE = {
    "AsCompleted", "AsyncTransport", "Lease", "Map", "Refused", "Scheduler", "Transport", "View",
    "_Blocking", "_Held", "_HeldByThread", "_Peeked", "_PeekedByThread",
}  # fmt: skip


def test_a_word_names_one_thing() -> None:
    for name, path in ALL:
        for word in ONE_MEANING.keys() & {each.strip("_") for each in names(parsed(path))}:
            assert name in ONE_MEANING[word], f"{path} calls something {word}"


def test_no_two_classes_have_one_name() -> None:
    found = Counter(
        node.name for _, path in ALL for node in parsed(path) if isinstance(node, ast.ClassDef)
    )
    assert {name for name, times in found.items() if times > 1} == TWICE


def test_the_glossary_is_in_order() -> None:
    design = ROOT.joinpath("docs", "design.md").read_text(encoding="utf-8")
    table = design.partition("## Words")[2].partition("## Laws")[0]
    words = re.findall(r"^\| ([^|]+?) \|", table, re.M)[1:]
    assert len(words) > 60
    assert words == sorted(set(words))


BASE = {"_core", "hints", "events", "errors", "kinds", "rates"}
DATED = ("hints.", "rates", "_core.limits.quota")
PURE = [(name, path) for name, path in ALL if name.split(".")[0] in BASE]


def test_the_core_and_the_hints_are_pure() -> None:
    assert len(PURE) > 50
    found = [each for name, path in PURE for each in impure(name, path)]
    assert not found, "\n".join(found)


def impure(name: str, path: Path) -> Iterator[str]:
    """What a pure module imports and must not."""
    for imported, line in imports(path):
        where = f"{path}:{line}: {imported}"
        top = imported.split(".")[0]
        if top == "headway":
            if imported.split(".")[1] not in BASE:
                yield where
        elif top in ("datetime", "zoneinfo") and name.startswith(DATED):
            continue  # to read dates; that it asks for no present time is tested below
        elif top not in sys.stdlib_module_names or top in IMPURE:
            yield where


def test_nothing_pure_asks_for_the_time() -> None:
    asks = ("now", "utcnow", "today", "monotonic", "localtime", "gmtime")
    found = [
        f"{path}:{node.lineno}"
        for _, path in PURE
        for node in parsed(path)
        if isinstance(node, ast.Attribute) and node.attr in asks
        and ast.unparse(node.value).split(".")[-1] in ("datetime", "date", "time")
    ]  # fmt: skip
    assert not found, "\n".join(found)


def test_neither_importing_headway_nor_a_job_on_asyncio_imports_an_extra() -> None:
    shows = "print(*{name.split('.')[0] for name in sys.modules})"
    code = (
        "import sys, headway\n"
        "print('asyncio' in sys.modules)\n"  # it takes a while, once it is used
        "scheduler = headway.Scheduler('600/min', tokens='1M/min', concurrency=3)\n"
        f"{shows}\n"
        "import asyncio\n"
        "async def f(x): return x\n"
        "assert asyncio.run(headway.Scheduler(concurrency=3).submit(f, 1)) == 1\n"
        f"{shows}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    at_once, made, used = (set(line.split()) for line in done.stdout.splitlines())
    assert at_once == {"False"}
    assert {"anyio", "asyncio"} <= made
    assert not made & EXTRAS
    assert not used & EXTRAS
