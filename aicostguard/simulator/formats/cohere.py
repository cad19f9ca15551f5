"""Cohere's own formats: chat of both versions, embeddings, rerank.

It bills less than it processes: `billed_units` leaves out what `tokens` counts of its own rendering.
https://docs.cohere.com/reference/chat
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

from aicostguard.simulator.call import SSE, Call, Reply, dumps, sse
from aicostguard.simulator.formats.vectors import floats
from aicostguard.usage import Usage

#: tokens that Cohere adds to every prompt and does not bill
OVERHEAD = 57


def _counted(call: Call, usage: Usage) -> Dict[str, Any]:
    if call.behaviour.no_usage:
        return {}
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "billed_units": {"input_tokens": given, "output_tokens": made},
        "tokens": {"input_tokens": given + OVERHEAD, "output_tokens": made + 2},
        "cached_tokens": given,
    }


def chat_v1(call: Call) -> Reply:
    """POST /v1/chat, whole or as lines of JSON."""
    usage = call.usage(("input_tokens", "output_tokens"))
    model, generation = call.model(), call.name("")
    bill = call.bill(None if call.behaviour.no_usage else usage, model, call.streamed)
    whole = {
        "response_id": call.name(""),
        "text": call.text(),
        "generation_id": generation,
        "chat_history": [{"role": "USER", "message": "hi"}, {"role": "CHATBOT", "message": call.text()}],
        "finish_reason": "COMPLETE",
        "meta": {"api_version": {"version": "1"}, **_counted(call, usage)},
    }
    if not call.streamed:
        return Reply(body=dumps(whole), bills=[bill])

    def events() -> Iterator[bytes]:
        yield dumps({"is_finished": False, "event_type": "stream-start", "generation_id": generation}) + b"\n"
        for piece in call.pieces():
            yield dumps({"is_finished": False, "event_type": "text-generation", "text": piece}) + b"\n"
        last = {"is_finished": True, "event_type": "stream-end", "response": whole, "finish_reason": "COMPLETE"}
        yield dumps(last) + b"\n"

    return Reply(content_type="application/stream+json", events=events(), bills=[bill])


def chat_v2(call: Call) -> Reply:
    """POST /v2/chat, whole or as server-sent events."""
    usage = call.usage(("input_tokens", "output_tokens"))
    name = call.name("")
    bill = call.bill(None if call.behaviour.no_usage else usage, call.model(), call.streamed, response_id=name)
    if call.streamed:
        return Reply(content_type=SSE, events=_events(call, name, usage), bills=[bill])
    message: Dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": call.text()}]}
    if call.behaviour.tool_calls:
        message = {"role": "assistant", "tool_plan": "I look it up.", "tool_calls": _tools(call)}
    body = {"id": name, "message": message, "finish_reason": _end(call), "usage": _counted(call, usage)}
    return Reply(body=dumps(body), bills=[bill])


def _end(call: Call) -> str:
    return "TOOL_CALL" if call.behaviour.tool_calls else "COMPLETE"


def _tools(call: Call) -> List[Dict[str, Any]]:
    return [
        {"id": "lookup_%d" % number, "type": "function", "function": {"name": "lookup", "arguments": arguments}}
        for number, arguments in enumerate(call.behaviour.tool_calls)
    ]


def _events(call: Call, name: str, usage: Usage) -> Iterator[bytes]:
    def event(kind: str, **more: Any) -> bytes:
        return sse({"type": kind, **more}, kind)

    start = {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}
    yield sse({"id": name, "type": "message-start", "delta": start}, "message-start")
    if call.behaviour.tool_calls:
        for index, tool in enumerate(_tools(call)):
            opened = {**tool, "function": {"name": "lookup", "arguments": ""}}
            yield event("tool-call-start", index=index, delta={"message": {"tool_calls": opened}})
            part = {"function": {"arguments": tool["function"]["arguments"]}}
            yield event("tool-call-delta", index=index, delta={"message": {"tool_calls": part}})
            yield event("tool-call-end", index=index)
    else:
        yield event("content-start", index=0, delta={"message": {"content": {"type": "text", "text": ""}}})
        for piece in call.pieces():
            yield event("content-delta", index=0, delta={"message": {"content": {"text": piece}}})
        yield event("content-end", index=0)
    yield event("message-end", delta={"finish_reason": _end(call), "usage": _counted(call, usage)})
    yield b"data: [DONE]\n\n"


def embed(call: Call) -> Reply:
    """POST /v1/embed and /v2/embed."""
    usage = call.usage(("input_tokens",))
    texts = call.json.get("texts")
    vectors = [floats(384, number) for number in range(len(texts) if isinstance(texts, list) else 1)]
    name = call.name("")
    by_type = call.params.get("version") == "2" or call.json.get("embedding_types")
    body = {
        "id": name,
        "embeddings": {"float": vectors} if by_type else vectors,
        "texts": texts if isinstance(texts, list) else [],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": usage.input_tokens}},
        "response_type": "embeddings_by_type" if by_type else "embeddings_floats",
    }
    return Reply(body=dumps(body), bills=[call.bill(usage, call.model(), response_id=name)])


def rerank(call: Call) -> Reply:
    """POST /v1/rerank and /v2/rerank: billed by the search."""
    documents = call.json.get("documents")
    count = len(documents) if isinstance(documents, list) else 1
    results = [{"index": at, "relevance_score": 1 / (at + 1)} for at in range(count)]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    body = {"id": call.name(""), "results": results, "meta": meta}
    return Reply(body=dumps(body), bills=[call.bill(Usage(search_units=1), call.model())])
