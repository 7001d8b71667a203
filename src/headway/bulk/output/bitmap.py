"""A set of row numbers in one bit each: ten million of them are 1.25 MB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["Bitmap"]


class Bitmap:
    """Which numbers, from 0 on, are in the set. It grows with the largest."""

    __slots__ = ("_bits", "count")

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def __contains__(self, number: int) -> bool:
        index = number >> 3
        return index < len(self._bits) and bool(self._bits[index] >> (number & 7) & 1)

    def add(self, number: int) -> bool:
        """Add `number`; False where it was there."""
        index, bit = number >> 3, 1 << (number & 7)
        if index >= len(self._bits):
            self._grow(index)
        if self._bits[index] & bit:
            return False
        self._bits[index] |= bit
        self.count += 1
        return True

    def update(self, numbers: Sequence[int]) -> None:
        """Add all `numbers`, in a third of the time that `add` takes for each."""
        if not numbers:
            return
        self._grow(max(numbers) >> 3)
        bits, added = self._bits, 0
        for number in numbers:
            index, bit = number >> 3, 1 << (number & 7)
            held = bits[index]
            if not held & bit:
                bits[index] = held | bit
                added += 1
        self.count += added

    def _grow(self, index: int) -> None:
        more = index + 1 - len(self._bits)
        if more > 0:
            self._bits.extend(bytes(max(more, len(self._bits) >> 3, 1024)))

    def discard(self, number: int) -> None:
        """Take `number` out, if it is there."""
        if number in self:
            self._bits[number >> 3] &= ~(1 << (number & 7))
            self.count -= 1

    def __sub__(self, other: Bitmap) -> Bitmap:
        """The numbers that are not in `other`."""
        kept = int.from_bytes(self._bits, "little") & ~int.from_bytes(other._bits, "little")
        result = Bitmap()
        result._bits[:] = kept.to_bytes(len(self._bits), "little")
        result.count = kept.bit_count()
        return result

    def __iter__(self) -> Iterator[int]:
        """The numbers, ascending."""
        for index, byte in enumerate(self._bits):
            if byte:
                for bit in range(8):
                    if byte >> bit & 1:
                        yield index * 8 + bit
