# ruff: noqa: E501
"""Work that is begun by one request and fetched by others: batches, runs, interactions; written from the documents."""

from __future__ import annotations

import json
from typing import Any, Dict

from tests.metering.building import JSON, SSE, add, chat, counts, says, sse, void, whole

GOOGLE = "generativelanguage.googleapis.com"
JSONL = "application/x-jsonl"


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# --- Anthropic: https://platform.claude.com/docs/en/build-with-claude/batch-processing --------------------------
def claude(custom: str, model: str, tokens: Dict[str, int]) -> Dict[str, Any]:
    message = {
        "id": "msg_" + custom,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": '{"usage": {"input_tokens": 9999}}'}],
    }
    return {
        "custom_id": custom,
        "result": {"type": "succeeded", "message": {**message, "usage": {**tokens, "service_tier": "batch"}}},
    }


CLAUDE_ID = {"response_id": "msgbatch_1"}
RESULTS = "/v1/messages/batches/msgbatch_1/results"
add(
    "claude batch, by model and by size", "api.anthropic.com", RESULTS,
    lines(
        claude("a", "claude-sonnet-4-6", {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 90}),
        {"custom_id": "b", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}}},
        claude("c", "claude-opus-4-6", {"input_tokens": 7, "output_tokens": 3}),
        {"custom_id": "d", "result": {"type": "expired"}},
        claude("e", "claude-sonnet-4-6", {"input_tokens": 20, "output_tokens": 6}),
        claude("f", "claude-sonnet-4-6", {"input_tokens": 250_000, "output_tokens": 1}),
    ),
    JSONL,
    (
        *says("anthropic", (120, 11), "claude-sonnet-4-6", operation="batch", cache_read_input_tokens=90, requests_billed=2, **CLAUDE_ID),
        *says("anthropic", (7, 3), "claude-opus-4-6", operation="batch", **CLAUDE_ID),
        *says("anthropic", (250_000, 1), "claude-sonnet-4-6", operation="batch", **CLAUDE_ID),
    ),
    method="GET",
)  # fmt: skip
add(
    "claude batch, nothing succeeded",
    "api.anthropic.com",
    RESULTS,
    lines({"custom_id": "d", "result": {"type": "canceled"}}),
    JSONL,
    (),
    method="GET",
)

# --- OpenAI: https://developers.openai.com/api/reference/resources/batch ----------------------------------------
CONTENT = "/v1/files/file-1/content"
FILE = {"response_id": "file-1"}


def result(custom: str, body: Any, status: int = 200) -> Dict[str, Any]:
    return {
        "id": "batch_req_" + custom,
        "custom_id": custom,
        "response": {"status_code": status, "request_id": "r", "body": body},
        "error": None,
    }


VECTORS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.0123456] * 1536}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5",
    "output": [],
    "usage": {
        "input_tokens": 11,
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    },
}
add(
    "openai batch, four endpoints", "api.openai.com", CONTENT,
    lines(
        result("1", chat(counts(10, 5), model="gpt-4o")), result("2", chat(counts(30, 6), model="gpt-4o", service_tier="default")),
        result("3", {"error": {"message": "no"}}, 400), result("4", VECTORS), result("5", VECTORS), result("6", RESPONSE),
        result("7", {"id": "modr-1", "model": "omni-moderation-latest", "results": [{"flagged": False}]}),
    ),
    "application/octet-stream",
    (
        *says("openai", (40, 11), "gpt-4o", operation="batch", requests_billed=2, **FILE),
        *says("openai", (16, 0), "text-embedding-3-small", operation="batch", requests_billed=2, **FILE),
        *says("openai", (11, 4), "gpt-5", operation="batch", reasoning_output_tokens=2, **FILE),
    ),
    method="GET",
)  # fmt: skip
add(
    "openai file that is no batch's",
    "api.openai.com",
    CONTENT,
    b'%PDF-1.7\n\n{"custom_id": 1}\n' * 40,
    "application/pdf",
    (),
    method="GET",
)
add(
    "openai batch's own input", "api.openai.com", CONTENT,
    lines({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o", "usage": counts(5, 5)}}), JSONL, (), method="GET",
)  # fmt: skip
add(
    "mistral batch file", "api.mistral.ai", CONTENT,
    lines({"id": "b-1", "custom_id": "0", "response": {"status_code": 200, "body": chat(counts(3, 4), model="mistral-small-latest")}, "error": None}), JSONL,
    says("mistral", (3, 4), "mistral-small-latest", operation="batch", **FILE), method="GET",
)  # fmt: skip
add(
    "mistral batch job with its outputs", "api.mistral.ai", "/v1/batch/jobs/j-1",
    whole({"id": "j-1", "object": "batch", "status": "SUCCESS", "outputs": [result("0", chat(counts(3, 4), model="mistral-small-latest"))]}), JSON,
    says("mistral", (3, 4), "mistral-small-latest", operation="batch", response_id="j-1"), method="GET",
)  # fmt: skip
add("xai completion, put off", "api.x.ai", "/v1/chat/completions", whole({"request_id": "d1"}), JSON, ())
add(
    "xai completion, deferred and there", "api.x.ai", "/v1/chat/deferred-completion/d1", whole(chat(counts(5, 6), model="grok-4")), JSON,
    says("xai", (5, 6), "grok-4", response_id="c1"), method="GET",
)  # fmt: skip
add(
    "xai completion, deferred and not there",
    "api.x.ai",
    "/v1/chat/deferred-completion/d1",
    b"{}",
    JSON,
    (),
    method="GET",
)

# --- Gemini: https://ai.google.dev/gemini-api/docs/batch-api ----------------------------------------------------
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "x"}]}}],
    "modelVersion": "gemini-2.5-flash",
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 14},
}
GEMINI_SAID = {"operation": "batch", "reasoning_output_tokens": 4, "requests_billed": 2}
add(
    "gemini batch, answers inside", GOOGLE, "/v1beta/batches/b1",
    whole({"name": "batches/b1", "metadata": {"model": "models/gemini-2.5-flash", "state": "BATCH_STATE_SUCCEEDED"}, "done": True,
           "response": {"inlinedResponses": {"inlinedResponses": [{"response": GEMINI}, {"error": {"code": 3}}, {"response": GEMINI}]}}}), JSON,
    says("google", (18, 10), "gemini-2.5-flash", **GEMINI_SAID, response_id="b1"), method="GET",
)  # fmt: skip
add(
    "gemini batch, running", GOOGLE, "/v1beta/batches/b1", whole({"name": "batches/b1", "metadata": {"state": "BATCH_STATE_RUNNING"}}), JSON, (), method="GET",
)  # fmt: skip
add(
    "gemini batch, answers in a file", GOOGLE, "/download/v1beta/files/batch-b1:download",
    lines({"key": "1", "response": GEMINI}, {"key": "2", "error": {"code": 3}}, {"key": "3", "response": GEMINI}), "application/jsonl",
    says("google", (18, 10), "gemini-2.5-flash", **GEMINI_SAID, response_id="batch-b1"), method="GET",
)  # fmt: skip

# --- interactions: https://ai.google.dev/api/interactions-api ---------------------------------------------------
SPENT = {
    "total_tokens": 330, "total_input_tokens": 266, "total_cached_tokens": 100, "total_output_tokens": 3, "total_tool_use_tokens": 4, "total_thought_tokens": 57,
    "input_tokens_by_modality": [{"modality": "text", "tokens": 8}, {"modality": "image", "tokens": 258}],
    "grounding_tool_count": [{"type": "google_search", "count": 2}],
}  # fmt: skip
SPENT_SAID = {
    "cache_read_input_tokens": 100,
    "reasoning_output_tokens": 57,
    "input_image_tokens": 258,
    "web_searches": 2,
    "response_id": "v1_a",
}
DONE = {
    "id": "v1_a",
    "status": "completed",
    "usage": SPENT,
    "service_tier": "standard",
    "object": "interaction",
    "model": "gemini-2.5-flash",
}
add(
    "interaction",
    GOOGLE,
    "/v1beta/interactions",
    whole({**DONE, "steps": [{"type": "thought", "signature": "x" * 3000}]}),
    JSON,
    says("google", (270, 60), "gemini-2.5-flash", **SPENT_SAID),
)
add(
    "interaction stream", GOOGLE, "/v1beta/interactions",
    sse(
        "event: interaction.created\ndata: " + json.dumps({"interaction": {"id": "v1_a", "status": "in_progress", "model": "gemini-2.5-flash"}, "event_type": "interaction.created"}),
        "event: step.delta\ndata: " + json.dumps({"index": 0, "delta": {"text": '"usage"', "type": "text"}, "event_type": "step.delta"}),
        "event: interaction.completed\ndata: " + json.dumps({"interaction": {**DONE, "service_tier": "flex"}, "event_type": "interaction.completed"}, separators=(",", ":")),
        "event: done\ndata: [DONE]",
    ),
    SSE, says("google", (270, 60), "gemini-2.5-flash", streamed=True, service_tier="flex", **SPENT_SAID), done=True,
)  # fmt: skip
BACKGROUND = {"id": "v1_b", "status": "in_progress", "object": "interaction", "agent": "deep-research-pro"}
add(
    "interaction in the background", GOOGLE, "/v1beta/interactions", whole(BACKGROUND), JSON,
    says("google", None, "deep-research-pro", pending=True, response_id="v1_b"), request={"agent": "deep-research-pro", "background": True},
)  # fmt: skip
add(
    "interaction, polled", GOOGLE, "/v1beta/interactions/v1_b", whole({**BACKGROUND, "status": "completed", "usage": {"total_input_tokens": 5, "total_output_tokens": 6, "total_tokens": 11}}), JSON,
    says("google", (5, 6), "deep-research-pro", response_id="v1_b"), method="GET",
)  # fmt: skip
add(
    "interaction, failed",
    GOOGLE,
    "/v1beta/interactions/v1_b",
    whole({**BACKGROUND, "status": "failed"}),
    JSON,
    void("google", "v1_b"),
    method="GET",
)

# --- runs of assistants: https://developers.openai.com/api/reference/resources/beta/subresources/threads --------
RUN = {
    "id": "run_1",
    "object": "thread.run",
    "assistant_id": "asst_1",
    "thread_id": "thread_1",
    "model": "gpt-4o-mini",
    "usage": None,
}
RUNS = "/v1/threads/thread_1/runs"
SPENT_RUN = counts(
    381, 89, prompt_token_details={"cached_tokens": 128}, completion_tokens_details={"reasoning_tokens": 9}
)
RUN_SAID = {"response_id": "run_1", "cache_read_input_tokens": 128, "reasoning_output_tokens": 9}
add(
    "run, begun",
    "api.openai.com",
    RUNS,
    whole({**RUN, "status": "queued"}),
    JSON,
    says("openai", None, "gpt-4o-mini", pending=True, response_id="run_1"),
)
add(
    "run, waits for a tool",
    "api.openai.com",
    RUNS + "/run_1/submit_tool_outputs",
    whole({**RUN, "status": "queued"}),
    JSON,
    says("openai", None, "gpt-4o-mini", pending=True, response_id="run_1"),
)
add(
    "run, polled and done",
    "api.openai.com",
    RUNS + "/run_1",
    whole({**RUN, "status": "completed", "usage": SPENT_RUN}),
    JSON,
    says("openai", (381, 89), "gpt-4o-mini", **RUN_SAID),
    method="GET",
)
add(
    "run, expired",
    "api.openai.com",
    RUNS + "/run_1",
    whole({**RUN, "status": "expired"}),
    JSON,
    void("openai", "run_1"),
    method="GET",
)
add(
    "run stream", "api.openai.com", "/v1/threads/runs",
    sse(
        "event: thread.run.created\ndata: " + json.dumps({**RUN, "status": "queued"}, separators=(",", ":")),
        "event: thread.run.step.completed\ndata: " + json.dumps({"id": "step_1", "object": "thread.run.step", "status": "completed", "usage": counts(300, 80)}, separators=(",", ":")),
        "event: thread.run.completed\ndata: " + json.dumps({**RUN, "status": "completed", "usage": SPENT_RUN}, separators=(",", ":")),
        "event: done\ndata: [DONE]",
    ),
    SSE, says("openai", (381, 89), "gpt-4o-mini", streamed=True, **RUN_SAID), done=True,
)  # fmt: skip
add(
    "decision", "api.openai.com", "/v1/decisions", whole({"answers": [{"type": "choice", "choice": True}], "model": "gpt-5-mini", "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0}, "output_tokens": 1, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 21}}), JSON,
    says("openai", (20, 1), "gpt-5-mini", cache_read_input_tokens=4, cache_creation_input_tokens=0, reasoning_output_tokens=0),
)  # fmt: skip
add(
    "claude 2 completion", "api.anthropic.com", "/v1/complete", whole({"type": "completion", "id": "compl_1", "completion": "hi", "stop_reason": "stop_sequence", "model": "claude-2.1"}), JSON,
    says("anthropic", None, "claude-2.1", response_id="compl_1"),
)  # fmt: skip
CLAUDE2 = {"type": "completion", "id": "compl_1", "model": "claude-2.1"}
add(
    "claude 2 completion stream", "api.anthropic.com", "/v1/complete",
    sse({**CLAUDE2, "completion": "h", "stop_reason": None}, {"type": "ping"}, {**CLAUDE2, "completion": "", "stop_reason": "stop_sequence"}, names=True),
    SSE, says("anthropic", None, "claude-2.1", response_id="compl_1", streamed=True), done=True,
)  # fmt: skip

# --- taken away before it was finished: what it has cost cannot be asked for any more ------------------------------
add(
    "a response that is deleted", "api.openai.com", "/v1/responses/resp_1",
    whole({"id": "resp_1", "object": "response", "deleted": True}), JSON, says("openai", None, None, response_id="resp_1"),
    method="DELETE",
)  # fmt: skip
add(
    "an interaction that is deleted", GOOGLE, "/v1beta/interactions/v1_b", whole({}), JSON,
    says("google", None, None, response_id="v1_b"), method="DELETE",
)  # fmt: skip
