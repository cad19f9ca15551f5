"""Decoding compressed bytes ourselves, for callers who read a response undecoded.

Owns the table of content encodings. Never changes what the caller gets: it decodes a copy that passes by.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

Decoder = Callable[[bytes], bytes]


def _gzip() -> Decoder:
    import zlib

    return _members(lambda: zlib.decompressobj(zlib.MAX_WBITS | 32))  # 32: gzip or zlib, by its header


def _deflate() -> Decoder:
    """zlib's format, or the bare one that some servers send under the same name."""
    import zlib

    start = bytearray()
    chosen: List[Decoder] = []

    def decompress(data: bytes) -> bytes:
        if chosen:
            return chosen[0](data)
        start.extend(data)
        if len(start) < 2:
            return b""
        zlibs = start[0] & 15 == 8 and int.from_bytes(start[:2], "big") % 31 == 0  # RFC 1950, 2.2
        chosen.append(zlib.decompressobj(zlib.MAX_WBITS if zlibs else -zlib.MAX_WBITS).decompress)
        return chosen[0](bytes(start))

    return decompress


def _members(make: Callable[[], Any]) -> Decoder:
    """A decoder for what may be several compressed members, one after the other."""
    current = [make()]

    def decompress(data: bytes) -> bytes:
        plain = []
        while data:
            if current[0].eof:
                data = data.lstrip(b"\0")  # padding
                current[0] = make()
                continue
            plain.append(current[0].decompress(data))
            data = current[0].unused_data
        return b"".join(plain)

    return decompress


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

            return _members(lambda: ZstdDecompressor().decompressobj())
    return _members(ZstdDecompressor)


def _identity() -> Decoder:
    return lambda data: data


_MAKERS: Dict[str, Callable[[], Decoder]] = {
    "": _identity,
    "identity": _identity,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
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
