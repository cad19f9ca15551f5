"""Format → the row that reads it, loaded with the first response of that format.

Owns the list of formats and where each stands. A program that talks to one provider pays for one provider's module.
"""

from __future__ import annotations

from importlib import import_module
from typing import Dict, Optional

from aicostguard.metering.formats import Format

#: format → module of this package whose `FORMATS` holds its row
MODULES: Dict[str, str] = {
    "chat": "openai",
    "completions": "openai",
    "embeddings": "openai",
    "responses": "responses",
    "responses_get": "responses",
    "messages": "anthropic",
    "generate": "gemini",
    "gemini_embeddings": "gemini",
    "vertex_predict": "gemini",
}

_rows: Dict[str, Format] = {}


def form(name: str) -> Optional[Format]:
    """The row of a format; None for a name that is none."""
    row = _rows.get(name)
    if row is None and name in MODULES:
        module = import_module("aicostguard.metering." + MODULES[name])
        _rows.update((each.name, each) for each in module.FORMATS)
        row = _rows[name]
    return row
