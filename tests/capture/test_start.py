"""A stream whose start is held unread comes to a meter's receipt of it, at the same piece, byte by byte."""

from __future__ import annotations

import gc
import json
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import context
from aicostguard.capture import call as module
from aicostguard.capture import once
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook
from aicostguard.capture.quick import Quick, quick
from aicostguard.capture.start import Start
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.metering import Endpoint, Meter
from aicostguard.receipt import encode, written
from aicostguard.usage import Reading
from tests.capture.test_quick import CALLS, DETAILED, ENDPOINTS, OPENAI, PLAIN, TIERS, usages

HOOK = Hook("test")
DONE = b"data: [DONE]\n\n"
#: (after which piece, its items in order, its JSON twice); and what was noted
Seen = Tuple[List[Tuple[int, List[Tuple[str, Any]], bytes, Optional[str]]], Dict[str, int]]


class Clock:
    """Goes on by the same for both ways: what is asked of it tells how many pieces have passed."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "perf_counter", Clock())
    state.__init__()  # type: ignore[misc]
    health.reset()
    once.pending.clear()  # a job that a test elsewhere left pending sends everything the long way
    yield
    state.__init__()  # type: ignore[misc]
    health.reset()


def stream(
    pieces: Sequence[bytes],
    known: Optional[Quick],
    endpoint: Endpoint = OPENAI,
    feature: Optional[str] = "main",
    labels: Mapping[str, Any] = {},
    attempts: int = 1,
    complete: bool = True,
) -> Tuple[Seen, bool]:
    """What passing these pieces makes, as `capture.pieces` passes them; and whether no meter was needed for it."""
    made: List[Any] = []
    at = [-1]

    def deliver(receipt: Any) -> None:
        made.append((at[0], list(receipt.items()), encode(receipt), written(dict(receipt))))

    state.deliver = deliver
    before = health.snapshot()["notes"]
    logical = context.Logical("openai", feature)
    logical.attempts = attempts - 1
    call = Call(HOOK, endpoint, logical, lambda: b'{"model": "asked"}', False, known)
    call.labels, call.started = labels, 0.0
    assert call.open(200, "text/event-stream", {}.get)
    (reader,) = call._meter
    glance = call.glance()
    for at[0], piece in enumerate(pieces):
        Clock.now = at[0] * 0.01 + 0.004
        if piece.endswith(glance.ends) and not any(mark in piece for mark in glance.marks):
            continue
        call.feed(piece)
    at[0], Clock.now = len(pieces), len(pieces) * 0.01 + 0.004
    call.end(complete)
    after = health.snapshot()["notes"]
    noted = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    return (made, noted), isinstance(reader, Start) and reader._meter is None


def same(pieces: Sequence[bytes], known: Any, **more: Any) -> bool:
    """Whether no meter was needed; the receipt must be what a meter comes to."""
    short, unread = stream(pieces, known, **more)
    long, _ = stream(pieces, None, **more)
    assert short == long
    return unread


def event(**members: Any) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


def word(**more: Any) -> bytes:
    return event(**{"id": "c1", "model": "gpt-4o", "choices": [{"delta": {"content": "word"}}], "usage": None, **more})


def last(usage: Any = PLAIN, **more: Any) -> bytes:
    return event(**{"id": "c1", "model": "gpt-4o", "choices": [], "usage": usage, **more})


def seen(endpoint: Endpoint = OPENAI) -> Quick:
    made = quick(endpoint)
    assert made is not None
    return made


def met(*usage: Any) -> Quick:
    """One that has met a plain stream."""
    known = seen()
    for _ in range(2):
        unread = [same([word(), word(), last(each), DONE], known) for each in usage or (PLAIN,)]
    assert all(unread)
    return known


# That they are the same, whatever comes.

EVENTS = st.one_of(
    st.sampled_from(
        [
            word(),
            word(),
            word(model=""),
            word(service_tier="priority"),
            word(choices=[{"delta": {"content": '"choices":[] "usage": {"prompt_tokens": 9} [DONE]'}}]),
            DONE,
            b": ping\n\n",
            b"data:\n\n",
            event(error={"message": "no"}),
            event(choices=[], prompt_filter_results=[], model="", id=""),
            b"event: x\ndata: {}\n\n",
            b"data: {\r\n\r\n",
        ]
    ),
    st.builds(
        lambda usage, more: last(usage, **more),
        usages(),
        st.fixed_dictionaries(
            {},
            optional={
                "service_tier": TIERS,
                "id": st.sampled_from([None, "", 5, "c1"]),
                "model": st.sampled_from([None, "", 7, "gpt-4.1"]),
                "choices": st.sampled_from([None, [{"delta": {}}]]),
                "usage_breakdown": st.just(None),
                "x_groq": st.just({"usage": PLAIN}),
            },
        ),
    ),
)
USUAL = st.builds(lambda words, usage: [word()] * words + [last(usage), DONE], st.integers(0, 5), usages())


@st.composite
def streams(draw: st.DrawFn) -> List[bytes]:
    """Events one by one, joined, or cut anywhere."""
    events = draw(st.one_of(USUAL, USUAL, st.lists(EVENTS, max_size=8)))
    if draw(st.booleans()):
        return events
    if draw(st.booleans()):
        sizes = draw(st.lists(st.integers(1, 3), min_size=len(events), max_size=len(events)))
        return [b"".join(events[sum(sizes[:n]) : sum(sizes[: n + 1])]) for n in range(len(sizes))]
    whole = b"".join(events)
    cuts = sorted({0, len(whole), *draw(st.lists(st.integers(0, len(whole)), max_size=4))})
    return [whole[a:b] for a, b in zip(cuts, cuts[1:])]


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(ENDPOINTS, st.lists(st.tuples(streams(), CALLS, st.booleans()), min_size=1, max_size=4))
def test_both_ways_come_to_the_same(endpoint: Endpoint, calls: List[Tuple[List[bytes], Dict[str, Any], bool]]) -> None:
    known = quick(endpoint)
    for pieces, more, complete in calls * 3:
        same(pieces, known, endpoint=endpoint, complete=complete, **more)


# That the short way is taken, and where it is not.


@pytest.mark.parametrize("usage", [PLAIN, DETAILED])
@pytest.mark.parametrize("labels", [{}, {"user": "u1", "team": "t"}])
@pytest.mark.parametrize("words", [1, 2, 3, 9])
def test_a_stream_like_one_that_was_met_needs_no_meter(usage: Any, labels: Any, words: int) -> None:
    known = seen()
    assert not same([word()] * words + [last(usage), DONE], known, labels=labels)
    for prompt in (120, 500, 77):
        changed = last(dict(usage, prompt_tokens=prompt, total_tokens=prompt + 15))
        assert same([word()] * words + [changed, DONE], known, labels=labels)


@pytest.mark.parametrize(
    "behind", [[last() + DONE], [word() + last() + DONE], [word() + word() + last(), DONE], [last()]]
)
def test_the_last_events_may_come_in_one_piece(behind: List[bytes]) -> None:
    assert same([word(), word(), *behind], met())


def test_its_receipt_comes_with_the_piece_that_tells_and_not_later() -> None:
    known = met()
    (made, _), unread = stream([word(), word(), word(), word(), last(), DONE], known, complete=False)
    assert unread and [at for at, *_ in made] == [4]
    assert dict(made[0][1])["ttft_ms"] == 4 and dict(made[0][1])["latency_ms"] == 44
    assert "partial" not in dict(made[0][1])


@pytest.mark.parametrize(
    "pieces",
    [
        [last()],
        [last() + DONE],
        [word(), last(choices=[{"delta": {}}]), DONE],
        [word(), last(id=None), DONE],
        [word(service_tier="priority"), last(id=""), DONE],
        [word(), last(model=None), DONE],
        [word(), last(usage_breakdown={}), DONE],
        [word(), DONE],
        [word(), DONE + last()],
        [word(), last() + last(DETAILED)],
        [word(), last(DETAILED) + last()],
        [word(), word()[:-1], b"\n" + last(), DONE],
        [word(), word()],
        [b": ping\n\n", word(), last(), DONE],
        [word(), last(dict(PLAIN, total_tokens=136)), DONE],
        [word(), last(dict(PLAIN, prompt_tokens=10**9 + 1, total_tokens=10**9 + 16)), DONE],
        [word(), last()[:-2].replace(b", ", b",\ndata: ", 1) + b"\n\n", DONE],
        [word(), last()[:-2] + b" x\n\n", DONE],
        [word(), b"event: x\n" + last(), DONE],
        [word(), b'data: {"choices":[], "usage":{"prompt_tokens":1}}\n\n', last(), DONE],
        [word(), last().replace(b'"choices": []', b'"choices" : []'), DONE],
        [word(), last(choices=0, note={"choices": []}), DONE],
        [word(), last()[:-2].replace(b", ", b",\n", 1) + b"\n\n", DONE],
        [word(), last()[:-2].replace(b", ", b",\r", 1) + b"\n\n", DONE],
        [word(), word() + last().replace(b"data: ", b"note: "), DONE],
        [word(), word(), word(), word(), last()[:20], last()[20:], DONE],
        [word(), last({"x_tokens": 1}), last(), DONE],
    ],
    ids=lambda pieces: repr(pieces)[:70],
)
def test_what_is_not_quite_like_it_is_given_to_the_meter(pieces: List[bytes]) -> None:
    assert not same(pieces, met(PLAIN, DETAILED))


def test_nothing_of_one_stream_is_said_of_another_or_of_a_whole_answer() -> None:
    known = met()
    body = json.dumps({"id": "c1", "model": "gpt-4o", "choices": [{}], "usage": PLAIN}).encode()
    made: List[Any] = []
    for turn in range(3):
        for more in ({"model": "gpt-4.1"}, {"service_tier": "flex"}, {"usage": dict(PLAIN, service_tier="flex")}, {}):
            assert same([word(), last(**{"usage": PLAIN, **more}), DONE], known) == (turn > 0 or not more)
        state.deliver = made.append
        call = Call(HOOK, OPENAI, context.Logical("openai", "main"), lambda: None, False, known)
        call.read(200, "application/json", {}.get, body)
    assert len(made) == 3 and not any("streamed" in one or "ttft_ms" in one for one in made)
    shapes = [shape for shape in known._shapes.values() if shape is not None]
    assert [len(shape.streamed) for shape in shapes] == [3, 1] and [len(s.templates) for s in shapes] == [1, 0]


def test_whoever_asks_more_of_a_stream_than_its_receipt_has_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    known, pieces = met(), [word(), last(), DONE]
    assert same(pieces, known) and not same(pieces, known, attempts=2)
    monkeypatch.setattr(state, "core", True)
    assert not same(pieces, known)
    monkeypatch.setattr(state, "core", False)
    once.remember(Reading("m", None, response_id="r", pending=True))
    try:
        assert not same(pieces, known)
    finally:
        once.pending.clear()
    assert same(pieces, known)


def test_a_held_stream_is_settled_though_the_budget_was_taken_away_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    known = met()
    settled: List[Any] = []
    monkeypatch.setattr(module.permit, "settle", lambda call, readings, receipts: settled.extend(receipts))
    call = Call(HOOK, OPENAI, context.Logical("openai", "main"), lambda: None, False, known)
    call.hold = SimpleNamespace(watch=False)  # type: ignore[assignment]
    assert call.open(200, "text/event-stream", {}.get) and isinstance(call._meter[0], Meter)
    for piece in (word(), last(), DONE):
        call.feed(piece)
    assert [one["input_tokens"] for one in settled] == [120]


def test_a_stream_that_nobody_reads_to_its_end_is_collected_at_once_and_counted() -> None:
    known, made = met(), []
    gc.disable()
    try:
        state.deliver = made.append
        call = Call(HOOK, OPENAI, context.Logical("openai", "main"), lambda: None, False, known)
        assert call.open(200, "text/event-stream", {}.get)
        call.feed(word())
        del call
    finally:
        gc.enable()
    assert [one.get("partial") for one in made] == [True] and made[0]["model"] == "gpt-4o"


def test_of_a_long_stream_no_more_than_its_start_is_held() -> None:
    call = Call(HOOK, OPENAI, context.Logical("openai", "main"), lambda: None, False, seen())
    assert call.open(200, "text/event-stream", {}.get)
    (reader,) = call._meter
    assert isinstance(reader, Start)
    for n in range(1000):
        assert call.glance().ends == (b"\n\n" if n > 2 else ())  # from then on a look is enough
        call.feed(word())  # as from a decoder, which does not look before
    assert len(reader._held) == 3
    call.end(True)
