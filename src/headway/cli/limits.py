"""``headway limits``: who holds what of limits that are shared."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli.command import garbage
from headway.cli.command.endings import refused
from headway.cli.command.streams import tell
from headway.errors import HeadwayError

if TYPE_CHECKING:
    from headway.shared.stores import Store
    from headway.shared.view import LedgerView

__all__ = ["limits"]

_EVERY = 0.5  # seconds between two looks


def limits(
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME_OR_URL",
            envvar="HEADWAY_SHARED",
            help="What shared= says: a name, or an address; one that holds a password is better "
            "read from the variable. Left out: the names on this machine.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one look as JSON.")] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget the limits, and all that was used of them.")
    ] = False,
) -> None:
    """Who shares limits now: what each worker holds, what binds, and who waits."""
    import anyio

    from headway.kinds._words import shown
    from headway.shared.stores import StoreAway
    from headway.shared.stores.places import names_here, open_store

    garbage.collect()
    if where is None:
        if reset:
            raise refused(
                HeadwayError("--reset forgets one name, and none was given", fix="name it.")
            )
        found = names_here()
        lines = "\n".join(name if name.isprintable() else shown(name) for name in found)
        tell(json.dumps(found) if as_json else lines or "no limits are shared here")
        return
    try:
        store, name = open_store(where)
        if reset:
            gone = anyio.run(store.reset, name)
            tell(f"forgotten: {store.where}" if gone else f"nothing is kept at {store.where}")
        elif as_json:
            called = store.where if "://" in where else where  # what a program compares
            looked = anyio.run(_look, store, name, called)
            tell(json.dumps([each.as_dict() for each in looked]))
        else:
            _show(store, name)
    except StoreAway as away:
        raise refused(HeadwayError(f"the store gave no reply: {away}", fix=away.fix)) from None
    except (HeadwayError, OSError) as error:
        raise refused(error) from None


async def _look(store: "Store", name: str, called: str) -> "list[LedgerView]":
    """The ledger `name`, which is `called` so, then those of its keys."""
    from headway.shared.view import view_of

    found = []
    for each in await store.names():
        if each == name or each.startswith(name + "/"):
            state = await store.read(each)
            if state is not None:
                found.append(view_of(called + each[len(name) :], state))
    return found


def _show(store: "Store", name: str) -> None:
    """Print one look; on a terminal look again until Ctrl-C."""
    import time

    import anyio
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from headway.shared.stores import StoreAway

    def text() -> str:
        found = anyio.run(_look, store, name, store.where)
        if not found:
            return f"nothing is kept at {store.where}: no worker has shared limits there yet"
        return "\n".join(line for each in found for line in each.lines())

    console = Console()
    if not console.is_terminal:
        tell(text())
        return
    last = text()
    with Live(Text(last), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_EVERY)
                try:
                    last, away = text(), ""
                except StoreAway as error:  # who watches wants to see it come back
                    away = f"\nthe store gave no reply: {error}"
                live.update(Text(last + away), refresh=True)
        except KeyboardInterrupt:
            return
