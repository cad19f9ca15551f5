"""SageMaker endpoints: whatever the container behind a name answers.

Owns the guess, which is made by the members of the answer alone: OpenAI's `usage` (vLLM, LMI, TGI's messages),
Cohere's `meta`, text-generation-inference's `details`, or none of them beside words that only a generative model says.
Anything else is a classifier or a forecast, no AI call of ours, and gives no reading.
https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-test-endpoints.html
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Tuple

from aicostguard.metering import cohere, tgi
from aicostguard.metering.folds import Latest
from aicostguard.metering.formats import Facts, Format, is_error
from aicostguard.metering.openai import usage_of
from aicostguard.metering.values import mapping, text
from aicostguard.usage import Reading, Usage

#: members that only the answer of a generative or an embedding model has
_SIGNS = (
    "generated_text",
    "generation",
    "generations",
    "choices",
    "completion",
    "completions",
    "embedding",
    "embeddings",
)


def _usage(body: Mapping[str, Any], facts: Facts) -> Tuple[Optional[Usage], bool]:
    usage, mismatch = usage_of(body.get("usage"), facts)
    if usage is None:
        usage, mismatch = cohere.usage_of(mapping(body.get("meta")))
    if usage is None:
        usage = tgi.usage_of(mapping(body.get("details")))
    return usage, mismatch


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A whole body."""
    if is_error(body, *_SIGNS):
        return []
    usage, mismatch = _usage(body, facts)
    if usage is None and not any(name in body for name in _SIGNS):
        return []
    return [Reading(text(body.get("model")), usage, mismatch=mismatch)]


def read_array(body: bytes, facts: Facts) -> List[Reading]:
    """A list of answers: those of text-generation-inference, or of a Hugging Face pipeline."""
    if b'"generated_text"' not in body:
        return []
    return tgi.read_array(body, facts)


def _counted(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    usage, mismatch = _usage(event, facts)
    return None if usage is None else Reading(text(event.get("model")), usage, mismatch=mismatch)


class StreamFold(Latest):
    """A stream counts as one of ours only when it looks so."""

    __slots__ = ()

    def readings(self) -> List[Reading]:
        found = super().readings()
        known = any(
            name in data
            for data in self._kept
            for name in (b'"token"', b'"choices"', b'"generated_text"', b'"outputs"')
        )
        return found if known or (found and found[0].usage is not None) else []


def _fold(facts: Facts) -> StreamFold:
    return StreamFold(_counted, facts)


SAGEMAKER = Format(
    "sagemaker", None, "usage", ("model", "meta", "details", "error", *_SIGNS), (), read,
    (b'_tokens"', b'"error"'), b"[DONE]", _fold, 3,
    "https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html",
    array=read_array, lines=True, raw_payload=True,
)  # fmt: skip

FORMATS = (SAGEMAKER,)
