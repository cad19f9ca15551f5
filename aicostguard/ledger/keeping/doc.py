"""What the API page says of archives and of forgetting. Plain values: nothing here imports the page."""

from __future__ import annotations

from typing import Any

_COUNT = {"type": "integer", "minimum": 0}
ARCHIVED: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "What the answer lacks, because only single receipts would tell it and those are archived.",
    "properties": {
        "receipts": {**_COUNT, "description": "At most so many: which of them the filters take is not known."},
        "days": _COUNT,
        "first_day": {"type": "string"},
        "last_day": {"type": "string"},
    },
}
