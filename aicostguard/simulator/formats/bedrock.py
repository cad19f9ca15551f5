"""Amazon Bedrock's runtime: Converse, and InvokeModel in the shape of each model's maker, plain and as event streams.

Owns `/model/ID/…`. Bedrock counts what a cache held apart from `inputTokens`, says its counts in headers or in the
last chunk of a stream, and bills the address that was asked for. Source: the service model that botocore ships, and the
inference parameters of each maker in Bedrock's user guide.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Pattern, Sequence, Tuple
from urllib.parse import unquote

from aicostguard.simulator.call import Call, Refused, Reply, dumps
from aicostguard.simulator.formats import anthropic, eventstream, vectors
from aicostguard.usage import Usage

_CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")
_BOTH = ("input_tokens", "output_tokens")

Body = Dict[str, Any]


def identifier(call: Call) -> str:
    """The model's address in the URL."""
    return unquote(str(call.params.get("model")))


def fresh(usage: Usage) -> int:
    """Input that no cache held."""
    held = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return (usage.input_tokens or 0) - held


def tokens(usage: Usage, suffix: str = "") -> Body:
    """A `TokenUsage`. Nova, invoked directly, writes `suffix` behind the names of cached tokens."""
    told: Body = {"inputTokens": fresh(usage), "outputTokens": usage.output_tokens or 0}
    told["totalTokens"] = (usage.input_tokens or 0) + told["outputTokens"]
    for name, field in (("cacheReadInputToken", _CACHED[0]), ("cacheWriteInputToken", _CACHED[1])):
        value = getattr(usage, field)
        if value is not None or suffix:
            told[name + (suffix or "s")] = value or 0
    hour = usage.cache_creation_1h_input_tokens
    if hour is not None:
        written = usage.cache_creation_input_tokens or 0
        told["cacheDetails"] = [{"ttl": "1h", "inputTokens": hour}, {"ttl": "5m", "inputTokens": written - hour}]
    return told


# --- Converse ------------------------------------------------------------------------------------------------------


def converse(call: Call) -> Reply:
    """POST /model/ID/converse and /converse-stream."""
    streamed = call.params.get("verb") == "converse-stream"
    usage = None if call.behaviour.no_usage else call.usage(_BOTH, (*_CACHED, "cache_creation_1h_input_tokens"))
    tier, router = call.behaviour.service_tier, call.behaviour.model
    tail: Body = {"metrics": {"latencyMs": 700}}
    if usage is not None:
        tail["usage"] = tokens(usage)
    if tier:
        tail["serviceTier"] = {"type": tier}
    if router:
        tail["trace"] = {"promptRouter": {"invokedModelId": router}}
    bill = call.bill(usage, router or identifier(call), streamed, service_tier=tier)
    reason = "tool_use" if call.behaviour.tool_calls else "end_turn"
    inputs = call.tool_inputs()
    if streamed:
        return Reply(content_type=eventstream.TYPE, events=_turn(call, reason, tail), bills=[bill])
    content: List[Body] = [{"text": call.text()}]
    content += [{"toolUse": {**_tool(call, at), "input": value}} for at, value in enumerate(inputs)]
    message = {"role": "assistant", "content": content}
    body = {"output": {"message": message}, "stopReason": reason, **tail}
    return Reply(body=dumps(dict(sorted(body.items()))), bills=[bill])


def _tool(call: Call, at: int) -> Body:
    return {"toolUseId": "tooluse_%08x%d" % (call.serial, at), "name": "lookup"}


def _turn(call: Call, reason: str, tail: Body) -> Iterator[bytes]:
    def say(name: str, data: Body) -> bytes:
        return eventstream.event(name, dumps({**data, "p": "abcdefghij"[: 1 + call.seed % 10]}))

    yield say("messageStart", {"role": "assistant"})
    for piece in call.pieces():
        yield say("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}})
    yield say("contentBlockStop", {"contentBlockIndex": 0})
    for at, arguments in enumerate(call.behaviour.tool_calls, 1):
        yield say("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": _tool(call, at)}})
        yield say("contentBlockDelta", {"contentBlockIndex": at, "delta": {"toolUse": {"input": arguments}}})
        yield say("contentBlockStop", {"contentBlockIndex": at})
    yield say("messageStop", {"stopReason": reason})
    yield say("metadata", tail)


def count_tokens(call: Call) -> Reply:
    """POST /model/ID/count-tokens: free."""
    return Reply(body=dumps({"inputTokens": 7 + call.seed % 1994}))


# --- InvokeModel ---------------------------------------------------------------------------------------------------


class Family(NamedTuple):
    """Models of one maker. `whole` and `events` render an answer; both get None when usage is not to be told."""

    model: Pattern[str]
    whole: Any
    events: Any = None
    always: Sequence[str] = _BOTH
    sometimes: Sequence[str] = ()
    #: the counts stand in headers and metrics
    counted: bool = True


def invoke(call: Call) -> Reply:
    """POST /model/ID/invoke and /invoke-with-response-stream."""
    name = identifier(call)
    streamed = call.params.get("verb") == "invoke-with-response-stream"
    if "anthropic." in name:
        return _claude(call, name, streamed)
    family = next(row for row in _FAMILIES if row.model.search(name))
    if call.behaviour.model and family.whole is not _chat:
        raise Refused("%s does not name its model" % name)
    usage = None if call.behaviour.no_usage else call.usage(family.always, family.sometimes)
    tier = call.behaviour.service_tier
    told = usage if family.counted else None
    bill = call.bill(told, call.behaviour.model or name, streamed, service_tier=tier)
    headers = [("x-amzn-bedrock-service-tier", tier)] if tier else []
    if streamed:
        if family.events is None:
            raise Refused("%s does not stream" % name)
        events = _chunks(family.events(call, told), told)
        return Reply(content_type=eventstream.TYPE, events=events, bills=[bill], headers=headers)
    headers += _headers(told)
    return Reply(body=dumps(family.whole(call, told)), bills=[bill], headers=headers)


def _claude(call: Call, name: str, streamed: bool) -> Reply:
    said = name.rsplit("/", 1)[-1].rsplit("anthropic.", 1)[-1].split(":")[0].rsplit("-v", 1)[0]
    model = call.behaviour.model or said
    reply = anthropic.answer(call, model, streamed)
    usage = reply.bills[0].usage
    bill = reply.bills[0]._replace(model=call.behaviour.model or name)
    if not streamed:
        return reply._replace(headers=_headers(usage), bills=[bill])
    events = anthropic.events(call, model, str(reply.bills[0].response_id), usage)
    chunks = _chunks((data for kind, data in events if kind != "ping"), usage)
    return reply._replace(content_type=eventstream.TYPE, events=chunks, bills=[bill])


def _headers(usage: Optional[Usage]) -> List[Tuple[str, str]]:
    if usage is None:
        return []
    told = [("input", fresh(usage)), ("output", usage.output_tokens)]
    told += [("cache-read-input", usage.cache_read_input_tokens)]
    told += [("cache-write-input", usage.cache_creation_input_tokens)]
    return [("x-amzn-bedrock-%s-token-count" % name, str(value)) for name, value in told if value is not None]


def _chunks(events: Iterator[Body], usage: Optional[Usage]) -> Iterator[bytes]:
    """Each event in a chunk; the last has the metrics beside what its maker says."""
    held: Optional[Body] = None
    for event in events:
        if held is not None:
            yield _chunk(held)
        held = event
    if held is not None and usage is not None:
        held["amazon-bedrock-invocationMetrics"] = {
            "inputTokenCount": fresh(usage),
            "outputTokenCount": usage.output_tokens,
            "invocationLatency": 700,
            "firstByteLatency": 200,
            "cacheReadInputTokenCount": usage.cache_read_input_tokens or 0,
            "cacheWriteInputTokenCount": usage.cache_creation_input_tokens or 0,
        }
    if held is not None:
        yield _chunk(held)


def _chunk(event: Body) -> bytes:
    return eventstream.event("chunk", dumps({"bytes": base64.b64encode(dumps(event)).decode(), "p": "abcd"}))


def _nova(call: Call, usage: Optional[Usage]) -> Body:
    body: Body = {"output": {"message": {"content": [{"text": call.text()}], "role": "assistant"}}}
    return {**body, "stopReason": "end_turn", **({} if usage is None else {"usage": tokens(usage, "Count")})}


def _nova_events(call: Call, usage: Optional[Usage]) -> Iterator[Body]:
    yield {"messageStart": {"role": "assistant"}}
    for piece in call.pieces():
        yield {"contentBlockDelta": {"delta": {"text": piece}, "contentBlockIndex": 0}}
    yield {"contentBlockStop": {"contentBlockIndex": 0}}
    yield {"messageStop": {"stopReason": "end_turn"}}
    told: Body = {} if usage is None else {"usage": tokens(usage, "Count")}
    yield {"metadata": {**told, "metrics": {}, "trace": {}}}


def _titan(call: Call, usage: Optional[Usage]) -> Body:
    result: Body = {"outputText": call.text(), "completionReason": "FINISH"}
    if usage is None:
        return {"results": [result]}
    return {"inputTextTokenCount": usage.input_tokens, "results": [{"tokenCount": usage.output_tokens, **result}]}


def _titan_events(call: Call, usage: Optional[Usage]) -> Iterator[Body]:
    pieces = call.pieces()
    for at, piece in enumerate(pieces):
        event: Body = {"outputText": piece, "index": 0, "completionReason": None}
        if usage is not None:
            last = at == len(pieces) - 1
            event["totalOutputTextTokenCount"] = usage.output_tokens if last else None
            event["inputTextTokenCount"] = None if at else usage.input_tokens
        yield event


def _llama(call: Call, usage: Optional[Usage]) -> Body:
    body: Body = {"generation": call.text(), "stop_reason": "stop"}
    if usage is not None:
        body.update(prompt_token_count=usage.input_tokens, generation_token_count=usage.output_tokens)
    return body


def _llama_events(call: Call, usage: Optional[Usage]) -> Iterator[Body]:
    pieces = call.pieces()
    for at, piece in enumerate(pieces):
        event: Body = {"generation": piece, "stop_reason": None}
        if usage is not None:
            made = (usage.output_tokens or 0) if at == len(pieces) - 1 else min(at + 1, usage.output_tokens or 0)
            event.update(prompt_token_count=None if at else usage.input_tokens, generation_token_count=made)
        yield event


def _text(call: Call, usage: Optional[Usage]) -> Body:
    return {"text": call.text(), "generation_id": call.name(""), "finish_reason": "COMPLETE"}


def _text_events(call: Call, usage: Optional[Usage]) -> Iterator[Body]:
    for piece in call.pieces():
        yield {"event_type": "text-generation", "text": piece, "is_finished": False}
    yield {"event_type": "stream-end", "is_finished": True, "finish_reason": "COMPLETE"}


def _chat(call: Call, usage: Optional[Usage]) -> Body:
    body = _completion(call, "chat.completion", {"message": {"role": "assistant", "content": call.text()}}, "stop")
    return {**body, **_openai(usage)}


def _chat_events(call: Call, usage: Optional[Usage]) -> Iterator[Body]:
    for piece in call.pieces():
        yield _completion(call, "chat.completion.chunk", {"delta": {"content": piece}}, None)
    yield {**_completion(call, "chat.completion.chunk", {"delta": {}}, "stop"), **_openai(usage)}


def _completion(call: Call, kind: str, choice: Body, reason: Optional[str]) -> Body:
    model = call.behaviour.model or identifier(call)
    choices = [{"index": 0, **choice, "finish_reason": reason}]
    return {"id": call.name("chatcmpl-"), "object": kind, "created": call.created, "model": model, "choices": choices}


def _openai(usage: Optional[Usage]) -> Body:
    if usage is None:
        return {}
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    told: Body = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if usage.cache_read_input_tokens is not None:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cache_read_input_tokens}
    return {"usage": told}


def _titan_vector(call: Call, usage: Optional[Usage]) -> Body:
    size = call.json.get("dimensions") or 1024
    body: Body = {"embedding": vectors.floats(size, 0)}
    return body if usage is None else {**body, "inputTextTokenCount": usage.input_tokens}


def _cohere_vectors(call: Call, usage: Optional[Usage]) -> Body:
    texts = call.json.get("texts") or [""]
    rows = [vectors.floats(1024, at) for at in range(len(texts))]
    return {"embeddings": rows, "id": call.name(""), "response_type": "embeddings_floats", "texts": texts}


def _ranking(call: Call, usage: Optional[Usage]) -> Body:
    documents = call.json.get("documents") or [""]
    return {"results": [{"index": at, "relevance_score": 1 / (2 + at)} for at in range(len(documents))]}


_INPUT = ("input_tokens",)
_FAMILIES: Tuple[Family, ...] = (
    Family(re.compile(r"cohere\.embed"), _cohere_vectors, None, _INPUT),
    Family(re.compile(r"embed"), _titan_vector, None, _INPUT),
    Family(re.compile(r"rerank"), _ranking, None, (), (), False),
    Family(re.compile(r"nova"), _nova, _nova_events, _BOTH, _CACHED),
    Family(re.compile(r"titan"), _titan, _titan_events),
    Family(re.compile(r"llama"), _llama, _llama_events),
    Family(re.compile(r"cohere|mistral-7b|j2-"), _text, _text_events),
    Family(re.compile(r""), _chat, _chat_events, _BOTH, ("cache_read_input_tokens",)),
)
