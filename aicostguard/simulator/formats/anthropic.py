"""Anthropic's messages: on its own host and on Vertex; `batches` and `bedrock` answer with them, too.

Owns `/v1/messages`, `count_tokens` and `rawPredict`. `input_tokens` leaves cached and written tokens out (they come on
top); output includes thinking. Source: the API reference of messages and the SDK's types.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

from aicostguard.simulator.call import SSE, Call, Reply, dumps, sse
from aicostguard.usage import Usage

_ALWAYS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation_1h_input_tokens",
)
_SOMETIMES = ("reasoning_output_tokens", "web_searches")

Event = Tuple[str, Dict[str, Any]]


def messages(call: Call) -> Reply:
    """POST /v1/messages."""
    return answer(call, call.model(), call.streamed)


def vertex(call: Call) -> Reply:
    """POST …/publishers/anthropic/models/MODEL:rawPredict and :streamRawPredict."""
    if call.params.get("model") == "count-tokens":
        return count_tokens(call)
    model = call.behaviour.model or str(call.params.get("model")).replace("@", "-")
    return answer(call, model, call.params.get("verb") == "streamRawPredict")


def count_tokens(call: Call) -> Reply:
    """POST /v1/messages/count_tokens: free."""
    return Reply(body=dumps({"input_tokens": 7 + call.seed % 1994}))


def _fresh(usage: Usage) -> int:
    written = usage.cache_creation_input_tokens or 0
    return (usage.input_tokens or 0) - (usage.cache_read_input_tokens or 0) - written


def _render(usage: Usage, tier: Optional[str]) -> Dict[str, Any]:
    written = usage.cache_creation_input_tokens or 0
    hour = usage.cache_creation_1h_input_tokens or 0
    out: Dict[str, Any] = {
        "input_tokens": _fresh(usage),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read_input_tokens or 0,
        "cache_creation": {"ephemeral_5m_input_tokens": written - hour, "ephemeral_1h_input_tokens": hour},
        "output_tokens": usage.output_tokens or 0,
        "service_tier": tier or "standard",
    }
    if usage.reasoning_output_tokens is not None:
        out["output_tokens_details"] = {"thinking_tokens": usage.reasoning_output_tokens}
    if usage.web_searches is not None:
        out["server_tool_use"] = {"web_search_requests": usage.web_searches, "web_fetch_requests": 0}
    return out


def _message(call: Call, model: str, identifier: str, usage: Optional[Usage]) -> Dict[str, Any]:
    content: List[Dict[str, Any]] = [{"type": "text", "text": call.text()}]
    reason = "end_turn"
    if call.behaviour.tool_calls:
        reason = "tool_use"
        content += [_tool(call, index, value) for index, value in enumerate(call.tool_inputs())]
    return {
        "id": identifier,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {} if usage is None else _render(usage, call.behaviour.service_tier),
    }


def _tool(call: Call, index: int, value: Any) -> Dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_%08x%d" % (call.serial, index), "name": "lookup", "input": value}


def answer(call: Call, model: str, streamed: bool) -> Reply:
    """The message, whole or as server-sent events."""
    usage = None if call.behaviour.no_usage else call.usage(_ALWAYS, _SOMETIMES)
    call.tool_inputs()  # refused here, and not in the middle of a stream
    identifier = call.name("msg_")
    tier = call.behaviour.service_tier
    bill = call.bill(usage, model, streamed, service_tier=tier, response_id=identifier)
    if streamed:
        stream = (sse(data, name) for name, data in events(call, model, identifier, usage))
        return Reply(content_type=SSE, events=stream, bills=[bill])
    return Reply(body=dumps(_message(call, model, identifier, usage)), bills=[bill])


def events(call: Call, model: str, identifier: str, usage: Optional[Usage]) -> Iterator[Event]:
    """The events of a stream, each with its name."""
    opening = _message(call, model, identifier, usage)
    opening.update(content=[], stop_reason=None)
    if usage is not None:
        opening["usage"]["output_tokens"] = 1
        for late in ("output_tokens_details", "server_tool_use"):
            opening["usage"].pop(late, None)
    yield "message_start", {"type": "message_start", "message": opening}
    yield from _block(0, {"type": "text", "text": ""}, [{"type": "text_delta", "text": t} for t in call.pieces()])
    for index, arguments in enumerate(call.behaviour.tool_calls):
        size = max(1, -(-len(arguments) // max(1, call.behaviour.chunks)))
        parts = [arguments[i : i + size] for i in range(0, len(arguments), size)]
        block = _tool(call, index, {})
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        yield from _block(index + 1, block, deltas)
    reason = "tool_use" if call.behaviour.tool_calls else "end_turn"
    closing: Dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}}
    if usage is not None:
        kept = _render(usage, None)
        del kept["cache_creation"], kept["service_tier"]  # message_delta repeats the counts without these two
        closing["usage"] = kept
    else:
        closing["usage"] = {}
    yield "message_delta", closing
    yield "message_stop", {"type": "message_stop"}


def _block(index: int, block: Dict[str, Any], deltas: List[Dict[str, Any]]) -> Iterator[Event]:
    yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": block}
    if index == 0:
        yield "ping", {"type": "ping"}
    for delta in deltas:
        yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": index}
