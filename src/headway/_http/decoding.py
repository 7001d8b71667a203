"""Compressed bodies, decoded piece by piece: what a few bytes can become is bounded while it grows.

gzip, deflate and zstd (br where a brotli package is installed), also one inside the other. An
encoding that is not known is left as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol

from headway.kinds._words import times

__all__ = ["Decoder", "InvalidEncoding", "TooLarge", "decoded"]

_PIECE = 65_536
_MOST_ENCODINGS = 4
# What a decoder without a bound of its own is given at once. A block of zstd is 4 bytes at least
# and 128 KB at most; one of brotli a few bytes, and 16 MB.
_ZSTD_SLICE = 256
_BROTLI_SLICE = 4
_ZSTD_WINDOW = 8 * 1024 * 1024  # RFC 9659: no content coding needs a larger one


class TooLarge(Exception):
    """A body is larger than it may be."""


class InvalidEncoding(ValueError):
    """A body is not encoded as its headers say, or more often than anybody would."""


class _Stage(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` is decoded to, in pieces of bounded size."""
        ...


class Decoder:
    """Decodes a body whose header ``content-encoding`` is `encodings`.

    Raises `InvalidEncoding` for more than four encodings.
    """

    def __init__(self, encodings: str, most: int) -> None:
        """No stage of it gives more than `most` bytes."""
        names = [name.strip().lower() for name in encodings.split(",")]
        stages = [stage for name in reversed(names) if (stage := _stage(name)) is not None]
        if len(stages) > _MOST_ENCODINGS:
            raise InvalidEncoding(f"it is encoded {times(len(stages))}")
        self._stages = stages
        self._most = most
        self._given = [0] * len(stages)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data`, the next of the body, is decoded to, in pieces.

        Raises `TooLarge` and `InvalidEncoding`.
        """
        return self._through(0, data)

    def _through(self, index: int, data: bytes) -> Iterator[bytes]:
        if index == len(self._stages):
            yield data
            return
        pieces = self._stages[index].feed(data)
        while True:
            try:
                piece = next(pieces, None)
            except Exception as error:  # each of the libraries has its own
                raise InvalidEncoding(str(error)) from error
            if piece is None:
                return
            self._given[index] += len(piece)
            if self._given[index] > self._most:
                raise TooLarge
            yield from self._through(index + 1, piece)


def decoded(encodings: str, raw: bytes, most: int) -> bytes:
    """`raw`, which may be the beginning of a body, decoded; b"" where it is not what `encodings`
    says, or larger than `most`.
    """
    try:
        return b"".join(Decoder(encodings, most).feed(raw))
    except (InvalidEncoding, TooLarge):
        return b""


def _stage(name: str) -> _Stage | None:
    if name in ("gzip", "x-gzip"):
        return _Zlib(16 + zlib.MAX_WBITS)
    if name == "deflate":
        return _Deflate()
    if name == "zstd":
        return _zstd()
    return _brotli() if name == "br" else None


class _Zlib:
    def __init__(self, window: int) -> None:
        self._inner = zlib.decompressobj(window)

    def feed(self, data: bytes) -> Iterator[bytes]:
        inner = self._inner
        while not inner.eof:
            piece = inner.decompress(data, _PIECE)
            data = inner.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < _PIECE:
                return


class _Deflate:
    """As RFC 9110 has it, or, as some servers send it, without zlib's header."""

    def __init__(self) -> None:
        self._inner: _Zlib | None = None
        self._begun = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            data = self._begun + data
            if len(data) < 2:
                self._begun = data
                return
            # zlib's header: the method, 8, and a check that makes both bytes a multiple of 31.
            headed = data[0] & 15 == 8 and not int.from_bytes(data[:2], "big") % 31
            self._inner = _Zlib(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS)
        yield from self._inner.feed(data)


class _Sliced:
    """A decoder without a bound: it is given little at once."""

    def __init__(self, decode: Callable[[bytes], bytes], size: int) -> None:
        self._decode = decode
        self._size = size

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), self._size):
            if piece := self._decode(data[start : start + self._size]):
                yield piece


def _zstd() -> _Stage | None:
    try:
        import zstandard
    except ImportError:
        return None
    opened: Any = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    return _Sliced(opened.decompressobj(read_across_frames=True).decompress, _ZSTD_SLICE)


def _brotli() -> _Stage | None:
    for name in ("brotli", "brotlicffi"):
        with suppress(ImportError):
            inner: Any = import_module(name).Decompressor()
            return _Sliced(getattr(inner, "process", None) or inner.decompress, _BROTLI_SLICE)
    return None
