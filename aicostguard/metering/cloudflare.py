"""Cloudflare's Workers AI by its own path: `result` around what the model answers.

Owns the place of the counts: `result.usage`, and in a stream the `usage` of an event. Models that are no language
models name none. Definition: https://developers.cloudflare.com/workers-ai/get-started/rest-api/
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from aicostguard.metering.folds import latest
from aicostguard.metering.formats import Facts, Format
from aicostguard.metering.openai import usage_of
from aicostguard.metering.values import mapping
from aicostguard.usage import Reading


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A whole body."""
    if body.get("success") is False:
        return []
    usage, mismatch = usage_of(mapping(body.get("result")).get("usage"), facts)
    return [Reading(None, usage, mismatch=mismatch)]


def _counted(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    usage, mismatch = usage_of(event.get("usage"), facts)
    return None if usage is None else Reading(None, usage, mismatch=mismatch)


CLOUDFLARE = Format(
    "cloudflare", None, "result", ("success",), (), read, (b'_tokens"', b'"error"'), b"[DONE]", latest(_counted), 1,
    "https://developers.cloudflare.com/workers-ai/get-started/rest-api/",
)  # fmt: skip

FORMATS = (CLOUDFLARE,)
