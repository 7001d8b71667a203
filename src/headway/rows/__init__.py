"""One prompt for each row of a data set, under limits that processes share: `Ask`.

`Ask` is a row function for the engines that people run: Hugging Face ``Dataset.map``, Ray Data,
Daft, pandas, polars, pyarrow. It is pickled into their workers; each process makes one scheduler
from it, at its first row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from inspect import signature
from types import CodeType
from typing import Any

from headway._core.counters import Statistics
from headway._core.refusals.retry import Retry
from headway._runtime.checks import check_flag, read_retry
from headway.bulk.input.formats import Request
from headway.bulk.input.shapes import Shape
from headway.bulk.input.tables import PromptReader
from headway.bulk.input.urls import resolve_endpoint
from headway.bulk.options import TIMEOUT
from headway.errors import InvalidArgument
from headway.kinds._words import shown
from headway.providers import Endpoint, InvalidSettings, find_endpoint
from headway.rates import Limits, RateLike, is_number
from headway.rows._tables import Column, cell, columns_in, values_in, with_columns
from headway.rows._worker import Said, Setup, Worker, arrived, result_of, retire, worker_of
from headway.shared import Shared

__all__ = ["Ask", "Batches"]

_PATIENCE = 900.0  # seconds: a row that fails is a hole in somebody's data set
_OF_THE_BODY = {
    "model": "model=", "messages": "prompt= and system=", "prompt": "prompt=", "input": "prompt=",
}  # fmt: skip
_UNCHECKED = "a-key"


class Ask:
    """Asks a model about each row: ``ask = Ask(model="…", prompt="Translate: {text}")``.

    ``await ask(row)`` is the row, a dict, with the text of the answer in the column `into`, and
    ``<into>_error``, which is None where it worked. ``ask.batch(table)`` does the same for all rows
    of a batch, as many at a time as the limits allow; ``await ask.abatch(table)`` without keeping
    the event loop. Batches are mappings of columns, pandas and polars DataFrames, and tables and
    batches of pyarrow's; what is returned is of the same kind.

    `prompt` names columns in braces; ``{{`` is a brace. `system` is the system message, `params`
    are further members of each request's body, `max_tokens` and `temperature` those of these names.
    `usage` adds ``<into>_input_tokens`` and ``<into>_output_tokens``.

    `provider`, `base_url`, `api_key` and `headers` are those of `headway.bulk.find_endpoint`; a key
    that is not given is read where the rows are asked, and so is not pickled. `endpoint` is
    ``"chat"``, ``"completions"``, ``"responses"``, … `limits` is a `Limits`, or a rate such as
    ``"600/min"``; with none, they are found. They hold for one process, or, with `shared`
    (`Scheduler` says of what), for all that name it. `retry` is by default a `Retry` with a
    patience of 900 s, `timeout` the seconds that one answer may take.

    It is picklable, and works in every process, thread and event loop: the scheduler and its
    connections live in a thread of their own, made at the first row of a process. Two that differ
    in no more than the prompt use the same one there.

    Raises `InvalidArgument` for what cannot be meant; the calls raise it for rows that lack a
    column of the prompt's, and `InvalidSettings` where there is no key. Everything that befalls one
    row is in its error column.
    """

    # What `inspect.iscoroutinefunction` looks at: Dataset.map awaits no callable that is none.
    __name__ = "Ask"
    __defaults__ = None
    __kwdefaults__ = None
    __code__: CodeType

    def __init__(
        self,
        *,
        prompt: str,
        model: str,
        into: str = "answer",
        provider: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        params: Mapping[str, object] | None = None,
        usage: bool = False,
        endpoint: str = "chat",
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | RateLike | None = None,
        shared: str | Shared | None = None,
        retry: Retry | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._given: dict[str, Any] = {
            "prompt": prompt, "model": model, "into": into, "provider": provider, "system": system,
            "max_tokens": max_tokens, "temperature": temperature, "usage": usage,
            "params": dict(params) if isinstance(params, Mapping) else params,
            "endpoint": endpoint, "base_url": base_url, "api_key": api_key,
            "headers": dict(headers) if isinstance(headers, Mapping) else headers,
            "limits": limits, "shared": shared, "retry": retry, "timeout": timeout,
        }  # fmt: skip
        for name in ("prompt", "model", "into"):
            _check_text(name, self._given[name])
        if system is not None:
            _check_text("system", system)
        self._into = into
        self._usage = check_flag("usage", usage, "have columns of tokens")
        self._limits = _limits_of(limits)
        self._retry = _hashable(Retry(patience=_PATIENCE) if retry is None else read_retry(retry))
        if not (is_number(timeout) and 0 < timeout < float("inf")):
            raise InvalidArgument(
                f"timeout={shown(timeout)} is no time that an answer may take: a number of seconds "
                "above 0",
                fix="timeout=600, as it is where nothing is said.",
            )
        _check_shared(shared)
        find_endpoint(provider, base_url, api_key or _UNCHECKED, headers=headers)
        self._reader = PromptReader(
            resolve_endpoint(endpoint)
            if isinstance(endpoint, str)
            else _no_text("endpoint", endpoint),
            Shape(
                model=model, template=prompt, system=system,
                parameters=_parameters(params, max_tokens=max_tokens, temperature=temperature),
            ),
        )  # fmt: skip
        self._columns = list(dict.fromkeys(self._reader.columns()))
        self.__signature__ = signature(self.__call__)  # by its code it would have a `self`

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self._given,)

    def __repr__(self) -> str:
        given = self._given
        named = ", ".join(f"{name}={shown(given[name])}" for name in ("prompt", "model", "into"))
        return f"Ask({named})"

    async def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`row` with its answer. Raises `InvalidArgument` where it lacks a column."""
        if not isinstance(row, Mapping):
            raise InvalidArgument(
                f"a row is a mapping of columns to values, not {shown(row)}",
                fix="ask.batch(...) for a whole table.",
            )
        self._check_columns(row)
        worker = worker_of(self._setup())
        request = self._request_of({name: row[name] for name in self._columns})
        if isinstance(request, Request):
            said = await arrived(worker.start(worker.answer, request))
        else:
            said = request
        return {**row, **{name: values[0] for name, _, values in self._said([said])}}

    def batch(self, table: Any) -> Any:
        """`table` with the answers of all of its rows; this thread waits for them.

        It may be called where an event loop runs, which then waits too. Raises `InvalidArgument`
        for what is no batch, or lacks a column.
        """
        worker, rows, requests = self._begin(table)
        return self._end(table, rows, result_of(worker.start(worker.answers, requests)))

    async def abatch(self, table: Any) -> Any:
        """The same, for which this task waits."""
        worker, rows, requests = self._begin(table)
        return self._end(table, rows, await arrived(worker.start(worker.answers, requests)))

    def features(self, of: Any) -> Any:
        """The ``datasets.Features`` of a data set, or of its features, with the columns of `Ask`:
        ``data.map(ask, features=ask.features(data))``.

        Without them `datasets` takes the types from the first 1,000 rows, where an error column is
        all None, and fails at the first row that has an error.
        """
        datasets: Any = import_module("datasets")

        types = {str: "string", int: "int64"}
        added = {name: datasets.Value(types[kind]) for name, kind, _ in self._said([])}
        return datasets.Features({**getattr(of, "features", of), **added})

    def statistics(self) -> Statistics:
        """Those of this process's scheduler."""
        worker = worker_of(self._setup())
        return result_of(worker.start(worker.statistics))

    def close(self) -> None:
        """End this process's scheduler and connections; what it does is cancelled.

        The end of the process does so too. The next row begins anew, and no longer knows of a key
        that was refused.
        """
        with suppress(InvalidSettings):  # without a key there is none
            retire(self._setup())

    # One batch's way

    def _begin(self, table: Any) -> tuple[Worker, list[Request | Said], list[Request]]:
        self._check_columns(columns_in(table))
        worker = worker_of(self._setup())
        names = self._columns
        count = len(values_in(table, names[0])) if names else _rows_in(table)
        columns = [values_in(table, name) for name in names]
        rows = [
            self._request_of(
                {name: column[at] for name, column in zip(names, columns, strict=True)}
            )
            for at in range(count)
        ]
        return worker, rows, [row for row in rows if isinstance(row, Request)]

    def _end(self, table: Any, rows: list[Request | Said], answers: list[Said]) -> Any:
        left = iter(answers)
        said = [next(left) if isinstance(row, Request) else row for row in rows]
        return with_columns(table, list(self._said(said)))

    def _check_columns(self, there: Iterable[str]) -> None:
        there = list(there)
        for name in self._columns:
            if name not in there:
                raise InvalidArgument(
                    f"the prompt names the column {name!r}, and the rows have none of that name",
                    fix="name one of these in its braces, and write {{ for a brace: "
                    f"{', '.join(map(str, there[:50])) or 'there are none'}.",
                )

    def _request_of(self, row: Mapping[str, Any]) -> Request | Said:
        cells = {}
        for name, value in row.items():
            try:
                cells[name] = cell(value)
            except ValueError as error:
                return Said(None, f"invalid_value: the column {name!r} cannot be asked: {error}")
            if cells[name] is None:
                return Said(None, f"missing_value: the column {name!r} is empty in this row")
        prompt = self._reader.prompt_of(cells)
        if not prompt.strip():
            return Said(None, "empty_prompt: the prompt of this row is empty")
        return self._reader.request(1, "row", prompt)

    def _said(self, said: list[Said]) -> Iterator[Column]:
        into = self._into
        yield into, str, [each.text for each in said]
        yield f"{into}_error", str, [each.error for each in said]
        if self._usage:
            yield f"{into}_input_tokens", int, [each.input_tokens for each in said]
            yield f"{into}_output_tokens", int, [each.output_tokens for each in said]

    def _setup(self) -> Setup:
        given = self._given
        return Setup(
            endpoint=self._endpoint(),
            model=given["model"],
            limits=self._limits,
            shared=given["shared"],
            retry=self._retry,
            timeout=given["timeout"],
        )

    def _endpoint(self) -> Endpoint:
        given = self._given
        return find_endpoint(
            given["provider"], given["base_url"], given["api_key"], headers=given["headers"]
        )


Ask.__code__ = Ask.__call__.__code__


def _made(given: dict[str, Any]) -> Ask:
    return Ask(**given)


class Batches:
    """`Ask` for engines that make an object in each actor, and hand it batches.

    Ray Data gives an actor so many batches at a time that none waits for the slowest row of the one
    before: ``data.map_batches(Batches, fn_constructor_args=(ask,), batch_format="pyarrow", compute=
    ActorPoolStrategy(size=4, max_concurrent_calls_per_actor=4))``.
    """

    def __init__(self, ask: Ask) -> None:
        if not isinstance(ask, Ask):
            raise InvalidArgument(
                f"{shown(ask)} is not an Ask",
                fix="map_batches(Batches, fn_constructor_args=(ask,), …).",
            )
        self._ask = ask

    async def __call__(self, batch: Any) -> Any:
        """`batch` with its answers, as `Ask.abatch` has it."""
        return await self._ask.abatch(batch)


def _rows_in(table: Any) -> int:
    names = columns_in(table)
    return len(values_in(table, names[0])) if names else 0


def _limits_of(limits: Limits | RateLike | None) -> Limits:
    found = limits if isinstance(limits, Limits) else Limits(limits)
    if found.shared:
        raise InvalidArgument(
            "limits= holds a limiter of another library's, which one process alone can ask",
            fix='limits=Limits("600/min"), and shared="a-name" for all processes.',
        )
    return found


def _hashable(retry: Retry) -> Retry:
    """`retry`, by which a worker is found again."""
    on = retry.on
    return replace(retry, on=frozenset(on)) if isinstance(on, Collection) else retry


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        _no_text(name, value)


def _no_text(name: str, value: object) -> Any:
    raise InvalidArgument(f"{name}={shown(value)} is no text", fix=_TEXTS[name])


_TEXTS = {
    "prompt": 'prompt="Translate: {text}", with columns in braces.',
    "model": 'model="the name of one of the provider\'s".',
    "into": 'into="answer", the column for the answers.',
    "system": 'system="You are a translator.", or leave it out.',
    "endpoint": 'endpoint="chat", or leave it out.',
}


def _parameters(params: object, **named: object) -> dict[str, object]:
    """The members of a body that the user gives."""
    if params is not None and not (
        isinstance(params, Mapping) and all(isinstance(name, str) for name in params)
    ):
        raise InvalidArgument(
            f"params={shown(params)} is not a mapping of names to values",
            fix='params={"top_p": 0.9}, or leave it out.',
        )
    found: dict[str, object] = dict(params or {})
    for name, instead in _OF_THE_BODY.items():
        if name in found:
            raise InvalidArgument(
                f"params= would take the place of what {instead} says", fix=f"leave out {name!r}."
            )
    for name, value in named.items():
        if value is None:
            continue
        if name in found:
            raise InvalidArgument(
                f"{name} is said twice, by {name}= and in params=", fix="leave one of them out."
            )
        whole = name != "max_tokens" or (isinstance(value, int) and value > 0)
        if not is_number(value) or not whole:
            raise InvalidArgument(
                f"{name}={shown(value)} is no number that it can be",
                fix=f"{name}={'256' if name == 'max_tokens' else '0.0'}, or leave it out.",
            )
        found[name] = value
    return found


def _check_shared(shared: object) -> None:
    """Raise `InvalidArgument` for what names no shared limits. Nothing is opened."""
    if shared is None or isinstance(shared, Shared):
        return
    if not isinstance(shared, str) or not shared.strip():
        raise InvalidArgument(
            f"shared={shown(shared)} is neither a name nor an address",
            fix='shared="my-account", an address, or a Shared.',
        )
