"""OpenAI chat completions and what other providers make of them, and the older text completions.

Owns `/chat/completions` and `/completions`, plain and streamed. The providers differ in their usage object and
in where a stream carries it (`shapes`), and in the oddities below, each of which a client has met in the wild.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional

from aicostguard.simulator.call import SSE, Call, Reply, dumps, sse
from aicostguard.simulator.formats import shapes
from aicostguard.simulator.formats.shapes import Shape
from aicostguard.usage import Usage

#: model that stands behind an Azure deployment, whatever its name
AZURE_MODEL = "gpt-4o-2024-11-20"
_CEREBRAS_TIMES = {"queue_time": 0.001, "prompt_time": 0.002, "completion_time": 0.1, "total_time": 0.103}


def chat(call: Call) -> Reply:
    """POST …/chat/completions."""
    shape = shapes.CHAT.get(call.provider, shapes.OPENAI)
    usage = numbers(call, shape)
    model = _model(call)
    head: Dict[str, Any] = {"id": call.name("chatcmpl-"), "created": call.created, "model": model}
    tier = call.behaviour.service_tier
    if call.provider in ("openai", "azure", "openrouter", "groq") and tier:
        head["service_tier"] = tier
    elif call.provider == "groq" and not call.streamed:
        head["service_tier"] = "on_demand"  # Groq always names one, and its clients count on that
    head["system_fingerprint"] = "fp_simulator"
    bill = call.bill(
        None if call.behaviour.no_usage else usage, model, call.streamed, service_tier=tier, response_id=head["id"]
    )
    if call.streamed:
        return Reply(content_type=SSE, events=_Stream(call, shape, head, usage).events(), bills=[bill])
    body = {**head, "object": "chat.completion", "choices": [_choice(call)]}
    if not call.behaviour.no_usage:
        body["usage"] = shape.render(usage)
    if call.provider == "groq":
        body["x_groq"] = {"id": call.name("req_")}
    if call.provider == "cerebras":
        body["time_info"] = _CEREBRAS_TIMES
    return Reply(body=dumps(body), bills=[bill])


def numbers(call: Call, shape: Shape) -> Usage:
    """The call's usage; with the provider's own cost where it states one."""
    usage = call.usage(shape.always, shape.sometimes)
    if shape.costed and "reported_cost_nanousd" not in (call.behaviour.usage or {}):
        cost = 1_000 * (usage.input_tokens or 0) + 4_000 * (usage.output_tokens or 0) + 5_000_000
        usage = usage._replace(reported_cost_nanousd=cost)
    return usage


def _model(call: Call) -> str:
    if call.provider == "azure":
        return call.behaviour.model or AZURE_MODEL
    return call.model()


def _tool_calls(call: Call, indexed: bool) -> List[Dict[str, Any]]:
    calls = []
    for index, arguments in enumerate(call.behaviour.tool_calls):
        item: Dict[str, Any] = {"index": index} if indexed else {}
        item.update(id="call_%08x%d" % (call.serial, index), type="function")
        item["function"] = {"name": "lookup", "arguments": arguments}
        calls.append(item)
    return calls


def _choice(call: Call) -> Dict[str, Any]:
    message: Dict[str, Any] = {"role": "assistant", "content": call.text()}
    if call.provider == "openai":
        message.update(refusal=None, annotations=[])
    reason = "stop"
    if call.behaviour.tool_calls:
        message["content"] = None
        message["tool_calls"] = _tool_calls(call, call.provider == "together")
        reason = "tool_calls"
    choice: Dict[str, Any] = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    if call.provider == "perplexity":
        choice["delta"] = {"role": "assistant", "content": ""}
    return choice


def _asked(call: Call, shape: Shape) -> bool:
    if call.behaviour.no_usage:
        return False
    if call.behaviour.include_usage is not None:
        return call.behaviour.include_usage
    if shape.stream not in (shapes.ASKED, shapes.GROQ):
        return True
    options = call.json.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


class _Stream:
    """One chat stream: what is the same in all of its chunks."""

    def __init__(self, call: Call, shape: Shape, head: Dict[str, Any], usage: Usage) -> None:
        self.call, self.shape, self.usage = call, shape, usage
        self.frame = {**head, "object": "chat.completion.chunk"}
        self.stated = _asked(call, shape)
        self.own_chunk = self.stated and shape.stream in (shapes.ASKED, shapes.GROQ, shapes.ALWAYS)
        #: OpenAI writes `usage: null` into every other chunk once usage was asked for
        self.nothing = {"usage": None} if self.own_chunk and shape.stream == shapes.ASKED else {}

    def chunk(
        self,
        delta: Dict[str, Any],
        done: int = 0,
        reason: Optional[str] = None,
        more: Optional[Dict[str, Any]] = None,
    ) -> bytes:
        """One event. `done`: output tokens so far, for the provider that counts aloud."""
        choice: Dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        if self.shape.role_in_each:
            delta.setdefault("role", "assistant")
        if self.call.provider == "perplexity":
            choice["message"] = {"role": "assistant", "content": delta.get("content") or ""}
        extra = {**self.nothing, **(more or {})}
        if self.shape.stream == shapes.EACH and self.stated and reason is None:
            # the money is stated at the end only
            written = min(done, self.usage.output_tokens or 0)
            extra["usage"] = self.shape.render(self.usage._replace(output_tokens=written, reported_cost_nanousd=0))
        return sse({**self.frame, "choices": [choice], **extra})

    def events(self) -> Iterator[bytes]:
        """The whole stream."""
        yield from self._opening()
        if self.call.behaviour.tool_calls:
            yield from self._tools()
            reason = "tool_calls"
        else:
            yield from self._content()
            reason = "stop"
        yield self.chunk({}, self.usage.output_tokens or 0, reason, self._last())
        if self.own_chunk:
            yield sse({**self.frame, "choices": [], "usage": self.shape.render(self.usage)})
        yield b"data: [DONE]\n\n"

    def _opening(self) -> Iterator[bytes]:
        provider = self.call.provider
        if provider == "openrouter":
            yield b": OPENROUTER PROCESSING\n\n"
        if provider == "azure":
            first = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
            yield sse({**first, "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]})
        more = {"x_groq": {"id": self.call.name("req_")}} if provider == "groq" else {}
        yield self.chunk({"role": "assistant", "content": ""}, more=more)

    def _content(self) -> Iterator[bytes]:
        pieces = self.call.pieces()
        if self.shape.stream == shapes.EACH or self.shape.role_in_each:
            for number, piece in enumerate(pieces):
                yield self.chunk({"content": piece}, number + 1)
            return
        # long streams are most of a benchmark: only the text differs from chunk to chunk
        start, end = self.chunk({"content": "\x00"}).split(b'"\\u0000"')
        for piece in pieces:
            yield start + dumps(piece) + end

    def _tools(self) -> Iterator[bytes]:
        for item in _tool_calls(self.call, True):
            arguments = item["function"]["arguments"]
            yield self.chunk({"tool_calls": [{**item, "function": {"name": "lookup", "arguments": ""}}]}, 1)
            size = max(1, -(-len(arguments) // max(1, self.call.behaviour.chunks)))
            for at in range(0, len(arguments), size):
                # Cerebras' SDK wants the type in each delta; the others take it as well
                part = {"index": item["index"], "type": "function"}
                yield self.chunk({"tool_calls": [{**part, "function": {"arguments": arguments[at : at + size]}}]}, 1)

    def _last(self) -> Dict[str, Any]:
        """What the chunk with the finish reason carries beside it."""
        last: Dict[str, Any] = {}
        rendered = self.shape.render(self.usage)
        if self.stated and self.shape.stream in (shapes.LAST, shapes.EACH):
            last["usage"] = rendered
        if self.shape.stream == shapes.GROQ:
            last["x_groq"] = {"id": self.call.name("req_")}
            if self.call.behaviour.include_usage is not False and not self.call.behaviour.no_usage:
                last["x_groq"]["usage"] = rendered
        if self.call.provider == "cerebras":
            last["time_info"] = _CEREBRAS_TIMES
        return last


def completions(call: Call) -> Reply:
    """POST …/completions, the older text format."""
    shape = shapes.COMPLETIONS
    usage = call.usage(shape.always)
    head = {"id": call.name("cmpl-"), "object": "text_completion", "created": call.created, "model": _model(call)}
    stated = None if call.behaviour.no_usage else usage
    bill = call.bill(stated, str(head["model"]), call.streamed, response_id=str(head["id"]))
    if call.streamed:
        return Reply(content_type=SSE, events=_text_events(call, head, shape.render(usage)), bills=[bill])
    choice = {"text": call.text(), "index": 0, "logprobs": None, "finish_reason": "stop"}
    body = {**head, "choices": [choice]}
    if stated is not None:
        body["usage"] = shape.render(usage)
    return Reply(body=dumps(body), bills=[bill])


def _text_events(call: Call, head: Dict[str, Any], rendered: Dict[str, Any]) -> Iterator[bytes]:
    stated = _asked(call, shapes.COMPLETIONS)
    nothing = {"usage": None} if stated else {}
    for piece in call.pieces():
        choice = {"text": piece, "index": 0, "logprobs": None, "finish_reason": None}
        yield sse({**head, "choices": [choice], **nothing})
    yield sse({**head, "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}], **nothing})
    if stated:
        yield sse({**head, "choices": [], "usage": rendered})
    yield b"data: [DONE]\n\n"
