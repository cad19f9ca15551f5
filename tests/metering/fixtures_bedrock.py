# ruff: noqa: E501
"""Responses of Amazon Bedrock, written by hand from its documents and its service model, with what each bills."""

from __future__ import annotations

from typing import Any, Dict, List

from tests.metering.building import AWS, JSON, add, aws_events, bedrock, chat, chunk, counts, says, whole
from tests.metering.fixtures_native import A_SAID, A_USAGE, MESSAGE, STREAM

HOST = "bedrock-runtime.eu-west-1.amazonaws.com"
AGENTS = "bedrock-agent-runtime.eu-west-1.amazonaws.com"
EU: Dict[str, Any] = {"region": "eu-west-1"}
NOVA = "/model/eu.amazon.nova-x-v1%3A0"
NOVA_IS = "eu.amazon.nova-x-v1:0"


def headers(fresh: int, output: int, **more: str) -> Dict[str, str]:
    told = {"x-amzn-bedrock-input-token-count": str(fresh), "x-amzn-bedrock-output-token-count": str(output)}
    return {**told, **{"x-amzn-bedrock-" + name.replace("_", "-"): value for name, value in more.items()}}


def metrics(fresh: int, output: int, **more: int) -> Dict[str, Any]:
    return {
        "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": fresh, "outputTokenCount": output, "invocationLatency": 900, "firstByteLatency": 300, **more
        }
    }  # fmt: skip


# --- Converse ------------------------------------------------------------------------------------------------------
TOKENS = {"inputTokens": 7, "outputTokens": 64, "serverToolUsage": {}, "totalTokens": 71}
CACHED = {
    "inputTokens": 4, "outputTokens": 50, "totalTokens": 18385, "cacheReadInputTokens": 200, "cacheWriteInputTokens": 18131,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 131}, {"ttl": "5m", "inputTokens": 18000}],
}  # fmt: skip
CACHED_SAID = {
    "cache_read_input_tokens": 200, "cache_creation_input_tokens": 18131, "cache_creation_1h_input_tokens": 131,
}  # fmt: skip
FALSE_USE = {
    "toolUse": {"toolUseId": "t", "name": "f", "input": {"usage": {"inputTokens": 10**6, "outputTokens": 10**6}}}
}


def turn(usage: Any = None, **more: Any) -> Dict[str, Any]:
    body: Dict[str, Any] = {
        "metrics": {"latencyMs": 377},
        "output": {"message": {"content": [{"text": 'a "usage" of words'}, FALSE_USE], "role": "assistant"}},
        **more,
        "stopReason": "tool_use",
    }
    return body if usage is None else {**body, "usage": usage}


def turns(*last: Any) -> List[Any]:
    return [
        ("messageStart", {"role": "assistant", "p": "abc"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": '"usage"'}, "p": "ab"}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"usage":{"inputTokens":9}}'}}}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("messageStop", {"stopReason": "tool_use"}),
        *last,
    ]


add("converse", HOST, NOVA + "/converse", whole(turn(TOKENS)), JSON, says("bedrock", (7, 64), NOVA_IS, **EU))
add(
    "converse, cached and long", HOST, NOVA + "/converse", whole(turn(CACHED, trace={"guardrail": {"modelOutput": ["x" * 4000]}})),
    JSON, says("bedrock", (18335, 50), NOVA_IS, **CACHED_SAID, **EU),
)  # fmt: skip
add("converse without usage", HOST, NOVA + "/converse", whole(turn()), JSON, says("bedrock", None, NOVA_IS, **EU))
add(
    "converse whose parts contradict the total", HOST, NOVA + "/converse",
    whole(turn({"inputTokens": 7, "outputTokens": 64, "totalTokens": 99})), JSON,
    says("bedrock", (7, 64), NOVA_IS, mismatch=True, **EU),
)  # fmt: skip
add(
    "converse through a router, optimized for latency", HOST,
    "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A012345678901%3Adefault-prompt-router%2Fx%3A1/converse",
    whole(turn(TOKENS, performanceConfig={"latency": "optimized"}, trace={"promptRouter": {"invokedModelId": "arn:aws:bedrock:eu-west-1::foundation-model/m-1"}})),
    JSON, says("bedrock", (7, 64), "arn:aws:bedrock:eu-west-1::foundation-model/m-1", service_tier="optimized", **EU),
)  # fmt: skip
add(
    "converse stream", HOST, NOVA + "/converse-stream",
    aws_events(*turns(("metadata", {"usage": CACHED, "metrics": {"latencyMs": 1}, "serviceTier": {"type": "flex"}, "p": "abc"}))),
    AWS, says("bedrock", (18335, 50), NOVA_IS, service_tier="flex", streamed=True, **CACHED_SAID, **EU), done=True,
)  # fmt: skip
add(
    "converse stream, throttled in the middle", HOST, NOVA + "/converse-stream",
    aws_events(*turns(("throttlingException", {"message": "Too many requests"}))), AWS,
    says("bedrock", None, NOVA_IS, streamed=True, partial=True, **EU),
)  # fmt: skip
add(
    "converse stream, throttled before the first token", HOST, NOVA + "/converse-stream",
    aws_events(turns()[0], ("throttlingException", {"message": "Too many requests"})), AWS, (),
)  # fmt: skip

# --- InvokeModel: whole --------------------------------------------------------------------------------------------
CLAUDE = "/model/us.anthropic.claude-x-v1%3A0/invoke"
CLAUDE_IS = "us.anthropic.claude-x-v1:0"
add(
    "anthropic on bedrock", HOST, CLAUDE, whole({**MESSAGE, "usage": A_USAGE}), JSON,
    says("bedrock", (12307, 550), **A_SAID, **EU), headers=headers(3, 550, cache_write_input_token_count="12304"),
)  # fmt: skip
add(
    "anthropic on bedrock, the URL names the profile", HOST, CLAUDE, whole({**MESSAGE, "model": "claude-x", "usage": A_USAGE}),
    JSON, says("bedrock", (12307, 550), CLAUDE_IS, **A_SAID, **EU),
)  # fmt: skip
add(
    "anthropic on bedrock, usage only in headers", HOST, CLAUDE, whole({"completion": "a", "stop_reason": "stop"}), JSON,
    says("bedrock", (5, 6), CLAUDE_IS, **EU), headers=headers(5, 6),
)  # fmt: skip
add(
    "a priority call, cached, usage only in headers", HOST, "/model/cohere.command-x-v1%3A0/invoke",
    whole({"text": 'this is "usage"', "chat_history": [{"usage": {"inputTokens": 9}}], "finish_reason": "COMPLETE"}), JSON,
    says("bedrock", (115, 6), "cohere.command-x-v1:0", cache_read_input_tokens=100, cache_creation_input_tokens=10, service_tier="priority", **EU),
    headers=headers(5, 6, cache_read_input_token_count="100", cache_write_input_token_count="10", service_tier="priority"),
)  # fmt: skip
add(
    "nova invoked", HOST, NOVA + "/invoke",
    whole({**turn(), "usage": {"inputTokens": 13, "outputTokens": 3, "totalTokens": 26, "cacheReadInputTokenCount": 10, "cacheWriteInputTokenCount": 0}}),
    JSON, says("bedrock", (23, 3), NOVA_IS, cache_read_input_tokens=10, cache_creation_input_tokens=0, **EU),
)  # fmt: skip
add(
    "llama invoked", HOST, "/model/meta.llama-x%3A0/invoke",
    whole({"generation": '{"prompt_token_count": 1}', "prompt_token_count": 6, "generation_token_count": 18, "stop_reason": "stop"}),
    JSON, says("bedrock", (6, 18), "meta.llama-x:0", **EU),
)  # fmt: skip
add(
    "titan text invoked", HOST, "/model/amazon.titan-text-x/invoke",
    whole({"inputTextTokenCount": 6, "results": [{"tokenCount": 40, "outputText": "a"}, {"tokenCount": 2, "outputText": "b"}]}),
    JSON, says("bedrock", (6, 42), "amazon.titan-text-x", **EU), headers=headers(6, 42),
)  # fmt: skip
add(
    "an openai shape invoked", HOST, "/model/openai.gpt-oss-x-1%3A0/invoke", whole(chat(counts(20, 8, prompt_tokens_details={"cached_tokens": 4}))),
    JSON, says("bedrock", (20, 8), cache_read_input_tokens=4, **EU), headers=headers(16, 8, cache_read_input_token_count="4"),
)  # fmt: skip
add(
    "a body without the output, headers with it", HOST, "/model/m-1/invoke", whole(chat({"prompt_tokens": 20})), JSON,
    says("bedrock", (20, 8), **EU), headers=headers(20, 8),
)  # fmt: skip
add(
    "headers that count another output than the body", HOST, "/model/m-1/invoke", whole(chat(counts(20, 8))), JSON,
    says("bedrock", (20, 8), mismatch=True, **EU), headers=headers(20, 9),
)  # fmt: skip
add(
    "a mistral invoked without a count", HOST, "/model/mistral.x/invoke", whole({"outputs": [{"text": "a", "stop_reason": "stop"}]}), JSON,
    says("bedrock", None, "mistral.x", **EU),
)  # fmt: skip
add(
    "images made", HOST, "/model/amazon.nova-canvas-x/invoke", whole({"images": ["aGk=" * 2000, "aGk=", None], "error": None}), JSON,
    says("bedrock", None, "amazon.nova-canvas-x", images=2, operation="image", no_usage=None, **EU),
)  # fmt: skip
add(
    "images refused", HOST, "/model/amazon.nova-canvas-x/invoke", whole({"images": [], "error": "blocked"}), JSON, (),
)  # fmt: skip
add(
    "vectors of titan", HOST, "/model/amazon.titan-embed-x/invoke", whole({"embedding": [0.5] * 900, "inputTextTokenCount": 9}), JSON,
    says("bedrock", (9, 0), "amazon.titan-embed-x", operation="embeddings", **EU),
)  # fmt: skip
add(
    "vectors counted by headers alone", HOST, "/model/cohere.embed-x/invoke",
    whole({"embeddings": [[0.5] * 900], "texts": ["a"], "response_type": "embeddings_floats"}), JSON,
    says("bedrock", (11, 0), "cohere.embed-x", operation="embeddings", **EU),
    headers={"x-amzn-bedrock-input-token-count": "11"},
)  # fmt: skip
add(
    "vectors behind an address of one's own", HOST, "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Aprovisioned-model%2Fabc/invoke",
    whole({"embedding": [0.5], "inputTextTokenCount": 9}), JSON,
    says("bedrock", (9, 0), "arn:aws:bedrock:eu-west-1:1:provisioned-model/abc", operation="embeddings", **EU),
)  # fmt: skip
add(
    "a ranking invoked", HOST, "/model/cohere.rerank-x/invoke", whole({"results": [{"index": 1, "relevance_score": 0.9}]}), JSON,
    says("bedrock", None, "cohere.rerank-x", operation="rerank", **EU),
)  # fmt: skip

# --- InvokeModel: streams ------------------------------------------------------------------------------------------
add(
    "anthropic on bedrock, stream", HOST, CLAUDE + "-with-response-stream",
    bedrock(*STREAM[:-1], {"type": "message_stop", **metrics(3, 550)}), AWS,
    says("bedrock", (12307, 550), streamed=True, **A_SAID, **EU), done=True,
)  # fmt: skip
add(
    "anthropic on bedrock, the metrics disagree", HOST, CLAUDE + "-with-response-stream",
    bedrock(*STREAM[:-1], {"type": "message_stop", **metrics(3, 500)}), AWS,
    says("bedrock", (12307, 550), streamed=True, mismatch=True, **A_SAID, **EU), done=True,
)  # fmt: skip
add(
    "anthropic on bedrock, stream with metrics only", HOST, CLAUDE + "-with-response-stream",
    bedrock({"completion": "a"}, {"completion": "b"}, {"completion": "", **metrics(5, 6, cacheReadInputTokenCount=7)}), AWS,
    says("bedrock", (12, 6), CLAUDE_IS, cache_read_input_tokens=7, streamed=True, **EU), done=True,
)  # fmt: skip
add(
    "nova, stream", HOST, NOVA + "/invoke-with-response-stream",
    bedrock(
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"usage": {"inputTokens": 9}}'}}, "contentBlockIndex": 0}},
        {"metadata": {"usage": {"inputTokens": 12, "outputTokens": 13, "cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 5}, "metrics": {}, "trace": {}},
         **metrics(12, 13, cacheWriteInputTokenCount=5)},
    ), AWS,
    says("bedrock", (17, 13), NOVA_IS, cache_read_input_tokens=0, cache_creation_input_tokens=5, streamed=True, **EU), done=True,
)  # fmt: skip
LLAMA = (
    {"generation": "Here", "prompt_token_count": 23, "generation_token_count": 1, "stop_reason": None},
    {"generation": " is", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": None},
)
add(
    "llama, stream", HOST, "/model/meta.llama-x/invoke-with-response-stream",
    bedrock(*LLAMA, {"generation": ".", "prompt_token_count": None, "generation_token_count": 3, **metrics(23, 3)}), AWS,
    says("bedrock", (23, 3), "meta.llama-x", streamed=True, **EU), done=True,
)  # fmt: skip
add(
    "llama, stream without its end", HOST, "/model/meta.llama-x/invoke-with-response-stream", bedrock(*LLAMA), AWS,
    says("bedrock", (23, 2), "meta.llama-x", streamed=True, **EU),
)  # fmt: skip
add(
    "llama, stream that breaks", HOST, "/model/meta.llama-x/invoke-with-response-stream",
    bedrock(*LLAMA) + aws_events(("modelStreamErrorException", {"message": "x"})), AWS,
    says("bedrock", (23, 2), "meta.llama-x", streamed=True, partial=True, **EU),
)  # fmt: skip
add(
    "titan text, stream", HOST, "/model/amazon.titan-text-x/invoke-with-response-stream",
    bedrock(
        {"outputText": "a", "index": 0, "totalOutputTextTokenCount": None, "inputTextTokenCount": 13},
        {"outputText": "b", "index": 0, "totalOutputTextTokenCount": 100, "inputTextTokenCount": None, **metrics(13, 100)},
    ), AWS, says("bedrock", (13, 100), "amazon.titan-text-x", streamed=True, **EU), done=True,
)  # fmt: skip
add(
    "an openai shape, stream", HOST, "/model/openai.gpt-oss-x-1%3A0/invoke-with-response-stream",
    bedrock(chunk("a"), chunk("b"), chunk(None, usage=counts(20, 8)), {**chunk(None), **metrics(20, 8)}), AWS,
    says("bedrock", (20, 8), streamed=True, **EU), done=True,
)  # fmt: skip
add(
    "a stream that only metrics count, after an exception nothing", HOST, "/model/deepseek.x/invoke-with-response-stream",
    bedrock({"choices": [{"text": "a"}]}, {"choices": [{"text": ""}], **metrics(4, 2)}), AWS,
    says("bedrock", (4, 2), "deepseek.x", streamed=True, **EU), done=True,
)  # fmt: skip
add(
    "a stream that is an exception", HOST, "/model/deepseek.x/invoke-with-response-stream",
    aws_events(("modelTimeoutException", {"message": "x"})), AWS, (),
)  # fmt: skip

# --- agents and what stands beside the models ----------------------------------------------------------------------
AGENT = "/agents/AGENT/agentAliases/ALIAS/sessions/s-1/text"


def step(kind: str, name: str, usage: Any, model: Any = "m-1") -> List[Any]:
    asked = {"traceId": name, "text": "{}", "type": "ORCHESTRATION", **({"foundationModel": model} if model else {})}
    told = {} if usage is None else {"metadata": {"usage": usage, "totalTimeMs": 3, "clientRequestId": "c"}}
    return [
        {"sessionId": "s-1", "trace": {kind: {"modelInvocationInput": asked}}},
        {"sessionId": "s-1", "trace": {kind: {"modelInvocationOutput": {"traceId": name, "rawResponse": {"content": '"usage"'}, **told}}}},
    ]  # fmt: skip


USED = {"inputTokens": 980, "outputTokens": 103}
FALSE_STEP = {"modelInvocationOutput": {"metadata": {"usage": {"inputTokens": 10**6, "outputTokens": 1}}}}
TRACES = [
    *step("preProcessingTrace", "t-pre-0", {"inputTokens": 461, "outputTokens": 120}),
    *step("orchestrationTrace", "t-0", USED, "m-2"),
    {"trace": {"orchestrationTrace": {"observation": {"actionGroupInvocationOutput": {"text": '{"modelInvocationOutput"'}, "x": FALSE_STEP}}}},
    {"trace": {"guardrailTrace": {"action": "NONE", "metadata": {"usage": USED}}}},
    *step("routingClassifierTrace", "t-routing-0", {"inputTokens": 263, "outputTokens": 9}, None),
]  # fmt: skip
add(
    "an agent, traced", AGENTS, AGENT,
    aws_events(*(("trace", trace) for trace in TRACES), ("chunk", {"bytes": "aGk=", "attribution": FALSE_STEP})), AWS,
    (
        *says("bedrock", (461, 120), streamed=True, **EU),
        *says("bedrock", (980, 103), "m-2", streamed=True, **EU),
        *says("bedrock", (263, 9), None, streamed=True, **EU),
    ),
)  # fmt: skip
add(
    "an agent without its trace", AGENTS, AGENT, aws_events(("chunk", {"bytes": "aGk="})), AWS,
    says("bedrock", None, None, streamed=True, **EU),
)  # fmt: skip
add(
    "an inline agent names its model", AGENTS, "/agents/s-1",
    aws_events(*(("trace", trace) for trace in step("orchestrationTrace", "t-0", USED, None)), ("chunk", {"bytes": "aGk="})), AWS,
    says("bedrock", (980, 103), streamed=True, **EU), {"foundationModel": "m-1", "instruction": "x"},
)  # fmt: skip
add(
    "an agent that was never ready", AGENTS, AGENT, aws_events(("modelNotReadyException", {"message": "x"})), AWS, (),
)  # fmt: skip
add(
    "an agent that fails later", AGENTS, AGENT,
    aws_events(*(("trace", trace) for trace in step("orchestrationTrace", "t-0", USED)), ("throttlingException", {"message": "x"})), AWS,
    says("bedrock", (980, 103), streamed=True, **EU),
)  # fmt: skip
add(
    "a flow with an agent in it", AGENTS, "/flows/F/aliases/A",
    aws_events(
        ("flowTraceEvent", {"trace": {"nodeInputTrace": {"fields": [{"content": {"document": FALSE_STEP}}]}}}),
        ("flowTraceEvent", {"trace": {"nodeDependencyTrace": {"nodeName": "n", "traceElements": {"agentTraces": step("orchestrationTrace", "t-0", USED)}}}}),
        ("flowOutputEvent", {"content": {"document": "x"}}), ("flowCompletionEvent", {"completionReason": "SUCCESS"}),
    ), AWS, says("bedrock", (980, 103), streamed=True, **EU),
)  # fmt: skip
BASE = {
    "retrieveAndGenerateConfiguration": {"knowledgeBaseConfiguration": {"modelArn": "m-1"}, "type": "KNOWLEDGE_BASE"}
}
add(
    "an answer from a knowledge base", AGENTS, "/retrieveAndGenerate", whole({"citations": [], "output": {"text": "a"}, "sessionId": "s"}),
    JSON, says("bedrock", None, **EU), BASE,
)  # fmt: skip
add(
    "an answer from a knowledge base, streamed", AGENTS, "/retrieveAndGenerateStream",
    aws_events(("output", {"text": "a"}), ("citation", {"citation": {}})), AWS, says("bedrock", None, streamed=True, **EU), BASE,
)  # fmt: skip
add(
    "a prompt optimised", AGENTS, "/optimize-prompt", aws_events(("optimizedPromptEvent", {"optimizedPrompt": {}})), AWS,
    says("bedrock", None, streamed=True, **EU), {"targetModelId": "m-1"},
)  # fmt: skip
add(
    "a ranking", AGENTS, "/rerank", whole({"results": [{"index": 0, "relevanceScore": 0.5}]}), JSON,
    says("bedrock", None, operation="rerank", **EU),
    {"rerankingConfiguration": {"bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": "m-1"}}}},
)  # fmt: skip
add(
    "a video begun", HOST, "/async-invoke", whole({"invocationArn": "arn:aws:bedrock:eu-west-1:1:async-invoke/x"}), JSON,
    says("bedrock", None, **EU), {"modelId": "m-1", "modelInput": {"model": "no"}},
)  # fmt: skip
UNITS = {
    "contentPolicyUnits": 2,
    "topicPolicyUnits": 1,
    "wordPolicyUnits": 5,
    "sensitiveInformationPolicyFreeUnits": 3,
    "automatedReasoningPolicies": 1,
}
add(
    "a guardrail applied", HOST, "/guardrail/g-1/version/1/apply",
    whole({"action": "NONE", "assessments": [{"invocationMetrics": {"usage": {"topicPolicyUnits": 9}}}], "outputs": [], "usage": UNITS}),
    JSON, says("bedrock", None, "guardrail", requests_billed=3, operation="moderation", no_usage=None, **EU),
)  # fmt: skip
add(
    "checks of a guardrail", HOST, "/guardrail-checks/invoke",
    whole({"results": {}, "usage": {"contentFilter": {"textUnits": 2}, "promptAttack": {"textUnits": 1}}}),
    JSON, says("bedrock", None, "guardrail", requests_billed=3, operation="moderation", no_usage=None, **EU),
)  # fmt: skip
