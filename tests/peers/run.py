"""The suites of peers and SDKs, bare and over headway: what passes bare has to pass over it.

    python tests/peers/run.py [NAME ...]

Each sdist is downloaded once, into build/peers; its tests run against its own source. A table says
how many tests reach what an adapter replaces, and how many of these pass. Exits with 1 where one
fails that is not in `known.py`, or where one of those passes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from known import KNOWN

HERE = Path(__file__).parent
PLACE = HERE.parent.parent / "build" / "peers"

# What the suites import and the `dev` extra lacks.
NEEDED = [
    "asttokens", "cryptography", "dirty-equals", "executing", "http-snapshot", "inline-snapshot",
    "pytest-mock", "time-machine", "trustme",
]  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """One peer: what is run of its tests, through which adapter."""

    version: str
    adapter: str
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()


def files(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/{name}.py" for name in names)


ASYNCIO = ("-o", "asyncio_mode=auto")
# Of the SDKs' tests those of async clients: the others send nothing that an adapter sees.
SDKS = (
    *ASYNCIO, "-o", "asyncio_default_fixture_loop_scope=session", "-k", "async or retr or workload",
)  # fmt: skip

SUITES = {
    "aiometer": Suite("1.0.0", "as_aiometer", ("tests",)),
    "tasklane": Suite("0.1.0", "as_tasklane", ("tests",), ASYNCIO),
    "anyio": Suite(
        "4.16.0", "as_limiter", ("tests/test_synchronization.py",), ("-k", "CapacityLimiter")
    ),
    "openai": Suite("3.57.0", "clients", files(
        "test_client", "test_auth", "test_httpx2",
        "test_httpx2_base", "test_httpx2_workload", "test_httpx_compat", "test_response",
        "test_streaming", "test_x509_workload_identity", "test_x509_workload_identity_regressions",
        "test_x509_workload_identity_transport", "lib/test_azure",
    ), SDKS),
    "anthropic": Suite("2.14.0", "clients", files(
        "test_client", "test_middleware", "test_response", "test_streaming",
        "lib/test_credentials", "lib/test_google_cloud", "lib/test_scoped_client",
        "lib/test_vertex", "lib/streaming/test_messages",
    ), (*SDKS, "-p", "tests._alias_httpx")),
    "together": Suite("3.1.1", "clients", files(
        "test_client", "test_files", "test_response", "test_streaming",
    ), SDKS),
}  # fmt: skip


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], check=True)


def source(name: str, version: str) -> Path:
    """Where the sdist is unpacked."""
    folder = PLACE / f"{name}-{version}"
    if not folder.exists():
        pip(
            "download", "--no-deps", "--no-binary", ":all:", "--dest", str(PLACE),
            f"{name}=={version}",
        )  # fmt: skip
        with tarfile.open(PLACE / f"{name}-{version}.tar.gz") as sdist:
            sdist.extractall(PLACE, filter="data")
    return folder


def outcomes(
    name: str, suite: Suite, tests: Iterable[str], *, bare: bool
) -> tuple[dict[str, str], set[str]]:
    """What became of each test, "" where it passed; and those that reached what is replaced."""
    folder = source(name, suite.version)
    written = PLACE / f"{name}-{'bare' if bare else 'headway'}.xml"
    written.unlink(missing_ok=True)
    path = [folder / "src", folder, HERE / "adapters", PLACE / "needed"]
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.upper().endswith(("_PROXY", "_API_KEY", "_BASE_URL"))
    }
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    if bare:
        environment["PEERS_BARE"] = "1"
    subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-W", "default",
            "-o", "filterwarnings=", "-p", "no:cacheprovider",
            *suite.options, "-p", suite.adapter, *tests,
            f"--junitxml={written}", "-o", "junit_family=xunit1", "--tb=short",
        ],
        cwd=folder,
        env=environment,
        stdout=PLACE.joinpath(f"{written.stem}.txt").open("w"),
        stderr=subprocess.STDOUT,
        check=False,
        timeout=1800,
    )  # fmt: skip
    found: dict[str, str] = {}
    reached = set()
    for case in ElementTree.parse(written).iter("testcase"):
        file, place = case.get("file", ""), case.get("classname", "")
        within = place.removeprefix(file.removesuffix(".py").replace("/", ".")).split(".")[1:]
        test = "::".join([file, *within, case.get("name", "")])
        if any(one.get("value") == "True" for one in case.iter("property")):
            reached.add(test)
        bad = [one for one in case if one.tag in ("failure", "error")]
        if case.find("skipped") is None:
            found[test] = (bad[0].get("message") or "failed") if bad else ""
    return found, reached


def plain(test: str) -> str:
    """The name of a test without its parameters."""
    return test.partition("[")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or list(SUITES)
    PLACE.mkdir(parents=True, exist_ok=True)
    if not (PLACE / "needed").exists():
        pip("install", "--no-deps", "--target", str(PLACE / "needed"), *NEEDED)
    bad = 0
    print(f"{'suite':20}{'tests':>7}{'pass':>7}{'known':>7}{'new':>7}")
    for name in names:
        suite = SUITES[name]
        bare, reached_bare = outcomes(name, suite, suite.tests, bare=True)
        under, reached = outcomes(name, suite, suite.tests, bare=False)
        works = sorted(test for test, why in bare.items() if not why)
        failed = {test: why for test in works if (why := under.get(test, "was not run"))}
        if failed:  # a test that measures time may fail of another process
            under, again = outcomes(name, suite, failed, bare=False)
            failed = {test: why for test in failed if (why := under.get(test, "was not run"))}
            reached |= again
        meant = {test for test in works if test in reached_bare | reached | failed.keys()}
        known = KNOWN.get(name, {})
        new = {test: why for test, why in failed.items() if plain(test) not in known}
        gone = known.keys() - {plain(test) for test in failed}
        bad += len(new) + len(gone)
        passed = len(meant) - len(failed)
        counts = f"{len(meant):7}{passed:7}{len(failed) - len(new):7}{len(new):7}"
        print(f"{name + ' ' + suite.version:20}{counts}", flush=True)
        for test, why in new.items():
            print(f"    new: {test}\n        {why.splitlines()[0][:150]}")
        for each in sorted(gone):
            print(f"    passes, and is listed as known: {each}")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
