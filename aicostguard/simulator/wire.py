"""The bytes of a body on the wire: compression, splitting, cutting short.

Owns `Wire`, which both HTTP versions use. Never touches a socket. A compressed stream is flushed after each event, as
providers do, so that a client can decode each event when it arrives; otherwise streaming would become buffering.
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

from aicostguard.simulator.call import Reply


class Encoder(NamedTuple):
    """`feed` compresses one event and flushes; `end` gives what closes the stream."""

    feed: Callable[[bytes], bytes]
    end: Callable[[], bytes]


def _zlib(wbits: int) -> Encoder:
    compressor = zlib.compressobj(6, zlib.DEFLATED, wbits)
    return Encoder(lambda data: compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH), compressor.flush)


def _br() -> Encoder:
    compressor: Any = importlib.import_module("brotli").Compressor(quality=4)
    return Encoder(
        lambda data: bytes(compressor.process(data) + compressor.flush()), lambda: bytes(compressor.finish())
    )


def _zstd() -> Encoder:
    module: Any = importlib.import_module("zstandard")
    compressor = module.ZstdCompressor().compressobj()
    block = module.COMPRESSOBJ_FLUSH_BLOCK
    return Encoder(
        lambda data: bytes(compressor.compress(data) + compressor.flush(block)), lambda: bytes(compressor.flush())
    )


_ENCODERS: Dict[str, Callable[[], Encoder]] = {
    "gzip": lambda: _zlib(31),
    "deflate": lambda: _zlib(15),
    "br": _br,
    "zstd": _zstd,
}


def encoder(name: str, accepted: str) -> Optional[Encoder]:
    """An encoder, or None when the client does not accept it or its package (extra `demo`) is absent."""
    make = _ENCODERS.get(name)
    if make is None or name not in [part.split(";")[0].strip() for part in accepted.lower().split(",")]:
        return None
    try:
        return make()
    except ImportError:
        return None


class Wire:
    """One reply's body as it goes out: `cut` gives it event by event."""

    def __init__(self, reply: Reply, accepted: str) -> None:
        behaviour = reply.behaviour
        self.reply = reply
        self.encoder = encoder(behaviour.encoding, accepted) if behaviour.encoding != "identity" else None
        self.encoding = behaviour.encoding if self.encoder is not None else None
        limits = [n for n in (behaviour.cut_after, behaviour.reset_after) if n is not None]
        #: body bytes that may go out; None when all of them
        self.limit: Optional[int] = min(limits) if limits else None
        #: the connection ends by a reset and not in good order
        self.resets = behaviour.reset_after is not None and behaviour.reset_after == self.limit
        self.split = behaviour.chunk_size
        self._whole: Optional[bytes] = None

    @property
    def simple(self) -> bool:
        """True when head and body can go out in one piece, at once."""
        behaviour = self.reply.behaviour
        return (
            self.reply.events is None
            and self.limit is None
            and not self.split
            and not behaviour.first_delay_ms
            and not behaviour.delay_ms
        )

    def plain_body(self) -> bytes:
        """The whole body, encoded; for a reply without events."""
        if self.encoder is None:
            return self.reply.body
        if self._whole is None:  # an encoder works once
            self._whole = self.encoder.feed(self.reply.body) + self.encoder.end()
        return self._whole

    def events(self) -> Iterator[bytes]:
        """The encoded body, event by event, uncut."""
        if self.reply.events is None:
            yield self.plain_body()
            return
        for event in self.reply.events:
            yield event if self.encoder is None else self.encoder.feed(event)
        if self.encoder is not None:
            yield self.encoder.end()

    def cut(self) -> Iterator[Piece]:
        """The events up to the limit; the last one says so."""
        left = self.limit
        held: Optional[bytes] = None
        for event in self.events():
            if not event:
                continue
            if held is not None:
                yield Piece(held, False, True)
            held = event
            if left is not None:
                if len(event) > left:
                    yield Piece(event[:left], True, False)
                    return
                left -= len(event)
        yield Piece(held or b"", True, True)

    def parts(self, data: bytes) -> Iterator[bytes]:
        """One event in the pieces that `chunk_size` asks for."""
        if not self.split:
            yield data
            return
        for at in range(0, len(data), self.split):
            yield data[at : at + self.split]


class Piece(NamedTuple):
    """Bytes of one event. `whole` is False when the body was cut inside or before it."""

    data: bytes
    last: bool
    whole: bool
