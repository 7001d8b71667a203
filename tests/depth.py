"""How far the tests search: in `make test` for seconds, in `make test-deep` for minutes.

The same tests with the same checks: more examples of Hypothesis, longer simulations, more kills.
"""

from __future__ import annotations

import os

DEEP = os.environ.get("HEADWAY_TESTS") == "deep"


def depth(usual: int, deep: int) -> int:
    """How many: `deep` where the environment says ``HEADWAY_TESTS=deep``, else `usual`."""
    return deep if DEEP else usual
