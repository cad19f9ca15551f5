"""The start of a stream, held unread until a piece comes that tells what it bills.

Owns the first look at a stream of the plainest kind, that of `quick`: whole events in each piece, and at its end one
with a `usage` and no choices. Then nothing before it needs to be read. Everything else is given to the `Meter`, which
gets the same bytes in the same order as if it had been there from the start; `tests/capture/test_start.py` proves it.
If this is wrong, a stream is billed by the wrong piece.
"""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, Optional, Tuple

from aicostguard.capture.quick import Counted, Quick
from aicostguard.metering import Glance, Meter
from aicostguard.metering.values import scan_once
from aicostguard.usage import Reading

_EVENT, _GAP, _OVER = b"data: {", b"\n\n", b"data: [DONE]\n\n"


class Start:
    """What `Call` feeds and finishes in place of a `Meter`, which `make` makes when it is needed.

    Refers to no call, so that a stream that is let go of is collected at once.
    """

    __slots__ = ("done", "told", "glance", "skip", "lines", "_known", "_make", "_held", "_meter")

    def __init__(self, known: Quick, make: Callable[[], Meter]) -> None:
        self.done = False
        #: the members of the event that has told all there is to tell, and what its `usage` says
        self.told: Optional[Tuple[Mapping[str, Any], Counted]] = None
        self.glance = Glance(known.plain.marks)
        self.skip = self.lines = 0
        self._known = known
        self._make = make
        self._held: List[bytes] = []
        self._meter: Optional[Meter] = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._meter is None and data.endswith(_GAP) and data.startswith(_EVENT):
            held, plain = self._held, self._known.plain
            for mark in plain.marks:
                if data.find(mark) >= 0:
                    break
            else:
                # As many pieces as a meter looks at events without a needle.
                if len(held) < plain.head:
                    held.append(data)
                if len(held) == plain.head:
                    self.glance.ends = _GAP
                return
            if held and self._tells(data):
                held.append(data)
                self.done = True
                return
        meter = self._metered()
        meter.feed(data)
        self.done = meter.done

    def finish(self, complete: bool) -> List[Reading]:
        """As `Meter.finish`."""
        self.glance.ends = ()
        return self._metered().finish(complete)

    def _metered(self) -> Meter:
        meter = self._meter
        if meter is None:
            meter = self._meter = self._make()
            meter.glance = self.glance
            self.glance.ends = ()
            for data in self._held:
                meter.feed(data)
            self._held.clear()
        return meter

    def _tells(self, data: bytes) -> bool:
        """Whether the last event of these, but for the word that the stream is over, tells what it bills."""
        body = data[: -len(_OVER)] if data.endswith(_OVER) else data
        begin = body.rfind(_GAP, 0, -len(_GAP)) + len(_GAP)
        if begin < len(_GAP):
            begin = 0
        elif any(mark in body[:begin] for mark in self._known.plain.marks):
            return False
        event = body[begin : -len(_GAP)]
        if b'"choices":[]' not in event and b'"choices": []' not in event:
            return False
        try:
            source = event.decode()
            found, end = scan_once(source, source.index("{"))
            # On one line, or its lines would have to be put together.
            plain = end == len(source) and event.startswith(_EVENT) and b"\n" not in event and b"\r" not in event
            # Without its id, more would be asked of the first events.
            if not plain or found["choices"] != [] or type(found["id"]) is not str or not found["id"]:
                return False
            counted = self._known.counted(found)
        except (LookupError, TypeError, ValueError, StopIteration, RecursionError):
            return False
        if counted is not None:
            self.told = found, counted
        return counted is not None
