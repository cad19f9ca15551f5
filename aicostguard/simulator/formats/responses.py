"""The OpenAI Responses API: create, stream, background with polling, retrieval.

Owns `/responses`. A response is billed once: when its usage first shows. For a background response that is the
first retrieval that finds it completed; a retrieval after that, or of a response that was not queued, is free.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from aicostguard.simulator.call import SSE, Call, Reply, dumps, sse
from aicostguard.simulator.count import Billed
from aicostguard.simulator.formats import shapes
from aicostguard.simulator.formats.chat import AZURE_MODEL
from aicostguard.usage import Usage


class _Stored(NamedTuple):
    body: Dict[str, Any]
    #: what is billed when the response is first seen completed; None when that has happened
    bill: Optional[Billed]
    polls_left: int
    pieces: List[str]


def create(call: Call) -> Reply:
    """POST …/responses."""
    shape = shapes.RESPONSES
    usage: Optional[Usage] = None if call.behaviour.no_usage else call.usage(shape.always)
    identifier = call.name("resp_")
    model = call.behaviour.model or (AZURE_MODEL if call.provider == "azure" else call.model())
    body = body_of(call, identifier, model, usage)
    tier = call.behaviour.service_tier
    bill = call.bill(usage, model, call.streamed, service_tier=tier, response_id=identifier)
    background = call.json.get("background") is True
    if background and not call.streamed:
        call.store.put(identifier, _Stored({**body, "background": True}, bill, call.behaviour.polls, call.pieces()))
        return Reply(body=dumps(_unfinished(body, "queued", True)))
    call.store.put(identifier, _Stored(body, None, 0, call.pieces()))
    if call.streamed:
        return Reply(content_type=SSE, events=events_of(body, call.pieces()), bills=[bill])
    return Reply(body=dumps(body), bills=[bill])


def retrieve(call: Call) -> Reply:
    """GET …/responses/ID, also with `stream=true`."""
    identifier = str(call.params.get("id"))
    stored = call.store.get(identifier)
    if stored is None:
        error = {"message": "Response with id '%s' not found." % identifier, "type": "invalid_request_error"}
        return Reply(404, body=dumps({"error": {**error, "param": "id", "code": None}}))
    streamed = "stream=true" in call.request.query
    if stored.bill is None:
        bills: List[Billed] = []
    elif stored.polls_left > 0 and not streamed:
        call.store.put(identifier, stored._replace(polls_left=stored.polls_left - 1))
        return Reply(body=dumps(_unfinished(stored.body, "in_progress", True)))
    else:
        # the tag of the request that caused the cost, not of the one that saw it
        bills = [stored.bill._replace(streamed=streamed)]
        call.store.put(identifier, stored._replace(bill=None))
    if streamed:
        return Reply(content_type=SSE, events=events_of(stored.body, stored.pieces), bills=bills)
    return Reply(body=dumps(stored.body), bills=bills)


def cancel(call: Call) -> Reply:
    """POST …/responses/ID/cancel: nothing is billed any more."""
    identifier = str(call.params.get("id"))
    stored = call.store.get(identifier)
    if stored is None:
        return Reply(404, body=dumps({"error": {"message": "not found", "type": "invalid_request_error"}}))
    if stored.bill is None:
        return Reply(body=dumps(stored.body))
    cancelled = {**_unfinished(stored.body, "cancelled", True), "output": []}
    call.store.put(identifier, _Stored(cancelled, None, 0, []))
    return Reply(body=dumps(cancelled))


def delete(call: Call) -> Reply:
    """DELETE …/responses/ID."""
    identifier = str(call.params.get("id"))
    call.store.pop(identifier)
    return Reply(body=dumps({"id": identifier, "object": "response", "deleted": True}))


def input_tokens(call: Call) -> Reply:
    """POST …/responses/input_tokens: free."""
    return Reply(body=dumps({"object": "response.input_tokens", "input_tokens": 7 + call.seed % 1994}))


def body_of(call: Call, identifier: str, model: str, usage: Optional[Usage]) -> Dict[str, Any]:
    """A whole response."""
    output: List[Dict[str, Any]] = []
    if usage is not None and usage.reasoning_output_tokens:
        output.append({"id": call.name("rs_"), "type": "reasoning", "summary": []})
    if call.behaviour.tool_calls:
        for index, arguments in enumerate(call.behaviour.tool_calls):
            names = {"id": call.name("fc_%d" % index), "call_id": call.name("call_%d" % index), "name": "lookup"}
            output.append({**names, "type": "function_call", "status": "completed", "arguments": arguments})
    else:
        content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": call.text()}]
        message = {"id": call.name("msg_"), "type": "message", "status": "completed", "role": "assistant"}
        output.append({**message, "content": content})
    tools = call.json.get("tools")
    return {
        "id": identifier,
        "object": "response",
        "created_at": call.created,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": call.json.get("max_output_tokens"),
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": call.behaviour.service_tier or "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": tools if isinstance(tools, list) else [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if usage is None else shapes.RESPONSES.render(usage),
        "user": None,
        "metadata": {},
    }


def _unfinished(body: Dict[str, Any], status: str, background: bool) -> Dict[str, Any]:
    return {**body, "status": status, "background": background, "output": [], "usage": None}


def events_of(body: Dict[str, Any], pieces: List[str]) -> Iterator[bytes]:
    """The events of its stream."""
    number = -1

    def event(kind: str, **more: Any) -> bytes:
        nonlocal number
        number += 1
        return sse({"type": kind, "sequence_number": number, **more}, kind)

    begun = _unfinished(body, "in_progress", bool(body["background"]))
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(body["output"]):
        at = {"item_id": item["id"], "output_index": index}
        opened = {**item, "status": "in_progress"}
        if item["type"] == "message":
            opened["content"] = []
        elif item["type"] == "function_call":
            opened["arguments"] = ""
        yield event("response.output_item.added", output_index=index, item=opened)
        if item["type"] == "message":
            part = item["content"][0]
            at["content_index"] = 0
            yield event("response.content_part.added", part={**part, "text": ""}, **at)
            for piece in pieces:
                yield event("response.output_text.delta", delta=piece, logprobs=[], **at)
            yield event("response.output_text.done", text=part["text"], logprobs=[], **at)
            yield event("response.content_part.done", part=part, **at)
        elif item["type"] == "function_call":
            arguments = item["arguments"]
            for start in range(0, len(arguments), 12):
                yield event("response.function_call_arguments.delta", delta=arguments[start : start + 12], **at)
            yield event("response.function_call_arguments.done", arguments=arguments, name=item["name"], **at)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.completed", response=body)
