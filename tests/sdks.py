"""The SDKs, each imported by the first test that looks into it: together they take 8 s of CPU.

A test module says ``import sdks`` and ``sdks.openai.OpenAI`` where a test runs, and nothing of an
SDK when it is collected. The makefile runs most of these modules in one process.
"""

from __future__ import annotations

import sys
from types import ModuleType

from packages import imported

_NAMES = {
    "anthropic": "anthropic",
    "openai": "openai",
    "together": "together",
    "ours": "headway.together",  # which imports together
}


def __getattr__(name: str) -> ModuleType:
    if name not in _NAMES:
        raise AttributeError(name)
    if (found := sys.modules.get(_NAMES[name])) is None:
        found = imported(_NAMES[name])
    return found
