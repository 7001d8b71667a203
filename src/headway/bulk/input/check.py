"""What an input holds, before anything of it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from headway.bulk.input.formats import BadLine
from headway.bulk.input.lines import InvalidInput
from headway.bulk.input.source import Source
from headway.estimate import BYTES_PER_TOKEN
from headway.kinds._words import shown

__all__ = ["Check", "check"]

_MODELS = 1000  # that are counted one by one
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Check:
    """What is in a source. `errors` is, by code, a count and the first three messages.

    Tokens are estimates: of what is sent, and the most that may be answered where lines say so.
    `largest_line` is in bytes. Beyond 1,000 models the rest are "other".
    """

    lines: int
    urls: Mapping[str, int]
    models: Mapping[str, int]
    errors: Mapping[str, tuple[int, tuple[str, ...]]]
    input_tokens: int
    max_tokens: int
    largest_line: int


def check(source: Source) -> Check:
    """Go through the whole `source`, and count. Raises `InvalidInput` for what is no `Source`."""
    if not isinstance(source, Source):
        raise InvalidInput(
            f"{shown(source)} is not a Source", fix="give what open_source() returns"
        )
    lines = input_tokens = max_tokens = largest = 0
    urls: Counter[str] = Counter()
    models: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for size, entry in source.sized_requests(lambda number: False):
        lines += 1
        largest = max(largest, size)
        if isinstance(entry, BadLine):
            counts[entry.code] += 1
            if len(said := examples.setdefault(entry.code, [])) < _EXAMPLES:
                said.append(entry.message)
            continue
        urls[entry.url] += 1
        model = entry.model if entry.model is not None else "(none)"
        models[model if model in models or len(models) < _MODELS else "other"] += 1
        input_tokens += entry.reads(BYTES_PER_TOKEN)
        max_tokens += entry.max_tokens
    errors = {code: (count, tuple(examples[code])) for code, count in counts.items()}
    return Check(lines, dict(urls), dict(models), errors, input_tokens, max_tokens, largest)
