"""What a run may spend is reserved before it is spent, and never exceeded."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.bulk.budget import Bill, Budget
from headway.bulk.input.formats import Request
from headway.estimate import Tokens

pytestmark = pytest.mark.anyio


def request(line: int, *, max_tokens: int = 100, size: int = 300, model: str = "m") -> Request:
    return Request(line, f"q{line}", "/v1/chat/completions", b"x" * size, max_tokens, model)


def dollars(model: str, read: int, written: int, cached: int) -> float | None:
    return None if model == "unknown" else read * 1e-3 + written * 2e-3


async def test_without_bounds_everything_is_let_in() -> None:
    budget = Budget(dollars, None, None)
    assert not budget.bounded
    budget.settle(request(1), 0.5, 10, 20)
    assert (budget.dollars, budget.tokens) == (0.5, 30)


async def test_a_request_waits_for_those_in_flight_to_be_settled() -> None:
    budget = Budget(dollars, None, 500)  # 201 for each: 300 bytes, 100 of an answer
    assert await budget.admit(request(1)) == ""
    assert await budget.admit(request(2)) == ""
    let_in: list[int] = []

    async def third() -> None:
        assert await budget.admit(request(3)) == ""
        let_in.append(3)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(third)
            await anyio.sleep(1)
            assert let_in == []
            budget.settle(request(1), None, 0, 0)  # it failed: nothing was spent
    assert let_in == [3]


async def test_what_can_never_be_let_in_is_said() -> None:
    budget = Budget(dollars, 1.0, None)
    assert await budget.admit(request(1)) == ""  # 101 tokens in, 100 out: $0.301
    budget.settle(request(1), 0.9, 100, 100)
    assert await budget.admit(request(2)) == (
        "--max-cost 1 is reached: $0.90 are spent, and the next request may cost $0.30. "
        "Run the rest with a higher --max-cost"
    )
    budget = Budget(dollars, None, 100)
    assert await budget.admit(request(1)) == (
        "--max-tokens 100 is reached: 0 are used, and the next request may take 201. "
        "Run the rest with a higher --max-tokens"
    )


@pytest.mark.parametrize(("model", "called"), [("unknown", "'unknown'"), (None, "'(none)'")])
async def test_a_model_without_a_price(model: Any, called: str) -> None:
    budget = Budget(lambda *of: None, 1.0, None)
    assert await budget.admit(request(7, model=model)) == (
        f"no price is known for the model {called} (line 7), so --max-cost cannot be kept. "
        "Give one with --prices, or leave --max-cost away"
    )
    assert budget.price(model, 1, 1) is None


async def test_answers_without_a_bound_are_taken_to_be_as_long_as_answers_can_be() -> None:
    budget = Budget(dollars, None, 500_000)
    for line, choices, written in ((1, 1, 131_072), (2, 2, 262_144)):
        asked = Request(line, "q", "/v1/chat/completions", b"x" * 300, 0, "m", choices)
        assert await budget.admit(asked) == ""
        assert budget._reserved[line] == (0.0, 101 + written)
    embedding = Request(3, "q", "/v1/embeddings", b"x" * 300, 0, "m", 1, 250)
    assert await budget.admit(embedding) == ""
    assert budget._reserved[3] == (0.0, 251)  # the ids of 250 tokens are more than its bytes say
    picture = Request(4, "q", "/v1/images/generations", b"x" * 300, 0, "m", 3)
    assert await budget.admit(picture) == ""
    assert budget._reserved[4] == (0.0, 101 + 3 * 8_192)


async def test_where_that_is_not_left_one_goes_alone_at_twice_the_longest_answer() -> None:
    budget = Budget(dollars, None, 5_000)
    assert await budget.admit(request(1, max_tokens=0)) == ""  # 1,024 of an answer at first
    assert budget._reserved[1] == (0.0, 101 + 1024)
    assert "(it states no max_tokens)" in budget.reserve(request(2, max_tokens=0))
    budget.settle(request(1), None, 100, 30)
    assert await budget.admit(request(2, max_tokens=0)) == ""
    assert budget._reserved[2] == (0.0, 101 + 60)
    budget.settle(request(2), None, 100, 10)
    assert await budget.admit(request(3, max_tokens=0)) == ""
    assert budget._reserved[3] == (0.0, 101 + 60)
    budget = Budget(dollars, None, 500)
    assert await budget.admit(request(1, max_tokens=0)) == (
        "--max-tokens 500 is reached: 0 are used, and the next request may take 1,125 (it states "
        "no max_tokens). Run the rest with a higher --max-tokens"
    )


async def test_what_a_model_takes_beyond_its_maximum_is_reserved_from_then_on() -> None:
    budget = Budget(dollars, None, 10_000)
    assert await budget.admit(request(1)) == ""
    budget.heard("m", (101, 100), 1, Tokens(120, 350, 470))
    budget.settle(request(1), None, 120, 350)
    assert await budget.admit(request(2, max_tokens=40)) == ""
    assert budget._reserved[2] == (0.0, 101 + 19 + 40 + 250)
    assert await budget.admit(request(3, model="other")) == ""
    assert budget._reserved[3] == (0.0, 201)


async def test_the_first_answer_of_a_model_is_waited_for() -> None:
    budget = Budget(dollars, None, 10_000)
    assert await budget.admit(request(1)) == ""
    let_in: list[int] = []

    async def second() -> None:
        await budget.hear_first(request(2))
        let_in.append(2)

    with anyio.fail_after(10):
        await budget.hear_first(request(3, model="other"))
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            await anyio.sleep(1)
            assert let_in == []
            budget.heard("m", (101, 100), 1, Tokens(1, 1, 2))
            budget.settle(request(1), None, 1, 1)
    assert let_in == [2]


@pytest.mark.parametrize(
    ("tokens", "models", "bill"),
    [
        (Tokens(10, 20, 30), ("m-2026", "m"), Bill(0.05, 10, 20)),
        (Tokens(10, 20, 30), ("unknown", "m"), Bill(0.05, 10, 20)),
        (Tokens(10, 20, 30), (None, "m"), Bill(0.05, 10, 20)),
        (Tokens(10, 20, 30), ("cheap", "m"), Bill(0.003, 10, 20)),
        (Tokens(10, 20, 30), ("cheap", "mine"), Bill(0.3, 10, 20)),  # the user's own price
        (Tokens(10, 20, 30), ("unknown", "unknown"), Bill(None, 10, 20)),
        (Tokens(), ("m",), Bill(0.3, 100, 100)),  # it says nothing: the most that it may be
        (Tokens(10, None, None), ("m",), Bill(0.21, 10, 100)),
        (Tokens(None, 20, None), ("m",), Bill(0.14, 100, 20)),
        (Tokens(5, None, 5), ("m",), Bill(0.005, 5, 0)),
        (Tokens(12, None, 12, 0, 12), ("m",), Bill(0.024, 12, 0)),  # read or written: the dearer
    ],
)
async def test_a_bill_is_never_guessed_low(tokens: Tokens, models: Any, bill: Bill) -> None:
    def cost(model: str, read: int, written: int, cached: int) -> float | None:
        factor = {"cheap": 1e-4, "mine": 1e-2}.get(model)
        return (
            dollars(model, read, written, cached) if factor is None else (read + written) * factor
        )

    found = Budget(cost, 1.0, None, {"mine"}).bill(tokens, (100, 100), *models)
    assert (found.read, found.written) == (bill.read, bill.written)
    assert found.dollars == (bill.dollars and pytest.approx(bill.dollars))


async def test_what_was_paid_for_and_has_no_price_ends_a_run() -> None:
    budget = Budget(dollars, 1.0, None)
    budget.spend(None, 30, "unknown")
    assert await budget.admit(request(1)) == (
        "no price is known for the model 'unknown', which was paid for already, so --max-cost "
        "cannot be kept. Give one with --prices, or leave --max-cost away"
    )


@given(
    bound=st.integers(1, 5_000),
    steps=st.lists(
        st.tuples(st.integers(0, 500), st.integers(0, 300), st.floats(0, 1)), max_size=60
    ),
)
def test_the_bound_is_never_passed(bound: int, steps: list[tuple[int, int, float]]) -> None:
    """As long as answers are no longer than ``max_tokens``, and four bytes are a token or more."""
    budget = Budget(dollars, None, bound)
    open_requests: list[Request] = []

    async def work() -> None:
        for line, (size, max_tokens, share) in enumerate(steps):
            one = request(line, size=size, max_tokens=max_tokens or 1)
            with anyio.move_on_after(0):
                if await budget.admit(one) == "":
                    open_requests.append(one)
            if share < 0.5 and open_requests:
                ended = open_requests.pop(0)
                used = round(ended.max_tokens * share * 2)
                budget.settle(ended, None, len(ended.body) // 4, used)
            assert budget.tokens + budget._tokens <= bound
            assert budget._tokens == sum(need[1] for need in budget._reserved.values())

    anyio.run(work)
