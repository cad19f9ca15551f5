"""Cohere's own formats: chat of both versions, generate, embeddings.

Owns the choice between the two counts that Cohere gives: `billed_units` is what the bill counts, `tokens` what the
model saw, with the provider's own preamble and rendering. A receipt has what is billed; `tokens` only where nothing
else is given. `cached_tokens` is a part of `tokens` and is left out beside `billed_units`: cached input is not billed
apart. Definitions: https://docs.cohere.com/reference/chat, https://docs.cohere.com/docs/how-does-cohere-pricing-work
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering.folds import single
from aicostguard.metering.formats import Facts, Format, is_error
from aicostguard.metering.values import count, mapping, text
from aicostguard.usage import Reading, Usage, inconsistent

#: member of `billed_units` → field; the images are those of an embedding, https://docs.cohere.com/reference/embed
_BILLED: Dict[str, str] = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "image_tokens": "input_image_tokens",
    "search_units": "search_units",
    "images": "images",
}


def usage_of(meta: Mapping[str, Any], embeddings: bool = False) -> Tuple[Optional[Usage], bool]:
    """`(Usage, is it doubtful?)` of `meta` or `usage`; `(None, False)` when nothing is counted there."""
    billed = mapping(meta.get("billed_units"))
    found: Dict[str, int] = {}
    for name, field in _BILLED.items():
        number = count(billed.get(name))
        if number is not None:
            found[field] = number
    texts = count(billed.get("text_tokens"))
    images = found.get("input_image_tokens")
    doubtful = False
    if texts is not None:
        found["input_tokens"] = texts + (images or 0)
    elif images is not None:
        # Whether `input_tokens` then holds the images is not defined.
        doubtful = bool(found.get("input_tokens"))
        found["input_tokens"] = max(images, found.get("input_tokens", 0))
    if not found:
        tokens = mapping(meta.get("tokens"))
        for name, value in (
            ("input_tokens", tokens.get("input_tokens")),
            ("output_tokens", tokens.get("output_tokens")),
            ("cache_read_input_tokens", meta.get("cached_tokens")),
        ):
            number = count(value)
            if number is not None:
                found[name] = number
    if not found or found.keys() == {"cache_read_input_tokens"}:
        return None, False
    if embeddings and "input_tokens" in found:
        found.setdefault("output_tokens", 0)
    usage = Usage(**found)
    return usage, doubtful or inconsistent(usage)


def _reading(body: Mapping[str, Any], meta: object, facts: Facts) -> Reading:
    usage, doubtful = usage_of(mapping(meta), facts.format == "cohere_embeddings")
    # Version 1 calls it `response_id` and `generation_id`; nothing is ever fetched by them.
    return Reading(text(body.get("model")), usage, mismatch=doubtful, response_id=text(body.get("id")))


def _whole(name: str, *substance: str) -> Any:
    def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
        if is_error(body, name, *substance):
            return []
        return [_reading(body, body.get(name), facts)]

    return read


def _end_of_v1(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    """`stream-end`, whose `response` is what an unstreamed call would have given."""
    if event.get("event_type") != "stream-end" and event.get("is_finished") is not True:
        return None
    response = mapping(event.get("response"))
    return _reading(response, response.get("meta"), facts)


def _end_of_v2(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    if event.get("type") != "message-end":
        return None
    return _reading({}, mapping(event.get("delta")).get("usage"), facts)


_DOCS = "https://docs.cohere.com/reference/"

V1 = Format(
    "cohere_v1", None, "meta", ("id", "error"), (), _whole("meta", "text", "generations"),
    (b'"stream-end"', b'"is_finished":true', b'"is_finished": true'), None, single(_end_of_v1), 1,
    "https://docs.cohere.com/v1/reference/chat", lines=True,
)  # fmt: skip
V2 = Format(
    "cohere_v2", None, "usage", ("id", "error"), (), _whole("usage", "message"),
    (b'"message-end"',), None, single(_end_of_v2), 1, _DOCS + "chat",
)  # fmt: skip
EMBEDDINGS = V1._replace(
    name="cohere_embeddings",
    operation="embeddings",
    read=_whole("meta", "embeddings"),
    docs=_DOCS + "embed",
    lines=False,
)

FORMATS = (V1, V2, EMBEDDINGS)
