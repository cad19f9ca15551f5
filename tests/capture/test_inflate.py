"""Our own decoding of content encodings, for callers who read undecoded: whole, in pieces, and in odd forms."""

from __future__ import annotations

import gzip
import zlib
from typing import Callable, Dict

import pytest

from aicostguard.capture import inflate

TEXT = bytes(range(256)) * 40 + b'{"usage": 1}'


def zstd(data: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(data))


def br(data: bytes) -> bytes:
    return bytes(pytest.importorskip("brotli").compress(data))


def bare(data: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


FORMS: Dict[str, Callable[[bytes], bytes]] = {
    "identity": lambda data: data,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    " Deflate ": bare,
    "br": br,
    "zstd": zstd,
}


@pytest.mark.ids("G09")
@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", list(FORMS))
def test_pieces(name: str, size: int) -> None:
    packed = FORMS[name](TEXT)
    decode = inflate.decoder(name)
    assert decode is not None
    assert b"".join(decode(packed[at : at + size]) for at in range(0, len(packed), size)) == TEXT


@pytest.mark.ids("G09")
@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_one_after_the_other(name: str, size: int) -> None:
    packed = FORMS[name](TEXT) + FORMS[name](b"more")
    packed += b"\0\0" if name == "gzip" else b""
    decode = inflate.decoder(name)
    assert decode is not None
    assert b"".join(decode(packed[at : at + size]) for at in range(0, len(packed), size)) == TEXT + b"more"


def test_unknown() -> None:
    assert inflate.decoder("compress") is None
    assert inflate.decoder(None) is not None
