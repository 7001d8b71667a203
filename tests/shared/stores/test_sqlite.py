"""What is SQLite's alone: files that are none, that vanish, that are elsewhere, of others."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from made_calls import a_call, ask

from headway.providers import InvalidSettings
from headway.shared.stores import StoreAway
from headway.shared.stores import sqlite as module
from headway.shared.stores.places import open_store
from headway.shared.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    """Threads are on real time, and `test_stores` runs them on both loops."""
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "acme.db"


@pytest.fixture
async def store(path: Path) -> Any:
    one, _ = open_store(f"sqlite:///{path}")
    yield one
    await one.aclose()


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere: what a user may is what the mode says."""

    def access(path: Any, mode: int) -> bool:
        return bool(os.stat(path).st_mode & stat.S_IWUSR) or not mode & os.W_OK

    monkeypatch.setattr(module.os, "access", access)


async def test_a_deleted_file_begins_anew(store: SqliteStore, path: Path) -> None:
    first = await ask(store, "limits", a_call())
    path.unlink()
    second = await ask(store, "limits", a_call(n=2, epoch=first["epoch"], version=1))
    assert (second["epoch"], second["now"]) == ("a2", 0)
    assert path.is_file()
    assert await store.read("limits") is not None


async def test_where_one_ledger_cannot_be_stepped_none_is(store: SqliteStore, path: Path) -> None:
    await ask(store, "limits/a", a_call())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE headway SET state = x'00'")
    with pytest.raises(InvalidSettings):
        await store.call({"limits": a_call(), "limits/a": a_call(n=2)})
    assert await store.read("limits") is None


async def test_a_file_that_is_deleted_meanwhile_is_away(store: SqliteStore) -> None:
    moved = sqlite3.OperationalError("attempt to write a readonly database")
    moved.sqlite_errorname = "SQLITE_READONLY_DBMOVED"
    assert isinstance(store._what(moved), StoreAway)


async def test_a_file_that_was_replaced_is_the_new_one(store: SqliteStore, path: Path) -> None:
    await ask(store, "limits", a_call())
    other, _ = open_store(f"sqlite:///{path.with_name('other.db')}")
    await ask(other, "limits", a_call("b"))
    await other.aclose()
    for each in path.parent.glob("acme.db-*"):
        each.unlink()
    path.with_name("other.db").replace(path)
    assert list((await store.read("limits") or {})["workers"]) == ["b"]


async def test_a_file_that_is_no_database(store: SqliteStore, path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    for _ in range(2):
        with pytest.raises(InvalidSettings) as caught:
            await ask(store, "limits", a_call())
        assert str(caught.value) == (
            f"shared limits: {path} is no database of headway's. Fix: name another file; where "
            "that one is headway's, delete it: the limits begin anew."
        )
    path.unlink()
    assert (await ask(store, "limits", a_call()))["error"] == ""


async def test_somebody_elses_database(store: SqliteStore, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(InvalidSettings, match=r"another version of headway \(7, and not 3\)"):
        await ask(store, "limits", a_call())


async def test_what_is_somebody_elses_is_left_as_it_was(store: SqliteStore, path: Path) -> None:
    other = path.with_name("other.db")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    for before in (b"root:x:0:0:root:/root:/bin/sh\n" * 50, other.read_bytes()):
        path.write_bytes(before)
        path.chmod(0o644)
        with pytest.raises(InvalidSettings, match=r"Fix: name another file"):
            await ask(store, "limits", a_call())
        assert path.read_bytes() == before
        assert path.stat().st_mode & 0o777 == 0o644
        assert sorted(each.name for each in path.parent.iterdir()) == ["acme.db", "other.db"]


async def test_others_may_write_a_file_where_its_owner_lets_them(
    store: SqliteStore, path: Path
) -> None:
    path.touch()
    path.chmod(0o660)
    for _ in range(2):
        await ask(store, "limits", a_call())
        await store.read("limits")
        found = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
        assert {*found.values()} == {0o660}, found
        await store.aclose()


async def test_who_only_looks_makes_no_file(store: SqliteStore, path: Path) -> None:
    assert await store.read("limits") is None
    assert await store.names() == []
    assert await store.reset("limits") is False
    assert not [*path.parent.iterdir()]


async def test_what_the_system_refuses(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(module, "_made", refuse)
    for code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG):
        with pytest.raises(InvalidSettings) as refused:
            await ask(store, "limits", a_call())
        assert str(refused.value) == (
            f"shared limits: {path} cannot be used: {os.strerror(code)}. Fix: name a file where "
            'this user may write: shared="sqlite:////folder/limits.db".'
        )
    for code, fix in (
        (errno.ENOSPC, "free some space there, or name a file on another disk."),
        (errno.EDQUOT, "free some space there, or name a file on another disk."),
        (errno.EMFILE, "mend what it says, or name another file."),
    ):
        with pytest.raises(StoreAway) as away:
            await ask(store, "limits", a_call())
        assert (str(away.value), away.value.fix) == (f"{store.where}: {os.strerror(code)}", fix)


async def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(module, "state_folder", nobody)
    with pytest.raises(InvalidSettings, match=r"no home folder .* shared=.sqlite:////"):
        open_store("acme")


async def test_a_state_that_is_none(store: SqliteStore, path: Path) -> None:
    await ask(store, "limits", a_call())
    with sqlite3.connect(path) as connection:
        for nonsense in (b"", b"nonsense", b"i\x01\x00\x00\x00"):
            connection.execute("UPDATE headway SET state = ?", (nonsense,))
            connection.commit()
            with pytest.raises(InvalidSettings, match="is no database of headway's"):
                await ask(store, "limits", a_call(n=2))
    connection.close()
    assert await store.reset("limits")
    assert (await ask(store, "limits", a_call(n=2)))["error"] == ""


async def test_a_folder_instead(path: Path, store: SqliteStore) -> None:
    path.mkdir()
    with pytest.raises(InvalidSettings, match="is no file"):
        await ask(store, "limits", a_call())


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
async def test_a_folder_in_which_no_file_is_made() -> None:
    one, _ = open_store("sqlite:////proc/acme.db")
    with pytest.raises(InvalidSettings, match=r"no file can be made in /proc\. Fix: name a file"):
        await ask(one, "limits", a_call())


async def test_a_folder_that_is_missing(path: Path) -> None:
    one, _ = open_store(f"sqlite:///{path.parent}/none/acme.db")
    with pytest.raises(InvalidSettings, match=r"there is no folder \S+/none. Fix: make it"):
        await ask(one, "limits", a_call())


async def test_no_permission(store: SqliteStore, path: Path, as_user: None) -> None:
    path.touch(0o400)
    with pytest.raises(InvalidSettings, match=r"acme\.db cannot be written to"):
        await ask(store, "limits", a_call())
    path.unlink()
    path.parent.chmod(0o500)
    try:
        with pytest.raises(InvalidSettings, match=r"the folder \S+ cannot be written to"):
            await ask(store, "limits", a_call())
    finally:
        path.parent.chmod(0o700)


async def test_a_file_system_of_many_machines(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_file_system", lambda _: kind)
    for kind in ("nfs4", "cifs", "fuse.sshfs", "lustre", "gpfs", "beegfs", "fuse.s3fs"):
        with pytest.raises(InvalidSettings, match=f"is on {kind}, where locks of files cannot"):
            await ask(store, "limits", a_call())
    kind = "fuseblk"
    assert (await ask(store, "limits", a_call()))["error"] == ""


def test_the_file_system_is_the_innermost_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = (
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/x /data nfs4 rw 0 0\n"
        "/dev/sdb1 /data/my\\040dísk xfs rw 0 0\n"
        "short\n"
    ).encode()
    monkeypatch.setattr(Path, "read_bytes", lambda _: mounts)
    for folder, kind in (("/usr", "ext4"), ("/data/a", "nfs4"), ("/data/my dísk", "xfs"),
                         ("/database", "ext4")):  # fmt: skip
        assert module._file_system(Path(folder)) == kind


async def test_a_file_that_somebody_locks_is_away(store: SqliteStore, path: Path) -> None:
    await ask(store, "limits", a_call())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreAway, match="database is locked"):
        await ask(store, "limits", a_call(n=2))
    other.close()
    assert (await ask(store, "limits", a_call(n=2)))["error"] == ""


async def test_a_full_disk_is_away(store: SqliteStore) -> None:
    await ask(store, "limits", a_call())
    connection = store._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")

    async def fill() -> None:
        for n in range(2, 50):
            await ask(store, "limits", a_call(f"{n}" * 500, n=n))

    with pytest.raises(StoreAway, match="full"):
        await fill()
    assert (await ask(store, "limits", a_call(n=60)))["error"] == ""


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://host/acme.db", "sqlite:///a.db?mode=ro",
            "sqlite:///a.db#x"]
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidSettings, match="names no file: sqlite:// takes a path alone"):
        open_store(url)


def test_a_path_is_decoded() -> None:
    store, name = open_store("sqlite:///my%20limits/a.db")
    assert isinstance(store, SqliteStore)
    assert (store.path, name) == (Path("my limits/a.db"), "limits")


@pytest.mark.parametrize("name", ["{b}races", "two\nlines", "x" * 300, "../../etc", "ü 🚀", "."])
async def test_a_name_is_a_file_of_the_users_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store, ledger = open_store(name)
    assert isinstance(store, SqliteStore)
    assert (await ask(store, ledger, a_call()))["error"] == ""
    assert store.path.parent == tmp_path / "headway" / "shared"
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    assert SqliteStore.names_here() == [name]
    await store.aclose()


@pytest.mark.parametrize("name", ["x" * 1001, "a\0b", "a\udc80"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidSettings, match="is no name"):
        open_store(name)


def test_many_threads_and_loops_on_one_file_lose_nothing(path: Path) -> None:
    failed: list[BaseException] = []

    async def work(worker: str) -> None:
        one, _ = open_store(f"sqlite:///{path}")
        epoch = ""
        for n in range(1, 26):
            call = a_call(worker, n=n, epoch=epoch, version=min(n - 1, 1))
            epoch = (await ask(one, "limits", call))["epoch"]
        await one.aclose()

    def run(worker: str) -> None:
        try:
            anyio.run(work, worker)
        except BaseException as error:  # pragma: no cover - it fails the test
            failed.append(error)

    threads = [threading.Thread(target=run, args=(f"{index}",)) for index in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed

    async def look() -> dict[str, Any] | None:
        one, _ = open_store(f"sqlite:///{path}")
        state = await one.read("limits")
        await one.aclose()
        return state

    state = anyio.run(look)
    assert state is not None
    assert {worker: each["n"] for worker, each in state["workers"].items()} == dict.fromkeys(
        "0123", 25
    )
