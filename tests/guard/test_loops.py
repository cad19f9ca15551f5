"""Loops: the same call again and again is found at the fifth; parallel work on different inputs never is."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard.guard import loops as module
from aicostguard.guard.errors import BudgetExhausted, LoopDetected
from aicostguard.guard.fingerprint import fingerprint
from aicostguard.guard.loops import Loops
from aicostguard.guard.values import Bound, Facts

#: however busy the machine is
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.ids("B33", "B36", "X7")
def test_the_fifth_identical_call_is_a_loop():
    loops = Loops()
    found = [loops.seen("stuck", "retry_tool_call", "gpt-4o") for _ in range(7)]
    assert found[:4] == [None] * 4
    assert [each.new for each in found[4:]] == [True, False, False]
    error = found[4].error
    assert isinstance(error, LoopDetected) and isinstance(error, BudgetExhausted)
    assert str(error) == (
        "Loop detected: agent stuck made the same call (retry_tool_call, gpt-4o) 5 times within 60 seconds"
    )
    assert (error.agent, error.action, error.model, error.count, error.window) == (
        "stuck", "retry_tool_call", "gpt-4o", 5, 60.0,
    )  # fmt: skip


@pytest.mark.ids("B34", "B35")
@pytest.mark.parametrize("window, threshold", [(60.0, 5), (120.0, 10), (0.5, 2)])
def test_window_and_threshold_are_settings(window, threshold):
    clock = Clock()
    loops = Loops(window, threshold, clock)
    step = window / threshold
    for _ in range(threshold - 1):
        assert loops.seen("a", "b", "c") is None
        clock.now += step
    assert loops.seen("a", "b", "c") is not None
    clock.now += window + step  # long quiet: it begins anew, and is told anew
    for _ in range(threshold - 1):
        assert loops.seen("a", "b", "c") is None
    assert loops.seen("a", "b", "c").new


@pytest.mark.ids("B34")
def test_calls_that_come_slowly_are_no_loop():
    clock = Clock()
    loops = Loops(60.0, 5, clock)
    for _ in range(1000):
        assert loops.seen("poller", "status", "m", b"same") is None
        clock.now += 15.1  # four in any sixty seconds


@pytest.mark.ids("D8", "X7")
def test_parallel_calls_with_different_inputs_pass():
    loops = Loops()
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: loops.seen("worker", "summarise", "gpt-4o", b"%d" % n), range(1600)))
    assert found == [None] * 1600
    assert [loops.seen("worker", "summarise", "gpt-4o", b"1700") is None for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.ids("D8")
def test_different_agents_users_and_sessions_may_ask_the_same():
    loops = Loops()

    def look(**labels):
        labels.setdefault("model", "m")
        return loops.look(Facts(labels, Bound(), 0, fingerprint=b"hello"))

    for n in range(20):
        assert look(agent="a%d" % n) is None
        assert look(agent="chat", user="u%d" % n) is None
        assert look(agent="chat", session="s%d" % n) is None
    assert [look(agent="chat", user="one") is None for _ in range(5)] == [True] * 4 + [False]


def test_without_a_fingerprint_nothing_is_looked_for():
    loops = Loops()
    assert [loops.look(Facts({"agent": "a", "model": "m"}, Bound(), 0)) for _ in range(20)] == [None] * 20


@pytest.mark.ids("X7")
def test_two_agents_that_delegate_back_and_forth_are_found_together():
    loops = Loops()
    found = []
    for n in range(6):
        agent, parent = ("writer", "editor") if n % 2 else ("editor", "writer")
        found.append(loops.seen(agent, "delegate", "m", agent + "'s prompt", parent))
    assert found[:4] == [None] * 4
    assert str(found[4].error) == (
        "Loop detected: agents editor and writer handed the same work to each other 5 times within 60 seconds"
    )
    assert (found[4].new, found[5].new) == (True, False)


@pytest.mark.ids("D8")
def test_delegating_in_one_direction_is_no_loop():
    """A supervisor that asks four workers the same twice; and two agents that hand on work that differs."""
    loops = Loops()
    for _ in range(2):
        for n in range(4):
            assert loops.seen("worker%d" % n, "vote", "m", "the question", "supervisor") is None
    for _ in range(4):
        for task in ("outline", "draft"):
            assert loops.seen("writer", "", "m", task, "supervisor") is None
    for n in range(50):
        agent, parent = ("writer", "editor") if n % 2 else ("editor", "writer")
        assert loops.seen(agent, "delegate", "m", "draft %d" % n, parent) is None


@pytest.mark.ids("D10")
def test_memory_is_bounded():
    loops = Loops()
    for n in range(3 * module.MOST):
        loops.seen("a", "b", "c", n, "parent%d" % n)
    assert len(loops._calls) == module.MOST
    for _ in range(3 * module.MOST):
        loops.seen("same", "b", "c")
    assert max(len(call.times) for call in loops._calls.values()) == loops.threshold
    assert len(loops._pairs) <= module.MOST


@pytest.mark.ids("B38")
def test_no_call_is_lost_between_threads():
    loops = Loops(threshold=1000)
    found = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(125):
            hit = loops.seen("a", "b", "c")
            if hit is not None:
                found.append(hit)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [hit.error.count for hit in found] == [1000]


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 40)), max_size=80), st.integers(2, 6))
def test_exactly_the_calls_with_enough_like_them_in_the_window_are_found(calls, threshold):
    clock, times = Clock(), {}
    loops = Loops(60.0, threshold, clock)
    for content, wait in calls:
        clock.now += wait
        times.setdefault(content, []).append(clock.now)
        within = [at for at in times[content] if clock.now - at <= 60.0]
        assert (loops.seen("a", "b", "c", content) is not None) == (len(within) >= threshold)


# From here on: what a request asks for.


def chat(*turns, **more):
    return json.dumps({"model": "gpt-4o", "messages": list(turns), **more}).encode()


ASK = {"role": "user", "content": "find the invoice"}


def step(n, arguments='{"q": "invoice"}', result="error: timeout"):
    """A tool call and its result, with ids that are drawn anew."""
    call = {"id": "call_%d" % n, "type": "function", "function": {"name": "search", "arguments": arguments}}
    return (
        {"role": "assistant", "content": "Let me try again, %d" % n, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_%d" % n, "content": result},
    )


def claude(n, query="invoice", result="error: timeout"):
    return (
        {"role": "assistant", "content": [
            {"type": "text", "text": "again %d" % n},
            {"type": "tool_use", "id": "toolu_%d" % n, "name": "search", "input": {"id": query}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_%d" % n, "content": result}]},
    )  # fmt: skip


def gemini(n, query="invoice", result="error: timeout"):
    return (
        {"role": "model", "parts": [{"functionCall": {"id": "f%d" % n, "name": "search", "args": {"id": query}}}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "f%d" % n, "name": "search", "response": result}}]},
    )


def responses(n, query="invoice", result="error: timeout"):
    return (
        {"type": "function_call", "id": "fc_%d" % n, "call_id": "c%d" % n, "name": "search", "arguments": query},
        {"type": "function_call_output", "call_id": "c%d" % n, "output": result},
    )


def converse(n, query="invoice", result="error: timeout"):
    return (
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t%d" % n, "name": "s", "input": {"id": query}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t%d" % n, "content": [{"text": result}]}}]},
    )


STORMS = {
    "chat": ("messages", step),
    "messages": ("messages", claude),
    "generate": ("contents", gemini),
    "responses": ("input", responses),
    "converse": ("messages", converse),
}


@pytest.mark.ids("X7")
@pytest.mark.parametrize("shape", STORMS)
def test_a_failing_tool_call_that_is_tried_again_is_the_same_call(shape):
    member, make = STORMS[shape]
    loops = Loops()

    def ask(task, steps):
        body = json.dumps({"model": "m", member: [{"role": "user", "content": task}, *steps]}).encode()
        return fingerprint(shape, body)

    steps, found = [], []
    for n in range(6):
        steps.extend(make(n))
        found.append(loops.seen("a", "", "m", ask("find it", steps)) is not None)
    assert found == [False] * 4 + [True] * 2
    last = ask("find it", steps)
    assert last == ask("find it", make(99))
    assert last != ask("find another", make(99)), "another task"
    assert last != ask("find it", make(99, "receipt")), "another call"
    assert last != ask("find it", make(99, result="found")), "another result"


@pytest.mark.ids("X7", "D8")
def test_what_is_asked_is_compared_and_nothing_of_it_kept():
    same = fingerprint("chat", chat(ASK))
    assert same == fingerprint("chat", chat(ASK)) and len(same) == 16
    others = [
        chat({"role": "user", "content": "find the receipt"}),
        chat(ASK, user="another"),
        chat(ASK, temperature=1),
        chat(ASK, seed=2),
        chat({"role": "system", "content": "be brief"}, ASK),
    ]
    assert len({same, *(fingerprint("chat", other) for other in others)}) == len(others) + 1
    assert fingerprint("responses", chat(ASK)) != same


def test_a_multipart_form_is_the_same_whatever_its_boundary():
    form = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--%b--\r\n'
    first, second = (fingerprint("transcription", form % (b, b)) for b in (b"aaaa", b"bbbbbb"))
    assert first == second is not None


@pytest.mark.parametrize("body", [b"", b"x" * 4_000_001])
def test_what_cannot_be_compared_has_no_fingerprint(body):
    assert fingerprint("chat", body) is None


@UNHURRIED
@given(st.binary(max_size=200).map(lambda tail: b'{"messages":[{"role":"tool"' + tail))
def test_any_bytes_have_one(body):
    assert fingerprint("chat", body) == fingerprint("chat", body)


def test_a_body_nested_without_end_is_no_fault():
    assert fingerprint("chat", b'{"a":"tool_result","messages":' + b"[" * 200_000) is not None


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "id", "type", "tool_calls", "parts"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@UNHURRIED
@given(json_values)
def test_turns_of_any_shape_are_no_fault(turns):
    body = json.dumps({"messages": [*([turns]), {"role": "tool", "content": turns}]}).encode()
    assert fingerprint("chat", body) is not None
