"""What tokens cost: a table of the user's first, then the prices that genai-prices ships.

Nothing is fetched: genai-prices goes to the network only where its ``UpdatePrices`` is started,
which is not done here. What a model costs is looked up once and kept.
"""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from headway.errors import InvalidArgument, MissingExtra
from headway.kinds._words import a, shown, size
from headway.providers import provider_named
from headway.rates import is_number

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

__all__ = ["InvalidPrices", "Price", "Prices"]

# Sellers that genai-prices knows by another name and that are no providers of ours. A name that
# stands nowhere goes as it is.
_SELLERS = {"bedrock": "aws", "kimi": "moonshotai", "moonshot": "moonshotai", "z.ai": "zai"}

# Beyond so many names nothing new is looked up: the largest table has 900 models, and a name that
# it does not hold costs 0.3 ms to find out.
_MOST_MODELS = 2048
_LONGEST_NAME = 256
_MOST_BYTES = 16 * 2**20

# Seconds after which prices that depend on the date or the time of day are read again.
_RECHECK = 300.0

_INFINITY = float("inf")
_KEYS = ("input", "output", "cached")
_EXAMPLE = '{"my-model": {"input": 0.60, "output": 1.20}}'


class InvalidPrices(InvalidArgument):
    """A table of prices that cannot be read or cannot be meant."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens. `cached` is for input that came from a cache (as `input`)."""

    input: float
    output: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in _KEYS:
            value = getattr(self, name)
            if value is None and name == "cached":
                continue
            if not (is_number(value) and 0 <= value < _INFINITY):
                raise InvalidPrices(
                    f"{name}={shown(value)} is not a price: it is dollars per million tokens, a "
                    "finite number from 0",
                    fix="a number without quotes, like 0.60.",
                )


class _Steps(NamedTuple):
    """A price that changes, for all tokens, where the input is longer than `start`."""

    base: float
    tiers: tuple[tuple[float, float], ...]  # start, price; ascending

    def at(self, input_tokens: float) -> float:
        price = self.base
        for start, above in self.tiers:
            if input_tokens > start:
                price = above
        return price


class _Rates(NamedTuple):
    """Dollars per token (`request`: per request)."""

    input: _Steps
    output: _Steps
    cached: _Steps
    request: float
    stepped: bool
    until: float  # seconds since the epoch: when to look again


class Prices:
    """The prices of models: `table` (by model, of any provider), then those of genai-prices.

    `wall_time` gives the seconds since the epoch, for prices that depend on the date. Raises
    `InvalidPrices` for a table that is none, and for a `wall_time` that cannot be called.
    """

    def __init__(
        self,
        table: Mapping[str, Price] | None = None,
        *,
        wall_time: Callable[[], float] = time.time,
    ) -> None:
        if not callable(wall_time):
            raise InvalidPrices(
                f"wall_time={shown(wall_time)} is not a function", fix="time.time, or leave it out."
            )
        self._table = {model: _own(price) for model, price in _checked(table).items()}
        self._wall_time = wall_time
        self._known: dict[tuple[str, str], _Rates | None] = {}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Prices:
        """Prices with the table in `path` on top, TOML or JSON by its suffix.

        ``{"model": {"input": dollars per million tokens, "output": …, "cached": …}}``, where
        `cached` may be left out. Raises `InvalidPrices`.
        """
        if not isinstance(path, str | os.PathLike):
            raise InvalidPrices(
                f"{shown(path)} is not the path of a file",
                fix='the path of a file of prices, or Prices({"my-model": Price(0.60, 1.20)}).',
            )
        return cls(_read_table(Path(path)))

    @property
    def own(self) -> Container[str]:
        """The models that the user's table names."""
        return self._table.keys()

    def cost(
        self,
        provider: str,
        model: str,
        input_tokens: float,
        output_tokens: float,
        cached_tokens: float = 0,
    ) -> float | None:
        """Dollars for one request; None for a model whose price nobody knows.

        `input_tokens` counts all of them, the `cached_tokens` too.
        """
        rates = self._table.get(model)
        if rates is None:
            key = (provider, model)
            try:
                rates = self._known[key]
            except KeyError:
                rates = self._look_up(key)
            if rates is None:
                return None
            if rates.until < _INFINITY and self._wall_time() >= rates.until:
                del self._known[key]
                rates = self._look_up(key)
                if rates is None:  # pragma: no cover - a table of prices does not shrink
                    return None
        if cached_tokens > input_tokens:
            cached_tokens = input_tokens
        if rates.stepped:
            a, b, c = (part.at(input_tokens) for part in rates[:3])
        else:
            a, b, c = rates[0][0], rates[1][0], rates[2][0]
        fresh = input_tokens - cached_tokens
        return fresh * a + output_tokens * b + cached_tokens * c + rates[3]

    def _look_up(self, key: tuple[str, str]) -> _Rates | None:
        if len(self._known) >= _MOST_MODELS:
            return None
        rates = None
        provider, model = key
        if len(model) <= _LONGEST_NAME and len(provider) <= _LONGEST_NAME:
            rates = _find(provider, model, self._wall_time())
            self._known[key] = rates
        return rates


def _checked(table: object) -> Mapping[str, Price]:
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        raise InvalidPrices(
            f"table={shown(table)} is not a mapping of models to prices",
            fix='{"my-model": Price(0.60, 1.20)}, or Prices.read(path) for a file.',
        )
    for model, price in table.items():
        if not isinstance(price, Price):
            raise InvalidPrices(
                f"the price of {shown(model)} is {shown(price)}, not a Price",
                fix="Price(0.60, 1.20), in dollars per million tokens.",
            )
    return table


def _own(price: Price) -> _Rates:
    cached = price.input if price.cached is None else price.cached
    a, b, c = (_Steps(value / 1e6, ()) for value in (price.input, price.output, cached))
    return _Rates(a, b, c, request=0.0, stepped=False, until=_INFINITY)


# -- genai-prices ------------------------------------------------------------------------------


def _find(provider: str, model: str, wall_time: float) -> _Rates | None:
    """What genai-prices says of `model`. Its own lookup keeps every name that it was ever asked."""
    try:
        from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
    except ImportError as error:  # pragma: no cover - needs an environment without the extra
        raise MissingExtra(
            "prices come from genai-prices, which is not installed",
            fix="install it with: pip install 'headway[cli]'",
        ) from error
    providers: list[Provider] = get_snapshot().providers
    name = provider.strip().lower()
    if (ours := provider_named(name)) is not None:
        name = ours.prices or ours.name
    seller = find_provider_by_id(providers, _SELLERS.get(name, name)) if name else None
    found = seller.find_model(model, all_providers=providers) if seller and model else None
    return None if found is None else _rates_of(found, wall_time)


def _rates_of(found: ModelInfo, wall_time: float) -> _Rates | None:
    price: ModelPrice = found.get_prices(datetime.fromtimestamp(wall_time, UTC))
    input_price, output_price = _steps(price.input_mtok), _steps(price.output_mtok)
    request = price.requests_kcount
    if input_price is None and output_price is None and request is None:
        return None  # priced by the second, the page or the picture
    nothing = _Steps(0.0, ())
    parts = (
        input_price or nothing,
        output_price or nothing,
        _steps(price.cache_read_mtok) or input_price or nothing,
    )
    fixed = not isinstance(found.prices, list) or len(found.prices) == 1
    return _Rates(
        *parts,
        request=0.0 if request is None else _number(request) / 1e3,
        stepped=any(part.tiers for part in parts),
        until=_INFINITY if fixed else wall_time + _RECHECK,
    )


def _steps(price: Any) -> _Steps | None:
    if price is None:
        return None
    tiers = tuple((float(tier.start), float(tier.price) / 1e6) for tier in _tiers(price))
    return _Steps(_number(price) / 1e6, tiers)


def _tiers(price: Any) -> Any:
    return getattr(price, "tiers", ())


def _number(price: Any) -> float:
    return float(getattr(price, "base", price))


# -- the user's table --------------------------------------------------------------------------


def _read_table(path: Path) -> dict[str, Price]:
    suffix = path.suffix.lower()
    if suffix not in (".toml", ".json"):
        raise InvalidPrices(
            f"{path}: a table of prices is a .toml or a .json file",
            fix=f"name it prices.toml or prices.json, with a table for each model: {_EXAMPLE}.",
        )
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidPrices(
            f"{path}: cannot be read: {error.strerror or error}",
            fix="the path of a file of prices.",
        ) from error
    if len(data) > _MOST_BYTES:
        raise InvalidPrices(
            f"{path}: is larger than {size(_MOST_BYTES)}, which no table of prices is",
            fix="the path of a file of prices.",
        )
    try:
        text = data.decode("utf-8-sig")
        table = tomllib.loads(text) if suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:  # both kinds of syntax errors are ValueErrors
        kind = suffix[1:].upper()
        raise InvalidPrices(f"{path}: is not {kind}: {error}", fix="correct the file.") from error
    if not isinstance(table, dict):
        raise InvalidPrices(
            f"{path}: holds {_kind(table)}, and prices are a table for each model",
            fix=f"{_EXAMPLE}.",
        )
    return {model: _read_price(path, model, entry) for model, entry in table.items()}


def _read_price(path: Path, model: str, entry: object) -> Price:
    where = f"{path}: model {shown(model)}"
    if not isinstance(entry, dict):
        raise InvalidPrices(
            f"{where} has {_kind(entry)}, and not a table of prices", fix=f"{_EXAMPLE}."
        )
    inner = next((key for key, value in entry.items() if isinstance(value, dict)), None)
    if inner is not None:
        raise InvalidPrices(
            f"{where} has a table {shown(inner)} inside it. In TOML a name with a dot or a slash "
            "needs quotes",
            fix=f'["{model}.{inner}"].',
        )
    unknown = next((key for key in entry if key not in _KEYS), None)
    if unknown is not None:
        raise InvalidPrices(
            f"{where} has {shown(unknown)}; prices are input, output and cached, in dollars per "
            "million tokens",
            fix=f"{_EXAMPLE}.",
        )
    missing = next((key for key in ("input", "output") if key not in entry), None)
    if missing is not None:
        raise InvalidPrices(
            f"{where} has no {missing} price", fix=f"{missing} = 0 where it costs nothing."
        )
    try:
        return Price(**entry)
    except InvalidPrices as error:
        raise InvalidPrices(f"{where}: {error.what}", fix=error.fix) from None


def _kind(value: object) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number",
             float: "a number", type(None): "null"}  # fmt: skip
    return names.get(type(value), a(type(value).__name__))
