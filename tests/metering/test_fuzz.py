"""What must hold of any bytes: by hypothesis on every run, and a coverage-guided fuzzer's short run where it is there.

No exception, the same answer for every way of splitting, parts within their wholes, no work beyond the length of the
bytes, little memory; and nothing that merely looks like usage counts. `scripts/fuzz` runs the same target for longer.
"""

from __future__ import annotations

import base64
import copy
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import time
import tracemalloc
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicostguard.metering import Endpoint, Meter, framing
from aicostguard.metering.eventstream import Message, Messages, header
from aicostguard.metering.framing import Events, Lines
from tests.metering import fuzzing
from tests.metering.building import AWS, aws_message, whole
from tests.metering.fixtures import FIXTURES, Fixture, told

ROOT = pathlib.Path(__file__).parents[2]
SEEDS = fuzzing.seeds()
#: what readers and framings look for
TOKENS = (
    b'"usage":', b'{"usage":{"prompt_tokens":5,"completion_tokens":2}}', b"\n\n", b"\r\n", b"data: ", b"[DONE]",
    b"null", b"-1", b"1e400", b"{}", b"[", b'"', b"\\", b"\0", b"9" * 30, b'"error":{"a":1},', b"true", b"\xef\xbb\xbf",
)  # fmt: skip


@st.composite
def mutants(draw: Callable[..., Any]) -> bytes:
    """A fixture with some bytes changed, dropped, doubled, or taken from another fixture; or read as another format."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        change = draw(st.integers(0, 4))
        if change == 0 and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif change == 1:
            del data[at : at + draw(st.integers(1, 60))]
        elif change == 2:
            data[at:at] = draw(st.sampled_from(TOKENS))
        elif change == 3:
            other = draw(st.sampled_from(SEEDS))
            data[max(5, at) :] = other[draw(st.integers(5, len(other))) :]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 300))]
    for at in draw(st.lists(st.integers(0, 4), max_size=3)):
        data[at : at + 1] = bytes([draw(st.integers(0, 255))])
    return bytes(data)


@settings(max_examples=1500, deadline=None)
@given(mutants())
@pytest.mark.ids("A21", "B13")
def test_what_must_hold_of_changed_responses(data: bytes) -> None:
    fuzzing.check(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@pytest.mark.ids("A21")
def test_what_must_hold_of_any_bytes(data: bytes) -> None:
    fuzzing.check(data)


@pytest.mark.ids("B13")
def test_one_number_that_cannot_be_is_flagged_in_every_format() -> None:
    """Each number of each fixture in turn is far too large, and the body is read as every format."""
    for data in SEEDS:
        for number in list(re.finditer(rb": ?(\d+)(?=[,}\s])", data))[:14]:
            body = data[5 : number.start(1)] + b"99999999" + data[number.end(1) :]
            for at in range(len(fuzzing.FORMATS)):
                fuzzing.check(bytes([at, *data[1:5]]) + body)


@pytest.mark.ids("A21")
def test_a_coverage_guided_fuzzer_finds_nothing_in_a_short_run(tmp_path: pathlib.Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    command = [sys.executable, str(ROOT / "scripts" / "fuzz"), "--runs", "20000", "--seconds", "40", "--seed", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]


# --- what imitates usage -------------------------------------------------------------------------------------------
_MANY = 10**6
_NAMES = (
    "prompt_tokens completion_tokens total_tokens input_tokens output_tokens inputTokens outputTokens totalTokens "
    "promptTokenCount candidatesTokenCount totalTokenCount prompt_eval_count eval_count prompt_token_count "
    "generation_token_count inputTextTokenCount inputTokenCount outputTokenCount input_token_count "
    "generated_token_count num_tokens_prompt_total num_tokens_generated"
)
_COUNTS: Dict[str, Any] = dict.fromkeys(_NAMES.split(), _MANY)
#: one object under every name that any format reads
DECOY: Dict[str, Any] = {
    **_COUNTS,
    **{
        name: {**_COUNTS, "usage": _COUNTS}
        for name in (
            "usage", "usageMetadata", "meta", "metadata", "metrics", "billed_units", "tokens", "x_groq", "details",
            "response", "message", "amazon-bedrock-invocationMetrics", "modelInvocationOutput", "statistics",
        )
    },
}  # fmt: skip
#: a member that no format has, with the imitation as an object, as text, as text in base64
LURES: Tuple[Tuple[str, Any], ...] = (
    ("x_lure", DECOY),
    ("x_lure", [DECOY, {"x": DECOY}]),
    ("x_lure", json.dumps(DECOY)),
    ("x_lure", base64.b64encode(json.dumps(DECOY).encode()).decode()),
    ("x_lure", [{"input": DECOY, "arguments": json.dumps(DECOY), "pad": "." * 5000}]),
)


def lured(value: Any, lure: Tuple[str, Any]) -> Iterator[Any]:
    """The value with a lure in each of its objects in turn, in front and behind."""
    for path in _objects(value):
        for front in (True, False):
            mutant = copy.deepcopy(value)
            place = mutant
            for step in path:
                place = place[step]
            held = dict(place)
            place.clear()
            place.update({lure[0]: lure[1], **held} if front else {**held, lure[0]: lure[1]})
            yield mutant


def _objects(value: Any, at: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    if isinstance(value, dict):
        yield at
        for key, item in value.items():
            yield from _objects(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:2]):
            yield from _objects(item, (*at, index))


#: objects whose members are names of the provider's tools or models, each with a count of its own
OPEN = {"tool_calls_details"}


def bodies(fixture: Fixture, lure: Tuple[str, Any]) -> Iterator[bytes]:
    """The fixture's body with the lure in every place where the provider could put something new."""
    start = fixture.body.lstrip()[:1]
    if fixture.content_type == AWS:
        yield from _framed(fixture, lure)
        return
    if start == b"{" and b"\n{" not in fixture.body:
        value = json.loads(fixture.body)
        if json.dumps(value, ensure_ascii=False).encode() == fixture.body:
            for mutant in lured(value, lure):
                yield whole(mutant)
        return
    blocks = fixture.body.split(b"\n\n")
    for at, block in enumerate(blocks):
        front, mark, data = block.partition(b"data: ")
        if mark and data[:1] == b"{" and b"\n" not in data:
            for mutant in lured(json.loads(data), lure):
                changed = front + mark + json.dumps(mutant, separators=(",", ":"), ensure_ascii=False).encode()
                yield b"\n\n".join([*blocks[:at], changed, *blocks[at + 1 :]])


def _framed(fixture: Fixture, lure: Tuple[str, Any]) -> Iterator[bytes]:
    """AWS messages: the lure in a message's own JSON, or in the event that it carries."""
    messages = Messages().feed(fixture.body)

    def framed(message: Message, payload: bytes) -> bytes:
        kind = header(message.headers, b":message-type") or ""
        return aws_message(header(message.headers, b":%s-type" % kind.encode()) or "", payload, kind)

    for at, message in enumerate(messages):
        try:
            value = json.loads(message.payload)
            inner = json.loads(base64.b64decode(value["bytes"])) if "bytes" in value else None
        except (ValueError, TypeError):
            continue
        changed = [whole(mutant) for mutant in lured(value, lure)]
        for mutant in lured(inner, lure):
            changed.append(whole({**value, "bytes": base64.b64encode(whole(mutant)).decode()}))
        for payload in changed:
            yield b"".join(
                framed(other, payload if index == at else other.payload) for index, other in enumerate(messages)
            )


@pytest.mark.ids("B15")
@pytest.mark.parametrize("fixture", FIXTURES, ids=[fixture.name for fixture in FIXTURES])
def test_what_imitates_usage_never_counts(fixture: Fixture) -> None:
    if len(fixture.body) > 20_000 or any(name.encode() in fixture.body for name in OPEN):
        return
    for lure in LURES:
        for body in bodies(fixture, lure):
            # An error with something else beside it may look like an answer, but like none with counts.
            got = [told(reading) for reading in fixture.read(body) if reading.usage is not None]
            assert got == [said for said in fixture.expected if "no_usage" not in said], body[:2000]


# --- memory and work -----------------------------------------------------------------------------------------------


def _held(feed: Callable[[], Any]) -> int:
    """Bytes that were held at most while `feed` ran."""
    tracemalloc.start()
    try:
        feed()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _streams() -> List[Fixture]:
    """One streamed fixture of each format."""
    found: Dict[str, Fixture] = {}
    for fixture in FIXTURES:
        readings = fixture.read()
        if readings and readings[0].streamed and fixture.body[:1] not in (b"{", b"["):
            found.setdefault(fixture.endpoint().format, fixture)
    return list(found.values())


@pytest.mark.ids("A12")
@pytest.mark.parametrize("fixture", _streams(), ids=lambda fixture: fixture.endpoint().format)
def test_a_stream_without_end_keeps_little(fixture: Fixture) -> None:
    """Without its end the stream goes round and round: a megabyte of it may not leave a tenth behind."""
    half = fixture.body[: len(fixture.body) // 2]
    end = half.rfind(b"\n\n") + 2
    body = half[:end] if end > 2 and fixture.content_type != AWS else b""
    if not body:
        return
    meter = fixture.meter()
    rounds = 1_000_000 // len(body)

    def feed() -> None:
        for _ in range(rounds):
            meter.feed(body)

    assert _held(feed) < 100_000 + 40 * len(body)


@pytest.mark.ids("A12")
@pytest.mark.parametrize(("kind", "end"), [(Events, b"\n\n"), (Lines, b"\n")])
def test_an_event_that_never_ends_is_let_go(kind: Any, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MOST", 100_000)
    events = kind()
    piece = b"data: x" + b"y" * 1000

    def feed() -> None:
        for _ in range(3000):
            events.feed(piece)

    assert _held(feed) < 1_000_000
    found = events.feed(b'\ndata: {"usage": 1}' + end + b"data: {}" + end)
    assert [block for block in found if b"usage" in block] in ([], [b'data: {"usage": 1}']), "half of it"
    assert found[-1] == b"data: {}"
    if kind is Events:
        assert found[0] == b":"


@pytest.mark.ids("A18")
@pytest.mark.parametrize(
    ("form", "start", "piece"), [("ollama", b'{"text": "', b"word word " * 10), ("chat", b" ", b" " * 100)]
)
def test_work_grows_with_the_bytes_and_not_with_their_square(form: str, start: bytes, piece: bytes) -> None:
    """60,000 pieces of a hundred bytes; joined or copied at each piece they would be 180 GB."""
    meter = Meter(Endpoint("openai", form), 200, "", lambda: None, lambda _: None)
    meter.feed(start)
    began = time.process_time()
    for _ in range(60_000):
        meter.feed(piece)
    assert time.process_time() - began < fuzzing.PATIENCE
    meter.finish(False)


# --- AWS event streams ---------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b":event-type", b"", b"x"]))
@pytest.mark.ids("A21")
def test_headers_of_any_bytes(headers: bytes, name: bytes) -> None:
    found: Optional[str] = header(headers, name)
    assert found is None or isinstance(found, str)


@pytest.mark.ids("A12", "B9")
def test_a_message_that_nobody_wants_is_never_held() -> None:
    messages = Messages((b"metadata",))
    stream = aws_message("contentBlockDelta", b"x" * 3_000_000) + aws_message("metadata", b"{}")
    found = []

    def feed() -> None:
        for at in range(0, len(stream), 1000):
            found.extend(messages.feed(stream[at : at + 1000]))

    assert _held(feed) < 100_000
    assert [(message.payload, message.before) for message in found] == [(b"{}", 1)]
