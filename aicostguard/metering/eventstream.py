"""AWS event streams: length-prefixed binary messages, as Bedrock sends them.

Owns the framing. Never checks the CRCs (the SDK does) and never raises for a broken message: it ends the
stream instead. Format: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html
"""

from __future__ import annotations

from typing import List

#: a message that claims to be longer is not one (the service's own limit is 24 MB)
_LONGEST = 32 * 1024 * 1024


class Messages:
    """Payloads of the messages of an event stream, from bytes that may be split anywhere."""

    __slots__ = ("_pieces", "_size", "_need", "broken")

    def __init__(self) -> None:
        self._pieces: List[bytes] = []
        self._size = 0
        self._need = 12
        self.broken = False

    @property
    def empty(self) -> bool:
        """True when no part of a message is pending."""
        return not self._size

    def feed(self, data: bytes) -> List[bytes]:
        """The payloads completed by `data`."""
        if self.broken:
            return []
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._need:
            return []
        pending = b"".join(self._pieces)
        found: List[bytes] = []
        at = 0
        self._need = 12
        while len(pending) - at >= 12:
            total = int.from_bytes(pending[at : at + 4], "big")
            headers = int.from_bytes(pending[at + 4 : at + 8], "big")
            if not 16 <= total <= _LONGEST or headers > total - 16:
                self.broken = True
                return found
            if len(pending) - at < total:
                self._need = total
                break
            found.append(pending[at + 12 + headers : at + total - 4])
            at += total
        rest = pending[at:]
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        return found
