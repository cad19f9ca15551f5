"""Rerankers, which each count in their own way: tokens, or searches.

Owns the places where hosts put either. What is counted in tokens is input; a reranker writes none.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Tuple

from aicostguard.metering.cohere import usage_of as cohere_usage
from aicostguard.metering.folds import single
from aicostguard.metering.formats import Facts, Format, is_error
from aicostguard.metering.openai import usage_of
from aicostguard.metering.values import count, mapping, text
from aicostguard.usage import Reading, Usage


def _usage(body: Mapping[str, Any], facts: Facts) -> Tuple[Optional[Usage], bool]:
    """Voyage, Jina, Together and others: `usage`; Cohere and SiliconFlow: `meta`; watsonx: `input_token_count`."""
    raw = body.get("usage")
    usage, mismatch = usage_of(raw, facts)
    if usage is None and type(raw) is dict:
        usage, mismatch = cohere_usage(raw)
    if usage is None:
        usage, mismatch = cohere_usage(mapping(body.get("meta")))
    if usage is None:
        given = count(body.get("input_token_count"))
        usage = None if given is None else Usage(input_tokens=given)
    if usage is not None and usage.input_tokens is not None and usage.output_tokens is None:
        usage = usage._replace(output_tokens=0)
    return usage, mismatch


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A whole body."""
    if is_error(body, "results", "data", "output", "usage", "meta"):
        return []
    usage, mismatch = _usage(body, facts)
    model = text(body.get("model")) or text(body.get("model_id"))
    return [Reading(model, usage, mismatch=mismatch, response_id=text(body.get("id")))]


def _nothing(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    return None


RERANK = Format(
    "rerank", "rerank", "usage", ("model", "model_id", "id", "meta", "input_token_count", "error"), (), read,
    (), None, single(_nothing), 1, "https://docs.voyageai.com/reference/reranker-api",
)  # fmt: skip
COHERE = RERANK._replace(
    name="cohere_rerank", usage="meta", members=("id",), docs="https://docs.cohere.com/reference/rerank"
)

FORMATS = (RERANK, COHERE)
