"""xAI and Gemini over gRPC, with the simulator's own count. Needs the package grpcio (extra `demo`).

Owns a gRPC server on a port of its own, the messages it writes (by field numbers of the published definitions, so that
no generated code is needed), and what they cost. A unary call is billed when it is answered, a stream when its first
message goes out. Behaviours: `usage`, `model`, `text`, `chunks`, `delay_ms`, `no_usage`, `status` (300 and more: the
call fails), `cut_after` (a stream fails after so many messages), `tool_calls` (numbers of xAI's server-side tools).
Sources: https://github.com/xai-org/xai-proto, https://github.com/googleapis/googleapis
"""

from __future__ import annotations

import hashlib
import time
from concurrent import futures
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import grpc

from aicostguard.simulator.app import App
from aicostguard.simulator.behaviour import Behaviour
from aicostguard.simulator.call import Call, Request
from aicostguard.simulator.count import Billed, Exchange
from aicostguard.usage import Usage

Message = Dict[int, Any]


def encode(message: Message) -> bytes:
    """A message from field numbers: integers, texts, bytes, nested messages, and lists of these. Zeros are left out."""
    out = bytearray()
    for field, value in message.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, int):
                if each:
                    out += _varint(field << 3) + _varint(each)
            elif each is not None:
                data = encode(each) if isinstance(each, dict) else each.encode() if isinstance(each, str) else each
                out += _varint(field << 3 | 2) + _varint(len(data)) + data
    return bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text_of(data: bytes, field: int) -> str:
    """The first text under a field of a request."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            number()
            continue
        size = number() if tag & 7 == 2 else 8 if tag & 7 == 1 else 4
        if tag >> 3 == field and tag & 7 == 2:
            return data[at : at + size].decode("utf-8", "replace")
        at += size
    return ""


_PLAIN = ("input_tokens", "output_tokens", "cache_read_input_tokens")
_XAI = (*_PLAIN, "reasoning_output_tokens")
_XAI_MORE = ("input_image_tokens", "search_units", "reported_cost_nanousd")
_GEMINI_MORE = ("reasoning_output_tokens", "input_audio_tokens", "input_image_tokens", "output_audio_tokens")


def _xai_usage(usage: Usage, tools: Sequence[int]) -> Message:
    """SamplingUsage: completion_tokens leaves reasoning out, total_tokens counts it."""
    reasoning = usage.reasoning_output_tokens or 0
    whole = usage.input_tokens or 0
    return {
        1: (usage.output_tokens or 0) - reasoning,
        2: whole,
        3: whole + (usage.output_tokens or 0),
        4: whole - (usage.input_image_tokens or 0),
        5: usage.input_image_tokens or 0,
        6: reasoning,
        7: usage.cache_read_input_tokens or 0,
        8: usage.search_units or 0,
        9: b"".join(map(_varint, tools)) or None,
        11: (usage.reported_cost_nanousd or 0) * 10,
    }


def _modalities(whole: int, audio: Optional[int], image: Optional[int]) -> List[Message]:
    rows = [(1, whole - (audio or 0) - (image or 0)), (2, image or 0), (4, audio or 0)]
    return [{1: kind, 2: count} for kind, count in rows if count]


def _gemini_usage(vertex: bool) -> Callable[[Usage, Sequence[int]], Message]:
    cached, thoughts, details = (5, 14, (9, 11)) if vertex else (4, 10, (5, 7))

    def render(usage: Usage, tools: Sequence[int]) -> Message:
        reasoning = usage.reasoning_output_tokens or 0
        answer = (usage.output_tokens or 0) - reasoning
        return {
            1: usage.input_tokens,
            2: answer,
            3: (usage.input_tokens or 0) + (usage.output_tokens or 0),
            cached: usage.cache_read_input_tokens or 0,
            thoughts: reasoning,
            details[0]: _modalities(usage.input_tokens or 0, usage.input_audio_tokens, usage.input_image_tokens),
            details[1]: _modalities(answer, usage.output_audio_tokens, None),
        }

    return render


def _xai_answer(call: Call, model: str, piece: str, usage: Optional[Message]) -> Message:
    message = {1: 0, 3: {2: piece, 4: 2}}
    return {1: call.name(""), 2: message, 6: model, 9: usage}


def _xai_chunk(call: Call, model: str, piece: str, usage: Optional[Message]) -> Message:
    return {1: call.name(""), 2: {1: {1: piece, 2: 2}}, 4: model, 6: usage}


def _studio_answer(call: Call, model: str, piece: str, usage: Optional[Message]) -> Message:
    return {1: {1: {1: {2: piece}, 2: "model"}, 2: 1}, 3: usage, 4: model}


def _vertex_answer(call: Call, model: str, piece: str, usage: Optional[Message]) -> Message:
    return {2: {2: {1: "model", 2: {1: piece}}, 3: 1}, 4: usage, 11: model, 13: call.name("")}


class Method(NamedTuple):
    """How one method answers."""

    provider: str
    streamed: bool
    #: the request's field with the model's name
    asked: int
    #: the message with a piece of text, and its usage
    answer: Callable[[Call, str, str, Optional[Message]], Message]
    usage: Callable[[Usage, Sequence[int]], Message]
    #: fields of `Usage` that it states, always and sometimes
    always: Tuple[str, ...]
    sometimes: Tuple[str, ...]


#: path → method
_METHODS: Dict[str, Method] = {
    "/xai_api.Chat/GetCompletion": Method("xai", False, 2, _xai_answer, _xai_usage, _XAI, _XAI_MORE),
    "/xai_api.Chat/GetCompletionChunk": Method("xai", True, 2, _xai_chunk, _xai_usage, _XAI, _XAI_MORE),
}
for _name, _streamed in (("GenerateContent", False), ("StreamGenerateContent", True)):
    _path = "/google.ai.generativelanguage.v1beta.GenerativeService/" + _name
    _METHODS[_path] = Method("google", _streamed, 1, _studio_answer, _gemini_usage(False), _PLAIN, _GEMINI_MORE)
    for _version in ("v1", "v1beta1"):
        _path = "/google.cloud.aiplatform.%s.PredictionService/%s" % (_version, _name)
        _METHODS[_path] = Method("vertex", _streamed, 5, _vertex_answer, _gemini_usage(True), _PLAIN, _GEMINI_MORE)


class RpcServer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Listens on loopback from `start` to `stop`; `target` is "127.0.0.1:PORT"."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._server = grpc.server(futures.ThreadPoolExecutor(8, "aicg-simulator-grpc"))
        self._server.add_generic_rpc_handlers((self,))
        self.target = ""

    def start(self) -> RpcServer:
        """Open the port."""
        self.target = "127.0.0.1:%d" % self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    def stop(self) -> None:
        """Close it, and end what is under way."""
        self._server.stop(None).wait(5)

    def service(self, details: Any) -> Any:
        """How one method is served."""
        known = _METHODS.get(details.method)
        if known is None:
            return grpc.unary_unary_rpc_method_handler(self._other(details.method))
        if known.streamed:
            return grpc.unary_stream_rpc_method_handler(
                lambda data, context: self._stream(details.method, data, context)
            )
        return grpc.unary_unary_rpc_method_handler(lambda data, context: self._answer(details.method, data, context))

    def _other(self, path: str) -> Callable[[bytes, Any], bytes]:
        """Anything else gives back what it was given: a service that is no business of AI's."""

        def echo(data: bytes, context: Any) -> bytes:
            self._app.count.saw(Exchange("custom", "GRPC", path, (), data, 200, "HTTP/2"))
            return data

        return echo

    def _call(self, path: str, data: bytes, context: Any) -> Tuple[Call, str, Optional[Usage], List[Billed]]:
        method = _METHODS[path]
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        behaviour = self._app.steering.choose(headers.get("x-sim"), (None, None, path, data))
        # The body of a call is read as JSON; this one's numbers come from its bytes alone.
        request = Request("GRPC", path, path, "", headers, (), b"", method.provider, "HTTP/2")
        call = Call(request, behaviour, {}, "rpc", self._app.store)
        call.request = request._replace(body=data)
        call.seed = int.from_bytes(hashlib.blake2b(data, digest_size=16).digest(), "big")
        failing = behaviour.status >= 300
        self._app.count.saw(Exchange(method.provider, "GRPC", path, (), data, behaviour.status, "HTTP/2"))
        if failing:
            context.abort(grpc.StatusCode.UNAVAILABLE, "simulated error")
        usage = None if behaviour.no_usage else call.usage(method.always, method.sometimes)
        if usage is not None and method.provider == "xai":
            tools = [int(tool) for tool in behaviour.tool_calls]
            usage = usage._replace(
                web_searches=tools.count(1) or None,
                tool_calls_billed=sum(tool in (2, 3, 6, 8) for tool in tools) or None,
            )
        model = behaviour.model or text_of(data, method.asked).rpartition("/")[2]
        return call, model, usage, [call.bill(usage, model, method.streamed)]

    def _told(self, path: str, usage: Optional[Usage], behaviour: Behaviour) -> Optional[Message]:
        tools = [int(tool) for tool in behaviour.tool_calls]
        return None if usage is None else _METHODS[path].usage(usage, tools)

    def _answer(self, path: str, data: bytes, context: Any) -> bytes:
        call, model, usage, bills = self._call(path, data, context)
        self._app.count.bill(bills).mark(True)
        return encode(_METHODS[path].answer(call, model, call.text(), self._told(path, usage, call.behaviour)))

    def _stream(self, path: str, data: bytes, context: Any) -> Iterator[bytes]:
        call, model, usage, bills = self._call(path, data, context)
        book = self._app.count.bill(bills)
        pieces = call.pieces()
        for number, piece in enumerate(pieces):
            if call.behaviour.cut_after is not None and number >= call.behaviour.cut_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "simulated cut")
            if call.behaviour.delay_ms and number:
                time.sleep(call.behaviour.delay_ms / 1000)
            last = number == len(pieces) - 1
            if last:
                book.mark(True)
            sofar = usage
            if usage is not None and not last:  # snapshots grow
                sofar = Usage(input_tokens=usage.input_tokens, output_tokens=min(number + 1, usage.output_tokens or 0))
            yield encode(_METHODS[path].answer(call, model, piece, self._told(path, sofar, call.behaviour)))
