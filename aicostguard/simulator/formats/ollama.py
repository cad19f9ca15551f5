"""Ollama's own formats: chat, generate, embed, and the older embeddings. https://docs.ollama.com/api/usage

It streams unless `stream` is false, as lines of JSON.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator

from aicostguard.simulator.call import Call, Reply, dumps
from aicostguard.simulator.formats.vectors import floats

_AT = "2026-08-07T06:08:14.73237Z"


def _answer(call: Call, field: str) -> Reply:
    usage = call.usage(("input_tokens", "output_tokens"))
    model = call.model()
    streamed = call.json.get("stream") is not False
    bill = call.bill(None if call.behaviour.no_usage else usage, model, streamed)
    head = {"model": model, "created_at": _AT}

    def said(text: str) -> Any:
        return text if field == "response" else {"role": "assistant", "content": text}

    last: Dict[str, Any] = {"done": True, "done_reason": "stop", "total_duration": 3699126583, "load_duration": 141507}
    if not call.behaviour.no_usage:
        last.update(prompt_eval_count=usage.input_tokens, prompt_eval_duration=59398000)
        last.update(eval_count=usage.output_tokens, eval_duration=3484161000)
    if not streamed:
        return Reply(body=dumps({**head, field: said(call.text()), **last}), bills=[bill])

    def events() -> Iterator[bytes]:
        for piece in call.pieces():
            yield dumps({**head, field: said(piece), "done": False}) + b"\n"
        yield dumps({**head, field: said(""), **last}) + b"\n"

    return Reply(content_type="application/x-ndjson", events=events(), bills=[bill])


def chat(call: Call) -> Reply:
    """POST /api/chat."""
    return _answer(call, "message")


def generate(call: Call) -> Reply:
    """POST /api/generate."""
    return _answer(call, "response")


def embed(call: Call) -> Reply:
    """POST /api/embed."""
    usage = call.usage(("input_tokens",))
    given = call.json.get("input")
    vectors = [floats(256, number) for number in range(len(given) if isinstance(given, list) else 1)]
    body = {"model": call.model(), "embeddings": vectors, "total_duration": 14143917, "load_duration": 1019500}
    body["prompt_eval_count"] = usage.input_tokens
    return Reply(body=dumps(body), bills=[call.bill(usage, call.model())])


def embeddings(call: Call) -> Reply:
    """POST /api/embeddings, which names neither model nor counts."""
    return Reply(body=dumps({"embedding": floats(256, 0)}), bills=[call.bill(None, call.model())])
