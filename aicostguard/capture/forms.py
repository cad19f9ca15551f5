"""What a form says beside its files.

Owns the way from a library's form to the bytes that metering asks for: the field `model` alone, as JSON. Files are
never read, other fields never kept. If this is wrong, images and transcripts have no model, and so no price.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional, Tuple

from aicostguard.capture.patch import Hook

_LONGEST = 200


def form(fields: Iterable[Tuple[Any, Any]], hook: Hook) -> Optional[bytes]:
    """`{"model": …}` of a form's fields, or None when it has none. Never raises: the fields are a library's own."""
    try:
        for name, value in fields:
            if name == "model":
                if isinstance(value, bytes):
                    value = value.decode("utf-8", "replace")
                if isinstance(value, str) and 0 < len(value) <= _LONGEST:
                    import json

                    return json.dumps({"model": value}).encode()
    except Exception as error:
        hook.failed("form", error)
    return None
