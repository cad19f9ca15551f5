# ruff: noqa: E501
"""Responses in OpenAI's shapes, written by hand from the providers' documents, with what each bills."""

from __future__ import annotations

from tests.metering.building import C1, JSON, SSE, add, chat, chunk, counts, says, sse, void, whole

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
# --- OpenAI-compatible providers that differ in something; those that do not: `fixtures_hosts` ---------------------
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
    sse(chunk("a", usage=None), chunk("b", usage=counts(9, 2)), done=True),
    SSE, says("together", (9, 2), streamed=True, **C1), done=True,
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
    whole(chat(counts(8, 5, prompt_audio_seconds=12, service_tier="priority"))), JSON,
    says("mistral", (8, 5), audio_ms=12000, service_tier="priority", **C1),
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
add(
    "anthropic through its OpenAI path", "api.anthropic.com", CHAT, whole(chat(counts(9, 2, cached_tokens=4))), JSON,
    says("anthropic", (9, 2), cache_read_input_tokens=4, **C1),
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
    whole({**RESPONSE, "status": "cancelled", "usage": None}), JSON, void("openai", "c1"),
)  # fmt: skip
