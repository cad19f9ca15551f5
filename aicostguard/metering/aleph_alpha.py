"""Aleph Alpha's own formats: completion and what else names `num_tokens_prompt_total`.

Owns its two counts. The answer names the version of the model but not the model, which the request does.
Definition: https://docs.aleph-alpha.com/api/complete/
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from aicostguard.metering.folds import single
from aicostguard.metering.formats import Facts, Format, is_error
from aicostguard.metering.values import count
from aicostguard.usage import Reading, Usage


def _counted(body: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    given, made = count(body.get("num_tokens_prompt_total")), count(body.get("num_tokens_generated"))
    if given is None and made is None:
        return None
    if facts.format == "aleph_alpha_embeddings":
        made = 0
    return Reading(None, Usage(input_tokens=given, output_tokens=made))


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A whole body."""
    if is_error(body, "completions", "embedding", "embeddings", "result"):
        return []
    return [_counted(body, facts) or Reading(None, None)]


COMPLETE = Format(
    "aleph_alpha", None, "num_tokens_prompt_total", ("num_tokens_generated", "error"), (), read,
    (b'"num_tokens_', b'"error"'), b"[DONE]", single(_counted), 1, "https://docs.aleph-alpha.com/api/complete/",
)  # fmt: skip

FORMATS = (
    COMPLETE,
    COMPLETE._replace(
        name="aleph_alpha_embeddings", operation="embeddings", docs="https://docs.aleph-alpha.com/api/semantic-embed/"
    ),
)
