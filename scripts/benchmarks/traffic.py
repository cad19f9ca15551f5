"""What the benches send and get: bodies of the current openai SDK, and a transport that answers from memory."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List

MESSAGES: Any = [{"role": "user", "content": "hello"}]


def plain_body() -> bytes:
    """A chat completion of 150 words."""
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-08-06",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 150}}
            ],
            "usage": {"prompt_tokens": 120, "completion_tokens": 150, "total_tokens": 270},
        }
    ).encode()


def stream_events(chunks: int) -> List[bytes]:
    """The events of a streamed completion of so many chunks, its usage, and the end."""

    def event(extra: Dict[str, Any]) -> bytes:
        base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}
        return b"data: " + json.dumps({**base, **extra}).encode() + b"\n\n"

    words = [
        event({"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}], "usage": None})
        for _ in range(chunks)
    ]
    usage = event(
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": chunks, "total_tokens": 9 + chunks}}
    )
    return [*words, usage, b"data: [DONE]\n\n"]


def in_memory(body: bytes, streams: Dict[int, List[bytes]]) -> Any:
    """A transport that answers at once; the number of chunks stands in the request's `max_tokens`."""
    import httpx2

    class Events(httpx2.SyncByteStream):
        def __init__(self, events: List[bytes]) -> None:
            self._events = events

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._events)

    def answer(request: Any) -> Any:
        asked = json.loads(request.content)
        if asked.get("stream"):
            return httpx2.Response(
                200, headers={"content-type": "text/event-stream"}, stream=Events(streams[asked["max_tokens"]])
            )
        return httpx2.Response(200, headers={"content-type": "application/json"}, stream=httpx2.ByteStream(body))

    return httpx2.MockTransport(answer)


def ask(client: Any) -> None:
    """One plain call."""
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)


def streamed(client: Any, chunks: int) -> None:
    """One streamed call, read to its end."""
    usage = {"include_usage": True}
    for _ in client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, max_tokens=chunks, stream_options=usage
    ):
        pass
