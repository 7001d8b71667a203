"""What a run may spend is reserved before it is spent, and never exceeded."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.bulk.budget import Budget
from headway.bulk.formats import Request

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


async def test_answers_without_a_bound_are_taken_to_be_twice_as_long_as_they_were() -> None:
    budget = Budget(dollars, None, 5_000)
    assert await budget.admit(request(1, max_tokens=0)) == ""  # 1,024 of an answer at first
    assert budget._reserved[1] == (0.0, 101 + 1024)
    budget.settle(request(1), None, 100, 30)
    assert await budget.admit(request(2, max_tokens=0)) == ""
    assert budget._reserved[2] == (0.0, 101 + 60)
    embedding = Request(3, "q", "/v1/embeddings", b"x" * 300, 0, "m")
    assert await budget.admit(embedding) == ""
    assert budget._reserved[3] == (0.0, 101)


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
