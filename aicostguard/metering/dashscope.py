"""DashScope's own formats: text and multimodal generation, applications, embeddings, rerank.

Owns what differs from OpenAI's counts: the events of a stream repeat the usage so far, whether their texts do
(`incremental_output`) or not; an application names the models it used; a `total_tokens` alone is input.
Definition: https://www.alibabacloud.com/help/en/model-studio/qwen-api-via-dashscope
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from aicostguard.metering.folds import Latest
from aicostguard.metering.formats import Facts, Format
from aicostguard.metering.openai import usage_of
from aicostguard.metering.values import count, mapping, text
from aicostguard.usage import Reading


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A whole body, or one event."""
    raw = mapping(body.get("usage"))
    if not raw and not body.get("output"):
        return []
    models = raw.get("models")
    if type(models) is list and models:
        return [_reading(body, mapping(row), facts, text(mapping(row).get("model_id"))) for row in models]
    return [_reading(body, raw, facts, text(body.get("model")))]


def _reading(body: Mapping[str, Any], raw: Mapping[str, Any], facts: Facts, model: Optional[str]) -> Reading:
    usage, mismatch = usage_of(raw, facts)
    images = count(raw.get("image_count"))
    if usage is not None and images:
        usage = usage._replace(images=images)
    return Reading(
        model,
        usage,
        operation="image" if images else None,
        mismatch=mismatch,
        response_id=text(body.get("request_id")),
    )


def _counted(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    found = read(event, facts)
    return found[0] if found and found[0].usage is not None else None


class GenerationFold(Latest):
    """The events of a generation. An error is an event without `output`."""

    __slots__ = ()

    def readings(self) -> List[Reading]:
        from aicostguard.metering.values import parse

        for data in reversed(self._kept):
            found = read(mapping(parse(data)), self.facts)
            if any(reading.usage is not None for reading in found):
                return found
        return [Reading(None, None)] if any(b'"output"' in data for data in self._kept) else []


_DOCS = "https://www.alibabacloud.com/help/en/model-studio/"


def _fold(facts: Facts) -> GenerationFold:
    return GenerationFold(_counted, facts)


GENERATION = Format(
    "dashscope", None, "usage", ("output", "request_id", "model"), (), read, (b'"usage"',), None, _fold, 1,
    _DOCS + "qwen-api-via-dashscope",
)  # fmt: skip
EMBEDDINGS = GENERATION._replace(
    name="dashscope_embeddings",
    operation="embeddings",
    members=("request_id",),
    docs=_DOCS + "text-embedding-synchronous-api",
)
RERANK = EMBEDDINGS._replace(name="dashscope_rerank", operation="rerank", docs=_DOCS + "text-rerank-api")

FORMATS = (GENERATION, EMBEDDINGS, RERANK)
