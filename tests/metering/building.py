"""What a fixture is, and the bricks that fixtures are built of.

`expected` names the fields of `Reading` and `Usage` that differ from their defaults: nothing else may be set.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from aicostguard.metering import Endpoint, Meter, recognise
from aicostguard.usage import Reading, Usage

NDJSON = "application/x-ndjson"
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


def lines(*events: Any, end: str = "\n") -> bytes:
    return "".join(json.dumps(event, separators=(",", ":"), ensure_ascii=False) + end for event in events).encode()


def whole(body: Any, indent: Optional[int] = None) -> bytes:
    return json.dumps(body, indent=indent, ensure_ascii=False).encode()


def aws_message(kind: str, payload: bytes, message: str = "event") -> bytes:
    """One message; `message` is its type, `kind` the event's or the exception's."""
    headers = b""
    for name, value in (
        (":%s-type" % message, kind), (":content-type", "application/json"), (":message-type", message),
    ):  # fmt: skip
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def aws(*payloads: bytes) -> bytes:
    return b"".join(aws_message("chunk", payload) for payload in payloads)


def aws_events(*events: Tuple[str, Any]) -> bytes:
    """Messages by event type; a type that ends in `Exception` is one."""
    return b"".join(
        aws_message(kind, whole(event), "exception" if kind.endswith("Exception") else "event")
        for kind, event in events
    )


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
    provider: str, tokens: Optional[Tuple[int, int]], model: Optional[str] = "m-1", **more: Any
) -> Tuple[Dict[str, Any], ...]:
    said: Dict[str, Any] = {"provider": provider, "model": model}
    if tokens is None:
        said["no_usage"] = True
    else:
        said["input_tokens"], said["output_tokens"] = tokens
    said.update(more)
    return ({name: value for name, value in said.items() if value is not None},)


def void(provider: str, identifier: str, **more: Any) -> Tuple[Dict[str, Any], ...]:
    """Work that is over and bills nothing: whoever remembers its id hears of it."""
    return says(provider, None, None, response_id=identifier, void=True, **more)


def usage(reading: Reading) -> Usage:
    assert reading.usage is not None
    return reading.usage


FIXTURES: List[Fixture] = []


def add(*args: Any, **kwargs: Any) -> None:
    FIXTURES.append(Fixture(*args, **kwargs))


C1 = {"response_id": "c1"}
