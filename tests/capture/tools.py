"""What tests of capture share: the same code run without and with the agent, and a look at what it got.

Owns `both` and `shown`. If `shown` hides too much, a difference between the two runs goes unnoticed.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Awaitable, Callable, Dict, List, TypeVar

from tests.agent import Agent

T = TypeVar("T")

HI = [{"role": "user", "content": "hi"}]
CLAUDE = "claude-opus-4-8"
GEMINI = "gemini-2.5-flash"
ENCODINGS = ("identity", "gzip", "deflate", "br", "zstd")
CHAT = {"model": "gpt-4o", "messages": HI}
STREAM = dict(CHAT, stream=True, stream_options={"include_usage": True})

#: what differs from run to run in what the simulator says: ids, times, addresses in memory, dates
_SCRUBBED = (
    (re.compile(r"[0-9a-f]{24}"), "ID"),
    (re.compile(r"\b1[789]\d{8}(\.\d+)?\b"), "TIME"),
    (re.compile(r"0x[0-9a-f]{6,}"), "AT"),
    (re.compile(r"localhost:\d+|127\.0\.0\.1:\d+"), "HOST"),
)


def scrub(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, word in _SCRUBBED:
        text = pattern.sub(word, text)
    return text


def kind(value: Any) -> str:
    """The type, by its full name."""
    return "%s.%s" % (type(value).__module__, type(value).__qualname__)


def shown(value: Any) -> Any:
    """Type and content of anything, comparable between two runs."""
    if isinstance(value, (list, tuple)):
        return [kind(value), *map(shown, value)]
    if isinstance(value, bytes):
        return ["bytes", scrub(value.decode("utf-8", "backslashreplace"))]
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return [kind(value), scrub(json.dumps(dump(mode="json", warnings=False), sort_keys=True, default=str))]
    return [kind(value), scrub(value if isinstance(value, str) else repr(value))]


def attempt(function: Callable[[], Any]) -> Any:
    """What a function gives, or how it fails."""
    try:
        return shown(function())
    except Exception as error:
        return [kind(error), scrub(str(error))]


def both(agent: Agent, function: Callable[[], T]) -> T:
    """Run without the agent, then with it, and insist on the same result; the result is given back."""
    agent.off()
    off = function()
    agent.receipts.clear()
    agent.simulator.reset_count()
    agent.on()
    on = function()
    assert on == off
    return on


def both_async(agent: Agent, function: Callable[[], Awaitable[T]]) -> T:
    """`both` for a coroutine function; each run has an event loop of its own."""

    async def run() -> T:
        return await function()

    return both(agent, lambda: asyncio.run(run()))


def plain(receipt: Dict[str, Any]) -> Dict[str, Any]:
    """A receipt without what a clock decides."""
    return {key: value for key, value in receipt.items() if key not in ("latency_ms", "ttft_ms")}


def only(agent: Agent) -> Dict[str, Any]:
    """The one receipt there is."""
    receipts: List[Dict[str, Any]] = agent.settled(1)
    assert len(receipts) == 1, receipts
    return receipts[0]


_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}


def _event(**members: Any) -> bytes:
    return b"data: " + json.dumps({**_CHUNK, **members}).encode() + b"\n\n"


#: a chat stream as https://developers.openai.com/api/reference/resources/chat documents it, the same bytes every time
EVENTS = [
    *(
        _event(choices=[{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}])
        for text in ("", "Grüße ", "an ", "alle", "!")
    ),
    _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
    _event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}),
    b"data: [DONE]\n\n",
]
WHOLE = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hallo"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
    }
).encode()


def fixed(streamed: bool, **more: Any) -> Dict[str, Any]:
    """A behaviour of the simulator: the bytes above, so that two runs can be compared piece by piece."""
    told = {"usage": {"input_tokens": 9, "output_tokens": 5}, "model": "gpt-4o-2024-08-06"}
    if streamed:
        return {"body": b"".join(EVENTS), "headers": {"content-type": "text/event-stream"}, **told, **more}
    return {"body": WHOLE, **told, **more}
