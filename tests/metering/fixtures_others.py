# ruff: noqa: E501
"""Responses of providers with formats of their own, written by hand from their documents, with what each bills."""

from __future__ import annotations

from typing import Any, Dict

from tests.metering.building import (
    AWS,
    C1,
    JSON,
    NDJSON,
    SSE,
    add,
    aws,
    chat,
    chunk,
    counts,
    lines,
    says,
    sse,
    void,
    whole,
)

ASKED = {"model": "m-1"}
WORDS = 'a "usage" of {"done":true} words'

# --- Cohere ------------------------------------------------------------------------------------------------------
COHERE = "api.cohere.com"
BILLED = {
    "billed_units": {"input_tokens": 12.0, "output_tokens": 47},
    "tokens": {"input_tokens": 212, "output_tokens": 50},
}
META = {"api_version": {"version": "1"}, **BILLED}
CHAT_V1 = {
    "response_id": "r",
    "text": WORDS,
    "generation_id": "g",
    "chat_history": [{"message": WORDS}],
    "finish_reason": "COMPLETE",
}
MESSAGE_V2 = {
    "id": "c1",
    "message": {"role": "assistant", "content": [{"type": "text", "text": WORDS}]},
    "finish_reason": "COMPLETE",
}
add("cohere chat v1", COHERE, "/v1/chat", whole({**CHAT_V1, "meta": META}), JSON, says("cohere", (12, 47)), ASKED)
add(
    "cohere generate",
    COHERE,
    "/v1/generate",
    whole({"id": "c1", "generations": [{"id": "x", "text": WORDS}], "meta": META}),
    JSON,
    says("cohere", (12, 47), **C1),
    ASKED,
)
add(
    "cohere chat v1 stream", COHERE, "/v1/chat",
    lines(
        {"is_finished": False, "event_type": "stream-start", "generation_id": "g"},
        {"is_finished": False, "event_type": "text-generation", "text": '"stream-end"'},
        {"is_finished": True, "event_type": "stream-end", "response": {**CHAT_V1, "meta": META}, "finish_reason": "COMPLETE"},
    ),
    "application/stream+json", says("cohere", (12, 47), streamed=True), ASKED, done=True,
)  # fmt: skip
add(
    "cohere chat v1 stream as events", COHERE, "/v1/chat",
    sse(
        {"event_type": "stream-start", "generation_id": "g", "is_finished": False},
        {"event_type": "stream-end", "response": {**CHAT_V1, "meta": META}, "is_finished": True},
    ),
    SSE, says("cohere", (12, 47), streamed=True), ASKED, done=True,
)  # fmt: skip
add(
    "cohere chat v2",
    COHERE,
    "/v2/chat",
    whole({**MESSAGE_V2, "usage": {**BILLED, "cached_tokens": 208}}),
    JSON,
    says("cohere", (12, 47), **C1),
    ASKED,
)
add(
    "cohere chat v2 without billed units",
    COHERE,
    "/v2/chat",
    whole({**MESSAGE_V2, "usage": {"tokens": BILLED["tokens"], "cached_tokens": 208}}),
    JSON,
    says("cohere", (212, 50), cache_read_input_tokens=208, **C1),
    ASKED,
)
add(
    "cohere chat v2 stream", COHERE, "/v2/chat",
    sse(
        {"id": "c1", "type": "message-start", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": '"message-end"'}}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": BILLED}},
        done=True, names=True,
    ),
    SSE, says("cohere", (12, 47), streamed=True, **C1), ASKED, done=True,
)  # fmt: skip
add(
    "cohere embed",
    COHERE,
    "/v2/embed",
    whole({"id": "c1", "embeddings": {"float": [[0.1] * 600]}, "meta": {"billed_units": {"input_tokens": 208}}}),
    JSON,
    says("cohere", (208, 0), operation="embeddings", **C1),
    ASKED,
)
add(
    "cohere embed of texts and images",
    COHERE,
    "/v2/embed",
    whole(
        {
            "id": "c1",
            "embeddings": {"float": [[0.1]]},
            "meta": {"billed_units": {"text_tokens": 8, "image_tokens": 90, "images": 1}},
        }
    ),
    JSON,
    says("cohere", (98, 0), operation="embeddings", input_image_tokens=90, images=1, **C1),
    ASKED,
)
add(
    "cohere rerank",
    COHERE,
    "/v2/rerank",
    whole(
        {"id": "c1", "results": [{"index": 1, "relevance_score": 0.7}], "meta": {"billed_units": {"search_units": 1}}}
    ),
    JSON,
    ({"provider": "cohere", "model": "m-1", "operation": "rerank", "search_units": 1, **C1},),
    ASKED,
)

# --- Ollama ------------------------------------------------------------------------------------------------------
OLLAMA = "ollama.com"
DONE = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 5,
    "load_duration": 1,
    "prompt_eval_count": 21,
    "prompt_eval_duration": 2,
    "eval_count": 889,
    "eval_duration": 2,
}
MODEL = {"model": "m-1", "created_at": "2026-08-07T06:08:14Z"}
add(
    "ollama chat",
    OLLAMA,
    "/api/chat",
    whole({**MODEL, "message": {"role": "assistant", "content": WORDS, "thinking": WORDS * 90}, **DONE}),
    JSON,
    says("ollama", (21, 889)),
)
add(
    "ollama generate",
    OLLAMA,
    "/api/generate",
    whole({**MODEL, "response": WORDS, "context": list(range(900)), **DONE}),
    JSON,
    says("ollama", (21, 889)),
)
add(
    "ollama chat stream", OLLAMA, "/api/chat",
    lines(
        {**MODEL, "message": {"role": "assistant", "content": WORDS}, "done": False},
        {**MODEL, "message": {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"done": True, "eval_count": 7}}}]}, "done": False},
        {**MODEL, "message": {"role": "assistant", "content": ""}, **DONE, "prompt_eval_cached_count": 20},
    ),
    NDJSON, says("ollama", (21, 889), streamed=True, cache_read_input_tokens=20), done=True,
)  # fmt: skip
add(
    "ollama generate stream, the prompt was cached", OLLAMA, "/api/generate",
    lines({**MODEL, "response": "a", "done": False}, {**MODEL, "response": "", "done": True, "eval_count": 3}, end="\r\n"), NDJSON,
    ({"provider": "ollama", "model": "m-1", "output_tokens": 3, "streamed": True},), done=True,
)  # fmt: skip
add(
    "ollama loads a model",
    OLLAMA,
    "/api/generate",
    whole({**MODEL, "response": "", "done": True, "done_reason": "load"}),
    JSON,
    (),
)
add("ollama error in a stream", OLLAMA, "/api/chat", lines({"error": "out of memory"}, {"error": "again"}), NDJSON, ())
add(
    "ollama embed",
    OLLAMA,
    "/api/embed",
    whole(
        {"model": "m-1", "embeddings": [[0.1] * 700], "total_duration": 14, "load_duration": 1, "prompt_eval_count": 8}
    ),
    JSON,
    says("ollama", (8, 0), operation="embeddings"),
)
add(
    "ollama embeddings, the older path",
    OLLAMA,
    "/api/embeddings",
    whole({"embedding": [0.1] * 700}),
    JSON,
    says("ollama", None, operation="embeddings"),
    ASKED,
)
add("ollama as openai", OLLAMA, "/v1/chat/completions", whole(chat(counts(5, 6))), JSON, says("ollama", (5, 6), **C1))

# --- Hugging Face ------------------------------------------------------------------------------------------------
DEDICATED = "abc.eu-west-1.aws.endpoints.huggingface.cloud"
DETAILS: Dict[str, Any] = {
    "finish_reason": "eos_token",
    "generated_tokens": 75,
    "seed": 1,
    "prefill": [],
    "tokens": [{"id": 13, "text": WORDS, "logprob": -0.1, "special": False}],
}
add(
    "tgi answers",
    DEDICATED,
    "/",
    whole([{"generated_text": WORDS, "details": DETAILS}]),
    JSON,
    ({"provider": "huggingface", "output_tokens": 75, "region": "eu-west-1"},),
)
add(
    "tgi answer with prefill and two sequences", DEDICATED, "/generate",
    whole({"generated_text": WORDS, "details": {**DETAILS, "prefill": [{"id": 1, "text": "a"}] * 9, "best_of_sequences": [{"generated_text": "b", "generated_tokens": 5}]}}), JSON,
    ({"provider": "huggingface", "input_tokens": 9, "output_tokens": 80, "region": "eu-west-1"},),
)  # fmt: skip
add(
    "tgi answer without details",
    "api-inference.huggingface.co",
    "/models/org/m-1",
    whole([{"generated_text": WORDS}]),
    JSON,
    says("huggingface", None, "org/m-1"),
)
add(
    "tgi stream", DEDICATED, "/generate_stream",
    sse(
        {"index": 1, "token": {"id": 1, "text": '"generated_tokens"', "special": False}, "generated_text": None, "details": None},
        {"index": 2, "token": {"id": 2, "text": "b"}, "generated_text": WORDS, "details": {"finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 7}},
    ),
    SSE, ({"provider": "huggingface", "input_tokens": 7, "output_tokens": 2, "streamed": True, "region": "eu-west-1"},), done=True,
)  # fmt: skip
add(
    "tgi error in a stream",
    DEDICATED,
    "/generate_stream",
    sse({"error": "overloaded", "error_type": "overloaded"}),
    SSE,
    (),
)
add(
    "huggingface vectors",
    "router.huggingface.co",
    "/hf-inference/models/org/m-1/pipeline/feature-extraction",
    whole([[0.1] * 300]),
    JSON,
    says("huggingface", None, "org/m-1", operation="embeddings"),
)
add(
    "huggingface picture",
    "router.huggingface.co",
    "/hf-inference/models/org/m-1/pipeline/text-to-image",
    b"\xff\xd8\xff\xe0 a picture",
    "image/jpeg",
    says("huggingface", None, "org/m-1", operation="image", streamed=True),
)
add(
    "huggingface endpoint's ranks",
    DEDICATED,
    "/rerank",
    whole([{"index": 0, "score": 0.9}]),
    JSON,
    ({"provider": "huggingface", "no_usage": True, "operation": "rerank", "region": "eu-west-1"},),
)
add(
    "huggingface endpoint as openai",
    DEDICATED,
    "/v1/chat/completions",
    whole(chat(counts(5, 6))),
    JSON,
    says("huggingface", (5, 6), region="eu-west-1", **C1),
)

# --- Replicate ---------------------------------------------------------------------------------------------------
REPLICATE = "api.replicate.com"
PREDICTION = {"id": "c1", "model": "m-1", "version": "v", "input": {"prompt": WORDS}, "logs": "", "error": None}
STREAM_URL = {
    "urls": {
        "get": "https://api.replicate.com/v1/predictions/c1",
        "stream": "https://stream.replicate.com/v1/files/s-1",
    }
}
TOKENS = {"metrics": {"predict_time": 2.8, "input_token_count": 9, "output_token_count": 30}}
add(
    "replicate prediction, ordered",
    REPLICATE,
    "/v1/models/org/m/predictions",
    whole({**PREDICTION, "status": "starting", **STREAM_URL}),
    JSON,
    says("replicate", None, pending=True, also="s-1", **C1),
)
add(
    "replicate prediction, waited for",
    REPLICATE,
    "/v1/predictions",
    whole({**PREDICTION, "status": "succeeded", "output": [WORDS], **TOKENS}),
    JSON,
    says("replicate", (9, 30), **C1),
)
add(
    "replicate prediction, fetched with a part of its output", REPLICATE, "/v1/predictions/c1",
    whole({**PREDICTION, "status": "processing", "output": ["a"]}), JSON, (), method="GET",
)  # fmt: skip
add(
    "replicate prediction, waited for but not closed yet",
    REPLICATE,
    "/v1/predictions",
    whole({**PREDICTION, "status": "processing", "output": "a"}),
    JSON,
    says("replicate", None, **C1),
)
add(
    "replicate prediction, fetched",
    REPLICATE,
    "/v1/predictions/c1",
    whole({**PREDICTION, "status": "succeeded", "output": ["x"], "metrics": {"predict_time": 2.8}}),
    JSON,
    says("replicate", None, **C1),
    method="GET",
)
add(
    "replicate prediction, still running",
    REPLICATE,
    "/v1/predictions/c1",
    whole({**PREDICTION, "status": "processing"}),
    JSON,
    says("replicate", None, pending=True, **C1),
    method="GET",
)
add(
    "replicate prediction that failed at once",
    REPLICATE,
    "/v1/predictions/c1",
    whole({**PREDICTION, "status": "failed", "error": "no"}),
    JSON,
    void("replicate", "c1"),
    method="GET",
)
add(
    "replicate prediction cancelled after it ran",
    REPLICATE,
    "/v1/predictions/c1/cancel",
    whole({**PREDICTION, "status": "canceled", "metrics": {"predict_time": 1}}),
    JSON,
    says("replicate", None, **C1),
)
add(
    "replicate stream", "stream.replicate.com", "/v1/files/s-1",
    b": hi\n\nevent: output\nid: 1:0\ndata: {}\n\nevent: output\nid: 1:1\ndata: event: done\n\nevent: done\nid: 1:2\ndata: {}\n\n:408\n\n", SSE,
    ({"provider": "replicate", "no_usage": True, "response_id": "s-1", "streamed": True},), method="GET", done=True,
)  # fmt: skip

# --- watsonx -----------------------------------------------------------------------------------------------------
WATSONX = "us-south.ml.cloud.ibm.com"
US = {"region": "us-south"}


def generated(text: str, made: int, given: int, reason: str = "not_finished") -> Dict[str, Any]:
    result = {"generated_text": text, "generated_token_count": made, "input_token_count": given, "stop_reason": reason}
    return {"model_id": "m-1", "created_at": "2026-02-28T08:16:49Z", "results": [result]}


add(
    "watsonx generation",
    WATSONX,
    "/ml/v1/text/generation",
    whole(generated(WORDS, 2, 7, "eos_token")),
    JSON,
    says("watsonx", (7, 2), **US),
)
add(
    "watsonx generation stream, input in two events", WATSONX, "/ml/v1/text/generation_stream",
    sse(generated("", 0, 8), generated(WORDS, 1, 5), generated("", 2, 0, "eos_token")), SSE,
    says("watsonx", (13, 2), streamed=True, **US),
)  # fmt: skip
add(
    "watsonx generation stream", WATSONX, "/ml/v1/text/generation_stream",
    sse(generated("", 0, 8), *(generated(WORDS, n, 0) for n in (1, 2, 3)), generated("", 4, 0, "eos_token")), SSE,
    says("watsonx", (8, 4), streamed=True, **US),
)  # fmt: skip
add(
    "watsonx deployment",
    "eu-de.ml.cloud.ibm.com",
    "/ml/v1/deployments/d-1/text/generation",
    whole({"results": [{"generated_text": "a", "generated_token_count": 2, "input_token_count": 7}]}),
    JSON,
    says("watsonx", (7, 2), "d-1", region="eu-de"),
)
CHAT_IBM = {
    "id": "c1",
    "model_id": "m-1",
    "created": 1,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}],
}
add(
    "watsonx chat",
    WATSONX,
    "/ml/v1/text/chat",
    whole({**CHAT_IBM, "usage": counts(59, 47)}),
    JSON,
    says("watsonx", (59, 47), **C1, **US),
)
add(
    "watsonx chat stream", WATSONX, "/ml/v1/text/chat_stream",
    sse({**CHAT_IBM, "choices": [{"index": 0, "delta": {"content": "a"}}]}, {**CHAT_IBM, "choices": [], "usage": counts(59, 47)}, names=False), SSE,
    says("watsonx", (59, 47), streamed=True, **C1, **US), done=True,
)  # fmt: skip
add(
    "watsonx embeddings",
    WATSONX,
    "/ml/v1/text/embeddings",
    whole({"model_id": "m-1", "results": [{"embedding": [0.1] * 600}], "created_at": "x", "input_token_count": 10}),
    JSON,
    says("watsonx", (10, 0), operation="embeddings", **US),
)
add(
    "watsonx rerank",
    WATSONX,
    "/ml/v1/text/rerank",
    whole({"model_id": "m-1", "results": [{"index": 0, "score": 0.9}], "input_token_count": 20}),
    JSON,
    says("watsonx", (20, 0), operation="rerank", **US),
)
add(
    "watsonx forecast",
    WATSONX,
    "/ml/v1/time_series/forecast",
    whole({"model_id": "x", "results": []}),
    JSON,
    says("watsonx", None, **US),
    {"model_id": "m-1"},
)

# --- Writer ------------------------------------------------------------------------------------------------------
WRITER = "api.writer.com"
USAGE_WRITER = {
    **counts(39, 74),
    "prompt_token_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
add(
    "writer chat",
    WRITER,
    "/v1/chat",
    whole(chat(USAGE_WRITER, service_tier=None)),
    JSON,
    says("writer", (39, 74), cache_read_input_tokens=8, reasoning_output_tokens=5, **C1),
)
add(
    "writer chat stream",
    WRITER,
    "/v1/chat",
    sse(chunk(), chunk(None, usage=counts(39, 74))),
    SSE,
    says("writer", (39, 74), streamed=True, **C1),
    done=True,
)
add(
    "writer completion",
    WRITER,
    "/v1/completions",
    whole({"choices": [{"text": WORDS, "log_probs": None}], "model": "m-1"}),
    JSON,
    says("writer", None),
)
add(
    "writer completion stream",
    WRITER,
    "/v1/completions",
    sse({"value": "a"}, {"value": "b"}),
    SSE,
    says("writer", None, streamed=True),
    ASKED,
)
add(
    "writer question to a graph",
    WRITER,
    "/v1/graphs/question",
    whole({"question": WORDS, "answer": WORDS, "sources": []}),
    JSON,
    ({"provider": "writer", "no_usage": True},),
)

# --- Voyage ------------------------------------------------------------------------------------------------------
VOYAGE = "api.voyageai.com"
VECTORS = {"object": "list", "data": [{"object": "embedding", "embedding": [0.1] * 600, "index": 0}], "model": "m-1"}
add(
    "voyage embeddings",
    VOYAGE,
    "/v1/embeddings",
    whole({**VECTORS, "usage": {"total_tokens": 18}}),
    JSON,
    says("voyage", (18, 0), operation="embeddings"),
)
add(
    "voyage multimodal embeddings",
    VOYAGE,
    "/v1/multimodalembeddings",
    whole({**VECTORS, "usage": {"text_tokens": 5, "image_pixels": 2000000, "total_tokens": 3576}}),
    JSON,
    says("voyage", (3576, 0), operation="embeddings"),
)
add(
    "voyage rerank",
    VOYAGE,
    "/v1/rerank",
    whole(
        {
            "object": "list",
            "data": [{"relevance_score": 0.6, "index": 0}],
            "model": "m-1",
            "usage": {"total_tokens": 43},
        }
    ),
    JSON,
    says("voyage", (43, 0), operation="rerank"),
)

# --- DashScope ---------------------------------------------------------------------------------------------------
DASHSCOPE = "dashscope-intl.aliyuncs.com"
AIGC = "/api/v1/services/aigc/text-generation/generation"
OUTPUT = {"output": {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}}]}}
USAGE_DS = {
    "input_tokens": 22,
    "output_tokens": 17,
    "total_tokens": 39,
    "prompt_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 6},
}
add(
    "dashscope generation",
    DASHSCOPE,
    AIGC,
    whole({"status_code": 200, "request_id": "c1", **OUTPUT, "usage": USAGE_DS}),
    JSON,
    says("dashscope", (22, 17), cache_read_input_tokens=4, reasoning_output_tokens=6, **C1),
    ASKED,
)
add(
    "dashscope generation stream", DASHSCOPE, AIGC,
    b"".join(
        b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:%s\n\n" % (n, whole({**OUTPUT, "usage": {"input_tokens": 22, "output_tokens": n, "total_tokens": 22 + n}, "request_id": "c1"}))
        for n in (1, 9, 17)
    ),
    SSE, says("dashscope", (22, 17), streamed=True, **C1), ASKED,
)  # fmt: skip
add(
    "dashscope error in a stream",
    DASHSCOPE,
    AIGC,
    b'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{"code":"InvalidParameter","message":"no","request_id":"c1"}\n\n',
    SSE,
    (),
)
add(
    "dashscope picture read",
    DASHSCOPE,
    "/api/v1/services/aigc/multimodal-generation/generation",
    whole(
        {
            **OUTPUT,
            "usage": {
                "input_tokens": 1271,
                "output_tokens": 55,
                "input_tokens_details": {"text_tokens": 24, "image_tokens": 1247},
                "image_tokens": 1247,
            },
            "request_id": "c1",
        }
    ),
    JSON,
    says("dashscope", (1271, 55), input_image_tokens=1247, **C1),
    ASKED,
)
add(
    "dashscope picture made",
    DASHSCOPE,
    "/api/v1/services/aigc/multimodal-generation/generation",
    whole({**OUTPUT, "usage": {"input_tokens": 0, "output_tokens": 0, "image_count": 1}, "request_id": "c1"}),
    JSON,
    says("dashscope", (0, 0), images=1, operation="image", **C1),
    ASKED,
)
add(
    "dashscope application with two models", DASHSCOPE, "/api/v1/apps/app-1/completion",
    whole({"output": {"text": WORDS}, "usage": {"models": [{"model_id": "m-1", "input_tokens": 5, "output_tokens": 6}, {"model_id": "m-2", "input_tokens": 7, "output_tokens": 8}]}, "request_id": "c1"}), JSON,
    (*says("dashscope", (5, 6), **C1), *says("dashscope", (7, 8), "m-2", **C1)),
)  # fmt: skip
add(
    "dashscope embeddings",
    DASHSCOPE,
    "/api/v1/services/embeddings/text-embedding/text-embedding",
    whole(
        {
            "output": {"embeddings": [{"embedding": [0.1] * 600, "text_index": 0}]},
            "usage": {"total_tokens": 26},
            "request_id": "c1",
        }
    ),
    JSON,
    says("dashscope", (26, 0), operation="embeddings", **C1),
    ASKED,
)
add(
    "dashscope rerank",
    DASHSCOPE,
    "/api/v1/services/rerank/text-rerank/text-rerank",
    whole(
        {
            "output": {"results": [{"index": 0, "relevance_score": 0.9}]},
            "usage": {"total_tokens": 79},
            "request_id": "c1",
        }
    ),
    JSON,
    says("dashscope", (79, 0), operation="rerank", **C1),
    ASKED,
)
add(
    "dashscope task, ordered",
    DASHSCOPE,
    "/api/v1/services/aigc/text2image/image-synthesis",
    whole({"output": {"task_status": "PENDING", "task_id": "c1"}, "request_id": "r"}),
    JSON,
    says("dashscope", None, pending=True, **C1),
    ASKED,
)
add(
    "dashscope task, fetched",
    DASHSCOPE,
    "/api/v1/tasks/c1",
    whole(
        {
            "output": {"task_id": "c1", "task_status": "SUCCEEDED", "results": [{"url": "u"}]},
            "usage": {"image_count": 2},
            "request_id": "r",
        }
    ),
    JSON,
    ({"provider": "dashscope", "operation": "image", "images": 2, **C1},),
    method="GET",
)
add(
    "dashscope task that failed",
    DASHSCOPE,
    "/api/v1/tasks/c1",
    whole({"output": {"task_id": "c1", "task_status": "FAILED", "message": "no"}, "request_id": "r"}),
    JSON,
    void("dashscope", "c1"),
    method="GET",
)
add(
    "dashscope speech",
    DASHSCOPE,
    "/api/v1/services/audio/tts/generation",
    whole({"output": {"audio": {"url": "u"}}, "usage": {"characters": 20}, "request_id": "c1"}),
    JSON,
    says("dashscope", None, operation="audio", characters=20, no_usage=None, **C1),
    ASKED,
)

# --- Z.ai --------------------------------------------------------------------------------------------------------
ZAI = "api.z.ai"
add(
    "zai task, ordered",
    ZAI,
    "/api/paas/v4/videos/generations",
    whole({"model": "m-1", "id": "c1", "request_id": "r", "task_status": "PROCESSING"}),
    JSON,
    says("zai", None, pending=True, **C1),
)
add(
    "zai task, fetched",
    ZAI,
    "/api/paas/v4/async-result/c1",
    whole({"model": "m-1", "id": "c1", "task_status": "SUCCESS", "choices": [], "usage": counts(5, 6)}),
    JSON,
    says("zai", (5, 6), **C1),
    method="GET",
)
add(
    "zai task that failed",
    ZAI,
    "/api/paas/v4/async-result/c1",
    whole({"model": "m-1", "id": "c1", "task_status": "FAIL"}),
    JSON,
    void("zai", "c1"),
    method="GET",
)

# --- SageMaker ---------------------------------------------------------------------------------------------------
SAGEMAKER = "runtime.sagemaker.us-east-1.amazonaws.com"
EAST = {"region": "us-east-1"}
INVOKED = "/endpoints/e-1/invocations"
add("sagemaker as openai", SAGEMAKER, INVOKED, whole(chat(counts(5, 6))), JSON, says("sagemaker", (5, 6), **EAST))
add(
    "sagemaker with details",
    SAGEMAKER,
    INVOKED,
    whole({"generated_text": WORDS, "details": {"generated_tokens": 9, "input_length": 4}}),
    JSON,
    says("sagemaker", (4, 9), "e-1", **EAST),
)
add(
    "sagemaker without counts",
    SAGEMAKER,
    INVOKED,
    whole([{"generated_text": WORDS}]),
    JSON,
    says("sagemaker", None, "e-1", **EAST),
)
add("sagemaker classifier", SAGEMAKER, INVOKED, whole({"predictions": [{"score": 0.5}]}), JSON, ())
add("sagemaker classifier's list", SAGEMAKER, INVOKED, whole([0.5, 0.25]), JSON, ())
STREAMED = sse(chunk("a"), chunk(None, usage=counts(5, 6)), done=True)
add(
    "sagemaker stream",
    SAGEMAKER,
    INVOKED + "-response-stream",
    aws(STREAMED[:70], STREAMED[70:90], STREAMED[90:]),
    AWS,
    says("sagemaker", (5, 6), streamed=True, **EAST),
    done=True,
)
TOLD = lines(
    {"token": {"id": 1, "text": WORDS}},
    {"token": {"id": 2, "text": "b"}, "generated_text": "ab", "details": {"generated_tokens": 2, "input_length": 3}},
)
add(
    "sagemaker stream of lines",
    SAGEMAKER,
    INVOKED + "-response-stream",
    aws(TOLD[:40], TOLD[40:]),
    AWS,
    says("sagemaker", (3, 2), "e-1", streamed=True, **EAST),
)

# --- Aleph Alpha -------------------------------------------------------------------------------------------------
ALEPH = "api.aleph-alpha.com"
add(
    "aleph alpha completion",
    ALEPH,
    "/complete",
    whole(
        {
            "completions": [{"completion": WORDS, "finish_reason": "maximum_tokens"}],
            "model_version": "2022-04",
            "num_tokens_prompt_total": 9,
            "num_tokens_generated": 1000,
        }
    ),
    JSON,
    says("aleph-alpha", (9, 1000)),
    ASKED,
)
add(
    "aleph alpha stream", ALEPH, "/complete",
    sse({"type": "stream_chunk", "index": 0, "completion": WORDS}, {"type": "stream_summary", "finish_reason": "stop"}, {"type": "completion_summary", "num_tokens_prompt_total": 9, "num_tokens_generated": 3}, done=True),
    SSE, says("aleph-alpha", (9, 3), streamed=True), ASKED, done=True,
)  # fmt: skip
add(
    "aleph alpha embedding",
    ALEPH,
    "/semantic_embed",
    whole({"model_version": "x", "embedding": [0.1] * 600, "num_tokens_prompt_total": 4}),
    JSON,
    says("aleph-alpha", (4, 0), operation="embeddings"),
    ASKED,
)
