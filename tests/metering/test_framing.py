"""The same bytes give the same events however they are split."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicostguard.metering.eventstream import Messages
from aicostguard.metering.framing import MOST, Body, Events, Lines, data_of
from tests.metering.building import aws

LINES = st.sampled_from(
    [b"data: one", b"data:two", b"data", b"data:", b": comment", b"event: x", b"id: 7", b"data: \xc3\xa9", b""]
)  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def read(pieces: List[bytes]) -> List[bytes]:
    events = Events()
    blocks = [block for piece in pieces for block in events.feed(piece)]
    return [data for data in map(data_of, [*blocks, events.rest()]) if data]


def by_the_standard(stream: bytes) -> List[bytes]:
    """The parser of the HTML standard, line by line, over the whole stream."""
    found, data = [], []
    for line in [*stream[3 if stream.startswith(b"\xef\xbb\xbf") else 0 :].splitlines(), b""]:
        if not line:
            if data:
                found.append(b"\n".join(data))
            data = []
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value[1:] if value.startswith(b" ") else value)
    return [event for event in found if event]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.booleans(), st.lists(st.integers(0, 400), max_size=12))
def test_events_are_those_of_the_standard_at_every_split(rows: object, bom: bool, cuts: List[int]) -> None:
    stream = (b"\xef\xbb\xbf" if bom else b"") + b"".join(line + end for line, end in rows)  # type: ignore[attr-defined]
    places = sorted({min(cut, len(stream)) for cut in cuts})
    pieces = [stream[start:stop] for start, stop in zip([0, *places], [*places, len(stream)])]
    expected = by_the_standard(stream)
    assert read([stream]) == expected
    assert read(pieces) == expected
    assert read([stream[at : at + 1] for at in range(len(stream))]) == expected


def test_lines_of_one_event_are_joined() -> None:
    assert read([b'data: {"a":\r\ndata: 1}\r\n\r\n']) == [b'{"a":\n1}']


def test_a_last_event_without_its_blank_line_is_read() -> None:
    assert read([b"data: a\n\ndata: b"]) == [b"a", b"b"]


def test_a_large_event_in_many_pieces_is_joined_once() -> None:
    events = Events()
    piece = b"x" * 1000
    for _ in range(2000):
        assert events.feed(piece) == []
    # 2,000 references and no copy: joining at every piece would move two gigabytes
    assert len(events._pieces) == 2000
    assert len(events.feed(b"\n\n")[0]) == 2_000_000


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 40))
def test_aws_messages_at_every_split(payloads: List[bytes], step: int) -> None:
    stream = aws(*payloads)
    messages = Messages()
    found = [message for at in range(0, len(stream), step) for message in messages.feed(stream[at : at + step])]
    assert [message.payload for message in found] == payloads
    assert [message.before for message in found] == list(range(len(payloads)))
    assert messages.empty


@pytest.mark.ids("A21")
def test_a_broken_aws_stream_ends_without_an_error() -> None:
    messages = Messages()
    assert [message.payload for message in messages.feed(aws(b"a") + b"\xff" * 40)] == [b"a"]
    assert messages.broken
    assert messages.feed(aws(b"b")) == []


def test_a_body_beyond_the_bound_keeps_its_ends() -> None:
    body = Body()
    body.feed(b"{start")
    block = b"." * (8 * 1024 * 1024)
    for _ in range(MOST // len(block) + 2):
        body.feed(block)
    body.feed(b"end}")
    assert body.head is not None
    assert body.head.startswith(b"{start")
    assert body.value().endswith(b"end}")
    assert len(body.value()) < MOST


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=12)), st.lists(st.integers(0, 200), max_size=8))
def test_lines_are_the_same_for_every_split(rows: List[bytes], cuts: List[int]) -> None:
    stream = b"\n".join(rows)
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    lines = Lines()
    found = [line for a, b in zip(at, at[1:]) for line in lines.feed(stream[a:b])]
    assert [*found, lines.rest()] == stream.split(b"\n")
    assert lines.empty
