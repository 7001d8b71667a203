"""What a provider's dialect says of headers that leave it open."""

from __future__ import annotations

import pytest
from limit_headers import hint, three

from headway.hints import GENERIC, Dialect, LimitHint, limits_from, refusal_from_response
from headway.providers import PROVIDERS

NOW = 1_790_000_000.0


OWN = Dialect(
    (("X-Acme-{}-Calls", "x-ratelimit-{}-requests-hour"), ("acme-{}", "x-ratelimit-{}-tokens-day")),
    reset="milliseconds",
)


@pytest.mark.parametrize(
    ("dialect", "headers", "wanted"),
    [
        # Groq's requests are those of a day, whether or not the three numbers tell.
        (PROVIDERS["groq"].dialect, three("x-ratelimit-{}-requests", "14400", "9000", "1s"),
         hint("requests", 14_400, 9_000, 1, 86_400)),
        (PROVIDERS["groq"].dialect, three("x-ratelimit-{}-tokens", "6000", "5000", "7.66s"),
         hint("tokens", 6_000, 5_000, 7.66, 60)),
        (PROVIDERS["openai"].dialect, three("x-ratelimit-{}-requests", "14400", "9000", "1s"),
         hint("requests", 14_400, 9_000, 1)),
        (PROVIDERS["openrouter"].dialect, three("x-ratelimit-{}", "20", "0", "1790000007500"),
         hint("requests", 20, 0, 7.5)),
        (PROVIDERS["together"].dialect, three("x-ratelimit-{}", "20", "0", "7"),
         hint("requests", 20, 0, 7)),
        (PROVIDERS["together"].dialect, three("x-ratelimit-{}", "20", "0", "1790000007"),
         hint("requests", 20, 0)),  # no moment there: nobody waits for 56 years
        (Dialect(bare_limit_unit="second"), {"x-ratelimit-limit": "9"}, hint("requests", 9, per=1)),
        (OWN, three("x-acme-{}-calls", "9", "8", "1500"), hint("requests", 9, 8, 1.5, 3600)),
        (OWN, three("ACME-{}", "9", "8", "2s"), hint("tokens", 9, 8, 2, 86_400)),
        (OWN, three("anthropic-ratelimit-tokens-{}", "9", "8", "2000"),
         hint("tokens", 9, 8, 2, 60)),  # what is known is known in any dialect
        (Dialect(reset="epoch"), three("x-ratelimit-{}-tokens", "9", "8", "1790000002"),
         hint("tokens", 9, 8, 2, 60)),
        (Dialect(reset="epoch"), three("x-ratelimit-{}-tokens", "9", "8", "60"),
         hint("tokens", 9, 8, None, 60)),
        (Dialect(reset="epoch"), three("x-ratelimit-{}-tokens", "9", "8", "2026-09-21T14:13:22Z"),
         hint("tokens", 9, 8, 2, 60)),  # a date says what it is
    ],
)  # fmt: skip
def test_a_provider_s_dialect_says_what_its_headers_leave_open(
    dialect: Dialect, headers: dict[str, str], wanted: LimitHint
) -> None:
    (found,) = limits_from(headers, wall_time=NOW, dialect=dialect)
    assert found == wanted


def test_what_the_user_states_goes_before_the_dialect() -> None:
    (found,) = limits_from(
        {"x-ratelimit-limit": "10"},
        wall_time=NOW,
        dialect=Dialect(bare_limit_unit="minute"),
        together_unit="second",
    )
    assert found.per == 1


def test_a_refusal_waits_as_its_dialect_counts() -> None:
    headers = {"x-ratelimit-reset": "1500", "x-ratelimit-remaining": "0"}
    refusals = [
        refusal_from_response(429, headers, b"", wall_time=NOW, dialect=dialect)
        for dialect in (GENERIC, OWN, Dialect(reset="epoch"))
    ]
    assert [(each.wait, each.odd) for each in refusals if each is not None] == [
        (1500, ""),
        (1.5, ""),
        (None, "x-ratelimit-reset: '1500 as epoch' ignored"),
    ]
