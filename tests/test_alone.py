"""What a user gets with anyio alone: `import headway` in silence, and the smoke test of the wheel.

`make wheel` does the same with the wheel itself, which has to be built.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import headway

SMOKE = Path(__file__).parent / "smoke.py"
# Without the packages of this environment, whose folder is no part of the path then.
BARE = [sys.executable, "-I", "-S", "-W", "error", "-c"]
PROGRAM = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
import headway
print(headway.__file__)
if sys.argv[2:]:
    runpy.run_path(sys.argv[2], run_name="__main__")
    print("done")
"""


def needed(name: str) -> set[str]:
    """`name` and all that it needs here, of the packages that are installed."""
    parts = [Requirement(each) for each in metadata.requires(name) or ()]
    wanted = [each for each in parts if not each.marker or each.marker.evaluate({"extra": ""})]
    return {name}.union(*(needed(each.name) for each in wanted))


def test_it_works_with_anyio_alone(tmp_path: Path) -> None:
    (tmp_path / "headway").symlink_to(Path(headway.__file__).parent)
    packages = needed("anyio")
    assert "anyio" in packages
    assert len(packages) <= 4
    for name in packages:
        package = metadata.distribution(name)
        for top in {path.parts[0] for path in package.files or ()} - {"..", "__pycache__"}:
            (tmp_path / top).symlink_to(str(package.locate_file(top)))
    done = subprocess.run(
        [*BARE, PROGRAM, str(tmp_path), str(SMOKE)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [str(tmp_path / "headway" / "__init__.py"), "done"]
