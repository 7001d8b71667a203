"""``headway ctl``: look at and steer a scheduler of another process."""

import json
from typing import Annotated, Any

import typer

from headway.cli.command import garbage
from headway.cli.command.endings import refused
from headway.cli.command.streams import say, tell
from headway.errors import HeadwayError, InvalidLimit

__all__ = ["ctl"]

_DO = {
    "list": "",
    "status": "",
    "pause": "paused: nothing more is started",
    "resume": "goes on",
    "set": "other limits are in force",
    "drain": "drains: takes nothing more, and ends what it has",
    "clear": "cleared: {dropped:,} that were queued are dropped",
}
"""What may be asked for, and what is said of it when it is done."""

_OF_SET = ("--requests", "--tokens", "--input-tokens", "--output-tokens", "--concurrency")


def ctl(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|PID] [list|status|pause|resume|set|drain|clear]",
            help="Which one, where there are several, and what to do: list (the default), status, "
            "pause, resume, set (with limits), drain (take nothing more, end what is begun) or "
            "clear (drop what is queued).",
            show_default=False,
        ),
    ] = None,
    requests: Annotated[
        list[str] | None,
        typer.Option(
            "--requests", "--rate", help='set: the limit of requests, "300/min"; none lifts it.'
        ),
    ] = None,
    tokens: Annotated[
        list[str] | None, typer.Option("--tokens", help="set: the limit of tokens, or none.")
    ] = None,
    input_tokens: Annotated[
        list[str] | None,
        typer.Option("--input-tokens", help="set: that of the tokens of prompts, or none."),
    ] = None,
    output_tokens: Annotated[
        list[str] | None,
        typer.Option("--output-tokens", help="set: that of the tokens of answers, or none."),
    ] = None,
    concurrency: Annotated[
        str | None, typer.Option("--concurrency", help="set: requests in flight at most, or none.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="clear: only the jobs of this key, as status shows it."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what is known of it as JSON.")
    ] = False,
) -> None:
    """Look at a running process's scheduler, and steer it: headway.watch(scheduler) lets it be
    found, and headway run is by itself. Without arguments: those that there are.
    """
    try:
        which, do = _read(words or [])
        values = (requests, tokens, input_tokens, output_tokens, concurrency)
        given: dict[str, Any] = dict(zip(_OF_SET, values, strict=True))
        what = _limits(given) if do == "set" else {}
        if do != "set" and any(value is not None for value in given.values()):
            name = next(name for name, value in given.items() if value is not None)
            raise HeadwayError(f"{name} is for set, and this is {do}", fix=f"ctl set {name} …")
        if key is not None:
            if do != "clear":
                raise HeadwayError(f"--key is for clear, and this is {do}", fix="leave it out.")
            what["key"] = key
        said = _listed(as_json) if do == "list" else _asked(which, do, what, as_json)
    except (HeadwayError, OSError) as error:
        raise refused(error) from None
    tell(said)


def _read(words: list[str]) -> tuple[str | None, str]:
    """Which one is meant, None for the only one, and what to do; in whichever order."""
    if not words:
        return None, "list"
    if len(words) > 2:
        raise HeadwayError(f"{len(words)} words are too many", fix="headway ctl NAME pause.")
    *before, last = words
    if last in _DO:
        return (before[0] if before else None), last
    if not before:
        return last, "status"
    if before[0] in _DO:
        return last, before[0]
    raise HeadwayError(f"{last} is nothing that ctl does", fix=f"one of: {', '.join(_DO)}.")


def _limits(given: dict[str, Any]) -> dict[str, Any]:
    """The limits that were given, as a request names them."""
    from headway.rates import Rate

    found: dict[str, Any] = {}
    for option, value in given.items():
        name = option.removeprefix("--").replace("-", "_")
        if value is None:
            continue
        if value in ("none", ["none"]):
            found[name] = None
        elif name == "concurrency":
            if not value.isdecimal() or not int(value):
                raise InvalidLimit(
                    "--concurrency is a whole number from 1, or none", fix="--concurrency 32."
                )
            found[name] = int(value)
        else:
            for text in value:
                try:
                    Rate.parse(text)
                except InvalidLimit as error:
                    raise InvalidLimit(f"{option} {error.what}", fix=f"{option} 300/min.") from None
            found[name] = value
    if not found:
        raise HeadwayError("set names no limit", fix="headway ctl set --requests 300/min.")
    return found


def _listed(as_json: bool) -> str:
    from headway.cli.display.watched import line
    from headway.hooks.watch.client import NOTHING, look

    garbage.collect()
    found, problems = look()
    for each in problems:
        say(f"headway: {each}")
    if as_json:
        return json.dumps([each.status for each in found])
    lines = [f"{each}: {line(each.status)}" for each in found]
    return "\n".join(lines) or ("nothing else is watched here" if problems else NOTHING)


def _asked(which: str | None, do: str, what: dict[str, Any], as_json: bool) -> str:
    from headway.cli.display.watched import facts, key_lines, limit_lines
    from headway.hooks.watch.client import ask, choose

    garbage.collect()
    also = f"; or to do: {', '.join(_DO)}" if do == "status" else ""
    found = choose(which, also=also)
    status = found.status if do == "status" else ask(found.path, do, **what)
    if as_json:
        return json.dumps(status)
    lines = [
        *((name, said) for name, said, _ in facts(status)),
        *(("limit", said) for said in limit_lines(status)),
        *(("key", said) for said in key_lines(status)),
    ]
    head = f"{found} {_DO[do].format_map(status) or 'is watched'}"
    return "\n".join([head, *(f"  {name:<13} {said}" for name, said in lines)])
