"""The short way from an answer to its receipt comes to what the long way comes to, byte by byte, or stands aside."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import context
from aicostguard.capture import call as module
from aicostguard.capture import once
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook
from aicostguard.capture.quick import MOST, Quick, quick
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.metering import Endpoint, recognise
from aicostguard.metering import plain as plain_module
from aicostguard.metering.provider import SEPARATE, Provider
from aicostguard.receipt import Made, Receipt, encode, written
from aicostguard.usage import Reading

HOOK = Hook("test")
OPENAI = Endpoint("openai", "chat")


class Clock:
    """Stands still, so that both ways take the same time."""

    now = 0.0123

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


def read(
    body: bytes,
    endpoint: Endpoint = OPENAI,
    known: Optional[Quick] = None,
    feature: Optional[str] = "main",
    labels: Mapping[str, Any] = {},
    attempts: int = 1,
    request: bytes = b'{"model": "asked"}',
) -> Tuple[List[Receipt], Dict[str, Any]]:
    """The receipts of one answer, and what was noted of it."""
    made: List[Receipt] = []
    state.deliver = made.append
    before = health.snapshot()["notes"]
    logical = context.Logical("openai", feature)
    logical.attempts = attempts - 1
    call = Call(HOOK, endpoint, logical, lambda: request, False, known)
    call.labels, call.started = labels, 0.0
    call.read(200, "application/json", {}.get, body)
    after = health.snapshot()["notes"]
    return made, {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}


def same(body: bytes, known: Optional[Quick], **more: Any) -> List[Receipt]:
    """What the short way has made; it must be what the long way makes."""
    short, noted = read(body, known=known, **more)
    long, noted_before = read(body, **more)
    assert [list(one.items()) for one in short] == [list(one.items()) for one in long]
    assert [encode(one) for one in short] == [encode(one) for one in long]
    assert [written(dict(one)) for one in short] == [written(dict(one)) for one in long]
    assert noted == noted_before
    return short


class Seen(Quick):
    """Says which way was taken."""

    __slots__ = ("taken",)

    def receipt(self, call: Call, body: bytes, now: float) -> Optional[Made]:
        found = super().receipt(call, body, now)
        self.taken = found is not None
        return found


def seen(endpoint: Endpoint = OPENAI) -> Any:
    made = quick(endpoint)
    assert made is not None
    return Seen(made.plain)


def met() -> Any:
    """One that has met a plain answer."""
    known = seen()
    for _ in range(2):
        same(answer(PLAIN), known)
    assert known.taken
    return known


def answer(usage: Any, **more: Any) -> bytes:
    members = {"id": "c1", "model": "gpt-4o", "choices": [{"message": {"content": "hi"}}], "usage": usage, **more}
    return json.dumps(members).encode()


PLAIN = {"prompt_tokens": 120, "completion_tokens": 15, "total_tokens": 135}
DETAILED = {
    **PLAIN,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 0, "accepted_prediction_tokens": 2},
}


# That they are the same, whatever comes.

COUNT = st.integers(0, 60)
ODD = st.one_of(
    st.none(), st.booleans(), st.floats(allow_nan=False), st.text(max_size=2), st.integers(-2, 2**40), st.just({})
)
NAMES = st.sampled_from(["gpt-4o", "gpt-4.1", "x" * 300, "", None, 7, "a b"])
TIERS = st.sampled_from([None, "default", "Flex", "priority", 5, ["flex"]])


@st.composite
def usages(draw: st.DrawFn) -> Any:
    """Mostly right, mostly of a few shapes, sometimes anything."""
    given, made = draw(COUNT), draw(COUNT)
    usage: Dict[str, Any] = {"prompt_tokens": given, "completion_tokens": made}
    if draw(st.integers(0, 9)):
        usage["total_tokens"] = given + made
    if draw(st.booleans()):
        usage["prompt_tokens_details"] = {
            "cached_tokens": draw(st.integers(0, given)),
            **draw(st.fixed_dictionaries({}, optional={"audio_tokens": st.integers(0, given)})),
        }
    if draw(st.booleans()):
        usage["completion_tokens_details"] = {
            "reasoning_tokens": draw(st.integers(0, made)),
            **draw(st.fixed_dictionaries({}, optional={"audio_tokens": COUNT, "image_tokens": st.integers(0, made)})),
        }
    change = draw(st.integers(0, 12))
    if change < 3:
        usage[draw(st.sampled_from([*usage, "num_search_queries", "service_tier", "prompt_audio_seconds", "x"]))] = (
            draw(COUNT | ODD)
        )
    return draw(ODD) if change == 12 else usage


ANSWERS = st.fixed_dictionaries(
    {"model": NAMES, "usage": usages()},
    optional={
        "service_tier": TIERS,
        "error": st.sampled_from([None, {"message": "no"}]),
        "usage_breakdown": st.sampled_from([None, {"models": [{"model": "a", "usage": PLAIN}] * 2}]),
        "choices": st.sampled_from([[], [{"message": {"content": '"usage": {"prompt_tokens": 9}'}}]]),
        "long": st.just("word " * 600),
    },
)
LABELS = st.sampled_from([{}, {}, {"user": "u1"}, {"user": "u1", "team": "t"}, {"feature": "f"}, {"tags": {"a": "b"}}])
ENDPOINTS = st.sampled_from(
    [
        OPENAI,
        Endpoint("openai", "completions"),
        Endpoint("xai", "chat"),
        Endpoint("azure", "chat", url_model="deployed", region="eu-west-1"),
    ]
)
CALLS = st.fixed_dictionaries(
    {"labels": LABELS, "feature": st.sampled_from(["main", "other", None]), "attempts": st.sampled_from([1, 1, 1, 2])}
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(ENDPOINTS, st.lists(st.tuples(ANSWERS, CALLS, st.sampled_from([b"", b"", b"\n", b"}"])), min_size=2, max_size=6))
def test_both_ways_come_to_the_same(endpoint: Endpoint, calls: List[Tuple[Any, Dict[str, Any], bytes]]) -> None:
    known = quick(endpoint)
    for members, more, behind in calls * 3:
        same(json.dumps(members).encode() + behind, known, endpoint=endpoint, **more)


# That the short way is taken, and where it is not.


@pytest.mark.parametrize("usage", [PLAIN, DETAILED])
@pytest.mark.parametrize("long", ["", "word " * 600])
@pytest.mark.parametrize("labels", [{}, {"user": "u1", "team": "t"}])
def test_what_was_met_before_is_read_the_short_way(usage: Any, long: str, labels: Any) -> None:
    known = seen()
    body = answer(usage, long=long)
    same(body, known, labels=labels)
    assert not known.taken
    for prompt in (120, 500, 77):
        changed = dict(usage, prompt_tokens=prompt, total_tokens=prompt + 15)
        (made,) = same(answer(changed, long=long), known, labels=labels)
        assert known.taken and made["input_tokens"] == prompt
        assert made.get("cache_read_input_tokens") == (64 if "prompt_tokens_details" in usage else None)


@pytest.mark.parametrize(
    ("usage", "more"),
    [
        (dict(PLAIN, total_tokens=136), {}),
        (dict(PLAIN, completion_tokens=0, total_tokens=120), {}),
        (dict(PLAIN, prompt_tokens=0, total_tokens=15), {}),
        (dict(PLAIN, completion_tokens=15.0), {}),
        (dict(PLAIN, prompt_tokens=True, total_tokens=16), {}),
        (dict(PLAIN, prompt_tokens=10**9 + 1, total_tokens=10**9 + 16), {}),
        (dict(PLAIN, completion_tokens=10**9 + 1, total_tokens=10**9 + 121), {}),
        (dict(PLAIN, service_tier="flex"), {}),
        (dict(DETAILED, prompt_tokens_details={"cached_tokens": 121, "audio_tokens": 0}), {}),
        (dict(DETAILED, completion_tokens_details={"reasoning_tokens": 16}), {}),
        (dict(DETAILED, prompt_tokens_details=None), {}),
        (None, {}),
        ([*PLAIN], {}),
        (PLAIN, {"model": None}),
        (PLAIN, {"model": "gpt-4o\n"}),
        (PLAIN, {"usage_breakdown": {}}),
        (PLAIN, {"service_tier": "priority"}),
    ],
    ids=lambda value: str(value)[:90],
)
def test_what_is_not_quite_like_it_is_left_to_the_long_way(usage: Any, more: Dict[str, Any]) -> None:
    known = seen()
    for _ in range(3):
        same(answer(PLAIN), known)
        same(answer(DETAILED), known)
    assert known.taken
    same(answer(usage, **more), known)
    assert not known.taken


def parts(cached: int, reasoning: int) -> Dict[str, Any]:
    return {
        **PLAIN,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


#: answers, and calls, that differ in one thing
DIFFERENT: Dict[str, Tuple[Tuple[Dict[str, Any], Dict[str, Any]], Tuple[Dict[str, Any], Dict[str, Any]]]] = {
    "the model": (({"model": "gpt-4o"}, {}), ({"model": "gpt-4.1"}, {})),
    "the tier": (({"service_tier": "flex"}, {}), ({"service_tier": "priority"}, {})),
    "a tier within": (
        ({"usage": dict(PLAIN, service_tier="flex")}, {}),
        ({"usage": dict(PLAIN, service_tier="priority")}, {}),
    ),
    "the feature": (({}, {"feature": "main"}), ({}, {"feature": "other"})),
    "no feature": (({}, {"feature": "main"}), ({}, {"feature": None})),
    "a label": (({}, {"labels": {"user": "u"}}), ({}, {"labels": {"user": "v"}})),
    "a label's name": (({}, {"labels": {"user": "u"}}), ({}, {"labels": {"team": "u"}})),
    "one more label": (({}, {"labels": {"user": "u"}}), ({}, {"labels": {"user": "u", "team": "t"}})),
    "the part that is not 0": (({"usage": parts(64, 0)}, {}), ({"usage": parts(0, 8)}, {})),
    "a part more": (({"usage": parts(64, 0)}, {}), ({"usage": parts(64, 8)}, {})),
    "no part": (({"usage": parts(64, 8)}, {}), ({"usage": parts(0, 0)}, {})),
    "keys in order": (({"usage": dict(sorted(PLAIN.items()))}, {}), ({}, {})),
    "the order of keys": (({}, {}), ({"usage": dict(reversed(list(PLAIN.items())))}, {})),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_nothing_of_one_answer_is_said_of_another(what: str) -> None:
    """They take turns, so that each comes when the other is what was met last."""
    known, short = seen(), []
    for _ in range(3):
        for members, more in DIFFERENT[what]:
            same(answer(**{"usage": PLAIN, **members}), known, **more)
            short.append(known.taken)
    assert any(short)


def test_what_stands_before_the_usage_of_a_large_answer_is_read() -> None:
    known = seen()
    choices = [{"message": {"content": "word " * 600}}]
    members: Dict[str, Any] = {}
    for tier in ("flex", "priority", "flex", "priority"):
        members = {"model": "gpt-4o", "choices": choices, "service_tier": tier, "usage": PLAIN}
        (made,) = same(json.dumps(members).encode(), known)
        assert made["service_tier"] == tier
    assert known.taken
    models = [{"model": "gpt-4o", "usage": PLAIN}, {"model": "gpt-4.1", "usage": PLAIN}]
    members.update(usage_breakdown={"models": models}, usage=members.pop("usage"))
    same(json.dumps(members).encode(), known)
    assert not known.taken


@pytest.mark.parametrize("key, inner", [("num_search_queries", None), ("server_tool_use", "web_search_requests")])
def test_what_is_counted_beside_tokens_has_the_long_way(key: str, inner: Optional[str]) -> None:
    known = seen()
    for searches in (0, 2, 0, 5):
        (made,) = same(answer({**PLAIN, key: {inner: searches} if inner else searches}), known)
        assert not known.taken and made.get("web_searches", 0) == searches


_DEEP = b'{"deep": %s%s, "model": "gpt-4o", "usage": {}}' % (b"[" * 990, b"]" * 990)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"model": }', b'{"model": "\xff"}', b"null", b"[]", b"{}", _DEEP],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_such_object_is_no_fault_of_ours(body: bytes) -> None:
    known = met()
    same(body, known)
    assert not known.taken


def test_a_model_that_only_the_request_names_is_asked_for_each_time() -> None:
    known = seen()
    for name in ("one", "two", "one"):
        body = json.dumps({"usage": PLAIN, "model": None}).encode()
        (made,) = same(body, known, request=b'{"model": "%s"}' % name.encode())
        assert made["model"] == name and not known.taken


def test_whoever_asks_more_of_a_call_than_its_receipt_has_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    known = seen()
    body = answer(PLAIN)
    for _ in range(2):
        same(body, known)
    assert known.taken
    same(body, known, attempts=2)
    assert not known.taken

    class Gate:
        settled: List[Any] = []

        def settle(self, held: Any, receipts: Any) -> None:
            self.settled.extend(receipts)

    for name, value in (("core", True), ("gate", Gate())):
        monkeypatch.setattr(state, name, value)
        same(body, known)
        assert not known.taken
        monkeypatch.undo()
        monkeypatch.setattr(module, "perf_counter", Clock())
    assert len(Gate.settled) == 2
    once.remember(Reading("m", None, response_id="r", pending=True))
    try:
        same(body, known)
        assert not known.taken
    finally:
        once.pending.clear()
    same(body, known)
    assert known.taken


def test_a_held_call_is_settled_though_the_budget_was_taken_away_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    known = met()
    settled: List[Any] = []
    monkeypatch.setattr(module.permit, "settle", lambda call, readings, receipts: settled.extend(receipts))
    call = Call(HOOK, OPENAI, context.Logical("openai", "main"), lambda: None, False, known)
    call.hold = SimpleNamespace(watch=False)  # type: ignore[assignment]
    call.read(200, "application/json", {}.get, answer(PLAIN))
    assert not known.taken and [one["input_tokens"] for one in settled] == [120]


def test_what_is_awaited_inline_waits_in_its_call_and_what_is_not_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    known = met()
    monkeypatch.setattr(state, "inline", True)
    same(answer(PLAIN), known)
    assert known.taken
    made: List[Receipt] = []
    monkeypatch.setattr(state, "deliver", made.append)
    call = Call(HOOK, OPENAI, context.Logical("openai", "main"), lambda: None, True, known)
    call.read(200, "application/json", {}.get, answer(PLAIN))
    assert not known.taken and made == [] and [one["input_tokens"] for one in call.outbox] == [120]
    call.outbox = ()


@pytest.mark.parametrize("behind", [b"}", b"{}", b" ", b"\n"])
def test_bytes_behind_the_answer_have_the_long_way(behind: bytes) -> None:
    known = met()
    same(answer(PLAIN) + behind, known)
    assert not known.taken


def test_a_clock_that_was_set_back_and_a_receipt_that_is_changed_later() -> None:
    known = seen()
    body = answer(PLAIN)
    (first,) = same(body, known)
    first.clear()
    (second,) = same(body, known)
    second["model"] = "another"
    (third,) = same(body, known)
    assert third["model"] == "gpt-4o" and known.taken
    Clock.now = -1.0
    try:
        (fourth,) = same(body, known)
        assert fourth["latency_ms"] == 0 and known.taken
    finally:
        Clock.now = 0.0123


def test_what_is_remembered_is_bounded() -> None:
    known = seen()
    for n in range(MOST + 20):
        same(answer(PLAIN), known, labels={"user": "u%d" % n})
    (shape,) = known._shapes.values()
    assert len(shape.templates) == MOST - 1
    for n in range(MOST):
        same(answer({**PLAIN, "x%d" % n: 1}), known)
    assert len(known._shapes) == 1
    same(answer(PLAIN), known, labels={"user": "u1"})
    assert known.taken


@pytest.mark.parametrize(
    ("host", "path", "is_plain"),
    [
        ("api.openai.com", "/v1/chat/completions", True),
        ("api.groq.com", "/openai/v1/chat/completions", True),
        ("api.openai.com", "/v1/embeddings", False),
        ("api.openai.com", "/v1/responses", False),
        ("api.anthropic.com", "/v1/messages", False),
        ("openrouter.ai", "/api/v1/chat/completions", False),  # tells what it cost
        ("api.perplexity.ai", "/chat/completions", False),  # bills tokens of another kind as input
    ],
)
def test_which_endpoints_give_plain_answers(host: str, path: str, is_plain: bool) -> None:
    endpoint = recognise("POST", host, None, path)
    assert isinstance(endpoint, Endpoint) and (quick(endpoint) is not None) == is_plain
    assert quick(endpoint._replace(bills=False)) is None


@pytest.mark.parametrize(
    "more", [{}, {"reasoning": SEPARATE}, {"more_input": ("citation_tokens",)}, {"cost": ("cost",)}], ids=str
)
def test_one_rule_that_asks_for_arithmetic_is_enough(monkeypatch: pytest.MonkeyPatch, more: Dict[str, Any]) -> None:
    made = Provider("p", ("p.example",), **more)
    monkeypatch.setattr(plain_module, "rules", lambda provider: made)
    assert (quick(Endpoint("p", "chat")) is None) == bool(more)
