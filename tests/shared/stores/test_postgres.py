"""What is Postgres' alone: addresses, what a server refuses, a server that comes and goes."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import anyio
import psycopg
import pytest
from made_calls import a_call, ask
from servers import Postgres
from stores import at, fails, is_no_address

from headway.errors import MissingExtra
from headway.providers import InvalidSettings
from headway.shared.stores import StoreAway
from headway.shared.stores.places import open_store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    """Servers are on real time, and `test_stores` runs them on both loops."""
    return "asyncio"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://", "names no database and limits"),
        ("postgresql://host", "names no database and limits"),
        ("postgresql://host/acme", "names no database and limits"),
        ("postgresql://host/a/b/c", "names no database and limits"),
        ("postgresql://host/database/", "does not say what the limits are called"),
        ("postgresql://host/database/a%00", "has a character that stands for nothing"),
        ("postgresql://host/database/" + "x" * 1001, "the name has 1001 characters"),
        ("postgresql://u:sesame@host/database/acme#x", "names no database and limits"),
        ("postgresql://u:ses/ame@host/database/acme", "names no database and limits"),
        ("postgresql://u:ses%zzame@host/database/acme", "is no address of a database"),
        ("postgresql://u:p@host/database/acme?sesame=1", "is no address of a database"),
    ],
)
def test_addresses_that_are_none(url: str, said: str) -> None:
    is_no_address(url, said)


def test_an_address_is_shown_without_its_credentials() -> None:
    url = "postgres://me:open%40sesame@a:5432,b:5433/database/my%20account?sslmode=disable"
    store, name = open_store(url + "&sslpassword=sesame")
    assert (store.where, name) == ("postgres://a:5432,b:5433/database/my%20account", "my account")
    assert "sesame" not in repr(store) + repr(store.again())


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "headway.shared.stores.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra) as caught:
        open_store("postgresql://host/database/acme")
    assert str(caught.value) == (
        "limits are shared over Postgres with the package psycopg, which is not installed. Fix: "
        "install it with: pip install 'headway[postgres]'"
    )


async def test_nobody_listens() -> None:
    url = "postgresql://u:sesame@/database/acme?host=/nowhere"
    assert "No such file" in await fails(url, StoreAway)


async def test_what_the_server_refuses(postgres: Postgres) -> None:
    missing = postgres.url("acme", user="nobody-here")
    assert "the user or the password is wrong" in await fails(missing, InvalidSettings)
    missing = postgres.url("acme", database="none")
    assert "there is no such database" in await fails(missing, InvalidSettings)


def test_what_libpq_says_for_which_there_is_no_code() -> None:
    store, _ = open_store("postgresql://host/database/acme")
    where = 'connection to server at "host", port 5432 failed: '
    for said, kind, why in (
        ('FATAL:  too many connections for role "u"', StoreAway, "raise max_connections"),
        ("FATAL:  sorry, too many clients already", StoreAway, "raise max_connections"),
        ('FATAL:  role "u" does not exist', InvalidSettings, "the user or the password is wrong"),
        ('FATAL:  permission denied for database "d"', InvalidSettings, "GRANT CONNECT"),
        ("server does not support SSL, but SSL was required", InvalidSettings, "ssl = on"),
        ('root certificate file "/x" does not exist', InvalidSettings, "?sslrootcert="),
        ('could not read certificate file "/x"', InvalidSettings, "?sslcert="),
        ('private key file "/x" has group or world access', InvalidSettings, "?sslkey="),
        ('definition of service "x" not found', InvalidSettings, "?service="),
        ('server certificate for "a" does not match host name "b"', InvalidSettings, "verify-ca"),
        ("SSL error: certificate verify failed", InvalidSettings, "name who signed it"),
        ("Connection refused", StoreAway, "start the store, or correct its address"),
    ):
        found = store._what(psycopg.OperationalError(where + said))  # type: ignore[attr-defined]
        assert isinstance(found, kind), said
        assert why in f"{found} {getattr(found, 'fix', '')}", said


async def test_a_wrong_password(postgres: Postgres) -> None:
    hba = postgres.folder / "data" / "pg_hba.conf"
    before = hba.read_text()
    postgres.do("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    hba.write_text("local all guarded scram-sha-256\n" + before)
    postgres.do("SELECT pg_reload_conf()")
    try:
        url = postgres.url("acme", user="guarded:sesame")
        assert "the password is wrong" in await fails(url, InvalidSettings)
        url = postgres.url("acme", user="guarded")
        assert "the password is wrong" in await fails(url, InvalidSettings)
    finally:
        hba.write_text(before)
        postgres.do("SELECT pg_reload_conf()")


async def test_a_table_that_may_not_be_made_or_used(postgres: Postgres) -> None:
    postgres.do("CREATE ROLE worker LOGIN")
    postgres.do("CREATE DATABASE narrow")
    url = postgres.url("acme", user="worker", database="narrow")
    text = await fails(url, InvalidSettings)
    assert "is missing, and the user may not make it" in text
    fix = text.partition("have it made: ")[2].replace("the user", "worker").rstrip(".")
    for statement in fix.split("; "):
        assert "the table headway_limits" in await fails(url, InvalidSettings)
        postgres.do(statement, "narrow")
    async with at(url) as (store, name):
        assert (await ask(store, name, a_call()))["error"] == ""
        assert await store.reset(name)
    postgres.do("DROP TABLE headway_limits", "narrow")
    postgres.do("CREATE TABLE headway_limits (id int)", "narrow")
    postgres.do("GRANT ALL ON headway_limits TO worker", "narrow")
    assert "is none of headway's" in await fails(url, InvalidSettings)
    postgres.do("DROP TABLE headway_limits", "narrow")
    postgres.do("CREATE TABLE headway_limits (name text PRIMARY KEY, state bytea, x int NOT NULL)",
                "narrow")  # fmt: skip
    postgres.do("GRANT ALL ON headway_limits TO worker", "narrow")
    assert "is none of headway's" in await fails(url, InvalidSettings)


async def test_another_versions_state(postgres: Postgres) -> None:
    async with at(postgres.url("old")) as (store, name):
        await store.reset(name)
        for stored in ("headway0:x", "headway1:x", "x"):
            postgres.do(f"INSERT INTO headway_limits VALUES ('old', '{stored}')")
            with pytest.raises(InvalidSettings, match="another version of headway"):
                await ask(store, name, a_call())
            assert await store.reset(name)
        assert (await ask(store, name, a_call()))["error"] == ""


async def test_many_make_the_table_at_once(postgres: Postgres) -> None:
    postgres.do("CREATE DATABASE fresh")

    async def one(worker: str) -> None:
        async with at(postgres.url("acme", database="fresh")) as (store, name):
            assert (await ask(store, name, a_call(worker)))["error"] == ""

    async with anyio.create_task_group() as group:
        for index in range(6):
            group.start_soon(one, f"{index}")
    async with at(postgres.url("acme", database="fresh")) as (store, name):
        state = await store.read(name)
        assert state is not None
        assert sorted(state["workers"]) == [*"012345"]


async def test_a_row_that_is_locked_is_away(postgres: Postgres) -> None:
    async with at(postgres.url("locked")) as (store, name):
        await ask(store, name, a_call())
        with psycopg.connect(host=str(postgres.folder), user="postgres") as other:
            other.execute("SELECT 1 FROM headway_limits WHERE name = 'locked' FOR UPDATE")
            with pytest.raises(StoreAway, match="lock timeout"):
                await ask(store, name, a_call(n=2))
        assert (await ask(store, name, a_call(n=2)))["error"] == ""


async def test_a_server_that_reads_only_is_away(postgres: Postgres) -> None:
    url = postgres.url("acme") + "&options=-c%20default_transaction_read_only%3Don"
    async with at(url) as (store, name):
        with pytest.raises(StoreAway, match="read-only") as caught:
            await ask(store, name, a_call())
    assert "name the primary" in caught.value.fix


async def test_a_connection_that_stands_still_is_left(postgres: Postgres) -> None:
    async with at(postgres.url("still")) as (store, name):
        await ask(store, name, a_call())
        ((pid,),) = postgres.do(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'headway'"
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            with anyio.move_on_after(0.05) as scope:
                await ask(store, name, a_call(n=2))
            assert scope.cancelled_caught
            reply = await ask(store, name, a_call(n=2))  # over another one
            assert reply["n"] == 2
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_server_that_is_stopped_and_started(postgres: Postgres) -> None:
    async with at(postgres.url("acme")) as (store, name):
        await store.reset(name)
        first = await ask(store, name, a_call())
        postgres.do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'headway'"
        )
        with pytest.raises(StoreAway):
            await ask(store, name, a_call(n=2))
        again = await ask(store, name, a_call(n=2, epoch=first["epoch"], version=1))
        assert again["epoch"] == first["epoch"]
        postgres.stop(signal.SIGINT)
        with pytest.raises(StoreAway):
            await ask(store, name, a_call(n=3))
        postgres.start()
        again = await ask(store, name, a_call(n=3, epoch=first["epoch"], version=1))
        assert again["epoch"] == first["epoch"]
