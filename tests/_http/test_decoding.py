"""Compressed bodies: decoded whole in any pieces, and never to more than they may be."""

from __future__ import annotations

import gzip
import zlib

import pytest
import zstandard

from headway._http.decoding import Decoder, InvalidEncoding, TooLarge, decoded

TEXT = b'{"usage": {"total_tokens": 11}}' * 1000
BOMB = bytes(8 << 20)
MOST = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


WAYS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP ": gzip.compress,
    "deflate": zlib.compress,
    " deflate": raw_deflate,
    "zstd": zstandard.compress,
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
    "deflate,zstd": lambda data: zstandard.compress(zlib.compress(data)),
    "identity": bytes,
    "": bytes,
}


@pytest.mark.parametrize("name", sorted(WAYS))
def test_a_body_is_decoded_whole_in_any_pieces(name: str) -> None:
    raw = WAYS[name](TEXT)
    assert decoded(name, raw, MOST) == TEXT
    decoder = Decoder(name, MOST)
    pieces = (raw[at : at + 7] for at in range(0, len(raw), 7))
    assert b"".join(plain for piece in pieces for plain in decoder.feed(piece)) == TEXT


@pytest.mark.parametrize("name", ["gzip", "deflate", " deflate", "zstd", "gzip, gzip"])
def test_a_bomb_is_left_where_it_grows_too_large(name: str) -> None:
    raw = WAYS[name](BOMB)
    assert len(raw) < 16_384
    came: list[int] = []
    with pytest.raises(TooLarge):
        came.extend(len(piece) for piece in Decoder(name, MOST).feed(raw))
    assert sum(came) <= MOST
    assert decoded(name, raw, MOST) == b""


def test_a_window_of_gigabytes_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    raw = packer.compress(TEXT) + packer.flush()
    with pytest.raises(InvalidEncoding):
        list(Decoder("zstd", MOST).feed(raw))


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_what_is_not_encoded_as_it_says(name: str) -> None:
    with pytest.raises(InvalidEncoding):
        list(Decoder(name, MOST).feed(TEXT))
    assert decoded(name, TEXT, MOST) == b""


def test_nobody_encodes_five_times() -> None:
    with pytest.raises(InvalidEncoding, match="it is encoded 5 times"):
        Decoder("gzip, gzip, gzip, gzip, gzip", MOST)


def test_what_is_cut_off_is_decoded_as_far_as_it_goes() -> None:
    raw = gzip.compress(TEXT)
    assert TEXT.startswith(decoded("gzip", raw[:-20], MOST))
    assert decoded("deflate", b"x", MOST) == b""
