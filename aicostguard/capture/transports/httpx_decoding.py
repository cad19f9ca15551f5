"""httpx and httpx2: the decoder of a tapped response, where compressed bytes become plain ones.

Owns what stands around a decoder of either library: it tells the tap what comes out, and shows what may be seen of it.
"""

from __future__ import annotations

from typing import Any

from aicostguard.capture.tap import Tap


class BytesDecoder:
    """Around a decoder whose `decode` and `flush` give bytes."""

    __slots__ = ("_inner", "_plain", "_tap")

    def __init__(self, inner: Any, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap
        self._plain = tap.plain

    def decode(self, data: bytes) -> bytes:
        self._tap.decoding = True
        plain: bytes = self._inner.decode(data)
        if plain:
            self._plain(plain)
        hide = self._tap.call.hide
        return plain if hide is None else hide.show(plain)

    def flush(self) -> bytes:
        plain: bytes = self._inner.flush()  # comes after the last byte: the call has ended by then
        hide = self._tap.call.hide
        return plain if hide is None else hide.show(plain) + hide.rest()


class PiecesDecoder:
    """Around a decoder whose `decode` and `flush` give pieces, one at a time."""

    __slots__ = ("_inner", "_plain", "_tap")

    def __init__(self, inner: Any, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap
        self._plain = tap.plain

    def decode(self, data: bytes) -> Any:
        self._tap.decoding = True
        hide = self._tap.call.hide
        for plain in self._inner.decode(data):
            if plain:
                self._plain(plain)
            yield plain if hide is None else hide.show(plain)

    def flush(self) -> Any:
        hide = self._tap.call.hide
        if hide is None:
            return self._inner.flush()
        return [*map(hide.show, self._inner.flush()), hide.rest()]
