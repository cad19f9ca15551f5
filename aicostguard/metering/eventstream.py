"""AWS event streams: length-prefixed binary messages, as Bedrock sends them.

Owns the framing. Checks the CRC of the very first lengths only, to know such a stream where its content type is
missing: the SDK checks them all, and raises to its user. Never raises for a broken message, but ends the stream, and
never keeps a message that the format has no use for, however long. Format: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html
"""

from __future__ import annotations

from binascii import crc32
from typing import List, NamedTuple, Optional, Tuple

#: bytes before the headers: total length, length of the headers, CRC of both
PRELUDE = 12
#: a message that claims to be longer is not one (the service's own limit is 24 MB)
_LONGEST = 32 * 1024 * 1024
#: headers that claim to be longer are none (the limit is 128 KB)
_LONGEST_HEADERS = 128 * 1024
#: bytes of a header's value by its type; None: two bytes of length, then the value
_SIZES: Tuple[Optional[int], ...] = (0, 0, 1, 2, 4, 8, None, None, 8, 16)


class Message(NamedTuple):
    """One message. `headers` are undecoded (`header` reads one); `before` counts the messages ahead of it."""

    headers: bytes
    payload: bytes
    before: int


class Messages:
    """Messages of an event stream, from bytes that may be split anywhere.

    `wanted` are byte strings: a message with none of them among its headers is passed over without being kept.
    """

    __slots__ = ("_wanted", "_pieces", "_size", "_need", "_skip", "_seen", "broken")

    def __init__(self, wanted: Tuple[bytes, ...] = (b"",)) -> None:
        self._wanted = wanted
        self._pieces: List[bytes] = []
        self._size = 0
        self._need = PRELUDE
        #: bytes still to come of a message that nobody wants
        self._skip = 0
        self._seen = 0
        self.broken = False

    @property
    def empty(self) -> bool:
        """True when no part of a message is pending."""
        return not self._size and not self._skip

    def feed(self, data: bytes) -> List[Message]:
        """The wanted messages completed by `data`."""
        if self.broken:
            return []
        if self._skip:
            if len(data) <= self._skip:
                self._skip -= len(data)
                return []
            data, self._skip = data[self._skip :], 0
        if self._size:
            # No join here: a large message that comes in many pieces must not cost the square of its length.
            self._pieces.append(data)
            self._size += len(data)
            if self._size < self._need:
                return []
            data = b"".join(self._pieces)
        found: List[Message] = []
        at, size = 0, len(data)
        self._need = PRELUDE
        while size - at >= PRELUDE:
            total = int.from_bytes(data[at : at + 4], "big")
            length = int.from_bytes(data[at + 4 : at + 8], "big")
            if not 16 <= total <= _LONGEST or length > total - 16 or length > _LONGEST_HEADERS:
                self.broken = True
                self._pieces, self._size = [], 0
                return found
            body = at + PRELUDE + length
            if size < body:
                self._need = PRELUDE + length
                break
            headers = data[at + PRELUDE : body]
            for wanted in self._wanted:
                if wanted in headers:
                    break
            else:
                self._seen += 1
                at += total
                continue
            if size - at < total:
                self._need = total
                break
            found.append(Message(headers, data[body : at + total - 4], self._seen))
            self._seen += 1
            at += total
        if at >= size:
            self._skip = at - size
            self._pieces, self._size = [], 0
        else:
            self._pieces, self._size = [data[at:] if at else data], size - at
        return found


def is_prelude(data: bytes) -> bool:
    """True when `data` begins as an event stream does."""
    return crc32(data[:8]) == int.from_bytes(data[8:PRELUDE], "big")


def header(headers: bytes, name: bytes) -> Optional[str]:
    """The value of a text header; None when it is not there, is no text, or the headers are broken."""
    at, size = 0, len(headers)
    while at < size:
        end = at + 1 + headers[at]
        found = headers[at + 1 : end]
        if end >= size or headers[end] >= len(_SIZES):
            return None
        kind, at = headers[end], end + 1
        length = _SIZES[kind]
        if length is None:
            length = int.from_bytes(headers[at : at + 2], "big")
            at += 2
        if found == name:
            value = headers[at : at + length]
            return value.decode("utf-8", "replace") if kind == 7 and len(value) == length else None
        at += length
    return None
