"""Embedding vectors, and the OpenAI-style `/embeddings` that many providers share.

The vectors mean nothing; they are as large as real ones, because large bodies are what a meter has to survive.
"""

from __future__ import annotations

import base64
import functools
import struct
from typing import Any, List, Tuple

from aicostguard.simulator.call import Call, Refused, Reply, dumps
from aicostguard.simulator.formats import shapes


@functools.lru_cache(maxsize=64)
def _vector(size: int, number: int) -> Tuple[float, ...]:
    if not 1 <= size <= 10_000:
        raise Refused("dimensions must be from 1 to 10000")
    return tuple(((i * 7919 + number * 104729) % 20011 - 10005) / 100050.0 for i in range(size))


def floats(size: int, number: int) -> List[float]:
    """A vector of so many numbers; `number` makes it differ from others."""
    return list(_vector(size, number % 8))


@functools.lru_cache(maxsize=64)
def _json(size: int, number: int) -> bytes:
    return dumps(floats(size, number))


@functools.lru_cache(maxsize=64)
def _base64(size: int, number: int) -> bytes:
    return dumps(base64.b64encode(struct.pack("<%df" % size, *_vector(size, number))).decode())


def embeddings(call: Call) -> Reply:
    """POST …/embeddings, floats or base64."""
    asked: Any = call.json.get("input")
    # a list of numbers is one input, already tokenized
    many = isinstance(asked, list) and bool(asked) and not isinstance(asked[0], int)
    count = len(asked) if many else 1
    size = call.json.get("dimensions") or call.json.get("output_dimension") or 1536
    if type(size) is not int:
        raise Refused("dimensions must be a number")
    render = _base64 if call.json.get("encoding_format") == "base64" else _json
    items = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%s}' % (index, render(size, index % 8)) for index in range(count)
    )
    model = call.model()
    head = {"object": "list", "model": model}
    if call.provider in ("mistral", "openrouter"):
        head["id"] = call.name("emb_")
    shape = shapes.EMBEDDINGS_MISTRAL if call.provider == "mistral" else shapes.EMBEDDINGS
    usage = None
    if not call.behaviour.no_usage:
        usage = call.usage(shape.always)
        if call.provider == "mistral":
            usage = usage._replace(output_tokens=0)
    parts = [dumps(head)[:-1], b',"data":[' + items + b"]"]
    if usage is not None:
        stated = shape.render(usage)
        if call.provider == "voyage":  # https://docs.voyageai.com/reference/embeddings-api
            stated = {"total_tokens": stated["total_tokens"]}
        parts.append(b',"usage":' + dumps(stated))
    return Reply(body=b"".join(parts) + b"}", bills=[call.bill(usage, model)])
