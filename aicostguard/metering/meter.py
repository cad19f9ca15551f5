"""One response's bytes → readings.

Owns the choice of framing and the order of work: throw away cheaply what cannot matter, parse as little as
possible, once. Pure: no I/O, no clock, nothing kept after `finish`. Never raises for what a provider sent. If it
breaks, a call has no receipt, or a stream becomes slow.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.eventstream import PRELUDE, Messages, is_prelude
from aicostguard.metering.formats import Facts, Fold, Format, RequestBody
from aicostguard.metering.framing import END, Body, Events, Glance, Lines, data_of, line_of
from aicostguard.metering.providers import rules
from aicostguard.metering.scan import members, members_of_ends
from aicostguard.metering.table import form
from aicostguard.metering.values import parse, text
from aicostguard.usage import Reading

Headers = Callable[[str], Optional[str]]

_EVENTSTREAM = "application/vnd.amazon.eventstream"
#: how server-sent events begin; only asked where something else may come, too
_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_LONGEST_START = 6
_BOM = b"\xef\xbb\xbf"
#: bytes of each end of a multipart form that are looked at, and its field (https://www.rfc-editor.org/rfc/rfc7578)
_FORM = 8192
_MODEL_FIELD = rb'name="?model"?(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]{1,200})\r\n'


class Meter:
    """Reads one response in passing.

    `feed` takes decoded bytes, split anywhere. `done` turns true at the terminal event; `finish` may be called
    then, or at the end of the bytes, and gives what the response bills. `request_body` is called only when the
    response names no model, or where the request says what is billed. `skip` is how many lines of a file of results
    were billed before; `lines` is how many of them have come.
    """

    __slots__ = (
        "done", "lines", "skip", "_endpoint", "_format", "_request_body", "_fold", "_events", "_messages", "_body",
        "_first", "_head", "glance", "_needles", "_sentinel", "_facts", "_finished", "_gap", "_gap_size",
        "_data", "_perhaps_lines", "_broken_line", "_declared",
        "_file", "_opaque",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        status: int,
        content_type: str,
        request_body: RequestBody,
        headers: Headers,
        skip: int = 0,
    ) -> None:
        self.done = False
        self.lines = 0
        self.skip = skip
        self._endpoint = endpoint
        self._request_body = request_body
        self._format: Optional[Format] = form(endpoint.format) if endpoint.bills else None
        # Only a 2xx is billed.
        self._finished = self._format is None or not 200 <= status < 300
        self._facts = Facts(endpoint.format, rules(endpoint.provider), headers, request_body)
        self._fold: Optional[Fold] = None
        self._events: Optional[Union[Events, Lines]] = None
        self._messages: Optional[Messages] = None
        self._body: Optional[Body] = None
        self._first = b""
        #: events at the start that are still looked at without a needle
        self._head = 0
        self._needles = self._format.needles if self._format else ()
        self._sentinel = self._format.sentinel if self._format else None
        #: tells pieces between two events of a stream whose start is over: most are whole events that cannot matter
        self.glance = Glance(self._needles if self._sentinel is None else (*self._needles, self._sentinel))
        #: what ends an event of this stream, and how its data is got out of it
        self._gap = b"\n\n"
        self._gap_size = 2
        self._data = data_of
        #: a body that could still turn out to be lines
        self._perhaps_lines = False
        self._broken_line = False
        #: the response calls itself an AWS event stream
        self._declared = content_type[: len(_EVENTSTREAM)].lower() == _EVENTSTREAM
        #: the lines of a file of results
        self._file: Optional[Lines] = None
        #: the bytes are neither JSON nor events: none of them is held
        self._opaque = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        ends = self.glance.ends
        if ends and data.endswith(ends):
            for mark in self.glance.marks:
                # `find` and not `in`, which takes half as long again
                if data.find(mark) >= 0:
                    break
            else:
                return
            # One event on one line needs no look for its end.
            if data.find(b"\n") == len(data) - self._gap_size and not self.done and not self._finished:
                self._event(self._data(data[: -self._gap_size]))
                return
        if not self._finished and not self.done and data and not self._opaque:
            if self._messages is not None:
                self._framed(data)
            else:
                self._take(data)

    def _stream(self) -> None:
        assert self._format is not None
        self._fold = self._format.fold(self._facts)
        self._head = self._format.head

    def _frames(self) -> None:
        assert self._format is not None
        if not self._format.raw_payload:
            self._stream()
        self._messages = Messages((b"",) if self._format.raw_payload else self._format.wanted)

    def _may_be_framed(self, first: int) -> bool:
        if self._declared:
            return True
        return first < 2 and self._format is not None and bool(self._format.wanted or self._format.raw_payload)

    def _framed(self, data: bytes) -> None:
        """AWS messages: a fold's, or pieces of the answer as they are."""
        assert self._messages is not None and self._format is not None
        for message in self._messages.feed(data):
            if self._format.raw_payload:
                self._take(message.payload)
            elif self._fold is not None and self._fold.message(message):
                self.done = True
            if self.done:
                return

    def _take(self, data: bytes) -> None:
        if self._body is not None:
            self._body.feed(data)
            # No look at what is held before a line has ended: a body in many pieces must not cost their square.
            if self._perhaps_lines and (self._broken_line or b"\n" in data):
                self._broken_line = True
                self._second_line()
        elif self._events is not None:
            blocks = self._events.feed(data)
            for block in blocks:
                self._block(block)
                if self.done:
                    break
            self.glance.ends = self._gap if self._head == 0 and self._events.empty else ()
        elif self._file is not None:
            for line in self._file.feed(data):
                self._line(line)
        else:
            self._sniff(data)

    def _sniff(self, data: bytes) -> None:
        """The first bytes tell body from events: content types are missing or wrong too often."""
        self._first += data
        start = self._first
        if len(start) < 3 and _BOM.startswith(start):
            return
        start = (start[3:] if start.startswith(_BOM) else start).lstrip()
        if not start:
            # Blanks that keep a connection alive, perhaps for hours
            self._first = b""
            return
        row = self._format
        assert row is not None
        if row.file:
            self._opaque = start[0] != 0x7B
            self._stream()
            self._file = Lines()
        elif start[0] in b"{[":
            self._body = Body(row.most)
            self._perhaps_lines = start[:1] == b"{" and row.lines
        elif self._messages is None and self._may_be_framed(start[0]):
            # No text begins so: the length of an AWS message, whose CRC proves it where nothing else says it.
            if not self._declared and len(self._first) < PRELUDE:
                return
            if self._declared or is_prelude(self._first):
                self._frames()
                data, self._first = self._first, b""
                self._framed(data)
                return
            self._body = Body()
        elif row.opaque and not start.startswith(_EVENT_STARTS):
            if len(start) < _LONGEST_START and any(head.startswith(start) for head in _EVENT_STARTS):
                return
            self._opaque = True
        else:
            self._stream()
            self._events = Events()
        data, self._first = self._first, b""
        if not self._opaque:
            self._take(data)

    def _second_line(self) -> None:
        """A line behind one that is an object by itself: lines of JSON, whatever the content type says."""
        assert self._body is not None
        held = self._body.value().lstrip(_BOM).lstrip()
        first, _, more = held.partition(b"\n")
        if not more.strip():
            return
        self._perhaps_lines = False
        if type(parse(first)) is not dict:
            return
        self._body = None
        self._events = Lines()
        self._gap, self._gap_size, self._data = b"\n", 1, line_of
        self._stream()
        self._take(held)

    def _block(self, block: bytes) -> None:
        if self._head:
            # Keep-alive comments do not use up the head.
            data = self._data(block)
            if not data:
                return
            self._head -= 1
        elif self._matters(block):
            data = self._data(block)
        else:
            return
        self._event(data)

    def _matters(self, data: bytes) -> bool:
        for needle in self._needles:
            if needle in data:
                return True
        return self._sentinel is not None and self._sentinel in data

    def _line(self, line: bytes) -> None:
        """One line of a file of results."""
        if line.strip():
            self.lines += 1
            if self.lines > self.skip:
                self._event(line)

    def _event(self, data: bytes) -> None:
        assert self._fold is not None
        if data == self._sentinel or (data and self._fold.event(data)):
            self.done = True

    def finish(self, complete: bool) -> List[Reading]:
        """What the response bills, once; empty when it bills nothing.

        `complete` is False when the bytes ended early (break, cancel, reset, collection): the readings are then
        partial, unless the terminal event had come.
        """
        if self._finished:
            return []
        self._finished = True
        self.glance.ends = ()
        streamed = self._fold is not None
        if self._fold is not None:
            if self._events is not None and not self.done:
                rest = self._events.rest()
                if rest:
                    self._block(rest)
            if self._file is not None and complete:
                # An unfinished line is no line yet: it must not be skipped when the file is fetched again.
                self._line(self._file.rest())
            found = self._fold.readings()
        else:
            found, streamed = self._whole(complete)
        cut = self._fold is not None and self._fold.unfinished()
        if self._messages is not None and (self._messages.broken or not self._messages.empty):
            cut = True
        partial = (cut or not complete) and not self.done
        if self._file is not None:
            # The lines that have come are billed whole, and the others when the file is fetched again.
            streamed = partial = False
        return [self._complete(reading, streamed, partial) for reading in found]

    def _whole(self, complete: bool) -> Tuple[List[Reading], bool]:
        """The readings of a body that is no event stream, and whether it was a stream all the same."""
        row = self._format
        assert row is not None
        if row.bodiless is not None and row.bodiless(self._facts):
            return row.read({}, self._facts), False
        body = self._body.value() if self._body is not None else self._first
        if row.array is not None and body.lstrip(_BOM).lstrip()[:1] == b"[":
            return row.array(body, self._facts), False
        found: Optional[Dict[str, Any]]
        if self._body is not None and self._body.head is not None:
            found = members_of_ends(self._body.head, body, row.usage, row.members)
        elif complete:
            found = members(body, row.usage, row.members, row.marks)
        else:
            # The proof of a member's depth needs a whole body.
            whole = parse(body)
            found = whole if type(whole) is dict else None
        # One line of an event stream, or of lines.
        return row.read(found or {}, self._facts), self._messages is not None

    def _complete(self, reading: Reading, streamed: bool, partial: bool) -> Reading:
        assert self._format is not None
        return _completed(reading, self._endpoint, self._format, self._request_body, streamed, partial)


def _completed(
    reading: Reading, endpoint: Endpoint, row: Format, request_body: RequestBody, streamed: bool, partial: bool
) -> Reading:
    """The reading with what the request and its address say."""
    model = reading.model
    if row.model is not None:
        model = row.model(model, endpoint.url_model, request_body)
    elif model is None:
        model = _requested(request_body) or endpoint.url_model
    # Written out: `_replace` takes twice as long, and this is on the caller's thread.
    return Reading(
        model,
        reading.usage,
        reading.provider or endpoint.provider,
        reading.operation or row.operation,
        reading.service_tier,
        reading.region or endpoint.region,
        streamed or reading.streamed,
        partial and not reading.pending,
        reading.mismatch,
        reading.response_id or endpoint.id,
        reading.pending,
        reading.also,
        reading.void,
    )


def _in_form(*parts: bytes) -> Optional[str]:
    """The field `model` of a multipart form, near one of its ends: between them is a file."""
    for part in parts:
        found = re.search(_MODEL_FIELD, part)
        if found is not None:
            return found.group(1).decode("utf-8", "replace")
    return None


def _requested(request_body: RequestBody) -> Optional[str]:
    body = request_body()
    if not isinstance(body, (bytes, bytearray)) or not body:
        return None
    if body[:2] == b"--":
        return _in_form(bytes(body[:_FORM]), bytes(body[-_FORM:]))
    found = members(bytes(body), "model", ("model_id",)) or {}
    return text(found.get("model")) or text(found.get("model_id"))


def read_body(
    endpoint: Endpoint,
    status: int,
    content_type: str,
    body: Union[bytes, bytearray],
    request_body: RequestBody,
    headers: Headers,
) -> List[Reading]:
    """The readings of a whole body: the same as feeding it and `finish(True)`."""
    row = form(endpoint.format) if endpoint.bills and 200 <= status < 300 else None
    if row is None:
        return []
    if body[:1] == b"{" and type(body) is bytes and not row.lines and not row.file:
        # What nearly every call is. A meter could read it, too; it would be built for one piece of bytes.
        facts = Facts(endpoint.format, rules(endpoint.provider), headers, request_body)
        found: Optional[Mapping[str, Any]] = None
        if row.most is not None and len(body) > row.most:
            found = members_of_ends(body[:END], body[-END:], row.usage, row.members)
        elif row.bodiless is None or not row.bodiless(facts):
            found = members(body, row.usage, row.members, row.marks)
        read = row.read(found or {}, facts)
        return [_completed(reading, endpoint, row, request_body, False, False) for reading in read]
    return _metered(endpoint, status, content_type, bytes(body), request_body, headers)


def _metered(
    endpoint: Endpoint, status: int, content_type: str, body: bytes, request_body: RequestBody, headers: Headers
) -> List[Reading]:
    meter = Meter(endpoint, status, content_type, request_body, headers)
    meter.feed(body)
    return meter.finish(True)
