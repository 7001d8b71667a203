"""``headway run --check``: reads the whole input, and sends nothing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headway.cli.command.endings import ALL_DONE, SOME_FAILED
from headway.cli.command.streams import tell
from headway.kinds._words import counted

if TYPE_CHECKING:
    from headway.bulk import Check, RunOptions

__all__ = ["check"]

_SHOWN = 20  # urls and models


def check(source: str, options: "RunOptions") -> int:
    """Say what is in `source`; the exit code. Raises `headway.bulk.InvalidInput`."""
    from headway import bulk

    lines = bulk.open_source(
        source, options.shape, shard=options.shard, limit=options.limit,
        trust_ids=options.trust_ids,
    )  # fmt: skip
    try:
        found = bulk.check(lines)
    finally:
        lines.close()
    for line in _described(found):
        tell(line)
    return SOME_FAILED if found.errors else ALL_DONE


def _described(found: "Check") -> Iterator[str]:
    """What is printed."""
    bad = sum(count for count, _ in found.errors.values())
    yield f"{counted(found.lines, 'line')}: {found.lines - bad:,} can be sent, {bad:,} cannot"
    for name, counts in (("to", found.urls), ("for", found.models)):
        for what, count in sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN]:
            yield f"  {count:>12,} {name} {what}"
        if len(counts) > _SHOWN:
            yield f"  {'':>12} and {len(counts) - _SHOWN:,} more"
    yield (
        f"about {counted(found.input_tokens, 'token')} to read, and at most {found.max_tokens:,} "
        "to write where the lines say so"
    )
    yield f"the largest line has {counted(found.largest_line, 'byte')}"
    for code, (count, examples) in sorted(found.errors.items()):
        yield f"{count:,} {code}:"
        for message in examples:
            yield f"  {message}"
        if count > len(examples):
            yield f"  and {count - len(examples):,} more"
