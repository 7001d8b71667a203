"""Ledgers in Postgres: for many machines that share a database already.

A ledger is a row of the table ``headway_limits``, which is made where it is missing. A call locks
its rows, in the order of their names, steps the ledgers here, and writes them back: two trips, and
nothing that outlasts the transaction, so that a pooler may stand between. They are made by libpq
itself: with psycopg's cursors a call takes three times as much of the processor, while others wait
for the row. What the server loses in a crash is some newest calls (`synchronous_commit` is off),
which the workers tell it again.
"""

from __future__ import annotations

import os
import socket
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.to_thread import run_sync

from headway.errors import MissingExtra
from headway.kinds._words import hidden, shown
from headway.providers import InvalidSettings
from headway.shared.ledger import seen, step_all
from headway.shared.stores import Calls, Replies, StoreAway, packed, unpacked
from headway.shared.stores.addresses import ledger_name

try:
    import psycopg
    from psycopg import errors
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import DiagnosticField, Escaping, ExecStatus
    from psycopg.pq.abc import PGresult
except ImportError as error:
    raise MissingExtra(
        "limits are shared over Postgres with the package psycopg, which is not installed",
        fix="install it with: pip install 'headway[postgres]'",
    ) from error

__all__ = ["PostgresStore"]

T = TypeVar("T")

_MARK = b"headway3:"  # before the state; another number for another shape of it
_OLDEST = 120000
_PATIENCE = 0.25  # seconds for the call before
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off; "
    "SET LOCAL lock_timeout = '150ms'; SET LOCAL statement_timeout = '200ms'; "
)
_CLOCK = "extract(epoch FROM clock_timestamp())::float8"
# The clock is read when the rows are locked: what is selected with them is read before.
_TAKE = (
    "WITH locked AS MATERIALIZED (SELECT name, state FROM headway_limits WHERE name IN ({names}) "
    'ORDER BY name COLLATE "C" FOR UPDATE) '
    f"SELECT name, state, {_CLOCK} FROM locked"
)
_INSERT = "INSERT INTO headway_limits VALUES ({name}, '') ON CONFLICT (name) DO NOTHING; "
_UPDATE = "UPDATE headway_limits SET state = decode('{state}', 'hex') WHERE name = {name}; "
# Two that make it at once would meet in the catalogue, whatever IF NOT EXISTS says.
_CREATE = (
    "BEGIN; SELECT pg_advisory_xact_lock(hashtext('headway_limits')); "
    "CREATE TABLE IF NOT EXISTS headway_limits (name text PRIMARY KEY, state bytea NOT NULL); "
    "COMMIT"
)
_FIX = '"postgresql://host/database/my-account".'


class PostgresStore:
    """The database at an address: ``postgresql://user@host/database/my-account?sslmode=require``."""

    def __init__(self, where: str, options: dict[str, Any]) -> None:
        self.where = where
        self._options = options  # as libpq takes them
        self._cursor: psycopg.ClientCursor[Any] | None = None
        self._lock = threading.Lock()
        self._limiter: anyio.CapacityLimiter | None = None

    @classmethod
    def of_url(cls, url: str) -> tuple[PostgresStore, str]:
        """The store that `url` names, and the name of the ledger in it: the last part of its path.

        The rest is an address of libpq's, with its parameters (``sslmode``, ``host`` for the folder
        of a socket, several hosts). What it leaves out is read where libpq reads it: in
        ``PGPASSWORD``, and in the files of passwords and services.
        """
        here = shown(hidden(url))
        address, _, query = url.partition("?")
        server, _, rest = address.partition("://")[2].partition("/")
        database, _, last = rest.rpartition("/")
        if "#" in url or "/" in database or not database:
            raise InvalidSettings(
                f"shared={here} names no database and limits: /database/my-account", fix=_FIX
            )
        try:
            options = conninfo_to_dict(
                f"postgresql://{server}/{database}" + (f"?{query}" if query else "")
            )
        except (psycopg.ProgrammingError, ValueError):
            raise InvalidSettings(
                f"shared={here} is no address of a database, or has a parameter that libpq does "
                "not know",
                fix=f"{_FIX} Characters such as @ and / in a password are %-encoded.",
            ) from None
        ours: dict[str, Any] = {
            "application_name": "headway",
            "client_encoding": "utf8",
            "connect_timeout": 2,
            "tcp_user_timeout": 2000,  # a machine that is gone says nothing at all
        }
        return cls(hidden(url), {**ours, **options}), ledger_name(last, url)

    def again(self) -> PostgresStore:
        """The same database, with a connection of its own."""
        return PostgresStore(self.where, self._options)

    async def call(self, calls: Calls) -> Replies:
        """Step the ledgers that `calls` names, in one transaction."""
        return await self._in_thread(partial(self._step, calls))

    async def read(self, name: str) -> dict[str, Any] | None:
        """The state of the ledger `name`."""
        return await self._in_thread(partial(self._read, _row(name)))

    async def names(self) -> list[str]:
        """The names of the ledgers in the table."""
        return await self._in_thread(self._names)

    async def reset(self, name: str) -> bool:
        """Forget the ledger `name`, and those of its keys."""
        return await self._in_thread(partial(self._reset, _row(name)))

    async def aclose(self) -> None:
        """Close the connection."""
        self._hang_up()
        with anyio.CancelScope(shield=True):
            await run_sync(self._close)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(4)
        try:
            return await run_sync(
                partial(self._guarded, work), abandon_on_cancel=True, limiter=self._limiter
            )
        except anyio.get_cancelled_exc_class():
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        """End what a thread waits for: a server that stands still would hold it for ever."""
        cursor = self._cursor
        if cursor is None or not self._lock.locked():
            return
        try:
            with socket.socket(fileno=os.dup(cursor.connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
        except (OSError, psycopg.Error):
            pass  # it has ended by itself

    def _guarded(self, work: Callable[[], T]) -> T:
        """`work`, alone on the connection."""
        if not self._lock.acquire(timeout=_PATIENCE):
            raise StoreAway(f"{self.where}: the call before has not been answered")
        try:
            cursor = self._opened()
            try:
                return work()
            except errors.UndefinedTable:
                cursor.execute("ROLLBACK")
                self._create(cursor)
                return work()
        except psycopg.Error as error:
            self._roll_back()
            raise self._what(error) from error
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._lock.release()

    def _step(self, calls: Calls) -> Replies:
        line = self._opened().connection.pgconn
        rows = {name: _row(name).encode() for name in calls}
        said = {row: Escaping(line).escape_literal(row).decode() for row in sorted(rows.values())}
        take = _TAKE.format(names=", ".join(said.values()))
        found = _done(line.exec_((_BEGIN + take).encode()))
        if found.ntuples < len(said):
            missing = "".join(_INSERT.format(name=each) for each in said.values())
            found = _done(line.exec_((missing + take).encode()))
        kept: dict[bytes, bytes] = {}
        now = 0.0
        for index in range(found.ntuples):
            row, text, clock = (found.get_value(index, column) for column in range(3))
            assert row is not None
            assert text is not None
            assert clock is not None
            kept[row], now = Escaping().unescape_bytea(text), float(clock)
        before = [
            self._decoded(old, call["id"]) if (old := kept[rows[name]]) else None
            for name, call in calls.items()
        ]
        states, replies = step_all(before, [*calls.values()], now)
        updates = ""
        for row, state in zip(rows.values(), states, strict=True):
            text = _MARK + zlib.compress(packed(state), 1)
            updates += _UPDATE.format(name=said[row], state=text.hex())
        _done(line.exec_((updates + "COMMIT").encode()))
        return dict(zip(calls, replies, strict=True))

    def _read(self, name: str) -> dict[str, Any] | None:
        cursor = self._opened()
        cursor.execute(
            f"SELECT state, {_CLOCK} FROM headway_limits WHERE name = %(name)s", {"name": name}
        )
        row = cursor.fetchone()
        if row is None or not row[0]:
            return None
        return seen(self._decoded(bytes(row[0])), float(row[1]))

    def _names(self) -> list[str]:
        cursor = self._opened()
        cursor.execute("SELECT name FROM headway_limits")
        return sorted(row[0] for row in cursor.fetchall())

    def _reset(self, name: str) -> bool:
        cursor = self._opened()
        cursor.execute(
            "DELETE FROM headway_limits WHERE name = %(name)s OR starts_with(name, %(keys)s)",
            {"name": name, "keys": f"{name}/"},
        )
        return cursor.rowcount > 0

    def _decoded(self, stored: bytes, worker: str | None = None) -> dict[str, Any]:
        if stored.startswith(_MARK):
            with suppress(zlib.error, EOFError, ValueError, TypeError, LookupError):
                return unpacked(zlib.decompress(stored[len(_MARK) :]), worker)
        raise InvalidSettings(
            f"shared limits at {self.where}: what is kept under that name is of another version of "
            "headway",
            fix="use one version in all workers, or name other limits in the address.",
        )

    def _create(self, cursor: psycopg.ClientCursor[Any]) -> None:
        try:
            cursor.execute(_CREATE)
        except errors.InsufficientPrivilege as error:
            raise InvalidSettings(
                f"shared limits at {self.where}: the table headway_limits is missing, and the user "
                "may not make it",
                fix="have it made: CREATE TABLE headway_limits (name text PRIMARY KEY, state bytea "
                "NOT NULL); GRANT SELECT, INSERT, UPDATE, DELETE ON headway_limits TO the user.",
            ) from error

    def _opened(self) -> psycopg.ClientCursor[Any]:
        if self._cursor is not None and not self._cursor.connection.closed:
            return self._cursor
        self._drop()
        connection = psycopg.connect(
            **self._options, autocommit=True, cursor_factory=psycopg.ClientCursor
        )
        if connection.info.server_version < _OLDEST:
            connection.close()
            raise InvalidSettings(
                f"shared limits at {self.where}: the server is too old: Postgres "
                f"{connection.info.server_version // 10000}",
                fix="Postgres 12 or later.",
            )
        self._cursor = psycopg.ClientCursor(connection)
        return self._cursor

    def _close(self) -> None:
        with self._lock:
            self._drop()

    def _roll_back(self) -> None:
        """Leave a transaction that failed; a connection that cannot is closed."""
        if self._cursor is None:
            return
        try:
            self._cursor.execute("ROLLBACK")
        except psycopg.Error:
            self._drop()

    def _drop(self) -> None:
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            cursor.connection.close()

    def _what(self, error: Exception) -> Exception:
        """What `error` means: away for now, or until somebody mends it."""
        state = getattr(error, "sqlstate", None) or _spoken(str(error))
        if state in _PERMANENT:
            why, fix = _PERMANENT[state]
            return InvalidSettings(f"shared limits at {self.where}: {why}", fix=fix)
        said = f"{self.where}: {_first_line(error)}"
        return StoreAway(said, _PASSING[state]) if state in _PASSING else StoreAway(said)


_PASSWORD = (
    "the user or the password is wrong, or missing",
    "correct it in the address (%-encoded), in PGPASSWORD or in the file of passwords.",
)
_FOREIGN = (
    "the table headway_limits is none of headway's",
    "rename that table, or name another database.",
)
_PERMANENT = {
    "28P01": _PASSWORD,
    "28000": _PASSWORD,
    "3D000": ("there is no such database", "make it: createdb NAME, or name another."),
    "42501": (
        "the user may not use the table headway_limits",
        "allow it: GRANT SELECT, INSERT, UPDATE, DELETE ON headway_limits TO the user.",
    ),
    "42703": _FOREIGN,
    "42804": _FOREIGN,
    "42809": _FOREIGN,
    "42P10": _FOREIGN,
    "42883": _FOREIGN,
    "22P02": _FOREIGN,
    "23502": _FOREIGN,
    "55000": _FOREIGN,
    "22P05": (
        "the name has a character that the database's encoding has not",
        "a name in plain letters, or a database in UTF8.",
    ),
    "certificate": (
        "the server's certificate is not trusted",
        "name who signed it: ?sslrootcert=/path/ca.pem",
    ),
    "host": (
        "the server's certificate is of another host",
        "name the host as the certificate does, or ?sslmode=verify-ca",
    ),
    "files": (
        "a file of certificates, keys or services cannot be read, or has not what is named",
        "correct ?sslrootcert=, ?sslcert=, ?sslkey= or ?service=.",
    ),
    "plain": (
        "the server does not speak TLS",
        "turn it on there (ssl = on), or ?sslmode=disable where nobody listens.",
    ),
    "connect": (
        "the user may not connect to that database",
        "allow it: GRANT CONNECT ON DATABASE name TO the user.",
    ),
}
# What ends by itself, or when somebody sees to it.
_CONNECTIONS = "raise max_connections or the user's CONNECTION LIMIT, or use a pooler."
_PASSING = {
    "25006": "name the primary in shared=: ?target_session_attrs=read-write",
    "53300": _CONNECTIONS,
    "53100": "free some space on its disk.",
}


def _spoken(text: str) -> str:
    """The kind of an error while connecting, for which libpq has no code."""
    for words, state in (
        ("password authentication failed", "28P01"),
        ("no password supplied", "28P01"),
        ("authentication failed", "28000"),
        ("no pg_hba.conf entry", "28000"),
        ("too many connections", "53300"),
        ("too many clients", "53300"),
        ("remaining connection slots", "53300"),
        ('role "', "28000"),
        ("certificate verify failed", "certificate"),
        ("does not match host name", "host"),
        ("root certificate file", "files"),
        ("certificate file", "files"),
        ("private key file", "files"),
        ("definition of service", "files"),
        ("service file", "files"),
        ("server does not support SSL", "plain"),
        ("permission denied for database", "connect"),
    ):
        if words in text:
            return state
    if "FATAL:  database" in text and "does not exist" in text:
        return "3D000"
    return ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _done(result: PGresult) -> PGresult:
    """The `result` of some statements. Raises what one of them, or the line, failed of."""
    if result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        return result
    code = result.error_field(DiagnosticField.SQLSTATE)
    kind = errors.lookup(code.decode()) if code else psycopg.OperationalError
    raise kind(result.get_error_message())


def _row(name: str) -> str:
    """`name` as the key of a row: a text there holds no NUL, and no half of a character."""
    return name.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
