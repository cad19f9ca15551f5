"""Decoding compressed bytes ourselves, for callers who read a response undecoded.

Owns the table of content encodings. Never changes what the caller gets: it decodes a copy that passes by.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional

Decoder = Callable[[bytes], bytes]


def _gzip() -> Decoder:
    import zlib

    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress  # 32: gzip or zlib, by its header


def _brotli() -> Decoder:
    try:
        import brotli
    except ImportError:
        import brotlicffi as brotli
    decoder = brotli.Decompressor()
    return getattr(decoder, "decompress", None) or decoder.process  # type: ignore[no-any-return]


def _zstd() -> Decoder:
    try:
        from compression.zstd import ZstdDecompressor
    except ImportError:
        try:
            from backports.zstd import ZstdDecompressor
        except ImportError:
            from zstandard import ZstdDecompressor

            return ZstdDecompressor().decompressobj().decompress  # type: ignore[no-any-return]
    return ZstdDecompressor().decompress  # type: ignore[no-any-return]


def _identity() -> Decoder:
    return lambda data: data


_MAKERS: Dict[str, Callable[[], Decoder]] = {
    "": _identity,
    "identity": _identity,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _gzip,
    "br": _brotli,
    "zstd": _zstd,
}


def decoder(encoding: Optional[str]) -> Optional[Decoder]:
    """A function from compressed bytes to plain ones, fed in order; None when the encoding cannot be read here."""
    make = _MAKERS.get((encoding or "").strip().lower())
    try:
        return make() if make is not None else None
    except ImportError:
        return None
