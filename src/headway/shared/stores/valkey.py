"""Ledgers in Valkey or Redis, alone or a cluster: for many machines.

A call is one script, ``ledger.lua``, which the server runs by itself: nothing is held between two
trips, and no two calls meet. A ledger is one key, ``headway:{name}``, and that of a key of jobs
``headway:{name}/key``, on the same server of a cluster. The server forgets it eight days after the
last call, and later where a quota lasts longer.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import anyio
from anyio.to_thread import run_sync

from headway.errors import MissingExtra
from headway.kinds._words import hidden, shown
from headway.providers import InvalidSettings
from headway.shared.ledger import seen
from headway.shared.stores import Calls, Replies, StoreAway
from headway.shared.stores.addresses import ledger_name, parameters

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.cluster import RedisCluster
    from redis.exceptions import (
        AskError,
        AuthenticationError,
        AuthenticationWrongNumberOfArgsError,
        BusyLoadingError,
        NoPermissionError,
        NoScriptError,
        OutOfMemoryError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
    )
    from redis.retry import Retry
except ImportError as error:
    raise MissingExtra(
        "limits are shared over Valkey and Redis with the package redis, which is not installed",
        fix="install it with: pip install 'headway[valkey]'",
    ) from error

__all__ = ["SCRIPT", "ValkeyStore"]

T = TypeVar("T")

SCRIPT = Path(__file__).parents[1].joinpath("ledger.lua").read_text(encoding="utf-8")
"""What the server runs for a call."""

_DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
_TIMEOUT = 0.25  # seconds for an answer
_CONNECT_TIMEOUT = 1.0
_KEY = "headway:{"
_CLOCK = "return redis.call('TIME')"
_SECURE = ("valkeys", "rediss")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FIX = '"valkey://user:password@host:6379/my-account", or rediss:// for TLS.'


class ValkeyStore:
    """The server at an address: ``valkey://user:password@host:6379/my-account?db=1``."""

    def __init__(self, where: str, options: dict[str, Any], *, cluster: bool) -> None:
        self.where = where
        self._options = options  # as `redis.Redis` takes them
        self._cluster = cluster
        self._client: redis.Redis | RedisCluster | None = None
        self._lock = threading.Lock()
        self._limiter: anyio.CapacityLimiter | None = None

    @classmethod
    def of_url(cls, url: str) -> tuple[ValkeyStore, str]:
        """The store that `url` names, and the name of the ledger in it.

        Parameters: ``db`` (a number), ``cluster=true`` (found out by itself where the server says
        so), and for TLS ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile`` (files),
        ``ssl_cert_reqs`` (``none`` or ``required``) and ``ssl_check_hostname``.
        """
        here = shown(hidden(url))
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 6379
        except ValueError:
            parts, host, port = urlsplit(""), None, 0
        if not host:
            raise InvalidSettings(f"shared={here} names no host, or no port", fix=_FIX)
        if parts.fragment:
            raise InvalidSettings(
                f"shared={here} has a part after #", fix="write # as %23, in a password too."
            )
        secure = parts.scheme in _SECURE
        given = parameters(url, ("db", "cluster", *(_TLS if secure else ())))
        name = ledger_name(parts.path[1:], url)
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": unquote(parts.username or "") or None,
            "password": unquote(parts.password or "") or None,
            "ssl": secure,
        }
        cluster = _flag(given, "cluster", here)
        if given.get("db") and not cluster:
            if not given["db"].isdecimal():
                raise InvalidSettings(
                    f"shared={here}: db={shown(given['db'])} is no number", fix="?db=1"
                )
            options["db"] = int(given["db"])
        options |= {each: given[each] for each in _FILES if each in given}
        _check_files(options, here)
        if "ssl_cert_reqs" in given:
            if given["ssl_cert_reqs"] not in ("none", "required"):
                raise InvalidSettings(
                    f"shared={here}: ssl_cert_reqs={shown(given['ssl_cert_reqs'])} is not known",
                    fix='"required" or "none".',
                )
            options["ssl_cert_reqs"] = given["ssl_cert_reqs"]
        if secure:
            checked = options.get("ssl_cert_reqs") != "none"
            options["ssl_check_hostname"] = _flag(given, "ssl_check_hostname", here, checked)
        return cls(hidden(url), options, cluster=cluster), name

    def again(self) -> ValkeyStore:
        """The same server, with a connection of its own."""
        return ValkeyStore(self.where, self._options, cluster=self._cluster)

    async def call(self, calls: Calls) -> Replies:
        """Step the ledgers that `calls` names, in one script."""
        texts = [json.dumps(call) for call in calls.values()]
        answers = await self._in_thread(partial(self._run, [*calls], texts))
        return {name: _decoded(each) for name, each in zip(calls, answers, strict=True)}

    async def read(self, name: str) -> dict[str, Any] | None:
        """The state of the ledger `name`."""
        answer, clock = await self._in_thread(partial(self._look, name))
        if answer is None:
            return None
        state: dict[str, Any] = _decoded(answer)
        state["workers"] = state["workers"] or {}
        for worker in state["workers"].values():
            worker["reply"] = _decoded(worker["reply"]) or {}
        return seen(state, int(clock[0]) + int(clock[1]) / 1e6)

    async def names(self) -> list[str]:
        """The names of the ledgers on the server."""
        return await self._in_thread(self._names)

    async def reset(self, name: str) -> bool:
        """Forget the ledger `name`, and those of its keys."""
        return await self._in_thread(partial(self._reset, name))

    async def aclose(self) -> None:
        """Close the connection."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._close)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(4)
        return await run_sync(
            partial(self._guarded, work), abandon_on_cancel=True, limiter=self._limiter
        )

    def _guarded(self, work: Callable[[], T]) -> T:
        """`work`, alone on the connection."""
        if not self._lock.acquire(timeout=_TIMEOUT):
            raise StoreAway(f"{self.where}: the call before has not been answered")
        try:
            try:
                return work()
            except AskError:  # MOVED, too: it is one server of a cluster
                if self._cluster:
                    raise
                self._drop()
                self._cluster = True
                return work()
        except (RedisError, RedisClusterException, OSError) as error:
            raise self._what(error) from error
        finally:
            self._lock.release()

    def _run(self, names: list[str], texts: list[str]) -> Any:
        client: Any = self._opened()
        given = (len(names), *map(_key, names), *texts)
        try:
            return client.evalsha(_DIGEST, *given)
        except NoScriptError:
            return client.eval(SCRIPT, *given)

    def _look(self, name: str) -> tuple[Any, list[bytes]]:
        """The state, and the time of the server that has it."""
        client: Any = self._opened()
        return self._run([name], []), client.eval(_CLOCK, 1, _key(name))

    def _names(self) -> list[str]:
        client: Any = self._opened()
        found = {key: _name(key) for key in client.scan_iter(match=f"{_KEY}*", count=1000)}
        return sorted(name for key, name in found.items() if _key(name) == key)

    def _reset(self, name: str) -> bool:
        client: Any = self._opened()
        ours = [one for one in self._names() if one == name or one.startswith(f"{name}/")]
        gone = 0
        for one in ours:  # one by one: those of a cluster are on several servers
            gone += client.delete(_key(one))
        return gone > 0

    def _opened(self) -> redis.Redis | RedisCluster:
        if self._client is not None:
            return self._client
        options = {
            **self._options,
            "socket_timeout": _TIMEOUT,
            "socket_connect_timeout": _CONNECT_TIMEOUT,
            "protocol": 2,  # the newer one asks what it does not need when it connects
        }
        # A connection that was closed while it rested is opened anew once; what times out is not
        # repeated here: the worker does that.
        if self._cluster:
            options.pop("db", None)
            self._client = RedisCluster(**options, retry=Retry(NoBackoff(), 1))
        else:
            retry = Retry(NoBackoff(), 1, (redis.ConnectionError,))
            self._client = redis.Redis(**options, retry=retry, max_connections=1)
        return self._client

    def _close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _what(self, error: Exception) -> Exception:
        """What `error` means: away for now, or until somebody mends it."""
        said = str(error)
        for known, why, fix in _PERMANENT:
            if isinstance(error, known) if isinstance(known, type) else known in said:
                return InvalidSettings(f"shared limits at {self.where}: {why}", fix=fix)
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return InvalidSettings(
                    f"shared limits at {self.where}: the server's certificate is not trusted: "
                    f"{cause.verify_message.rstrip('.')}",
                    fix=_UNTRUSTED.get(
                        cause.verify_code, "name who signed it: ?ssl_ca_certs=/path/ca.pem"
                    ),
                )
            if isinstance(cause, ssl.SSLError):
                for words, why, fix in _NO_TLS:
                    if words in str(cause.reason):
                        return InvalidSettings(f"shared limits at {self.where}: {why}", fix=fix)
            cause = cause.__cause__ or cause.__context__
        said = said.partition(" script: ")[0].rstrip(".") or type(error).__name__
        for known, fix in _PASSING:
            if isinstance(error, known) if isinstance(known, type) else known in said:
                return StoreAway(f"{self.where}: {said}", fix)
        return StoreAway(f"{self.where}: {said}", _START)


_PERMANENT: tuple[tuple[type[Exception] | str, str, str], ...] = (
    (
        AuthenticationError,
        "the user or the password is wrong, or missing",
        "correct it in the address: valkey://user:password@host/my-account (%-encoded).",
    ),
    (
        AuthenticationWrongNumberOfArgsError,
        "the server is too old to know users",
        "Valkey, or Redis 6.0 or later.",
    ),
    (
        NoPermissionError,
        "the user may not do what is needed",
        "allow it: ACL SETUSER name ~headway:* +eval +evalsha +get +set +time (and +scan +del for "
        "`headway limits`).",
    ),
    (
        "WRONGTYPE",
        "the key under that name holds something else",
        "name other limits in the address, or delete the key headway:{name}.",
    ),
    (
        "HEADWAYVERSION",
        "what is kept under that name is of another version of headway",
        "use one version in all workers, or name other limits in the address.",
    ),
    (
        "DENIED",
        "the server takes calls of its own machine alone",
        "give it a password (requirepass).",
    ),
    (
        "unknown command",
        "the server does not run scripts (EVAL)",
        "Valkey, or Redis 6.0 or later, and no proxy without EVAL.",
    ),
    (
        "DB index is out of range",
        "the server has no database of that number",
        "another number in ?db=, or none.",
    ),
    (
        "Cluster mode is not enabled",
        "the server is no cluster",
        "leave ?cluster=true out.",
    ),
)
# What ends by itself, or when somebody sees to it.
_START = "start the store, or correct its address in shared= (rediss:// where it speaks TLS)."
_PASSING: tuple[tuple[type[Exception] | str, str], ...] = (
    (OutOfMemoryError, "raise its maxmemory, or delete what else it keeps."),
    (ReadOnlyError, "name the primary in shared=: this is a replica."),
    (BusyLoadingError, "wait until it has loaded what it keeps."),
    ("MISCONF", "see to its disk: it cannot save what it keeps."),
    ("max number of clients", "raise its maxclients, or close connections of others."),
)
_UNTRUSTED = {  # by what X.509 calls it
    9: "set the clock of this machine, or wait: the certificate is not valid yet.",
    10: "have the server's certificate renewed.",
    62: "name the host as the certificate does, or ?ssl_check_hostname=false",
    64: "name the host as the certificate does, or ?ssl_check_hostname=false",
}
_OUR_CERTIFICATE = (
    "the server wants a certificate of the client's that it trusts",
    "?ssl_certfile=/path/cert.pem&ssl_keyfile=/path/key.pem",
)
_NO_TLS = (
    (
        "WRONG_VERSION_NUMBER",
        "the server does not speak TLS there",
        "valkey:// in place of rediss://, or the port of its TLS.",
    ),
    ("CERTIFICATE_REQUIRED", *_OUR_CERTIFICATE),
    ("ALERT_HANDSHAKE_FAILURE", *_OUR_CERTIFICATE),
    ("ALERT_BAD_CERTIFICATE", *_OUR_CERTIFICATE),
    ("ALERT_UNKNOWN_CA", *_OUR_CERTIFICATE),
)


def _check_files(options: dict[str, Any], here: str) -> None:
    """Raise `InvalidSettings` for files of TLS that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    signers, certificate, key = (options.get(each) for each in _FILES)
    if key and not certificate:
        raise InvalidSettings(
            f"shared={here}: ssl_keyfile= without ssl_certfile=", fix=_OUR_CERTIFICATE[1]
        )
    said = f"ssl_ca_certs={shown(signers)}"
    try:
        if signers:
            context.load_verify_locations(signers)
        said = f"ssl_certfile={shown(certificate)}" + (f", ssl_keyfile={shown(key)}" if key else "")
        if certificate:  # nobody is asked for a passphrase
            context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        reason = (getattr(error, "reason", None) or "").replace("_", " ").lower()
        why = reason or ("it is no PEM" if isinstance(error, ssl.SSLError) else error.strerror)
        raise InvalidSettings(
            f"shared={here}: {said} cannot be read: {why}",
            fix="name a file in PEM form; a key is kept without a passphrase.",
        ) from None


def _flag(given: dict[str, str], name: str, here: str, otherwise: bool = False) -> bool:
    if name not in given:
        return otherwise
    if given[name] not in ("true", "false"):
        raise InvalidSettings(
            f"shared={here}: {name}={shown(given[name])} is not known", fix='"true" or "false".'
        )
    return given[name] == "true"


def _key(name: str) -> bytes:
    """The key of a ledger. What comes before a slash, of which the name of a key's ledger has one
    more, stands in braces: a cluster keeps what has the same there on one server.
    """
    slash = name.find("/", 1)
    tag, rest = (name, "") if slash < 0 else (name[:slash], name[slash:])
    tag = tag.replace("%", "%25").replace("}", "%7D")
    return f"{_KEY}{tag}}}{rest}".encode("utf-8", "surrogatepass")


def _name(key: bytes) -> str:
    """The name whose ledger is kept under `key`; where none is, that of another key."""
    tag, _, rest = key.decode("utf-8", "replace")[len(_KEY) :].partition("}")
    return tag.replace("%7D", "}").replace("%25", "%") + rest


def _decoded(text: bytes | str) -> Any:
    """What the script said: what is empty there is an empty list here."""
    return json.loads(text, object_pairs_hook=lambda pairs: dict(pairs) if pairs else [])
