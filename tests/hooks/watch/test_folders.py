"""Where sockets are: in folders that nobody else may enter."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from headway.hooks.watch.folders import TooOpen, open_folder, watch_folders


def test_the_runtime_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    first, second, *_ = watch_folders()
    assert first == tmp_path / "run" / "headway"
    assert second == tmp_path / "state" / "headway" / "watch"


@pytest.mark.parametrize("value", ["", "relative"])
def test_a_runtime_folder_that_is_none(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert next(watch_folders()) == tmp_path / "headway" / "watch"


def test_nobody_else_may_enter(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    open_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    open_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_somebody_elses_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(TooOpen, match="belongs to somebody else"):
        open_folder(tmp_path)


def test_a_link_is_no_folder_of_ours(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(TooOpen):
        open_folder(tmp_path / "link")
