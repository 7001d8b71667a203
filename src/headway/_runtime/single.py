"""What there is once: a scheduler, and whatever holds one."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from headway.errors import InvalidArgument

__all__ = ["Single"]


class Single:
    """Is neither copied nor pickled: a copy would let the same limits through once more."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Raise `InvalidArgument`."""
        name = type(self).__name__
        raise InvalidArgument(
            f"{'an' if name[0] in 'AEIOU' else 'a'} {name} is neither copied nor pickled: each "
            "copy would send up to the whole limits",
            fix="hand on the same one, or make one in each process with its share of the limits.",
        )
