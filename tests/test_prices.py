"""Prices: what genai-prices says, to the cent; the user's table over it; and wrong tables."""

from __future__ import annotations

import math
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

import headway.prices
from headway.prices import InvalidPrices, Price, Prices

AT = datetime(2026, 11, 2, 12, 0, tzinfo=UTC).timestamp()
PROVIDERS = [
    "together", "openai", "anthropic", "groq", "mistral", "fireworks", "openrouter", "deepseek",
    "google", "azure", "cerebras", "cohere", "x-ai", "perplexity",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("prices went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def name_of(provider: str, model: str) -> str:
    """What one asks `provider` for."""
    return f"accounts/fireworks/models/{model}" if provider == "fireworks" else model


def theirs(provider: str, model: str, tokens: tuple[int, int, int], at: float) -> float:
    usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1], cache_read_tokens=tokens[2])
    stamp = datetime.fromtimestamp(at, UTC)
    found = calc_price(usage, model, provider_id=provider, genai_request_timestamp=stamp)
    return float(found.total_price)


@pytest.mark.parametrize("tokens", [(1000, 500, 0), (300_000, 2_000, 250_000), (0, 0, 0)])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_costs_are_those_of_the_package(provider: str, tokens: tuple[int, int, int]) -> None:
    prices = Prices(wall_time=lambda: AT)
    models = next(one for one in get_snapshot().providers if one.id == provider).models
    compared = 0
    for model in models[:120]:
        name = name_of(provider, model.id)
        ours = prices.cost(provider, name, *tokens)
        if ours is not None:
            compared += 1
            assert math.isclose(ours, theirs(provider, name, tokens, AT), abs_tol=1e-12)
    assert compared >= 0.6 * min(120, len(models))


def test_long_inputs_cost_what_their_tier_says() -> None:
    """Of one model whose price rises: that the numbers above include a tier."""
    prices = Prices(wall_time=lambda: AT)
    stepped = [
        (one.id, model.id)
        for one in get_snapshot().providers
        for model in one.models
        if hasattr(model.get_prices(datetime.fromtimestamp(AT, UTC)).input_mtok, "tiers")
    ]
    provider, model = next(pair for pair in stepped if pair[0] in PROVIDERS)
    short, long = (prices.cost(provider, model, n, 0) for n in (1000, 1_000_000))
    assert short is not None
    assert long is not None
    assert long > 1000 * short * 1.01
    assert math.isclose(long, theirs(provider, model, (1_000_000, 0, 0), AT))


def test_the_time_of_day_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with prices by time follows them, though it is kept between."""
    now = AT
    prices = Prices(wall_time=lambda: now)
    changing = [
        (one.id, model)
        for one in get_snapshot().providers
        for model in one.models
        if isinstance(model.prices, list) and len(model.prices) > 1
    ]
    compared = 0
    hours = [AT - 900 * 86_400, AT - 90 * 86_400, *(AT + 3600 * hour for hour in range(24))]
    for provider, model in changing[:40]:
        for now in hours:
            if (ours := prices.cost(provider, model.id, 1000, 1000)) is not None:
                compared += 1
                assert math.isclose(ours, theirs(provider, model.id, (1000, 1000, 0), now))
    assert compared > 100


@pytest.mark.parametrize(
    ("ours", "theirs_"),
    [("gemini", "google"), ("xai", "x-ai"), ("moonshot", "moonshotai"), ("Together", "together"),
     (" openai ", "openai"), ("togetherai", "together")],
)  # fmt: skip
def test_providers_by_our_names(ours: str, theirs_: str) -> None:
    model = next(one for one in get_snapshot().providers if one.id == theirs_).models[0].id
    prices = Prices(wall_time=lambda: AT)
    cost = prices.cost(ours, model, 1000, 1000)
    assert cost is not None
    assert cost == prices.cost(theirs_, model, 1000, 1000)


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "no-such-model"), ("nobody", "gpt-4o"), ("", "gpt-4o"), ("openai", ""),
     ("openai", "gpt-4o" * 1000), ("openai", "\x00\ud800"), ("\ud800", "gpt-4o")],
)  # fmt: skip
def test_what_is_unknown_has_no_price(provider: str, model: str) -> None:
    assert Prices().cost(provider, model, 1000, 1000) is None


def test_ten_thousand_models_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = 0
    find = headway.prices._find

    def counted(provider: str, model: str, wall_time: float) -> object:
        nonlocal looked_up
        looked_up += 1
        return find(provider, model, wall_time)

    monkeypatch.setattr(headway.prices, "_find", counted)
    prices = Prices({"mine": Price(1, 1)})
    known = prices.cost("openai", "gpt-4o", 1000, 0)
    for _ in range(2):
        for n in range(10_000):
            assert prices.cost("openai", f"unknown-{n}", 1, 1) is None
    assert looked_up == headway.prices._MOST_MODELS == len(prices._known)
    assert prices.cost("openai", "gpt-4o", 1000, 0) == known is not None
    assert prices.cost("openai", "mine", 10**6, 0) == 1.0


def test_nothing_updates_in_the_background() -> None:
    before = threading.active_count()
    assert Prices().cost("openai", "gpt-4o", 1, 1)
    assert threading.active_count() == before
    assert not get_snapshot().from_auto_update


# -- a table of one's own --


TABLES = {
    "prices.toml": '["my/model-1.5"]\ninput = 2\noutput = 4.5\ncached = 0.5\n\n[gpt-4o]\n'
    "input = 7\noutput = 0\n",
    "prices.json": '\ufeff{"my/model-1.5": {"input": 2, "output": 4.5, "cached": 0.5},'
    ' "gpt-4o": {"input": 7, "output": 0}}',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_goes_first(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(TABLES[name], encoding="utf-8")
    prices = Prices.read(path)
    assert prices.cost("together", "my/model-1.5", 10**6, 10**6) == pytest.approx(6.5)
    assert prices.cost("nobody", "my/model-1.5", 10**6, 0, 10**6) == pytest.approx(0.5)
    assert prices.cost("x", "my/model-1.5", 10, 0, 99) == pytest.approx(5e-6)
    assert prices.cost("openai", "gpt-4o", 10**6, 5, 10**6) == pytest.approx(7)
    assert prices.cost("openai", "gpt-4o-mini", 10**6, 0) == Prices().cost(
        "openai", "gpt-4o-mini", 10**6, 0
    )


EXAMPLE = 'Fix: {"my-model": {"input": 0.60, "output": 1.20}}.'
WRONG = {
    "list": ("p.json", "[1, 2]", f"holds a list, and prices are a table for each model. {EXAMPLE}"),
    "null": ("p.json", "null", f"holds null, and prices are a table for each model. {EXAMPLE}"),
    "number": (
        "p.json", '{"m": 3}', f"model 'm' has a number, and not a table of prices. {EXAMPLE}",
    ),
    "flat": (
        "p.toml", "input = 3", f"model 'input' has a number, and not a table of prices. {EXAMPLE}",
    ),
    "unknown": (
        "p.json", '{"m": {"input": 1, "output": 2, "in": 3}}',
        "model 'm' has 'in'; prices are input, output and cached, in dollars per million tokens. "
        + EXAMPLE,
    ),
    "missing": (
        "p.json", '{"m": {"input": 1}}',
        "model 'm' has no output price. Fix: output = 0 where it costs nothing.",
    ),
    "dotted": (
        "p.toml", "[qwen2.5]\ninput = 1\noutput = 1",
        "model 'qwen2' has a table '5' inside it. In TOML a name with a dot or a slash needs "
        'quotes. Fix: ["qwen2.5"].',
    ),
    "text": (
        "p.json", '{"m": {"input": "1", "output": 2}}',
        "model 'm': input='1' is not a price: it is dollars per million tokens, a finite number "
        "from 0. Fix: a number without quotes, like 0.60.",
    ),
    "negative": (
        "p.toml", "[m]\ninput = 1\noutput = -2",
        "model 'm': output=-2 is not a price: it is dollars per million tokens, a finite number "
        "from 0. Fix: a number without quotes, like 0.60.",
    ),
    "syntax": ("p.toml", "[m", "is not TOML: "),
    "json": ("p.json", "{", "is not JSON: "),
    "deep": ("p.json", "[" * 100_000, "is not JSON: "),
    "suffix": (
        "p.yaml", "m: 1", "a table of prices is a .toml or a .json file. Fix: name it prices.toml "
        "or prices.json, with a table for each model: "
        '{"my-model": {"input": 0.60, "output": 1.20}}.',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables_are_told(name: str, tmp_path: Path) -> None:
    file, text, message = WRONG[name]
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(InvalidPrices) as caught:
        Prices.read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: {message}")
    assert said == f"{path}: {message}" or said.endswith(". Fix: correct the file.")


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, True, None])
def test_no_number_that_is_no_price(value: float) -> None:
    with pytest.raises(InvalidPrices, match="is not a price"):
        Price(value, 1)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidPrices, match=r"cannot be read: No such file.*Fix: the path of"):
        Prices.read(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InvalidPrices, match="cannot be read: Is a directory"):
        Prices.read(tmp_path / "folder.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InvalidPrices, match="is not JSON: 'utf-8' codec"):
        Prices.read(tmp_path / "bytes.json")
    monkeypatch.setattr(headway.prices, "_MOST_BYTES", 2**20)
    (tmp_path / "large.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(InvalidPrices, match="is larger than 1 MiB"):
        Prices.read(tmp_path / "large.json")
