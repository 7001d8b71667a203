"""The tests of peers that pass bare and fail over headway, each with its reason."""

from __future__ import annotations

_AIOMETER = "tests/test_aiometer.py::"
_LIMITER = "tests/test_synchronization.py::TestCapacityLimiter::"

KNOWN: dict[str, dict[str, str]] = {
    "aiometer": {
        f"{_AIOMETER}TestRunners::test_disallow_buggy_lambdas": (
            "wants a ValueError for lambdas made in a loop, a check of aiometer's own arguments; "
            "headway's map takes the items beside the function, and has no such list"
        ),
        f"{_AIOMETER}TestMaxPerSecond::test_run_any": (
            "wants a second start to measure to it; over headway the first call, which ends at "
            "once, ends the race, and nothing more is started"
        ),
    },
    "anthropic": {
        "tests/test_client.py::test_default_client_proxy_arguments_beat_environment": (
            "asks httpx's private `_transport_for_url` for the transport, and expects httpx's own: "
            "that is where the adapter puts headway's"
        ),
    },
    "anyio": {
        f"{_LIMITER}test_current_default_thread_limiter": (
            "asks anyio for the limiter of its own threads, which no adapter replaces"
        ),
        f"{_LIMITER}test_cancel_during_acquire_on_behalf_of": (
            "wants a checkpoint in an acquisition that needs no waiting; a lease that is free is "
            "entered without giving up the loop, so there is no moment at which to cancel it"
        ),
    },
}
