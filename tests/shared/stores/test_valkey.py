"""What is Valkey's alone: addresses, what a server refuses, a server that comes and goes."""

from __future__ import annotations

import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from made_calls import STATED, a_call, ask
from servers import Valkey, behind_tls, free_port, running, saying
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
        ("valkey://", "names no host, or no port"),
        ("valkey:///acme", "names no host, or no port"),
        ("valkey://host:port/acme", "names no host, or no port"),
        ("valkey://host:99999/acme", "names no host, or no port"),
        ("valkey://[::1/acme", "names no host, or no port"),
        ("valkey://host", "does not say what the limits are called"),
        ("valkey://host:6379/", "does not say what the limits are called"),
        ("valkey://host/%20", "does not say what the limits are called"),
        ("valkey://host/a%00b", "has a character that stands for nothing"),
        ("valkey://host/" + "x" * 1001, "the name has 1001 characters, and may have 1000"),
        ("valkey://u:sesame@host/acme#1", "has a part after #"),
        ("valkey://u:ses#ame@host/acme", "names no host, or no port"),
        ("valkey://host/acme?db=one", "db='one' is no number"),
        ("valkey://host/acme?password=sesame", "the parameter 'password' is not known"),
        ("valkey://host/acme?ssl_ca_certs=/x", "the parameter 'ssl_ca_certs' is not known"),
        ("valkey://host/acme?cluster=1", "cluster='1' is not known"),
        ("rediss://host/acme?ssl_ca_certs=/none.pem", "ssl_ca_certs='/none.pem' cannot be read"),
        ("rediss://host/acme?ssl_keyfile=/x", "ssl_keyfile= without ssl_certfile="),
        ("rediss://host/acme?ssl_cert_reqs=maybe", "ssl_cert_reqs='maybe' is not known"),
        ("rediss://host/acme?ssl_check_hostname=no", "ssl_check_hostname='no' is not known"),
    ],
)
def test_addresses_that_are_none(url: str, said: str) -> None:
    is_no_address(url, said)


def test_files_of_tls_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    for text, said in (
        ("", "ssl_ca_certs='{}' cannot be read: no certificate or crl found"),
        ("", "ssl_certfile='{}' cannot be read: it is no PEM"),
        ("", "ssl_certfile='{}', ssl_keyfile='{}' cannot be read: it is no PEM"),
    ):
        path.write_text(text)
        parts = said.format(path, path).partition(" cannot")[0].replace("'", "").split(", ")
        with pytest.raises(InvalidSettings) as caught:
            open_store(f"rediss://host/acme?{'&'.join(parts)}")
        assert said.format(path, path) in str(caught.value)


@pytest.mark.parametrize("scheme", ["valkey", "valkeys", "redis", "rediss"])
def test_an_address_is_shown_without_its_credentials(scheme: str) -> None:
    store, name = open_store(f"{scheme}://me:open%40sesame@host:7000/team/my%20account?db=1")
    assert (store.where, name) == (f"{scheme}://host:7000/team/my%20account", "team/my account")
    assert "sesame" not in repr(store) + repr(store.again())


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "headway.shared.stores.valkey", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtra) as caught:
        open_store("valkey://host/acme")
    assert str(caught.value) == (
        "limits are shared over Valkey and Redis with the package redis, which is not installed. "
        "Fix: install it with: pip install 'headway[valkey]'"
    )


AWAY = {
    "LOADING": ("-LOADING Valkey is loading the dataset in memory", "wait until it has loaded"),
    "READONLY": ("-READONLY You can't write against a read only replica.", "name the primary"),
    "CLUSTERDOWN": ("-CLUSTERDOWN The cluster is down", "start the store"),
    "MASTERDOWN": ("-MASTERDOWN Link with MASTER is down", "start the store"),
    "OOM": ("-OOM command not allowed when used memory > 'maxmemory'.", "raise its maxmemory"),
    "BUSY": ("-BUSY Valkey is busy running a script.", "start the store"),
    "MISCONF": (
        "-MISCONF Valkey is configured to save RDB snapshots, but cannot",
        "see to its disk",
    ),
    "TRYAGAIN": ("-TRYAGAIN Multiple keys request during rehashing of slot", "start the store"),
    "clients": ("-ERR max number of clients reached", "raise its maxclients"),
    "nonsense": ("?what", "start the store"),
    "hangs up": ("", "start the store"),
}


@pytest.mark.parametrize("kind", AWAY)
async def test_a_server_that_cannot_now_is_away(kind: str) -> None:
    said, fix = AWAY[kind]
    with saying(EVALSHA=said) as port:
        async with at(f"valkey://127.0.0.1:{port}/acme") as (store, name):
            with pytest.raises(StoreAway) as caught:
                await ask(store, name, a_call())
    assert str(caught.value).startswith(f"valkey://127.0.0.1:{port}/acme: ")
    assert caught.value.fix.startswith(fix)


REFUSED = {
    "NOAUTH": ("-NOAUTH Authentication required.", "the user or the password is wrong"),
    "NOPERM": ("-NOPERM this user has no permissions to run it", "may not do what is needed"),
    "WRONGTYPE": ("-WRONGTYPE Operation against a key", "holds something else"),
    "version": ("-HEADWAYVERSION", "is of another version of headway"),
    "old": ("-ERR unknown command 'EVALSHA'", "does not run scripts"),
    "no cluster": ("-ERR Cluster mode is not enabled on this node", "the server is no cluster"),
    "protected": ("-DENIED Valkey is running in protected mode", "of its own machine alone"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_server_that_never_will_is_told_so(kind: str) -> None:
    answer, said = REFUSED[kind]
    with saying(EVALSHA=answer) as port:
        text = await fails(f"valkey://127.0.0.1:{port}/acme", InvalidSettings)
    assert text.startswith(f"shared limits at valkey://127.0.0.1:{port}/acme: ")
    assert said in text
    assert " Fix: " in text


async def test_nobody_listens() -> None:
    text = await fails(f"valkey://u:sesame@127.0.0.1:{free_port()}/acme", StoreAway)
    assert "Connection refused" in text


async def test_what_the_real_server_refuses(valkey: Valkey) -> None:
    valkey.do("ACL", "SETUSER", "reader", "on", ">sesame", "~*", "+get")
    host = f"127.0.0.1:{valkey.port}/refused"
    assert "the password is wrong" in await fails(f"valkey://u:sesame@{host}", InvalidSettings)
    assert "ACL SETUSER" in await fails(f"valkey://reader:sesame@{host}", InvalidSettings)
    assert "of that number" in await fails(f"valkey://{host}?db=99", InvalidSettings)
    valkey.do("HSET", "headway:{refused}", "a", "b")
    assert "holds something else" in await fails(f"valkey://{host}", InvalidSettings)
    valkey.do("SET", "headway:{refused}", "headway0:old")
    assert "another version" in await fails(f"valkey://{host}", InvalidSettings)


async def test_the_fix_of_a_missing_permission_works(valkey: Valkey) -> None:
    host = f"127.0.0.1:{valkey.port}/allowed"
    valkey.do("ACL", "SETUSER", "worker", "on", ">sesame")
    text = await fails(f"valkey://worker:sesame@{host}", InvalidSettings)
    rules = text.partition("ACL SETUSER name ")[2].replace("(and ", "").partition(" for ")[0]
    valkey.do("ACL", "SETUSER", "worker", *rules.split())
    async with at(f"valkey://worker:sesame@{host}") as (store, name):
        assert (await ask(store, name, a_call()))["error"] == ""
        assert "allowed" in await store.names()
        assert await store.reset(name)


def test_what_tls_says() -> None:
    store, _ = open_store("rediss://host/acme")

    def found(cause: Exception) -> InvalidSettings:
        error = redis.ConnectionError("Error 1 connecting to host:6379.")
        error.__cause__ = cause
        what = store._what(error)  # type: ignore[attr-defined]
        assert isinstance(what, InvalidSettings)
        return what

    untrusted = ssl.SSLCertVerificationError(1, "certificate verify failed")
    untrusted.verify_message = "said."
    for code, fix in (
        (20, "name who signed it: ?ssl_ca_certs="),
        (10, "have the server's certificate renewed"),
        (62, "name the host as the certificate does"),
        (64, "name the host as the certificate does"),
        (9, "set the clock of this machine"),
    ):
        untrusted.verify_code = code
        assert f"is not trusted: said. Fix: {fix}" in str(found(untrusted))
    other = ssl.SSLError(1, "said")
    for reason, why in (
        ("WRONG_VERSION_NUMBER", "does not speak TLS there. Fix: valkey://"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants a certificate of the client's"),
        ("TLSV1_ALERT_UNKNOWN_CA", "wants a certificate of the client's"),
    ):
        other.reason = reason
        assert why in str(found(other))


async def test_where_one_ledger_cannot_be_stepped_none_is(valkey: Valkey) -> None:
    async with at(valkey.url("half")) as (store, name):
        await store.reset(name)
        valkey.do("SET", f"headway:{{{name}}}/a", "headway1:old")
        with pytest.raises(InvalidSettings, match="another version of headway"):
            await store.call({name: a_call(), f"{name}/a": a_call()})
        assert await store.read(name) is None


async def test_a_ledger_is_forgotten_eight_days_after_its_last_call(valkey: Valkey) -> None:
    async with at(valkey.url("kept") + "?db=1") as (store, name):
        await ask(store, name, a_call())
        assert 691100 < valkey.do("TTL", "headway:{kept}", db=1) <= 691200
        monthly = a_call(n=2, set=1, limits=STATED[4])
        monthly["budgets"] = [{**each} for each in monthly["budgets"]]
        monthly["budgets"][1]["width"] = 30 * 86400 / 120
        await ask(store, name, monthly)
        assert valkey.do("TTL", "headway:{kept}", db=1) > 30 * 86400


async def test_a_server_that_is_flushed_stopped_and_started(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    with running(server):
        async with at(server.url("acme")) as (store, name):
            first = await ask(store, name, a_call())
            server.do("FLUSHALL")
            server.do("SCRIPT", "FLUSH")
            second = await ask(store, name, a_call(n=2, epoch=first["epoch"], version=1))
            assert (second["epoch"], second["now"]) == ("a2", 0)
            server.stop()
            with pytest.raises(StoreAway):
                await ask(store, name, a_call(n=3))
            server.start()
            assert (await ask(store, name, a_call(n=3)))["epoch"] == "a3"
            server.stop()
            server.start()  # unseen: the connection is opened anew, without a word
            assert (await ask(store, name, a_call(n=4)))["epoch"] == "a4"
            server.send(signal.SIGSTOP)
            with pytest.raises(StoreAway, match="Timeout"):
                await ask(store, name, a_call(n=5))
            server.send(signal.SIGCONT)
            assert (await ask(store, name, a_call(n=5)))["error"] == ""


async def test_a_cluster_is_found_out(cluster: Valkey) -> None:
    moved = f"-MOVED 1234 127.0.0.1:{cluster.port}"
    slots = (
        f"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:{cluster.port}\r\n"
        "$40\r\n" + "a" * 40
    )
    with saying(EVALSHA=moved, CLUSTER=slots, COMMAND="*0", INFO="$0\r\n") as port:
        async with at(f"valkey://127.0.0.1:{port}/moved") as (store, name):
            assert (await ask(store, name, a_call()))["error"] == ""
            assert cluster.do("EXISTS", "headway:{moved}") == 1
            assert await store.reset(name)


async def test_a_cluster_that_is_gone_is_away(tmp_path: Path) -> None:
    server = Valkey(tmp_path, "--cluster-enabled", "yes")
    with running(server):
        async with at(server.url("acme") + "?cluster=true") as (store, name):
            with pytest.raises(StoreAway):  # nobody has the slots
                await ask(store, name, a_call())
            server.stop()
            with pytest.raises(StoreAway):
                await ask(store, name, a_call())


async def test_over_tls_who_signed_is_checked(valkey: Valkey, tmp_path: Path) -> None:
    with behind_tls(valkey.port, tmp_path) as (port, signed):
        text = await fails(f"rediss://127.0.0.1:{port}/tls", InvalidSettings)
        assert "the server's certificate is not trusted" in text
        for more in (f"ssl_ca_certs={signed}", "ssl_cert_reqs=none"):
            async with at(f"valkeys://127.0.0.1:{port}/tls?{more}") as (store, name):
                assert (await ask(store, name, a_call()))["error"] == ""
