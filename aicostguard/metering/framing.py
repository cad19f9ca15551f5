"""Bytes split anywhere → events and bodies.

Owns the framing of server-sent events and of lines of JSON, and the holding of whole bodies. Never looks inside
an event beyond its framing, and gives the same events for every way of splitting the same bytes. If this breaks, a
stream has no usage.
"""

from __future__ import annotations

import re
from typing import List, Optional, Tuple, Union

#: bytes of a body that are held; beyond them the middle is let go, because usage stands at an end
MOST = 64 * 1024 * 1024
#: bytes kept of each end of a body that is longer than that
END = 256 * 1024

#: two line ends in a row, of the three that https://html.spec.whatwg.org/multipage/server-sent-events.html allows
BLANK = rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)"
_BOM = b"\xef\xbb\xbf"


class Glance:
    """What can be told from a piece of a stream at one look, which is all that most get.

    A piece that ends with `ends` and holds none of `marks` need not be fed. `ends` is () while no piece can be told so,
    and b"" when all can. The look itself stands where the pieces pass (`Meter.feed`, `capture.pieces`): a function of
    its own would cost each of them more than the look.
    """

    __slots__ = ("ends", "marks")

    def __init__(self, marks: Tuple[bytes, ...] = ()) -> None:
        self.ends: Union[bytes, Tuple[()]] = ()
        self.marks = marks


class Events:
    """Server-sent events from bytes that may be split anywhere.

    `feed` returns the blocks that are now complete, still with their field names: most are thrown away
    unread, so that the work of `data_of` is done only for the few that matter.
    """

    __slots__ = ("_pieces", "_size", "_lost", "_edge", "_started")

    def __init__(self) -> None:
        self._pieces: List[bytes] = []
        self._size = 0
        #: the start of the event that is pending was let go: nothing is made of half an event
        self._lost = False
        #: the last three bytes of what is pending: enough to see a blank line that a split cut in two
        self._edge = b""
        self._started = False

    @property
    def empty(self) -> bool:
        """True when no part of an event is pending."""
        return not self._pieces

    def feed(self, data: bytes) -> List[bytes]:
        """The blocks completed by `data`."""
        edge = self._edge + data
        if b"\n\n" not in edge and (b"\r" not in edge or re.search(BLANK, edge) is None):
            # No join here: a large event that comes in many pieces must not cost the square of its length.
            self._pieces.append(data)
            self._edge = edge[-3:]
            self._size += len(data)
            if self._size > MOST:
                self._pieces, self._size, self._lost = [b":"], 1, True
            return []
        self._pieces.append(data)
        pending = b"".join(self._pieces)
        blocks = pending.split(b"\n\n") if b"\r" not in pending else re.split(BLANK, pending)
        rest = blocks.pop()
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        self._edge = rest[-3:]
        if self._lost and blocks:
            self._lost, blocks[0] = False, b":"
        if not self._started and blocks:
            self._started = True
            if blocks[0].startswith(_BOM):
                blocks[0] = blocks[0][3:]
        return blocks

    def rest(self) -> bytes:
        """What is left at the end: some servers leave out the last blank line, and SDKs read it all the same."""
        rest = b"" if self._lost else b"".join(self._pieces)
        self._pieces = []
        return rest if self._started else rest[3:] if rest.startswith(_BOM) else rest


class Lines:
    """Lines, each a JSON text (NDJSON), from bytes that may be split anywhere. The face of `Events`."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: List[bytes] = []
        self._size = 0

    @property
    def empty(self) -> bool:
        """True when no part of a line is pending."""
        return not self._pieces

    def feed(self, data: bytes) -> List[bytes]:
        """The lines completed by `data`. Of a line longer than `MOST` nothing is left that could be read."""
        self._pieces.append(data)
        self._size += len(data)
        if b"\n" not in data:
            if self._size > MOST:
                # No JSON begins so: nothing is made of half a line.
                self._pieces, self._size = [b"\0"], 1
            return []
        lines = b"".join(self._pieces).split(b"\n")
        rest = lines.pop()
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        return lines

    def rest(self) -> bytes:
        """What is left at the end."""
        rest, self._pieces = b"".join(self._pieces), []
        return rest


def line_of(block: bytes) -> bytes:
    """The data of one line."""
    return block


def data_of(block: bytes) -> bytes:
    """The data of one event; empty for a comment or an event without data."""
    if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:
        return block[6:]
    lines = []
    for line in block.splitlines():
        if line.startswith(b"data:"):
            lines.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines)


class Body:
    """A whole body, from pieces. A body beyond `most` bytes (`MOST`) keeps its two ends."""

    __slots__ = ("_pieces", "_size", "_head", "_most", "cut")

    def __init__(self, most: Optional[int] = None) -> None:
        self._pieces: List[bytes] = []
        self._size = 0
        self._most = MOST if most is None else most
        self._head: Optional[bytes] = None
        #: True when the middle was let go
        self.cut = False

    def feed(self, data: bytes) -> None:
        """Add a piece."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._most:
            held = b"".join(self._pieces)
            if self._head is None:
                self._head = held[:END]
            self._pieces = [held[-END:]]
            self._size = END
            self.cut = True

    def value(self) -> bytes:
        """All of it; of a cut body the two ends, joined by nothing (see `head`)."""
        return b"".join(self._pieces)

    @property
    def head(self) -> Optional[bytes]:
        """The first bytes of a body that was cut."""
        return self._head
