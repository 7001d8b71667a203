"""The side of ``headway top`` and ``headway ctl``: who can be asked, and asking."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from headway._core.counters import Statistics
from headway.errors import HeadwayError
from headway.hooks.watch.folders import is_ours, watch_folders
from headway.hooks.watch.listeners import connect, pid_of
from headway.hooks.watch.protocol import (
    LIMITS,
    MOST_REPLY,
    VERSION,
    line,
    program,
    raise_error,
    read,
)
from headway.kinds._words import printable, with_fix

__all__ = ["NOTHING", "NoReply", "Target", "ask", "choose", "look"]

_PATIENCE = 6.0  # seconds for a reply: longer than the server takes for a change
_GLANCE = 2.0  # seconds, where all are asked
_AT_ONCE = 16
_STATISTICS = tuple(each.name for each in fields(Statistics))

_NOTHING = "nothing is watched here"
_HOW_TO = "headway.watch(scheduler) in the program; headway run is watched by itself."

NOTHING = with_fix(_NOTHING, _HOW_TO)


class NoReply(HeadwayError):
    """Who listens gave no reply that can be used."""


@dataclass(frozen=True, slots=True)
class Target:
    """A scheduler that can be asked: `status` is its reply to that."""

    path: Path
    status: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it is found under."""
        return printable(str(self.status.get("name", "")))

    @property
    def pid(self) -> str:
        """Its process, with a number where that has several: ``"1234"``, ``"1234-2"``."""
        return self.path.stem.removesuffix("-1")

    def __str__(self) -> str:
        return f"{self.name} ({self.pid})"


def ask(path: Path, do: str, *, seconds: float = _PATIENCE, **what: Any) -> dict[str, Any]:
    """The reply of who listens at `path`, within `seconds`.

    Raises `HeadwayError` with what it says went wrong, `NoReply` for no reply that can be used,
    and `OSError` where nobody listens.
    """
    who = path.stem.removesuffix("-1")
    connection, proof = connect(path, seconds)
    with connection:
        try:
            connection.sendall(line({"version": VERSION, "do": do, **proof, **what}))
            received = _received(connection)
        except TimeoutError:
            raise NoReply(
                f"process {who} gave no reply within {seconds:g} s: it is stopped, or its "
                "interpreter is at work in one call",
                fix="ask again; kill -CONT goes on with one that was stopped.",
            ) from None
    if not received:
        raise NoReply(f"process {who} was asked too much at once, or is about to end")
    try:
        reply = read(received)
    except ValueError:
        raise NoReply(
            f"process {who} gave a reply that is none of headway's",
            fix=f"remove {path}, if that process is not headway's.",
        ) from None
    _check_version(reply, who)
    raise_error(reply)
    if lacks := _lacking(reply):
        raise NoReply(
            f"process {who} gave a reply without {', '.join(lacks)}",
            fix=f"restart that program with headway {program()}.",
        )
    return reply


def _lacking(reply: Mapping[str, Any]) -> list[str]:
    """What a status has and `reply` does not: another version may have forgotten it."""
    statistics, limits = reply.get("statistics"), reply.get("limits")
    if not isinstance(statistics, dict):
        return ["statistics"]
    if not isinstance(limits, dict):
        return ["limits"]
    return [
        *(each for each in _STATISTICS if each not in statistics),
        *(each for each in LIMITS if each not in limits),
    ]


def look(*, since: Mapping[Path, float] | None = None) -> tuple[list[Target], list[str]]:
    """Every scheduler of this user's that is watched, by name; and what was in the way of others.

    With `since` the status has the history after so many seconds, of a path that is not in it all.
    What dead processes left is removed.
    """
    paths, problems = _paths()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = [*pool.map(partial(_glance, since=since), paths)]
    found = [each for each in answers if isinstance(each, Target)]
    problems += [each for each in answers if isinstance(each, str)]
    return sorted(found, key=lambda each: (each.name, len(each.pid), each.pid)), problems


def choose(which: str | None, *, also: str = "") -> Target:
    """The scheduler that has the name, or the process, `which`: None for the only one.

    Raises `HeadwayError` where there is none or more than one, with those that there are, and what
    `also` could have been meant by a name that is none.
    """
    found, problems = look()
    wanted = [each for each in found if which in (None, each.pid, each.path.stem)]
    wanted = wanted or [each for each in found if each.name == which]
    if len(wanted) == 1:
        return wanted[0]
    if not found:
        if problems:
            raise NoReply("; ".join(problems))
        raise HeadwayError(_NOTHING, fix=_HOW_TO)
    listed = ", ".join(str(each) for each in wanted or found)
    if wanted:
        raise HeadwayError(f"{len(wanted)} could be meant: {listed}", fix="give one by its number.")
    raise HeadwayError(
        "; ".join([f"nothing that is watched is called {printable(which or '')}", *problems]),
        fix=f"one of: {listed}{also}.",
    )


def _paths() -> tuple[list[Path], list[str]]:
    paths, problems = [], []
    for folder in watch_folders():
        try:
            if not is_ours(folder.stat()):
                problems.append(f"{folder} is somebody else's, and was left alone")
                continue
            inside = sorted(folder.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{folder} cannot be read: {error.strerror}")
            continue
        for path in inside:
            if pid_of(path) is None:
                continue
            with suppress(FileNotFoundError):
                if is_ours(path.lstat()):
                    paths.append(path)
                else:
                    problems.append(f"{path} is somebody else's, and was left alone")
    return paths, problems


def _glance(path: Path, *, since: Mapping[Path, float] | None) -> Target | str | None:
    """Who listens at `path`, or why that cannot be said; None for nobody any more."""
    wanted = {} if since is None else {"since": since.get(path, -1.0)}
    try:
        return Target(path, ask(path, "status", seconds=_GLANCE, **wanted))
    except ConnectionRefusedError:
        with suppress(OSError):
            path.unlink()
        return None
    except FileNotFoundError:
        return None
    except HeadwayError as error:
        return str(error)
    except OSError as error:
        return f"process {path.stem} cannot be asked: {error}"


def _received(connection: socket.socket) -> bytes:
    """What comes until the line ends; no more than the longest reply."""
    pieces: list[bytes] = []
    size = 0
    while size <= MOST_REPLY and (piece := connection.recv(65536)):
        pieces.append(piece)
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return b"".join(pieces)


def _check_version(reply: Mapping[str, Any], who: str) -> None:
    """Raise `NoReply` where who replied is of another version."""
    theirs, this = reply.get("version"), program()
    other = printable(str(reply.get("headway", "?"))[:20])
    if theirs == VERSION:
        return
    older = not isinstance(theirs, int) or theirs < VERSION
    raise NoReply(
        f"process {who} runs {'an older' if older else 'a newer'} headway, {other}, which speaks "
        f"version {str(theirs)[:20]} of what top and ctl ask; this one, {this}, speaks "
        f"{VERSION}",
        fix=f"restart that program with headway {this}, or ask it with headway {other}."
        if older
        else f"install headway {other} here too.",
    )
