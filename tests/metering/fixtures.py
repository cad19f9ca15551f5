"""Responses of every format and provider, written by hand from the providers' documents, with what each bills.

`expected` names the fields of `Reading` and `Usage` that differ from their defaults: nothing else may be set.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from aicostguard.metering import Endpoint, Meter, recognise
from aicostguard.usage import Reading, Usage

JSON, SSE, AWS = "application/json", "text/event-stream; charset=utf-8", "application/vnd.amazon.eventstream"


class Fixture(NamedTuple):
    name: str
    host: str
    path: str
    body: bytes
    content_type: str
    expected: Tuple[Dict[str, Any], ...]
    request: Optional[Dict[str, Any]] = None
    headers: Dict[str, str] = {}
    method: str = "POST"
    #: True when the terminal event is in the stream
    done: bool = False

    def endpoint(self) -> Endpoint:
        found = recognise(self.method, self.host, 443, self.path)
        assert isinstance(found, Endpoint), (self.name, found)
        return found

    def request_body(self) -> Optional[bytes]:
        return None if self.request is None else json.dumps(self.request).encode()

    def meter(self) -> Meter:
        return Meter(self.endpoint(), 200, self.content_type, self.request_body, self.headers.get)

    def read(self, *pieces: bytes, complete: bool = True) -> List[Reading]:
        meter = self.meter()
        for piece in pieces or (self.body,):
            meter.feed(piece)
        return meter.finish(complete)


def told(reading: Reading) -> Dict[str, Any]:
    """The fields of a reading that say something, flat."""
    said = {name: value for name, value in reading._asdict().items() if value is not None and value is not False}
    usage = said.pop("usage", None)
    if usage is not None:
        said.update({name: value for name, value in usage._asdict().items() if value is not None})
    elif reading.usage is None:
        said["no_usage"] = True
    return said


def sse(*events: Any, done: bool = False, names: bool = False, end: str = "\n") -> bytes:
    blocks = []
    for event in events:
        if isinstance(event, str):
            blocks.append(event + end + end)
            continue
        text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        head = "event: %s%s" % (event["type"], end) if names else ""
        blocks.append("%sdata: %s%s%s" % (head, text, end, end))
    if done:
        blocks.append("data: [DONE]" + end + end)
    return "".join(blocks).encode()


def whole(body: Any, indent: Optional[int] = None) -> bytes:
    return json.dumps(body, indent=indent, ensure_ascii=False).encode()


def aws(*payloads: bytes) -> bytes:
    out = []
    for payload in payloads:
        headers = b""
        for name, value in ((b":event-type", b"chunk"), (b":message-type", b"event")):
            headers += bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
        total = 12 + len(headers) + len(payload) + 4
        out.append(struct.pack(">III", total, len(headers), 0) + headers + payload + b"\0\0\0\0")
    return b"".join(out)


def bedrock(*events: Any) -> bytes:
    return aws(*(whole({"bytes": base64.b64encode(whole(event)).decode(), "p": "abc"}) for event in events))


def chat(usage: Any = None, model: str = "m-1", **more: Any) -> Dict[str, Any]:
    body: Dict[str, Any] = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": 'a "usage" of words'}, "finish_reason": "stop"}
        ],
    }
    if usage is not None:
        body["usage"] = usage
    return {**body, **more}


def chunk(text: Optional[str] = "word", model: str = "m-1", **more: Any) -> Dict[str, Any]:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, **more}


def counts(prompt: int, completion: int, total: Optional[int] = None, **more: Any) -> Dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion if total is None else total,
        **more,
    }


def says(
    provider: str, tokens: Optional[Tuple[int, int]], model: str = "m-1", **more: Any
) -> Tuple[Dict[str, Any], ...]:
    said: Dict[str, Any] = {"provider": provider, "model": model}
    if tokens is None:
        said["no_usage"] = True
    else:
        said["input_tokens"], said["output_tokens"] = tokens
    said.update(more)
    return ({name: value for name, value in said.items() if value is not None},)


def usage(reading: Reading) -> Usage:
    assert reading.usage is not None
    return reading.usage


FIXTURES: List[Fixture] = []


def add(*args: Any, **kwargs: Any) -> None:
    FIXTURES.append(Fixture(*args, **kwargs))


C1 = {"response_id": "c1"}
CHAT = "/v1/chat/completions"

# --- OpenAI chat completions -----------------------------------------------------------------------------------
OPENAI_DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 12, "cache_write_tokens": 64},
    "completion_tokens_details": {
        "reasoning_tokens": 192,
        "audio_tokens": 3,
        "accepted_prediction_tokens": 9,
        "rejected_prediction_tokens": 8,
    },
}
OPENAI_SAID = {
    "cache_read_input_tokens": 1024,
    "cache_creation_input_tokens": 64,
    "input_audio_tokens": 12,
    "reasoning_output_tokens": 192,
    "output_audio_tokens": 3,
}
add(
    "openai chat", "api.openai.com", CHAT,
    whole(chat(counts(1500, 300, **OPENAI_DETAILS), service_tier="default"), indent=2), JSON,
    says("openai", (1500, 300), **OPENAI_SAID, **C1),
)  # fmt: skip
add(
    "openai chat stream, usage last", "api.openai.com", CHAT,
    sse(chunk("", usage=None), chunk("a", usage=None), chunk(None, usage=counts(11, 7), service_tier="flex"), done=True),
    SSE, says("openai", (11, 7), streamed=True, service_tier="flex", **C1), done=True,
)  # fmt: skip
add(
    "openai chat stream without usage", "api.openai.com", CHAT, sse(chunk(""), chunk("a"), done=True), SSE,
    says("openai", None, streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "openai chat stream, explicit zero", "api.openai.com", CHAT,
    sse(chunk("a"), chunk(None, usage=counts(4, 0)), done=True), "",
    says("openai", (4, 0), streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "openai chat, region", "eu.api.openai.com", CHAT, whole(chat(counts(2, 3))), JSON,
    says("openai", (2, 3), region="eu", **C1),
)  # fmt: skip
TOOL = {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"usage":{"prompt_tokens":999999}}'}}
add(
    "openai chat, usage in tool arguments", "api.openai.com", CHAT,
    whole(chat(counts(5, 6), choices=[{"index": 0, "message": {"content": None, "tool_calls": [TOOL] * 40}}])), JSON,
    says("openai", (5, 6), **C1),
)  # fmt: skip
add(
    "openai chat stream, usage in tool arguments", "api.openai.com", CHAT,
    sse(
        chunk(
            "x",
            choices=[{"index": 0, "delta": {"tool_calls": [{"function": {"arguments": '"prompt_tokens":1}}'}}]}}],
        ),
        chunk("usage"),
        chunk('{"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'),
        done=True,
    ),
    SSE, says("openai", None, streamed=True, **C1), done=True,
)  # fmt: skip
# --- Azure -----------------------------------------------------------------------------------------------------
AZURE = "/openai/deployments/my%20deployment/chat/completions"
add(
    "azure chat stream, first chunk empty", "acme.openai.azure.com", AZURE,
    sse(
        chunk(None, model="", prompt_filter_results=[{"prompt_index": 0}]),
        chunk("a", model="gpt-4o-2024-08-06"),
        chunk(None, model="gpt-4o-2024-08-06", usage=counts(20, 2)),
        done=True,
    ),
    SSE, says("azure", (20, 2), model="gpt-4o-2024-08-06", streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "azure chat stream without usage", "acme.openai.azure.com", AZURE,
    sse(chunk(None, model=""), chunk("a", model="gpt-4o-2024-08-06"), done=True),
    SSE, says("azure", None, model="gpt-4o-2024-08-06", streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "azure chat, no model anywhere but in the url", "acme.openai.azure.com", AZURE,
    whole(chat(counts(2, 3), model="")), JSON, says("azure", (2, 3), model="my deployment", **C1),
)  # fmt: skip
add(
    "azure error in a 200", "acme.openai.azure.com", AZURE,
    whole({"error": {"message": "filtered", "code": "content_filter", "status": 400}}), JSON, (),
)  # fmt: skip
add(
    "azure anthropic", "acme.services.ai.azure.com", "/anthropic/v1/messages",
    whole({"type": "message", "id": "c1", "model": "m-1", "content": [], "usage": {"input_tokens": 3, "output_tokens": 4}}),
    JSON, says("azure", (3, 4), **C1),
)  # fmt: skip
# --- OpenAI-compatible providers: one row in the table, one fixture here ------------------------------------------
add(
    "groq chat", "api.groq.com", "/openai/v1/chat/completions",
    whole(chat(counts(18, 73, queue_time=0.28, prompt_time=0.002), x_groq={"id": "r"}, service_tier="on_demand")), JSON,
    says("groq", (18, 73), **C1),
)  # fmt: skip
add(
    "groq chat stream, x_groq", "api.groq.com", "/openai/v1/chat/completions",
    sse(
        chunk("", x_groq={"id": "r"}),
        chunk("a"),
        chunk("", x_groq={"id": "r", "usage": counts(18, 73, total_time=0.06)}),
        done=True,
    ),
    SSE, says("groq", (18, 73), streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "groq error in a stream", "api.groq.com", "/openai/v1/chat/completions",
    sse('event: error\ndata: {"error":{"message":"no","type":"invalid_request_error"}}', done=True), SSE, (), done=True,
)  # fmt: skip
add(
    "groq compound, two models", "api.groq.com", "/openai/v1/chat/completions",
    whole(chat(
        counts(30, 12), model="groq/compound",
        usage_breakdown={"models": [{"model": "a", "usage": counts(10, 4)}, {"model": "b", "usage": counts(20, 8)}]},
    )), JSON,
    (*says("groq", (10, 4), model="a", **C1), *says("groq", (20, 8), model="b", **C1)),
)  # fmt: skip
add(
    "xai chat, reasoning beyond completion", "api.x.ai", CHAT,
    whole(chat(counts(
        32, 9, total=135, prompt_tokens_details={"text_tokens": 32, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 6},
        completion_tokens_details={"reasoning_tokens": 94}, num_sources_used=2, cost_in_usd_ticks=37756000,
    ))), JSON,
    says(
        "xai", (32, 103), cache_read_input_tokens=6, reasoning_output_tokens=94, input_audio_tokens=0,
        input_image_tokens=0, search_units=2, reported_cost_nanousd=3775600, **C1,
    ),
)  # fmt: skip
add(
    "xai chat stream, usage in every chunk", "api.x.ai", CHAT,
    sse(
        *(chunk("a", usage=counts(32, n, total=32 + n + 5, completion_tokens_details={"reasoning_tokens": 5})) for n in (1, 2, 3)),
        done=True,
    ),
    SSE, says("xai", (32, 8), reasoning_output_tokens=5, streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "xai responses", "us-east-1.api.x.ai", "/v1/responses",
    whole({
        "id": "c1", "object": "response", "status": "completed", "model": "m-1", "output": [],
        "usage": {
            "input_tokens": 100, "output_tokens": 50, "total_tokens": 150, "cost_in_usd_ticks": 5,
            "server_side_tool_usage_details": {"web_search_calls": 3, "x_search_calls": 0},
        },
    }), JSON, says("xai", (100, 50), web_searches=3, reported_cost_nanousd=1, **C1),
)  # fmt: skip
add(
    "together chat stream, usage beside choices", "api.together.xyz", CHAT,
    sse(chunk("a", usage=None), chunk("b", usage=counts(9, 2, cached_tokens=4)), done=True),
    SSE, says("together", (9, 2), cache_read_input_tokens=4, streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "fireworks chat stream, usage beside choices", "api.fireworks.ai", "/inference/v1/chat/completions",
    sse(chunk("a"), chunk("", usage=counts(9, 2, prompt_tokens_details={"cached_tokens": 8})), done=True, end="\r\n"),
    SSE, says("fireworks", (9, 2), cache_read_input_tokens=8, streamed=True, **C1), done=True,
)  # fmt: skip
COST = {"input_tokens_cost": 1e-05, "output_tokens_cost": 0.000123, "request_cost": 0.005, "total_cost": 0.005133}
add(
    "perplexity chat", "api.perplexity.ai", "/chat/completions",
    whole(chat(counts(14, 70, search_context_size="low", cost=COST), citations=["x"])), JSON,
    says("perplexity", (14, 70), reported_cost_nanousd=5133000, **C1),
)  # fmt: skip
add(
    "perplexity chat stream, zero cost until the end", "api.perplexity.ai", "/chat/completions",
    sse(
        chunk("a", usage=counts(14, 1, cost={"total_cost": 0})),
        chunk("b", usage=counts(14, 2, cost={"total_cost": 0.0051})),
    ),
    SSE, says("perplexity", (14, 2), reported_cost_nanousd=5100000, streamed=True, **C1),
)  # fmt: skip
add(
    "perplexity deep research", "api.perplexity.ai", "/chat/completions",
    whole(chat(counts(33, 7163, citation_tokens=20016, num_search_queries=78, reasoning_tokens=73997))), JSON,
    says("perplexity", (20049, 81160), reasoning_output_tokens=73997, web_searches=78, **C1),
)  # fmt: skip
add(
    "perplexity agent", "api.perplexity.ai", "/v1/responses",
    whole({
        "id": "c1", "object": "response", "status": "completed", "model": "m-1", "output": [],
        "usage": {
            "input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
            "input_tokens_details": {"cache_read_input_tokens": 40, "cache_creation_input_tokens": 0},
            "tool_calls_details": {"web_search": {"invocation": 2}, "fetch_url": {"invocation": 1}},
            "cost": {"currency": "USD", "total_cost": 0.0123},
        },
    }), JSON,
    says(
        "perplexity", (100, 50), cache_read_input_tokens=40, cache_creation_input_tokens=0, web_searches=2,
        tool_calls_billed=1, reported_cost_nanousd=12300000, **C1,
    ),
)  # fmt: skip
add(
    "deepseek chat", "api.deepseek.com", "/chat/completions",
    whole(chat(counts(
        100, 30, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36, completion_tokens_details={"reasoning_tokens": 20},
    ))), JSON, says("deepseek", (100, 30), cache_read_input_tokens=64, reasoning_output_tokens=20, **C1),
)  # fmt: skip
add(
    "deepseek chat stream with keep-alive comments", "api.deepseek.com", "/beta/chat/completions",
    sse(": keep-alive", ": keep-alive", ": keep-alive", chunk("a", usage=None), chunk("", usage=counts(7, 3)), done=True),
    SSE, says("deepseek", (7, 3), streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "openrouter chat", "openrouter.ai", "/api/v1/chat/completions",
    whole(chat(counts(
        194, 2, cost=0.00095, is_byok=False, prompt_tokens_details={"cached_tokens": 0, "cache_write_tokens": 100},
        cost_details={"upstream_inference_cost": None}, server_tool_use_details={"web_search_requests": 1},
    ), model="anthropic/m-1", provider="Anthropic")), JSON,
    says(
        "openrouter", (194, 2), model="anthropic/m-1", cache_read_input_tokens=0, cache_creation_input_tokens=100,
        web_searches=1, reported_cost_nanousd=950000, **C1,
    ),
)  # fmt: skip
add(
    "openrouter with the user's key", "openrouter.ai", "/api/v1/chat/completions",
    whole(chat(counts(10, 2, cost=0.0000475, is_byok=True, cost_details={"upstream_inference_cost": 0.00095}))), JSON,
    says("openrouter", (10, 2), reported_cost_nanousd=997500, **C1),
)  # fmt: skip
add(
    "vercel chat stream", "ai-gateway.vercel.sh", CHAT,
    sse(chunk("a", model="openai/m-1"), chunk(None, model="openai/m-1", usage=counts(3, 1)), done=True), SSE,
    says("vercel", (3, 1), model="openai/m-1", streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "cerebras chat stream", "api.cerebras.ai", CHAT,
    sse(chunk("a"), chunk("", usage=counts(8, 5, prompt_tokens_details={"cached_tokens": 0}), time_info={"queue_time": 0.1})),
    SSE, says("cerebras", (8, 5), cache_read_input_tokens=0, streamed=True, **C1),
)  # fmt: skip
add(
    "mistral chat", "api.mistral.ai", CHAT,
    whole(chat(counts(8, 5, prompt_audio_seconds=12, num_cached_tokens=4, service_tier="priority"))), JSON,
    says("mistral", (8, 5), audio_ms=12000, cache_read_input_tokens=4, service_tier="priority", **C1),
)  # fmt: skip
add(
    "mistral chat stream", "api.mistral.ai", CHAT,
    sse(chunk("a"), chunk("b", usage=counts(8, 5, prompt_audio_seconds={})), done=True), SSE,
    says("mistral", (8, 5), streamed=True, **C1), done=True,
)  # fmt: skip
add(
    "mistral fill-in-the-middle", "codestral.mistral.ai", "/v1/fim/completions", whole(chat(counts(8, 5))), JSON,
    says("mistral", (8, 5), **C1),
)  # fmt: skip
add(
    "cohere, compatible path", "api.cohere.ai", "/compatibility/v1/chat/completions", whole(chat(counts(8, 5))), JSON,
    says("cohere", (8, 5), **C1),
)  # fmt: skip
add(
    "hugging face router", "router.huggingface.co", CHAT, whole(chat(counts(8, 5))), JSON,
    says("huggingface", (8, 5), **C1),
)  # fmt: skip
add("z.ai", "api.z.ai", "/api/paas/v4/chat/completions", whole(chat(counts(8, 5))), JSON, says("zai", (8, 5), **C1))
add(
    "dashscope, compatible path", "dashscope-intl.aliyuncs.com", "/compatible-mode/v1/chat/completions",
    whole(chat(counts(8, 5, prompt_tokens_details={"cached_tokens": 2}))), JSON,
    says("dashscope", (8, 5), cache_read_input_tokens=2, **C1),
)  # fmt: skip
add("ai21", "api.ai21.com", "/studio/v1/chat/completions", whole(chat(counts(8, 5))), JSON, says("ai21", (8, 5), **C1))
add(
    "gemini through its OpenAI path, thinking only in the total", "generativelanguage.googleapis.com",
    "/v1beta/openai/chat/completions", whole(chat(counts(20, 198, total=623))), JSON,
    says("google", (20, 603), reasoning_output_tokens=405, **C1),
)  # fmt: skip
add(
    "vertex through its OpenAI path", "us-east5-aiplatform.googleapis.com",
    "/v1/projects/p/locations/us-east5/endpoints/openapi/chat/completions", whole(chat(counts(20, 8))), JSON,
    says("vertex", (20, 8), **C1),
)  # fmt: skip
add(
    "bedrock through its OpenAI path", "bedrock-runtime.us-west-2.amazonaws.com", "/openai/v1/chat/completions",
    whole(chat(counts(20, 8))), JSON, says("bedrock", (20, 8), region="us-west-2", **C1),
)  # fmt: skip
# --- completions and embeddings ------------------------------------------------------------------------------------
TEXT = {"id": "c1", "object": "text_completion", "model": "m-1", "choices": [{"text": "a", "index": 0}]}
add(
    "openai completion", "api.openai.com", "/v1/completions", whole({**TEXT, "usage": counts(4, 2)}), JSON,
    says("openai", (4, 2), **C1),
)  # fmt: skip
add(
    "openai completion stream", "api.openai.com", "/v1/completions",
    sse(TEXT, TEXT, {**TEXT, "choices": [], "usage": counts(4, 2)}, done=True), SSE,
    says("openai", (4, 2), streamed=True, **C1), done=True,
)  # fmt: skip
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.0123456789] * 300}
add(
    "openai embeddings", "api.openai.com", "/v1/embeddings",
    whole({"object": "list", "data": [VECTOR] * 3, "model": "m-1", "usage": {"prompt_tokens": 8, "total_tokens": 8}}),
    JSON, says("openai", (8, 0), operation="embeddings"),
)  # fmt: skip
add(
    "mistral embeddings", "api.mistral.ai", "/v1/embeddings",
    whole({"id": "c1", "object": "list", "data": [VECTOR], "model": "m-1", "usage": counts(8, 0)}), JSON,
    says("mistral", (8, 0), operation="embeddings"),
)  # fmt: skip
# --- OpenAI Responses ------------------------------------------------------------------------------------------------
RESPONSE = {"id": "c1", "object": "response", "status": "completed", "error": None, "model": "m-1", "output": []}
R_USAGE = {
    "input_tokens": 310, "input_tokens_details": {"cached_tokens": 256, "cache_write_tokens": 5},
    "output_tokens": 290, "output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 600,
}  # fmt: skip
R_SAID = {"cache_read_input_tokens": 256, "cache_creation_input_tokens": 5, "reasoning_output_tokens": 64, **C1}
add(
    "openai response", "api.openai.com", "/v1/responses",
    whole({**RESPONSE, "instructions": "x" * 3000, "usage": R_USAGE, "user": None, "metadata": {}}, indent=1), JSON,
    says("openai", (310, 290), **R_SAID),
)  # fmt: skip
SEARCHES = [
    {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "u"}},
    {"type": "web_search_call", "status": "completed"},
    {"type": "file_search_call", "status": "completed"},
    {"type": "message", "content": [{"type": "output_text", "text": '"web_search_call"'}]},
]
add(
    "openai response with searches", "api.openai.com", "/v1/responses",
    whole({**RESPONSE, "output": SEARCHES, "service_tier": "priority", "usage": R_USAGE}), JSON,
    says("openai", (310, 290), web_searches=2, tool_calls_billed=1, service_tier="priority", **R_SAID),
)  # fmt: skip
add(
    "openai response with an image", "api.openai.com", "/v1/responses",
    whole({
        **RESPONSE,
        "tools": [{"type": "image_generation", "model": "gpt-image-1"}],
        "tool_usage": {
            "image_gen": {
                "input_tokens": 40, "output_tokens": 1056, "total_tokens": 1096,
                "input_tokens_details": {"image_tokens": 10, "text_tokens": 30},
                "output_tokens_details": {"image_tokens": 1056, "text_tokens": 0},
            },
            "web_search": {"num_requests": 0},
        },
        "usage": R_USAGE,
    }), JSON,
    (
        *says("openai", (310, 290), web_searches=0, **R_SAID),
        *says("openai", (40, 1056), model="gpt-image-1", operation="image", input_image_tokens=10,
              output_image_tokens=1056, **C1),
    ),
)  # fmt: skip
add(
    "openai response stream", "api.openai.com", "/v1/responses",
    sse(
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "usage": None}},
        {"type": "response.output_text.delta", "delta": '"response":{"usage":{"input_tokens":7}}'},
        {"type": "response.completed", "response": {**RESPONSE, "usage": R_USAGE}},
        names=True,
    ),
    SSE, says("openai", (310, 290), streamed=True, **R_SAID), done=True,
)  # fmt: skip
add(
    "openai response stream, incomplete", "api.openai.com", "/v1/responses",
    sse(
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "usage": None}},
        {"type": "response.incomplete", "response": {**RESPONSE, "status": "incomplete", "usage": R_USAGE}},
        names=True,
    ),
    SSE, says("openai", (310, 290), streamed=True, **R_SAID), done=True,
)  # fmt: skip
add(
    "openai response stream, failed", "api.openai.com", "/v1/responses",
    sse(
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "usage": None}},
        {"type": "response.failed", "response": {**RESPONSE, "status": "failed", "error": {"code": "x"}, "usage": None}},
        names=True,
    ),
    SSE, (), done=True,
)  # fmt: skip
add(
    "openai response, queued in the background", "api.openai.com", "/v1/responses",
    whole({**RESPONSE, "status": "queued", "background": True, "usage": None}), JSON,
    says("openai", None, pending=True, **C1),
)  # fmt: skip
add(
    "openai response fetched, not finished", "api.openai.com", "/v1/responses/c1",
    whole({**RESPONSE, "status": "in_progress", "usage": None}), JSON, says("openai", None, pending=True, **C1),
    method="GET",
)  # fmt: skip
add(
    "openai response fetched, finished", "api.openai.com", "/v1/responses/c1", whole({**RESPONSE, "usage": R_USAGE}), JSON,
    says("openai", (310, 290), **R_SAID), method="GET",
)  # fmt: skip
add(
    "openai response cancelled before a token", "api.openai.com", "/v1/responses/c1/cancel",
    whole({**RESPONSE, "status": "cancelled", "usage": None}), JSON, (),
)  # fmt: skip
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
INVOKE = "/model/us.anthropic.claude-x-v1%3A0/invoke"
BEDROCK = "bedrock-runtime.eu-west-1.amazonaws.com"
METRICS = {"inputTokenCount": 5, "outputTokenCount": 6, "invocationLatency": 900, "firstByteLatency": 300}
add(
    "anthropic on bedrock", BEDROCK, INVOKE, whole({**MESSAGE, "usage": A_USAGE}), JSON,
    says("bedrock", (12307, 550), region="eu-west-1", **A_SAID),
)  # fmt: skip
add(
    "anthropic on bedrock, usage only in headers", BEDROCK, INVOKE, whole({"completion": "a", "stop_reason": "stop"}), JSON,
    says("bedrock", (5, 6), model="us.anthropic.claude-x-v1:0", region="eu-west-1"),
    headers={"x-amzn-bedrock-input-token-count": "5", "x-amzn-bedrock-output-token-count": "6"},
)  # fmt: skip
add(
    "anthropic on bedrock, stream", BEDROCK, INVOKE + "-with-response-stream",
    bedrock(*STREAM[:-1], {"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS}), AWS,
    says("bedrock", (12307, 550), region="eu-west-1", streamed=True, **A_SAID), done=True,
)  # fmt: skip
add(
    "anthropic on bedrock, stream with metrics only", BEDROCK, INVOKE + "-with-response-stream",
    bedrock({"completion": "a"}, {"completion": "b"}, {"completion": "", "amazon-bedrock-invocationMetrics": METRICS}), AWS,
    says("bedrock", (5, 6), model="us.anthropic.claude-x-v1:0", region="eu-west-1", streamed=True),
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

BY_NAME: Dict[str, Fixture] = {fixture.name: fixture for fixture in FIXTURES}
Mutate = Callable[[bytes], bytes]
