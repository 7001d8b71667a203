"""What is said of an input, and cannot be meant."""

from __future__ import annotations

import pytest

from headway.bulk.input.lines import InvalidInput
from headway.bulk.input.shapes import Shard


@pytest.mark.parametrize("text", ["", "3", "8/8", "-1/8", "a/b", "1/0", "1/²"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"give i/N with i from 0 to N - 1, like 0/8"):
        Shard.parse(text)
    assert Shard.parse("3/8") == Shard(3, 8)
