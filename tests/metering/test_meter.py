"""When a stream is over, what is left when it ends early, and how little is done for bytes that do not matter."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

import pytest

from aicostguard.metering import Endpoint, Meter, anthropic, folds, gemini, openai, read_body, responses, values
from aicostguard.metering.endpoints import recognise
from tests.metering.building import SSE, chat, chunk, counts, lines, sse, usage, whole
from tests.metering.fixtures import BY_NAME, told
from tests.metering.fixtures_native import message_stream

CHAT = Endpoint("openai", "chat")


def meter(endpoint: Endpoint = CHAT, request: Optional[bytes] = None) -> Meter:
    return Meter(endpoint, 200, SSE, lambda: request, lambda name: None)


@pytest.mark.ids("B11")
def test_the_usage_event_of_openai_ends_the_stream_before_its_marker() -> None:
    m = meter()
    m.feed(sse(chunk("a", usage=None)))
    assert not m.done
    m.feed(sse(chunk(None, usage=counts(3, 2))))
    assert m.done
    (reading,) = m.finish(complete=False)
    assert told(reading)["input_tokens"] == 3
    assert not reading.partial


@pytest.mark.ids("B11")
@pytest.mark.parametrize(
    "first", [chunk(None, usage=None), chunk(None, usage=counts(1, 0)), chunk("", usage=counts(9, 0))], ids=str
)
def test_a_first_chunk_is_never_the_end(first: Dict[str, Any]) -> None:
    m = meter()
    m.feed(sse(first))
    assert not m.done
    m.feed(sse(chunk("a"), chunk("", usage=counts(9, 4))))
    assert not m.done
    m.feed(b"data: [DONE]\n\n")
    assert m.done
    assert told(m.finish(True)[0])["output_tokens"] == 4


@pytest.mark.ids("B11")
@pytest.mark.parametrize("marker", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"data: [DONE]\n\n: bye\n\n"])
def test_the_marker_is_seen_in_every_writing(marker: bytes) -> None:
    for before in (b"", sse(chunk("a")), sse(*[chunk("a")] * 6)):
        m = meter()
        m.feed(before + marker)
        assert m.done
    m = meter()
    for _ in range(6):
        m.feed(sse(chunk("[DONE]")))
    assert not m.done
    m.feed(marker)
    assert m.done


def test_bytes_after_the_end_change_nothing() -> None:
    m = meter()
    m.feed(sse(chunk("a"), chunk(None, usage=counts(3, 2))))
    for late in (b"data: [DONE]\n\n", sse(chunk(None, usage=counts(9, 9))), b"\xff" * 10, b""):
        m.feed(late)
    assert told(m.finish(True)[0])["input_tokens"] == 3
    assert m.finish(True) == []
    m.feed(sse(chunk(None, usage=counts(9, 9))))
    assert m.finish(True) == []


def test_a_stream_that_was_broken_off() -> None:
    m = meter(request=b'{"stream": true, "model": "asked"}')
    (nothing_came,) = m.finish(complete=False)
    assert told(nothing_came) == {"provider": "openai", "model": "asked", "no_usage": True, "partial": True}

    m = meter()
    m.feed(sse(chunk("a", usage=counts(5, 1)), chunk("b", usage=counts(5, 2))) + b'data: {"id":"c1","usage":{"prompt_')
    (reading,) = m.finish(complete=False)
    assert told(reading) == {
        "provider": "openai", "model": "m-1", "response_id": "c1", "input_tokens": 5, "output_tokens": 2,
        "streamed": True, "partial": True,
    }  # fmt: skip

    m = meter(Endpoint("anthropic", "messages"))
    m.feed(sse(*message_stream({"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 1})[:3], names=True))
    (reading,) = m.finish(complete=False)
    said = told(reading)
    assert (said["input_tokens"], said["output_tokens"], said["partial"]) == (10, 1, True)


def test_a_stream_whose_bytes_ended_too_soon_is_partial_however_cleanly_they_ended() -> None:
    events = message_stream({"input_tokens": 7, "output_tokens": 1}, {"output_tokens": 9})
    for kept, partial in ((1, True), (3, True), (4, False), (5, False)):
        m = meter(Endpoint("anthropic", "messages"))
        m.feed(sse(*events[:kept], names=True))
        assert [reading.partial for reading in m.finish(complete=True)] == [partial]
    m = meter(Endpoint("openai", "responses"))
    m.feed(sse({"type": "response.created", "response": {"id": "r1", "status": "in_progress"}}, names=True))
    assert [reading.partial for reading in m.finish(complete=True)] == [True]


@pytest.mark.ids("B3")
def test_a_background_response_is_pending_until_a_retrieval_finds_it_finished() -> None:
    created = BY_NAME["openai response, queued in the background"]
    polled = BY_NAME["openai response fetched, not finished"]
    fetched = BY_NAME["openai response fetched, finished"]
    # What capture does with it: remember what is pending, bill a retrieval only for what it remembers.
    pending, billed = set(), []
    for fixture in (created, polled, polled, fetched, fetched, fetched):
        for reading in fixture.read():
            if reading.pending:
                pending.add(reading.response_id)
            elif fixture.endpoint().format != "responses_get" or reading.response_id in pending:
                pending.discard(reading.response_id)
                billed.append(told(reading)["input_tokens"])
    assert billed == [310]
    assert {f.endpoint().format for f in (polled, fetched)} == {"responses_get"}


@pytest.mark.ids("B3")
def test_a_background_stream_that_was_left_is_pending() -> None:
    response = {"id": "r1", "status": "queued", "model": "m-1", "background": True, "usage": None}
    m = meter(Endpoint("openai", "responses"))
    m.feed(sse({"type": "response.created", "response": response}, names=True))
    (reading,) = m.finish(complete=False)
    assert (reading.pending, reading.partial, reading.response_id) == (True, False, "r1")
    m = meter(Endpoint("openai", "responses"))
    m.feed(sse({"type": "response.created", "response": {**response, "background": False}}, names=True))
    (reading,) = m.finish(complete=False)
    assert (reading.pending, reading.partial, reading.usage) == (False, True, None)


@pytest.mark.parametrize("where", ["first", "last", "middle"])
def test_the_model_of_the_request_is_its_own_and_not_one_in_a_message(where: str) -> None:
    decoy = {"role": "user", "content": [{"type": "x", "model": "decoy", "data": "." * 30_000}]}
    members = {"messages": [decoy, decoy], "tools": [{"model": "decoy"}]}
    if where == "first":
        request: Dict[str, Any] = {"model": "real", **members}
    elif where == "last":
        request = {**members, "model": "real", "stream": True}
    else:
        request = {"messages": members["messages"], "model": "real", "tools": [decoy]}
    endpoint = Endpoint("azure", "chat", "deployment")
    asked: List[int] = []

    def body() -> bytes:
        asked.append(1)
        return whole(request)

    (reading,) = read_body(endpoint, 200, "", whole(chat(counts(1, 2), model="")), body, lambda name: None)
    assert reading.model == "real"
    (reading,) = read_body(endpoint, 200, "", whole(chat(counts(1, 2), model="served")), body, lambda name: None)
    assert reading.model == "served"
    assert len(asked) == 1  # never read when the response names its model
    (reading,) = read_body(endpoint, 200, "", whole(chat(counts(1, 2), model="")), lambda: None, lambda name: None)
    assert reading.model == "deployment"


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """How often a format parses JSON."""
    calls: List[int] = []

    def counted(data: Any) -> Any:
        calls.append(len(data))
        return values.parse(data)

    for module in (openai, responses, anthropic, gemini):
        monkeypatch.setattr(module, "parse", counted)
    return calls


@pytest.mark.parametrize(
    "usage", [{}, {"usage": None}, {"usage": counts(3, 2)}], ids=["absent", "null", "in every chunk"]
)
def test_chunks_are_not_parsed(usage: Dict[str, Any], parses: List[int]) -> None:
    m = meter()
    for _ in range(5000):
        m.feed(sse(chunk("word", **usage)))
    assert parses == []
    m.finish(True)
    assert len(parses) < 20


def test_deltas_of_other_formats_are_not_parsed(parses: List[int]) -> None:
    m = meter(Endpoint("anthropic", "messages"))
    events = message_stream({"input_tokens": 1, "output_tokens": 1}, {"output_tokens": 9})
    m.feed(sse(*events[:2], names=True))
    for _ in range(5000):
        m.feed(sse({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "word"}}, names=True))
    m.feed(sse(*events[3:], names=True))
    assert len(parses) == 3
    parses.clear()
    m = meter(Endpoint("google", "generate"))
    for n in range(1000):
        m.feed(sse({"candidates": [], "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": n}}, end="\r\n"))
    assert told(m.finish(True)[0])["output_tokens"] == 999
    assert len(parses) == 1


def test_a_long_stream_keeps_few_bytes() -> None:
    m = meter()
    for n in range(3000):
        m.feed(sse(chunk("word" * 50, usage=counts(3, n))))
    kept = m._fold._candidates + m._fold._head  # type: ignore[union-attr, attr-defined]
    assert len(kept) <= 16


@pytest.mark.ids("B15")
def test_text_that_looks_like_usage_in_a_stream() -> None:
    text = json.dumps({"usage": counts(10**6, 10**6)})
    m = meter()
    for _ in range(5):
        m.feed(sse(chunk(text), chunk('"prompt_tokens":1'), chunk("_tokens"), chunk("usage")))
    (reading,) = m.finish(True)
    assert reading.usage is None
    # the same, as objects: some servers send arguments unencoded
    m = meter()
    delta = {"tool_calls": [{"function": {"name": "f", "arguments": {"usage": counts(10**6, 10**6)}}}]}
    m.feed(sse(chunk("a"), chunk("", usage=counts(2, 1)), *[chunk("", choices=[{"delta": delta}])] * 5, done=True))
    assert told(m.finish(True)[0])["input_tokens"] == 2


def test_an_endpoint_that_never_bills_reads_nothing() -> None:
    found = recognise("GET", "api.openai.com", 443, "/v1/models")
    assert isinstance(found, Endpoint)
    body = whole(chat(counts(1, 2)))
    assert read_body(found, 200, "application/json", body, lambda: None, lambda name: None) == []


@pytest.mark.ids("B6")
def test_anthropics_cache_tokens_are_added_and_openais_are_not() -> None:
    (reading,) = BY_NAME["anthropic message"].read()
    assert told(reading)["input_tokens"] == 3 + 12304
    (reading,) = BY_NAME["openai chat"].read()
    assert told(reading)["input_tokens"] == 1500


def test_a_body_whose_middle_was_let_go_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard.metering import framing

    monkeypatch.setattr(framing, "MOST", 100_000)
    monkeypatch.setattr(framing, "END", 4096)
    decoy = {"usage": counts(9, 9), "text": "x" * 200_000}
    body = whole({"model": "m-1", "id": "c1", "choices": [decoy], "usage": counts(5, 6)})
    m = meter()
    for at in range(0, len(body), 1000):
        m.feed(body[at : at + 1000])
    assert told(m.finish(True)[0]) == {
        "provider": "openai", "model": "m-1", "response_id": "c1", "input_tokens": 5, "output_tokens": 6,
    }  # fmt: skip


def test_lines_that_cannot_matter_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: List[bytes] = []
    original = folds.parse

    def parse(data: bytes) -> Any:
        parsed.append(data)
        return original(data)

    monkeypatch.setattr(folds, "parse", parse)
    row = {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": False}
    last = {**row, "done": True, "prompt_eval_count": 1, "eval_count": 2}
    meter = Meter(Endpoint("ollama", "ollama"), 200, "application/x-ndjson", lambda: None, lambda name: None)
    for piece in lines(*[row] * 500, last).splitlines(True):
        meter.feed(piece)
    assert meter.done
    assert len(parsed) == 2
    assert usage(meter.finish(True)[0])[:2] == (1, 2)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n"])
@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_is_no_stream_whatever_its_layout(end: bytes, indent: Optional[int]) -> None:
    body = whole({"model": "m", "done": True, "prompt_eval_count": 1, "eval_count": 2}, indent) + end
    for step in (1, 5, len(body)):
        meter = Meter(Endpoint("ollama", "ollama"), 200, "application/json", lambda: None, lambda name: None)
        for at in range(0, len(body), step):
            meter.feed(body[at : at + step])
        (reading,) = meter.finish(True)
        assert not reading.streamed
        assert usage(reading)[:2] == (1, 2)
