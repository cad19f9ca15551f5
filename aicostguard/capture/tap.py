"""The tap: bytes of a response in passing, never held back, never changed.

Owns the decision whether the caller reads decoded bytes (then they come to `plain`, from where the library
decodes them) or undecoded ones (then they come to `raw` only, and are decoded here). Holds at most one chunk.
It is called from the middle of the caller's own reading, so `plain`, `raw` and `end` never raise: a fault of ours
ends the metering of this one response.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from aicostguard.capture.call import Call
from aicostguard.capture.inflate import Decoder, decoder
from aicostguard.metering import Glance

#: where an object that a library hands out keeps its tap
TAP = "_aicostguard_tap"


class Tap:
    """One response's tap.

    `decoding` is None until it is known whether the library decodes what it reads. Whoever wraps the library's
    decoder sets it to True as soon as the decoder is used; False means that nobody can tell us decoded bytes.
    `identity` says that there is nothing to decode; then `see` is what to call with the bytes as they come, one
    step less for every chunk of a stream; whoever calls it catches what it raises. `glance` tells before of bytes with
    which `see`, or without it `raw`, would do nothing.
    """

    __slots__ = ("call", "decoding", "identity", "see", "glance", "_encoding", "_held", "_inflate")

    def __init__(self, call: Call, encoding: Optional[str]) -> None:
        self.call = call
        self.decoding: Optional[bool] = None
        self.identity = encoding is None or encoding.strip().lower() in ("", "identity")
        self.see = call.feed if self.identity else None
        self.glance = call.glance() if self.identity else Glance()
        self._encoding = encoding
        self._held: Optional[bytes] = None
        self._inflate: Optional[Decoder] = None

    def plain(self, data: bytes) -> None:
        """Decoded bytes."""
        try:
            self.call.feed(data)
        except Exception as error:
            self.call.lost("tap", error)

    def raw(self, data: bytes) -> None:
        """Bytes as they came. The last chunk waits until it is known whether the library decodes it."""
        if not data:
            return
        if self.decoding:
            self._held = None
            if not self.identity:
                self.glance.ends = b""  # nor need it be called any more
            return
        ready: Optional[bytes] = data
        if self.decoding is None:
            ready, self._held = self._held, data
        try:
            if ready is not None:
                self._decode(ready)
        except Exception as error:
            self.call.lost("tap", error)

    def end(self, complete: bool) -> None:
        """No more bytes will come."""
        held, self._held = self._held, None
        try:
            if held is not None and not self.decoding:
                self._decode(held)
            self.call.end(complete)
        except Exception as error:
            self.call.lost("tap", error)

    def __del__(self) -> None:
        if getattr(self, "_held", None) is not None:  # not there when `__init__` failed
            self.end(False)

    def _decode(self, data: bytes) -> None:
        try:
            if self._inflate is None:
                self._inflate = decoder(self._encoding)
            plain = None if self._inflate is None else self._inflate(data)
        except Exception:
            # The caller's own decoding will fail on the same bytes; ours must not be louder than that.
            self.call.unreadable("a broken content-encoding")
            return
        if plain is None:
            self.call.unreadable("a content-encoding that is not known here")  # no text of a header
        else:
            self.call.feed(plain)


def ends_tap(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of a response's own closing: no more of it will be read."""

    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            tap: Optional[Tap] = self.__dict__.get(TAP)
            if tap is not None:
                tap.end(False)

    return close
