"""What errors of usage say, and of secrets do not."""

from __future__ import annotations

import pytest
from commands import headway, said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        # --header Authorization: Bearer KEY, without quotes
        (("run", "in", "--header", "Auth:", "Bearer", "a-secret"), "2 arguments too many"),
        (("plan", "in", "a-secret"), "1 argument too many. What holds a space goes in quotes"),
        (("report", "in", "a-secret"), "1 argument too many"),
        (("run", "in", "--api-key", "a-secret"), "No such option: --api-key"),
        (("run", "in", "--api-key=a-secret"), "No such option: --api-key"),
        (("run", "in", "--header", "a-secret"), "a --header is not Name: value"),
        (("run", "in", "--param", "a-secret"), "a --param is not KEY=VALUE"),
    ],
)
def test_an_argument_that_may_be_a_secret_is_not_repeated(
    arguments: tuple[str, ...], says: str
) -> None:
    result = headway(*arguments)
    assert result.exit_code == 2
    text = said(result).replace("│ │ ", "")
    assert says in text
    assert "secret" not in text
