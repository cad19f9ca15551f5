"""Answers that cost something and never say how much.

Owns one row for each operation. Such a receipt has `usage_missing`, and is shown beside what is unpriced.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from aicostguard.metering.folds import single
from aicostguard.metering.formats import Facts, Format, is_error
from aicostguard.metering.values import text
from aicostguard.usage import Reading


def _nothing(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    return None


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """Any answer; an error bills nothing."""
    if is_error(body, "output", "data", "results", "embedding"):
        return []
    return [Reading(text(body.get("model")), None)]


def read_array(body: bytes, facts: Facts) -> List[Reading]:
    """Vectors, most of the time: they are not looked at."""
    return [Reading(None, None)]


UNMEASURED = Format(
    "unmeasured", None, "model", ("error",), (), read, (), None, single(_nothing), 1,
    "https://huggingface.co/docs/inference-providers/tasks/feature-extraction", array=read_array,
)  # fmt: skip

FORMATS = (
    UNMEASURED,
    UNMEASURED._replace(name="unmeasured_embeddings", operation="embeddings"),
    UNMEASURED._replace(name="unmeasured_image", operation="image"),
    UNMEASURED._replace(name="unmeasured_rerank", operation="rerank"),
)
