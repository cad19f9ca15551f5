"""Messages of gRPC as they are on the wire, read without protobuf. Fixtures follow the published field numbers."""

from __future__ import annotations

import importlib
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicostguard.metering import UNRECOGNISED, protobuf
from aicostguard.metering.rpc import Found, Rpc, find
from aicostguard.usage import Reading, Usage

XAI = "/xai_api.Chat/"
STUDIO = "/google.ai.generativelanguage.v1beta.GenerativeService/"
VERTEX = "/google.cloud.aiplatform.v1.PredictionService/"


def wire(message: Dict[int, Any]) -> bytes:
    """A message by field numbers; written here and not taken from the simulator, so that each checks the other."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 0x7F:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        return out + bytes([value])

    out = b""
    for field, value in message.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, int):
                out += varint(field << 3) + varint(each)
                continue
            data = wire(each) if isinstance(each, dict) else each.encode() if isinstance(each, str) else each
            out += varint(field << 3 | 2) + varint(len(data)) + data
    return out


def read(path: str, request: Dict[int, Any], *answers: Dict[int, Any], streamed: bool = False) -> List[Reading]:
    found = find(path)
    assert isinstance(found, Found)
    rpc = Rpc(found.endpoint, found.method, streamed)
    rpc.asked(wire(request))
    for answer in answers:
        rpc.told(wire(answer))
    return rpc.readings(False)


@pytest.mark.ids("B8")
def test_xai_leaves_reasoning_out_of_the_completion() -> None:
    usage = {1: 200, 2: 900, 3: 1400, 4: 836, 5: 64, 6: 300, 7: 128, 8: 5, 9: b"\x01\x01\x03\x04", 11: 12_345_000}
    (reading,) = read(XAI + "GetCompletion", {2: "grok-4"}, {1: "id", 6: "grok-4-0709", 9: usage, 15: 2})
    assert reading.usage == Usage(
        input_tokens=900,
        output_tokens=500,
        reasoning_output_tokens=300,
        cache_read_input_tokens=128,
        input_image_tokens=64,
        search_units=5,
        web_searches=2,
        tool_calls_billed=1,
        reported_cost_nanousd=1_234_500,
    )
    assert (reading.model, reading.service_tier, reading.mismatch) == ("grok-4-0709", "priority", False)
    wrong = dict(usage)
    wrong[3] = 5000
    assert read(XAI + "GetCompletion", {}, {6: "m", 9: wrong})[0].mismatch is True


@pytest.mark.ids("B8", "B13")
def test_a_zero_is_not_on_the_wire() -> None:
    (reading,) = read(XAI + "GetCompletion", {}, {6: "m", 9: {2: 7, 3: 7}})
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (7, 0)


@pytest.mark.ids("B7")
def test_later_counts_replace_earlier_ones() -> None:
    chunks = [{4: "grok-4", 6: {1: n, 2: 10, 3: 10 + n}} for n in (1, 2, 9)]
    (reading,) = read(XAI + "GetCompletionChunk", {}, *chunks, {2: {1: {1: "."}}}, streamed=True)
    assert (reading.usage, reading.streamed) == (
        Usage(10, 9, cache_read_input_tokens=0, reasoning_output_tokens=0, input_image_tokens=0),
        True,
    )


@pytest.mark.ids("B3")
def test_a_deferred_answer_bills_when_it_is_there() -> None:
    done = {1: {6: "grok-4", 9: {1: 5, 2: 6, 3: 11}}, 2: 1}
    assert read(XAI + "GetDeferredCompletion", {}, {2: 3}) == []
    assert read(XAI + "GetDeferredCompletion", {}, done)[0].model == "grok-4"


@pytest.mark.ids("B7")
def test_gemini_at_home_and_on_vertex() -> None:
    """The same counts under other numbers."""
    counted = Usage(
        input_tokens=120,
        output_tokens=40,
        cache_read_input_tokens=50,
        reasoning_output_tokens=10,
        input_audio_tokens=20,
        input_image_tokens=30,
        output_audio_tokens=4,
        web_searches=2,
    )
    parts, spoken = [{1: 1, 2: 50}, {1: 4, 2: 20}, {1: 2, 2: 30}], [{1: 4, 2: 4}]
    home = {1: 100, 2: 30, 3: 160, 4: 50, 5: parts, 7: spoken, 8: 20, 10: 10}
    studio = {1: [{9: {5: ["one", "two"]}}], 3: home, 4: "gemini-2.5-pro"}
    (reading,) = read(STUDIO + "GenerateContent", {1: "models/gemini-2.5-pro"}, studio)
    assert (reading.usage, reading.model, reading.mismatch) == (counted, "gemini-2.5-pro", False)
    cloud = {1: 100, 2: 30, 3: 160, 5: 50, 8: 3, 9: parts, 11: spoken, 13: 20, 14: 10}
    vertex = {2: [{7: {1: ["one", "two"]}}], 4: cloud, 11: "gemini-2.5-pro"}
    name = "projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro"
    (reading,) = read(VERTEX + "GenerateContent", {5: name}, vertex)
    assert (reading.usage, reading.service_tier, reading.region) == (counted, "priority", "us-central1")


@pytest.mark.ids("B12")
def test_a_model_that_only_the_request_names() -> None:
    (reading,) = read(STUDIO + "EmbedContent", {1: "models/embedding-001"}, {1: {}})
    assert (reading.model, reading.usage, reading.operation) == ("embedding-001", None, "embeddings")


@pytest.mark.ids("B7")
def test_embeddings_on_vertex_and_other_predictions() -> None:
    import struct

    def amount(number: float) -> bytes:
        return b"\x11" + struct.pack("<d", number)

    def members(**given: bytes) -> bytes:
        return wire({5: {1: [{1: key, 2: each} for key, each in given.items()]}})

    row = members(embeddings=members(statistics=members(token_count=amount(7.0))))
    name = "projects/p/locations/eu/publishers/google/models/text-embedding-005"
    (reading,) = read(VERTEX + "Predict", {1: name}, {1: [row, row]})
    assert (reading.usage, reading.model, reading.operation) == (Usage(14, 0), "text-embedding-005", "embeddings")
    assert read(VERTEX + "Predict", {1: "projects/p/locations/eu/endpoints/5"}, {1: [row]}) == []


@pytest.mark.ids("A6")
def test_which_methods_are_ai() -> None:
    assert find("/shop.Orders/Get") is None
    assert find("/google.cloud.location.Locations/ListLocations") is None
    assert find(STUDIO + "CountTokens") is None
    assert find(XAI + "GetStoredCompletion") is None
    assert find(XAI + "Dream") is UNRECOGNISED
    for path in ("", "/", "x", "//"):
        assert find(path) is None


@pytest.mark.ids("B15")
def test_content_that_looks_like_usage() -> None:
    fake = wire({9: {1: 99999, 2: 99999, 3: 199998}})
    (reading,) = read(XAI + "GetCompletion", {}, {2: {3: {2: fake}}, 6: "m", 9: {1: 5, 2: 6, 3: 11}})
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (6, 5)


@pytest.mark.ids("A21")
@given(st.binary(max_size=200))
def test_any_bytes_are_tolerated(data: bytes) -> None:
    for path in (XAI + "GetCompletion", XAI + "GetDeferredCompletion", STUDIO + "GenerateContent", VERTEX + "Predict"):
        found = find(path)
        assert isinstance(found, Found)
        rpc = Rpc(found.endpoint, found.method, False)
        rpc.asked(data)
        rpc.told(data)
        for reading in rpc.readings(False):
            assert all(count is None or count >= 0 for count in reading.usage or ())
    protobuf.value_of(data)


@pytest.mark.ids("A21")
def test_our_numbers_are_those_of_the_sdk() -> None:
    """Where the SDK is installed, its own definitions are asked."""
    pytest.importorskip("xai_sdk")
    pool = importlib.import_module("google.protobuf.descriptor_pool").Default()
    generation = importlib.import_module("google.protobuf").__version__.partition(".")[0]
    importlib.import_module("xai_sdk.proto.%s.chat_pb2" % ("v5" if generation == "5" else "v6"))
    usage = pool.FindMessageTypeByName("xai_api.SamplingUsage").fields_by_name
    ours = {
        "completion_tokens": 1, "prompt_tokens": 2, "total_tokens": 3, "prompt_image_tokens": 5, "reasoning_tokens": 6,
        "cached_prompt_text_tokens": 7, "num_sources_used": 8, "server_side_tools_used": 9,
    }  # fmt: skip
    assert {name: usage[name].number for name in ours} == ours
    whole = pool.FindMessageTypeByName("xai_api.GetChatCompletionResponse").fields_by_name
    assert (whole["id"].number, whole["model"].number, whole["usage"].number) == (1, 6, 9)
    chunk = pool.FindMessageTypeByName("xai_api.GetChatCompletionChunk").fields_by_name
    assert (chunk["id"].number, chunk["model"].number, chunk["usage"].number) == (1, 4, 6)
