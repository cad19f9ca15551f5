"""What each format says, read from the bytes: where usage stands, what includes what, what is free."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any, Dict, List

import pytest

from aicostguard.simulator import ALL, Simulator
from aicostguard.simulator.formats import shapes
from aicostguard.simulator.routes import PREFIXES, provider_of
from aicostguard.usage import Usage, inconsistent
from tests.simulator.raw import ask, events

CHATTING = [name for name in ALL if name not in ("vertex", "anthropic", "replicate", "watsonx")]
ASKING = {"stream": True, "stream_options": {"include_usage": True}}


def chat(sim: Simulator, provider: str, body: Dict[str, Any], **behaviour: Any) -> Any:
    path = PREFIXES[provider][0] + "/chat/completions"
    return ask(sim.urls[provider], path, {"model": "m", "messages": [], **body}, **behaviour)


@pytest.mark.parametrize("provider", CHATTING)
def test_numbers_differ_from_call_to_call_and_are_never_absurd(provider: str, sim: Simulator) -> None:
    for number in range(40):
        chat(sim, provider, {"messages": [{"role": "user", "content": "call %d" % number}]})
    rows = sim.billed()
    usages = [row.usage for row in rows if row.usage]
    assert len({(u.input_tokens, u.output_tokens) for u in usages}) == len(rows) == 40
    for usage in usages:
        assert not inconsistent(usage)
        assert 7 <= (usage.output_tokens or 0) <= 2000
        assert (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0) <= (
            usage.input_tokens or 0
        )
    if "cache_read_input_tokens" in shapes.CHAT[provider].always + shapes.CHAT[provider].sometimes:
        assert any(u.cache_read_input_tokens for u in usages)
    if "reasoning_output_tokens" in shapes.CHAT[provider].always + shapes.CHAT[provider].sometimes:
        assert any(u.reasoning_output_tokens for u in usages)


def test_the_same_request_has_the_same_numbers(sim: Simulator) -> None:
    for _ in range(2):
        chat(sim, "openai", {"messages": [{"role": "user", "content": "again"}]})
    first, second = sim.billed()
    assert first.usage == second.usage
    assert first.response_id != second.response_id


def test_numbers_stay_within_the_request(sim: Simulator) -> None:
    for limit in (1, 5, 30):
        for number in range(20):
            chat(sim, "openai", {"max_tokens": limit, "user": str(number)})
        for row, exchange in zip(sim.billed(), sim.exchanges):
            assert row.usage is not None
            assert 1 <= (row.usage.output_tokens or 0) <= limit
            assert (row.usage.input_tokens or 0) <= len(exchange.body)
        sim.reset_count()


@pytest.mark.ids("B12")
@pytest.mark.parametrize("provider", CHATTING)
def test_where_a_chat_stream_carries_usage(provider: str, sim: Simulator) -> None:
    """By provider: chunks with usage when it was not asked for, and when it was."""
    own, finish, each, hidden = "own chunk", "finish chunk", "each chunk", "x_groq"
    expected = {
        **dict.fromkeys(CHATTING, ([], [own])),
        "openrouter": ([own], [own]),
        "perplexity": ([each], [each]),
        "groq": ([hidden], [hidden, own]),
        **dict.fromkeys(
            ("mistral", "together", "fireworks", "cerebras", "deepseek", "xai", "ai21", "zai", "zhipuai"),
            ([finish], [finish]),
        ),
    }[provider]
    for body, wanted in (({"stream": True}, expected[0]), (ASKING, expected[1])):
        seen = events(chat(sim, provider, body).body)
        assert seen.pop() == "[DONE]"
        found: List[str] = []
        if all(chunk.get("usage") for chunk in seen):
            found.append(each)
        else:
            found += [hidden for chunk in seen if (chunk.get("x_groq") or {}).get("usage")]
            for chunk in seen:
                if chunk.get("usage"):
                    finished = chunk["choices"] and chunk["choices"][0]["finish_reason"] == "stop"
                    found.append(finish if finished else own)
                    assert finished or chunk["choices"] == []
        assert found == wanted
    assert len(sim.billed()) == 2


@pytest.mark.parametrize("override", [True, False])
def test_include_usage_can_be_overridden(override: bool, sim: Simulator) -> None:
    for body in ({"stream": True}, ASKING):
        seen = events(chat(sim, "openai", body, include_usage=override).body)
        assert any(chunk.get("usage") for chunk in seen[:-1]) is override
    assert all(row.usage is not None for row in sim.billed())  # billed whether it is said or not


def test_openai_writes_null_usage_into_the_other_chunks_once_asked(sim: Simulator) -> None:
    asked = events(chat(sim, "openai", ASKING).body)[:-1]
    assert [chunk["usage"] for chunk in asked[:-1]] == [None] * (len(asked) - 1)
    assert all("usage" not in chunk for chunk in events(chat(sim, "openai", {"stream": True}).body)[:-1])


def test_azure_opens_with_an_empty_chunk_and_answers_with_the_model_behind_the_deployment(sim: Simulator) -> None:
    path = "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
    seen = events(ask(sim.urls["azure"], path, {"messages": [], **ASKING}).body)
    assert (seen[0]["choices"], seen[0]["model"]) == ([], "")
    assert sim.billed()[0].model == seen[1]["model"] != "my-deployment"


def test_openrouter_streams_begin_with_a_comment(sim: Simulator) -> None:
    assert chat(sim, "openrouter", {"stream": True}).body.startswith(b": OPENROUTER PROCESSING\n\n")


def test_perplexity_counts_aloud_and_states_the_money_at_the_end(sim: Simulator) -> None:
    seen = events(chat(sim, "perplexity", {"stream": True}).body)[:-1]
    written = [chunk["usage"]["completion_tokens"] for chunk in seen]
    assert written == sorted(written)
    assert written[0] < written[-1]
    assert [chunk["usage"]["cost"]["total_cost"] for chunk in seen[:-1]] == [0] * (len(seen) - 1)
    assert all(choice["message"]["role"] == "assistant" for chunk in seen for choice in chunk["choices"])
    assert min(seen[-1]["usage"]["cost"].values()) >= 0
    row = sim.billed()[0].usage
    assert row is not None
    assert round(seen[-1]["usage"]["cost"]["total_cost"] * 1e9) == row.reported_cost_nanousd


@pytest.mark.ids("B15")
@pytest.mark.parametrize("provider", ["openai", "groq", "cerebras", "together", "mistral"])
def test_tool_arguments_that_look_like_usage_arrive_whole(provider: str, sim: Simulator) -> None:
    trap = '{"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}'
    plain = json.loads(chat(sim, provider, {}, tool_calls=trap).body)
    assert plain["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == trap
    joined = ""
    for chunk in events(chat(sim, provider, {"stream": True}, tool_calls=[trap]).body)[:-1]:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or []:
                joined += call["function"]["arguments"]
    assert joined == trap


@pytest.mark.ids("B15")
def test_tool_arguments_in_the_other_formats(sim: Simulator) -> None:
    trap = {"usage": {"input_tokens": 1, "output_tokens": 2}}
    text = json.dumps(trap)
    sim.set_default(tool_calls=[text])
    message = json.loads(ask(sim.urls["anthropic"], "/v1/messages", {"max_tokens": 9}).body)
    assert message["content"][1]["input"] == trap
    seen = events(ask(sim.urls["anthropic"], "/v1/messages", {"stream": True}).body)
    parts = [e["delta"]["partial_json"] for e in seen if e.get("delta", {}).get("type") == "input_json_delta"]
    assert len(parts) > 1
    assert json.loads("".join(parts)) == trap
    gemini = json.loads(ask(sim.urls["google"], "/v1beta/models/g:generateContent", {}).body)
    assert gemini["candidates"][0]["content"]["parts"][1]["functionCall"]["args"] == trap
    response = json.loads(ask(sim.urls["openai"], "/v1/responses", {"model": "m"}).body)
    assert response["output"][-1]["arguments"] == text
    seen = events(ask(sim.urls["openai"], "/v1/responses", {"model": "m", "stream": True}).body)
    assert "".join(e["delta"] for e in seen if e["type"] == "response.function_call_arguments.delta") == text


@pytest.mark.parametrize("stream", [False, True])
def test_arguments_that_are_not_json_are_refused_where_the_format_states_values(stream: bool, sim: Simulator) -> None:
    sim.set_default(tool_calls="{broken")
    verb = "streamGenerateContent" if stream else "generateContent"
    assert ask(sim.urls["google"], "/v1beta/models/g:" + verb, {}).status == 400
    assert ask(sim.urls["anthropic"], "/v1/messages", {"stream": stream}).status == 400
    assert chat(sim, "openai", {"stream": stream}).status == 200  # text there, as models do write broken JSON
    assert [row.format for row in sim.billed()] == ["chat"]


def test_anthropic_streams_state_input_first_and_output_last(sim: Simulator) -> None:
    sim.set_default(usage={"input_tokens": 100, "output_tokens": 40, "cache_read_input_tokens": 60, "web_searches": 2})
    seen = events(ask(sim.urls["anthropic"], "/v1/messages", {"model": "c", "stream": True}).body)
    assert seen[0]["message"]["usage"]["input_tokens"] == 40
    assert seen[0]["message"]["usage"]["output_tokens"] == 1
    closing = next(e for e in seen if e["type"] == "message_delta")["usage"]
    assert (closing["output_tokens"], closing["cache_read_input_tokens"]) == (40, 60)
    assert closing["server_tool_use"]["web_search_requests"] == 2
    assert sim.billed()[0].usage == Usage(
        100, 40, 60, cache_creation_input_tokens=0, cache_creation_1h_input_tokens=0, web_searches=2
    )


def _frames(data: bytes) -> List[Any]:
    found = []
    while data:
        total, head, crc = struct.unpack("!III", data[:12])
        assert zlib.crc32(data[:8]) == crc
        assert zlib.crc32(data[: total - 4]) == struct.unpack("!I", data[total - 4 : total])[0]
        found.append(json.loads(data[12 + head : total - 4]))
        data = data[total:]
    return found


def test_bedrock_frames_are_aws_event_streams_with_the_message_in_base64(sim: Simulator) -> None:
    path = "/model/us.anthropic.claude-9-20260101-v1%3A0/"
    answer = ask(sim.urls["bedrock"], path + "invoke-with-response-stream", {"max_tokens": 90})
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    inner = [json.loads(base64.b64decode(frame["bytes"])) for frame in _frames(answer.body)]
    assert inner[0]["type"] == "message_start"
    assert inner[0]["message"]["id"] == sim.billed()[0].response_id
    metrics = inner[-1]["amazon-bedrock-invocationMetrics"]
    plain = ask(sim.urls["bedrock"], path + "invoke", {"max_tokens": 90})
    stated = json.loads(plain.body)["usage"]["input_tokens"]
    assert plain.headers["x-amzn-bedrock-input-token-count"] == str(stated)
    streamed, whole = (row.usage for row in sim.billed())
    assert streamed is not None
    assert whole is not None
    assert metrics["outputTokenCount"] == streamed.output_tokens
    assert [row.model for row in sim.billed()] == ["us.anthropic.claude-9-20260101-v1:0"] * 2


@pytest.mark.ids("B7")
def test_gemini_counts_four_things_apart_and_repeats_them_in_each_chunk(sim: Simulator) -> None:
    sim.set_default(
        usage={"input_tokens": 100, "output_tokens": 60, "cache_read_input_tokens": 20, "reasoning_output_tokens": 25},
        tool_use_prompt_tokens=30,
    )
    path = "/v1beta/models/gemini-9:streamGenerateContent"
    from_array = json.loads(ask(sim.urls["google"], path, {}).body)
    from_events = events(ask(sim.urls["google"], path + "?alt=sse", {}).body)
    plain = json.loads(ask(sim.urls["google"], path.replace("streamG", "g"), {}).body)
    for chunks in (from_array, from_events, [plain]):
        last = chunks[-1]["usageMetadata"]
        assert (last["promptTokenCount"], last["toolUsePromptTokenCount"]) == (70, 30)
        assert (last["candidatesTokenCount"], last["thoughtsTokenCount"]) == (35, 25)
        assert last["totalTokenCount"] == 160
        assert last["cachedContentTokenCount"] == 20
    assert len(from_array) == len(from_events) == 4
    assert all("usageMetadata" in chunk for chunk in from_events)
    assert from_events[0]["usageMetadata"]["totalTokenCount"] < 160
    assert len({row.usage for row in sim.billed()}) == 1


def test_gemini_embeddings_name_no_usage_unless_asked_and_vertex_names_it_beside_each_vector(sim: Simulator) -> None:
    body = {"requests": [{}, {}], "outputDimensionality": 8}
    path = "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert "usageMetadata" not in json.loads(ask(sim.urls["google"], path, body).body)
    assert json.loads(ask(sim.urls["google"], path, body, usage={"input_tokens": 9}).body)["usageMetadata"]
    vertex = "/v1beta1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict"
    answer = json.loads(ask(sim.urls["vertex"], vertex, {"instances": [{"content": "ab"}, {"content": "c"}]}).body)
    tokens = sum(p["embeddings"]["statistics"]["token_count"] for p in answer["predictions"])
    usages = [row.usage for row in sim.billed()]
    assert usages[:2] == [None, Usage(input_tokens=9)]
    assert usages[2] == Usage(input_tokens=tokens, characters=3)
    assert answer["metadata"]["billableCharacterCount"] == 3


def test_large_embeddings_are_large(sim: Simulator) -> None:
    answer = ask(sim.urls["openai"], "/v1/embeddings", {"model": "e", "input": ["x"] * 20})
    assert len(answer.body) > 400_000
    assert len(json.loads(answer.body)["data"]) == 20


FREE = [
    ("openai", "GET", "/v1/models"),
    ("openai", "GET", "/v1/models/gpt-9"),
    ("anthropic", "GET", "/v1/models"),
    ("google", "GET", "/v1beta/models"),
    ("anthropic", "POST", "/v1/messages/count_tokens"),
    ("google", "POST", "/v1beta/models/g:countTokens"),
    ("vertex", "POST", "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict"),
    ("openai", "POST", "/v1/responses/input_tokens"),
    ("cerebras", "GET", "/v1/tcp_warming"),
]


@pytest.mark.parametrize(("provider", "method", "path"), FREE, ids=[row[2] for row in FREE])
def test_what_is_free_is_not_billed(provider: str, method: str, path: str, sim: Simulator) -> None:
    answer = ask(sim.urls[provider], path, {} if method == "POST" else None, method=method)
    assert answer.status == 200
    json.loads(answer.body)
    assert sim.billed() == []


@pytest.mark.ids("B3")
def test_responses_fetched_again_cancelled_or_gone(sim: Simulator) -> None:
    url = sim.urls["openai"]
    made = json.loads(ask(url, "/v1/responses", {"model": "m"}).body)
    again = ask(url, "/v1/responses/" + made["id"], method="GET")
    assert json.loads(again.body) == made
    streamed = events(ask(url, "/v1/responses/%s?stream=true" % made["id"], method="GET").body)
    assert streamed[-1]["response"]["usage"] == made["usage"]
    assert len(sim.billed()) == 1
    queued = json.loads(ask(url, "/v1/responses", {"model": "m", "background": True}).body)
    assert json.loads(ask(url, "/v1/responses/%s/cancel" % queued["id"], {}).body)["status"] == "cancelled"
    for _ in range(3):  # more often than it would have been polled
        assert json.loads(ask(url, "/v1/responses/" + queued["id"], method="GET").body)["usage"] is None
    assert ask(url, "/v1/responses/resp_none", method="GET").status == 404
    assert ask(url, "/v1/responses/" + made["id"], method="DELETE").status == 200
    assert ask(url, "/v1/responses/" + made["id"], method="GET").status == 404
    assert len(sim.billed()) == 1


def test_a_background_stream_of_a_queued_response_bills_it(sim: Simulator) -> None:
    url = sim.urls["openai"]
    queued = json.loads(ask(url, "/v1/responses", {"model": "m", "background": True}, {"x-sim-tag": "who"}).body)
    for _ in range(2):
        ask(url, "/v1/responses/%s?stream=true" % queued["id"], method="GET")
    assert [(row.tag, row.streamed) for row in sim.billed()] == [("who", True)]


def test_no_usage_is_billed_and_says_nothing(sim: Simulator) -> None:
    sim.set_default(no_usage=True)
    assert "usage" not in json.loads(chat(sim, "openai", {}).body)
    assert not any(c.get("usage") for c in events(chat(sim, "openai", ASKING).body)[:-1])
    assert "usageMetadata" not in json.loads(ask(sim.urls["google"], "/v1beta/models/g:generateContent", {}).body)
    assert [row.usage for row in sim.billed()] == [None] * 3


@pytest.mark.parametrize(
    ("provider", "usage"),
    [
        ("together", {"cache_read_input_tokens": 3}),
        ("openai", {"input_tokens": 3, "cache_read_input_tokens": 4}),
        ("openai", {"images": 1}),
    ],
)
def test_numbers_that_the_format_cannot_state_or_that_cannot_be_are_refused(
    provider: str, usage: Dict[str, int], sim: Simulator
) -> None:
    assert chat(sim, provider, {}, usage=usage).status == 400
    assert sim.billed() == []


def test_a_forced_part_pushes_the_whole_up(sim: Simulator) -> None:
    assert chat(sim, "openai", {}, usage={"cache_read_input_tokens": 50_000}).status == 200
    row = sim.billed()[0].usage
    assert row is not None
    assert (row.input_tokens or 0) >= 50_000 == row.cache_read_input_tokens


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("groq", "/v1/chat/completions"),
        ("openai", "/v1/messages"),
        ("google", "/v1/chat/completions"),
        ("fireworks", "/v1/chat/completions"),
        ("anthropic", "/v1/nothing"),
    ],
)
def test_a_path_that_the_provider_lacks_is_404(provider: str, path: str, sim: Simulator) -> None:
    assert ask(sim.urls[provider], path, {}).status == 404
    assert sim.billed() == []


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("my-resource.openai.azure.com", "azure"),
        ("us-central1-aiplatform.googleapis.com", "vertex"),
        ("aiplatform.googleapis.com", "vertex"),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "bedrock"),
        ("example.com", None),
        ("api.openai.com.example.com", None),
    ],
)
def test_real_host_names(host: str, provider: Any) -> None:
    assert provider_of(host) == provider
