"""Sessions read by hand: which message bills what, and what must not be mistaken for a bill.

Fixtures are written from the documented events: https://developers.openai.com/api/reference/resources/realtime,
https://ai.google.dev/api/live.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Tuple

import pytest

from aicostguard.metering.endpoints import SOCKET, UNRECOGNISED, Endpoint, recognise
from aicostguard.metering.live import BEGUN, OVER, REFUSED, Live, Step, live, type_of
from aicostguard.usage import Reading, Usage

USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 100,
        "audio_tokens": 22,
        "image_tokens": 10,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 54, "audio_tokens": 10, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
COUNTED = Usage(
    input_tokens=132,
    output_tokens=121,
    cache_read_input_tokens=64,
    input_audio_tokens=22,
    input_image_tokens=10,
    cache_read_audio_tokens=10,
    output_audio_tokens=91,
)


def reader(host: str, path: str, query: str = "") -> Live:
    endpoint = recognise(SOCKET, host, None, path)
    assert isinstance(endpoint, Endpoint)
    made = live(endpoint, query)
    assert made is not None
    return made


def realtime() -> Live:
    return reader("api.openai.com", "/v1/realtime", "model=gpt-realtime")


def bidi() -> Live:
    made = reader(
        "generativelanguage.googleapis.com",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    )
    assert made.sent(json.dumps({"setup": {"model": "models/gemini-live"}})) is None
    return made


def told(made: Live, *events: Any) -> List[Step]:
    """Every step, whether the message comes as text or as bytes."""
    steps: List[Step] = []
    for number, event in enumerate(events):
        message = json.dumps(event)
        steps += made.received(message if number % 2 else message.encode())
    return steps


def bills(steps: List[Step]) -> List[Reading]:
    return [reading for step in steps for reading in step.readings]


def done(status: str = "completed", usage: Any = USAGE, **more: Any) -> Dict[str, Any]:
    response = {"object": "realtime.response", "id": "resp_1", "status": status, "usage": usage, **more}
    return {"type": "response.done", "event_id": "event_9", "response": response}


CREATED = {"type": "response.created", "event_id": "event_1", "response": {"id": "resp_1", "status": "in_progress"}}


@pytest.mark.ids("B16")
def test_a_turn_by_modality() -> None:
    steps = told(realtime(), CREATED, done())
    assert [(step.what, step.key, step.lane) for step in steps] == [(BEGUN, "resp_1", ""), (OVER, "resp_1", None)]
    (reading,) = bills(steps)
    assert reading.usage == COUNTED
    assert (reading.model, reading.operation, reading.provider) == ("gpt-realtime", "realtime", "openai")
    assert reading.mismatch is False


@pytest.mark.ids("B16")
@pytest.mark.parametrize(
    "event, billed",
    [
        (done("cancelled"), 1),  # what was generated before it was cancelled is billed
        (done("incomplete"), 1),
        (done("cancelled", None), 0),
        (done("failed", None), 0),
        (done("failed", {"total_tokens": 0, "input_tokens": 0, "output_tokens": 0}), 0),
        (done("completed", None), 1),  # billed, and nobody knows how much
    ],
)
def test_how_a_turn_ended(event: Any, billed: int) -> None:
    made = realtime()
    found = bills(told(made, CREATED, event))
    assert len(found) == billed
    assert made.left() == []


@pytest.mark.ids("B16", "B10")
def test_what_is_left_of_a_session() -> None:
    made = realtime()
    told(made, CREATED)
    (reading,) = bills(made.left())
    assert (reading.partial, reading.usage, reading.model) == (True, None, "gpt-realtime")
    assert made.left() == []


@pytest.mark.ids("B16")
@pytest.mark.parametrize(
    "usage, counted",
    [
        (
            {"type": "tokens", "total_tokens": 22, "input_tokens": 13, "output_tokens": 9,
             "input_token_details": {"text_tokens": 0, "audio_tokens": 13}},
            Usage(input_tokens=13, output_tokens=9, input_audio_tokens=13),
        ),
        ({"type": "duration", "seconds": 3.4567}, Usage(audio_ms=3457)),
        (None, None),
    ],
)  # fmt: skip
def test_a_transcription_is_another_models_work(usage: Any, counted: Optional[Usage]) -> None:
    made = realtime()
    session = {"model": "gpt-realtime-2", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
    name = "conversation.item.input_audio_transcription.completed"
    steps = told(
        made,
        {"type": "session.updated", "session": session},
        {"type": "input_audio_buffer.committed", "item_id": "item_1"},
        {"type": name, "item_id": "item_1", "transcript": "…", "usage": usage},
    )
    assert [(step.what, step.key) for step in steps] == [(BEGUN, "item_1"), (OVER, "item_1")]
    (reading,) = bills(steps)
    assert (reading.model, reading.operation, reading.usage) == ("gpt-4o-transcribe", "audio", counted)
    assert bills(told(made, done()))[0].model == "gpt-realtime-2"


@pytest.mark.ids("B15", "B16")
def test_content_that_imitates_an_event() -> None:
    """Texts, arguments and metadata may hold anything; only a message's own type and usage count."""
    made = realtime()
    fake = json.dumps(done())
    assert told(
        made,
        {"type": "response.output_text.delta", "delta": fake},
        {"type": "response.function_call_arguments.done", "arguments": fake},
        {"type": "conversation.item.added", "item": {"content": [{"text": fake}], **done()}},
        {"event_id": "e", "item": done(), "type": "conversation.item.added"},
        {"event_id": "e", "metadata": {"type": "response.done"}, "response": {"usage": USAGE}, "type": "x"},
        ["response.done"],
        "response.done",
    ) == []  # fmt: skip
    (reading,) = bills(
        told(made, done(output=[{"type": "function_call", "arguments": "{}", "usage": {"input_tokens": 9}}]))
    )
    assert reading.usage == COUNTED


@pytest.mark.ids("B16")
def test_a_type_that_does_not_stand_in_front() -> None:
    event = done()
    late = {"response": event["response"], "event_id": "e", "type": "response.done"}
    assert type_of(json.dumps(late)) is None
    assert bills(told(realtime(), late))[0].usage == COUNTED
    assert realtime().sent(json.dumps({"response": {}, "type": "response.create"})) == ""
    assert realtime().sent(json.dumps({"type": "input_audio_buffer.append", "audio": "response.create"})) is None


@pytest.mark.ids("B16")
def test_requests_that_run_side_by_side() -> None:
    """Responses over a socket: each lane has its own requests."""
    made = reader("api.openai.com", "/v1/responses")
    assert made.sent(json.dumps({"type": "response.create", "stream_id": "b", "model": "m"})) == "b"
    body = {"id": "resp_b", "object": "response", "model": "gpt-5", "usage": None, "status": "in_progress"}
    whole = {**body, "status": "completed", "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}}
    steps = told(
        made,
        {"type": "response.created", "stream_id": "b", "response": body},
        {"type": "response.created", "response": {**body, "id": "resp_a"}},
        {"type": "error", "stream_id": "c", "error": {"message": "no"}},
        {"type": "response.completed", "stream_id": "b", "response": whole},
    )
    assert [(step.what, step.key, step.lane) for step in steps] == [
        (BEGUN, "resp_b", "b"),
        (BEGUN, "resp_a", ""),
        (REFUSED, "", "c"),
        (OVER, "resp_b", None),
    ]
    (reading,) = bills(steps)
    assert (reading.usage, reading.operation, reading.streamed) == (Usage(5, 7), None, True)
    assert [(r.partial, r.model) for r in bills(made.left())] == [(True, "gpt-5")]


@pytest.mark.ids("B3", "B16")
def test_a_background_response_is_billed_where_it_is_fetched() -> None:
    made = reader("api.openai.com", "/v1/responses")
    told(made, {"type": "response.created", "response": {"id": "r", "background": True, "model": "gpt-5"}})
    (reading,) = bills(made.left())
    assert (reading.pending, reading.partial, reading.response_id) == (True, False, "r")


def content(**more: Any) -> Dict[str, Any]:
    return {
        "serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": "A" * 900}}, *more.pop("parts", ())]}, **more}
    }


def snapshot(prompt: int, response: int, **more: Any) -> Dict[str, Any]:
    total = prompt + response
    return {"promptTokenCount": prompt, "responseTokenCount": response, "totalTokenCount": total, **more}


COMPLETE = {"serverContent": {"turnComplete": True}}


@pytest.mark.ids("B7", "B16")
def test_gemini_turns_add_up_and_snapshots_do_not() -> None:
    made = bidi()
    steps = told(
        made,
        content(),
        {"usageMetadata": snapshot(10, 3)},
        content(),
        {**COMPLETE, "usageMetadata": snapshot(10, 8)},
        content(),
        {"usageMetadata": snapshot(30, 5)},
        COMPLETE,
        content(),
        COMPLETE,
        {"usageMetadata": snapshot(50, 6)},  # after the turn
    )
    assert [reading.usage for reading in bills(steps)] == [Usage(10, 8), Usage(30, 5), Usage(50, 6)]
    assert [step.what for step in steps] == [BEGUN, OVER] * 3
    assert {(r.model, r.operation, r.partial) for r in bills(steps)} == {("gemini-live", "realtime", False)}
    assert made.left() == []


@pytest.mark.ids("B7", "B16")
@pytest.mark.parametrize("order", ["usage before the answer", "usage after the answer"])
def test_gemini_generates_anew_when_a_tool_was_answered(order: str) -> None:
    made = bidi()
    call = {"toolCall": {"functionCalls": [{"id": "1", "name": "look", "args": {"usageMetadata": snapshot(9, 9)}}]}}
    answer = json.dumps({"tool_response": {"function_responses": []}})
    steps = told(made, call)
    if order == "usage before the answer":
        steps += told(made, {"usageMetadata": snapshot(10, 2)})
        assert made.sent(answer) == ""
    else:
        assert made.sent(answer) == ""
        steps += told(made, {"usageMetadata": snapshot(10, 2)})
    steps += told(made, content(), {**COMPLETE, "usageMetadata": snapshot(30, 8)})
    assert [reading.usage for reading in bills(steps)] == [Usage(10, 2), Usage(30, 8)]
    assert made.left() == []


@pytest.mark.ids("B7", "B16")
def test_gemini_by_modality() -> None:
    raw = {
        "promptTokenCount": 522,
        "responseTokenCount": 42,
        "totalTokenCount": 564,  # leaves thoughts out
        "thoughtsTokenCount": 136,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 332}, {"modality": "AUDIO", "tokenCount": 165}],
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 42}],
    }
    (reading,) = bills(told(bidi(), content(), {**COMPLETE, "usageMetadata": raw}))
    assert reading.usage == Usage(
        input_tokens=522,
        output_tokens=178,
        reasoning_output_tokens=136,
        input_audio_tokens=165,
        output_audio_tokens=42,
    )
    assert reading.mismatch is False
    with_thoughts = dict(raw, totalTokenCount=700)
    assert bills(told(bidi(), content(), {**COMPLETE, "usageMetadata": with_thoughts}))[0] == reading
    wrong = dict(raw, totalTokenCount=600)
    assert bills(told(bidi(), content(), {**COMPLETE, "usageMetadata": wrong}))[0].mismatch is True


@pytest.mark.ids("B10", "B16")
def test_what_is_left_of_a_gemini_session() -> None:
    def left(*events: Any) -> List[Tuple[bool, Optional[Usage]]]:
        made = bidi()
        assert bills(told(made, *events)) == []
        return [(reading.partial, reading.usage) for reading in bills(made.left())]

    assert left() == []
    assert left({"setupComplete": {}}) == []
    assert left(content()) == [(True, None)]
    assert left(content(), {"usageMetadata": snapshot(5, 2)}) == [(True, Usage(5, 2))]
    assert left(content(), COMPLETE) == [(False, None)]


@pytest.mark.ids("B15", "B16")
def test_sound_is_not_looked_through_and_what_stands_behind_it_is() -> None:
    made = bidi()
    parts: Any = [{"inlineData": {"mimeType": "audio/pcm", "data": "A" * 50_000}}]
    message = {"serverContent": {"modelTurn": {"parts": parts}, "turnComplete": True}, "usageMetadata": snapshot(5, 2)}
    assert [reading.usage for reading in bills(told(made, message))] == [Usage(5, 2)]
    tricky = {"serverContent": {"modelTurn": {"parts": [{"text": 'x "data": "usageMetadata" '}]}}}
    assert bills(told(made, tricky)) == []


@pytest.mark.ids("B16")
def test_when_gemini_is_asked() -> None:
    made = bidi()
    assert made.sent(json.dumps({"client_content": {"turn_complete": True}})) == ""
    assert made.sent(json.dumps({"clientContent": {}}).encode()) == ""
    assert made.sent(json.dumps({"realtime_input": {"text": "hi"}})) == ""
    assert made.sent(json.dumps({"realtimeInput": {"activityEnd": {}}})) == ""
    assert made.sent(json.dumps({"realtimeInput": {"audio": {"data": "A" * 999}}})) is None


@pytest.mark.ids("B16")
def test_the_region_of_a_session() -> None:
    path = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
    made = reader("us-central1-aiplatform.googleapis.com", path)
    assert made.endpoint.region == "us-central1"
    elsewhere = reader("aiplatform.googleapis.com", path)
    elsewhere.sent(json.dumps({"setup": {"model": "projects/p/locations/europe-west4/publishers/google/models/g"}}))
    (reading,) = bills(told(elsewhere, content(), {**COMPLETE, "usageMetadata": snapshot(5, 2)}))
    assert (reading.model, reading.region, reading.provider) == ("g", "europe-west4", "vertex")


def interaction(**connect: Any) -> Live:
    made = reader("generativelanguage.googleapis.com", "/v1beta/interactions/live")
    assert made.sent(json.dumps({"event_type": "interaction.connect", "id": "v1_a", **connect})) == ""
    assert made.sent(json.dumps({"event_type": "input", "content": []})) is None
    return made


def stop(**usage: int) -> Dict[str, Any]:
    return {"event_type": "step.stop", "index": 0, "usage": usage, "step_usage": {"total_output_tokens": 1}}


STEP = {"step": {"type": "model_output"}, "event_type": "step.start", "index": 0}
SOUND = {"event_type": "step.delta", "index": 0, "delta": {"type": "audio", "data": "AAAA"}}
COMPLETED = {"event_type": "interaction.completed", "status": {"code": 0}}


@pytest.mark.ids("B16")
def test_an_interaction_is_billed_when_it_is_over() -> None:
    made = interaction()
    joined = {"event_type": "interaction.connected", "interaction": {"id": "v1_b", "model": "gemini-live"}}
    spent = {"total_input_tokens": 32, "total_output_tokens": 12, "total_thought_tokens": 3, "total_tokens": 47}
    steps = told(made, joined, {"events": [STEP, SOUND, stop(total_input_tokens=9)]}, STEP, SOUND)
    assert steps == [Step(BEGUN, "interaction", "")]
    (step,) = told(made, {**COMPLETED, "usage": spent}, {**COMPLETED, "usage": spent})
    (reading,) = step.readings
    assert (step.what, reading.model, reading.response_id, reading.operation) == (
        OVER,
        "gemini-live",
        "v1_b",
        "realtime",
    )
    assert reading.usage == Usage(input_tokens=32, output_tokens=15, reasoning_output_tokens=3)
    assert (reading.mismatch, reading.pending, reading.partial, made.left()) == (False, False, False, [])


@pytest.mark.ids("B16")
def test_an_interaction_whose_end_tells_no_usage_has_that_of_its_last_step() -> None:
    made = interaction()
    first, last = (stop(total_input_tokens=number, total_output_tokens=2) for number in (5, 9))
    (reading,) = bills(told(made, STEP, first, STEP, last, COMPLETED))
    assert reading.usage == Usage(input_tokens=9, output_tokens=2)


@pytest.mark.ids("B16")
@pytest.mark.parametrize(
    "end, billed",
    [
        ({"event_type": "interaction.cancelled"}, 0),
        ({"event_type": "interaction.canceled", "usage": {"total_input_tokens": 4}}, 1),
        ({**COMPLETED, "status": {"code": 1}}, 0),
        ({**COMPLETED, "status": {"code": 1}, "usage": {"total_input_tokens": 4}}, 1),
        (COMPLETED, 1),
    ],
)
def test_an_interaction_that_fails_bills_what_it_used(end: Dict[str, Any], billed: int) -> None:
    assert len(bills(told(interaction(), STEP, end))) == billed


@pytest.mark.ids("B16")
def test_an_interaction_that_is_left_goes_on() -> None:
    made = interaction()
    assert made.left() == []
    told(made, STEP, stop(total_input_tokens=4, total_output_tokens=2))
    (reading,) = bills(made.left())
    assert (reading.pending, reading.partial, reading.response_id) == (True, False, "v1_a")
    nameless = interaction(id=None)
    told(nameless, STEP)
    (reading,) = bills(nameless.left())
    assert (reading.pending, reading.partial) == (False, True)


@pytest.mark.parametrize(
    "host, path, expected",
    [
        ("api.openai.com", "/v1/realtime", "realtime"),
        ("api.openai.com", "/v1/responses", "responses_socket"),
        ("x.openai.azure.com", "/openai/v1/realtime", "realtime"),
        ("x.openai.azure.com", "/openai/realtime", "realtime"),
        ("api.x.ai", "/v1/realtime", "realtime"),
        ("api.mistral.ai", "/v1/audio/transcriptions/realtime", "transcriptions_socket"),
        ("generativelanguage.googleapis.com", "/ws/google.ai.generativelanguage.v1alpha.GenerativeService"
         ".BidiGenerateContentConstrained", "bidi"),
        ("generativelanguage.googleapis.com", "/v1beta/interactions/live", "interactions_socket"),
    ],
)  # fmt: skip
@pytest.mark.ids("B16")
def test_where_sessions_are(host: str, path: str, expected: str) -> None:
    found = recognise(SOCKET, host, None, path)
    assert isinstance(found, Endpoint)
    assert (found.format, found.bills) == (expected, True)
    assert recognise(SOCKET, host, None, path + "/else") in (UNRECOGNISED, None)


@pytest.mark.ids("B16")
def test_a_server_that_never_ends_a_turn_does_not_fill_the_memory() -> None:
    made = realtime()
    for number in range(1000):
        told(made, {"type": "response.created", "response": {"id": "resp_%d" % number}})
    assert len(made.left()) == 256


_ODD: List[Any] = [
    None, 5, "x", [], {}, {"type": 5}, {"type": None}, {"type": "response.done"},
    {"type": "response.done", "response": 3},
    {"type": "response.done", "response": {"id": 7, "usage": []}}, {"type": "response.created", "response": []},
    {"type": "session.created", "session": "x"}, {"type": "session.updated", "session": {"audio": 5}},
    {"type": "conversation.item.input_audio_transcription.completed", "usage": {"type": "duration", "seconds": "x"}},
    {"type": "conversation.item.input_audio_transcription.completed", "usage": 9, "item_id": 4},
    {"type": "error", "error": 5}, {"type": "response.completed", "response": None},
    {"usageMetadata": 5}, {"usageMetadata": {"promptTokenCount": "x"}}, {"serverContent": 5, "usageMetadata": {}},
    {"serverContent": {"turnComplete": "yes"}}, {"serverContent": {"modelTurn": 3, "turnComplete": True}},
    {"event_type": "step.stop", "usage": 5}, {"event_type": ["step.start"]},
    {"event_type": "interaction.connect", "id": 4},
    {"event_type": "interaction.created", "interaction": 5, "interaction_id": {}},
    {"event_type": "interaction.completed", "usage": {"total_input_tokens": "x"}, "status": 4},
    {"events": 5}, {"events": [5, None, {"event_type": "interaction.completed", "usage": []}]},
    {"toolCall": 5}, {"setup": 5}, {"setup": {"model": 5}}, {"type": "transcription.done", "usage": [], "model": 4},
]  # fmt: skip


@pytest.mark.ids("A21", "B16")
@pytest.mark.parametrize("odd", _ODD, ids=range(len(_ODD)))
def test_odd_messages_are_tolerated(odd: Any) -> None:
    text = json.dumps(odd)
    mistral = reader("api.mistral.ai", "/v1/audio/transcriptions/realtime")
    google = reader("generativelanguage.googleapis.com", "/v1beta/interactions/live")
    for made in (realtime(), reader("api.openai.com", "/v1/responses"), bidi(), mistral, google):
        for message in (text, text.encode(), text[:-1], b"\xff" + text.encode(), ""):
            made.sent(message)
            made.received(message)
        made.left()
