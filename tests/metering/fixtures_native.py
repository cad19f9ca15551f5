# ruff: noqa: E501
"""Responses in Anthropic's and Google's shapes, written by hand from the providers' documents, with what each bills."""

from __future__ import annotations

from typing import Any, Dict, List

from tests.metering.building import C1, JSON, SSE, add, says, sse, whole

# --- Anthropic -----------------------------------------------------------------------------------------------------
A_USAGE = {
    "input_tokens": 3, "cache_creation_input_tokens": 12304, "cache_read_input_tokens": 0, "output_tokens": 550,
    "cache_creation": {"ephemeral_5m_input_tokens": 304, "ephemeral_1h_input_tokens": 12000}, "service_tier": "standard",
    "inference_geo": "not_available",
}  # fmt: skip
A_SAID = {
    "cache_creation_input_tokens": 12304, "cache_read_input_tokens": 0, "cache_creation_1h_input_tokens": 12000, **C1,
}  # fmt: skip
MESSAGE = {
    "id": "c1",
    "type": "message",
    "role": "assistant",
    "model": "m-1",
    "content": [{"type": "text", "text": "a"}],
}
TOOL_USE = {"type": "tool_use", "id": "t", "name": "f", "input": {"usage": {"input_tokens": 10**6, "output_tokens": 1}}}
MSG = "/v1/messages"
add(
    "anthropic message", "api.anthropic.com", MSG, whole({**MESSAGE, "stop_reason": "end_turn", "usage": A_USAGE}), JSON,
    says("anthropic", (12307, 550), **A_SAID),
)  # fmt: skip
add(
    "anthropic message, usage in tool input", "api.anthropic.com", MSG,
    whole({**MESSAGE, "content": [TOOL_USE] * 60, "usage": {"input_tokens": 5, "output_tokens": 6}}), JSON,
    says("anthropic", (5, 6), **C1),
)  # fmt: skip
add(
    "anthropic message, usage first and tool input last", "api.anthropic.com", MSG,
    whole({"usage": {"input_tokens": 5, "output_tokens": 6}, **MESSAGE, "content": [TOOL_USE] * 60}), JSON,
    says("anthropic", (5, 6), **C1),
)  # fmt: skip
add(
    "anthropic message with searches, thinking, fast, in the US", "api.anthropic.com", MSG,
    whole({**MESSAGE, "usage": {
        "input_tokens": 5, "output_tokens": 60, "output_tokens_details": {"thinking_tokens": 28}, "speed": "fast",
        "inference_geo": "us", "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
    }}), JSON,
    says("anthropic", (5, 60), reasoning_output_tokens=28, service_tier="fast", region="us", web_searches=2, **C1),
)  # fmt: skip
STEPS = [
    {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
    {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
    {
        "type": "advisor_message",
        "model": "m-2",
        "input_tokens": 800,
        "output_tokens": 90,
        "cache_read_input_tokens": 10,
    },
]
add(
    "anthropic message with compaction and advisor", "api.anthropic.com", MSG,
    whole({**MESSAGE, "usage": {"input_tokens": 23000, "output_tokens": 1000, "iterations": STEPS}}), JSON,
    (
        *says("anthropic", (23000, 1000), **C1),
        *says("anthropic", (180000, 3500), **C1),
        *says("anthropic", (810, 90), model="m-2", cache_read_input_tokens=10, **C1),
    ),
)  # fmt: skip


def message_stream(start: Dict[str, Any], *deltas: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [
        {"type": "message_start", "message": {**MESSAGE, "content": [], "usage": start}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": '"message_delta"'}},
        *({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage} for usage in deltas),
        {"type": "message_stop"},
    ]


STREAM = message_stream(
    {**A_USAGE, "output_tokens": 1}, {"output_tokens": 20}, {"output_tokens": 550, "input_tokens": None}
)
add(
    "anthropic stream", "api.anthropic.com", MSG, sse(*STREAM, names=True), SSE,
    says("anthropic", (12307, 550), streamed=True, **A_SAID), done=True,
)  # fmt: skip
add(
    "anthropic stream, the delta changes the input", "api.anthropic.com", MSG,
    sse(
        *message_stream({"input_tokens": 10, "output_tokens": 1}, {"input_tokens": 900, "output_tokens": 5, "iterations": STEPS}),
        names=True, end="\r\n",
    ),
    SSE,
    (
        *says("anthropic", (900, 5), streamed=True, **C1),
        *says("anthropic", (180000, 3500), streamed=True, **C1),
        *says("anthropic", (810, 90), model="m-2", cache_read_input_tokens=10, streamed=True, **C1),
    ), done=True,
)  # fmt: skip
add(
    "anthropic error in a stream", "api.anthropic.com", MSG,
    sse({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, names=True), SSE, (),
)  # fmt: skip
add(
    "anthropic on vertex", "us-east5-aiplatform.googleapis.com",
    "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-x@20260101:streamRawPredict",
    sse(*STREAM, names=True), SSE, says("vertex", (12307, 550), streamed=True, region="us-east5", **A_SAID), done=True,
)  # fmt: skip
add(
    "anthropic through openrouter", "openrouter.ai", "/api/v1/messages", whole({**MESSAGE, "usage": A_USAGE}), JSON,
    says("openrouter", (12307, 550), **A_SAID),
)  # fmt: skip
# --- Gemini --------------------------------------------------------------------------------------------------------
G = "generativelanguage.googleapis.com"
GEN, GEN_STREAM = "/v1beta/models/gemini-x:generateContent", "/v1beta/models/gemini-x:streamGenerateContent"


def answer(usage: Any = None, model: str = "gemini-x-001", text: str = "a", **more: Any) -> Dict[str, Any]:
    body: Dict[str, Any] = {
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}]
    }
    if usage is not None:
        body["usageMetadata"] = usage
    return {**body, "modelVersion": model, "responseId": "c1"}


def tokens(**numbers: int) -> Dict[str, Any]:
    return {name + "Count": number for name, number in numbers.items()}


G_USAGE = {
    **tokens(promptToken=32, cachedContentToken=20, candidatesToken=477, thoughtsToken=240, toolUsePromptToken=764, totalToken=1513),
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 2}, {"modality": "IMAGE", "tokenCount": 30}],
    "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}, {"modality": "TEXT", "tokenCount": 16}],
    "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}],
    "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 1}],
}  # fmt: skip
G_SAID = {
    "cache_read_input_tokens": 20, "cache_read_audio_tokens": 4, "reasoning_output_tokens": 240, "input_image_tokens": 31,
    "output_audio_tokens": 7, **C1,
}  # fmt: skip
add(
    "gemini", G, GEN, whole(answer(G_USAGE), indent=2), JSON,
    says("google", (796, 717), model="gemini-x-001", **G_SAID),
)  # fmt: skip
SNAPSHOTS = [
    answer({"trafficType": "ON_DEMAND"}),
    answer({**tokens(promptToken=32, totalToken=294, thoughtsToken=240, candidatesToken=22)}),
    answer(G_USAGE, finishReason="STOP", groundingMetadata={"webSearchQueries": ["q1", "q2"]}),
]
add(
    "gemini stream", G, GEN_STREAM, sse(*SNAPSHOTS, end="\r\n"), SSE,
    says("google", (796, 717), model="gemini-x-001", web_searches=2, streamed=True, **G_SAID),
)  # fmt: skip
add(
    "gemini stream as an array", G, GEN_STREAM, whole(SNAPSHOTS, indent=1), JSON,
    says("google", (796, 717), model="gemini-x-001", web_searches=2, streamed=True, **G_SAID),
)  # fmt: skip
CALL = {"functionCall": {"name": "f", "args": {"usageMetadata": {"promptTokenCount": 10**6, "totalTokenCount": 10**6}}}}
add(
    "gemini stream, usage in tool arguments", G, GEN_STREAM,
    sse(answer(tokens(promptToken=5, candidatesToken=6, totalToken=11)), {"candidates": [{"content": {"parts": [CALL]}}]}),
    SSE, says("google", (5, 6), model="gemini-x-001", streamed=True, **C1),
)  # fmt: skip
add(
    "gemini, usage in tool arguments", G, GEN,
    whole({
        "usageMetadata": tokens(promptToken=5, candidatesToken=6, totalToken=11), "modelVersion": "m-1", "responseId": "c1",
        "candidates": [{"content": {"parts": [CALL] * 40}}],
    }), JSON, says("google", (5, 6), **C1),
)  # fmt: skip
add(
    "gemini, 64-bit counts as strings, enums as numbers", "aiplatform.googleapis.com",
    "/v1/projects/p/locations/global/publishers/google/models/gemini-x:generateContent",
    whole(answer({
        "promptTokenCount": "5", "candidatesTokenCount": "6", "totalTokenCount": "11", "trafficType": 2,
        "promptTokensDetails": [{"modality": 2, "tokenCount": 4}, {"modality": 1, "tokenCount": 1}],
    })), JSON,
    says("vertex", (5, 6), model="gemini-x-001", region="global", input_image_tokens=4,
         service_tier="provisioned_throughput", **C1),
)  # fmt: skip
add(
    "gemini, blocked prompt: nothing generated", G, GEN,
    whole({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": tokens(promptToken=9, totalToken=9)}), JSON,
    says("google", (9, 0), model="gemini-x"),
)  # fmt: skip
add(
    "gemini, served on the priority tier", G, GEN, whole(answer(tokens(promptToken=5, candidatesToken=6, totalToken=11))),
    JSON, says("google", (5, 6), model="gemini-x-001", service_tier="priority", **C1),
    headers={"x-gemini-service-tier": "priority"},
)  # fmt: skip
add(
    "gemini, total that does not add up", G, GEN, whole(answer(tokens(promptToken=5, candidatesToken=6, totalToken=99))), JSON,
    says("google", (5, 6), model="gemini-x-001", mismatch=True, **C1),
)  # fmt: skip
add(
    "gemini error in a stream", G, GEN_STREAM, sse({"error": {"code": 503, "status": "UNAVAILABLE"}}, end="\r\n"), SSE, (),
)  # fmt: skip
add(
    "gemini embeddings without usage", G, "/v1beta/models/gemini-embedding-001:batchEmbedContents",
    whole({"embeddings": [{"values": [0.1] * 3000}]}), JSON,
    says("google", None, model="gemini-embedding-001", operation="embeddings"),
)  # fmt: skip
add(
    "gemini embeddings with usage", G, "/v1beta/models/gemini-embedding-2:embedContent",
    whole({
        "embedding": {"values": [0.1] * 3000},
        "usageMetadata": {"promptTokenCount": 7, "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 3}]},
    }), JSON,
    says("google", (7, 0), model="gemini-embedding-2", input_image_tokens=3, operation="embeddings"),
)  # fmt: skip
add(
    "vertex text embeddings", "us-central1-aiplatform.googleapis.com",
    "/v1/projects/p/locations/us-central1/publishers/google/models/text-embedding-005:predict",
    whole({
        "predictions": [{"embeddings": {"values": [0.1], "statistics": {"token_count": n, "truncated": False}}} for n in (4, 5)],
        "metadata": {"billableCharacterCount": 33},
    }), JSON,
    says("vertex", (9, 0), model="text-embedding-005", characters=33, operation="embeddings", region="us-central1"),
)  # fmt: skip
