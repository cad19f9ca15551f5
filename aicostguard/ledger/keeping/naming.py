"""Where a user's name stands in texts: as a value of `user`, in what people are told, in a user's own tags. Pure.

Owns the rule by which a text loses a name. A word that happens to read the same and is no user (a feature, a budget's
name) stays. If this is too narrow a name survives, and the report says where; if too wide, other data changes.
"""

from __future__ import annotations

import json
import re
from typing import Any

_DEPTH = 8


class Naming:
    """One name and what stands in its place."""

    def __init__(self, name: str, pseudonym: str) -> None:
        self.name = name
        self.pseudonym = pseudonym
        self._told = re.compile(rf"(\buser['\"]?\s?[ =:]\s?['\"]?){re.escape(name)}(?![\w@.+-])")

    def forms(self) -> list[str]:
        """How it may stand in a file's bytes: as it is, or as JSON writes it."""
        written = [json.dumps(self.name, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
        return list(dict.fromkeys([self.name, *written]))

    def text(self, text: str) -> str:
        """A text without the name: JSON or plain."""
        try:
            value = json.loads(text) if text[:1] in ("{", "[") else None
        except (ValueError, RecursionError):
            value = None
        if value is None:
            return self._told.sub(lambda found: found.group(1) + self.pseudonym, text)
        changed = self.value(value)
        return text if changed == value else json.dumps(changed, separators=(",", ":"))

    def data(self, data: bytes) -> bytes:
        """The same for bytes. What cannot be read is overwritten where the name stands."""
        try:
            return self.text(data.decode()).encode()
        except UnicodeDecodeError:
            for form in self.forms():
                data = data.replace(form.encode(), b"*" * len(form.encode()))
            return data

    def value(self, value: Any, depth: int = 0) -> Any:
        """A value as JSON has it."""
        if depth > _DEPTH:
            return value
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, str):
            return self.text(value)
        if not isinstance(value, dict):
            return value
        mine = value.get("user") == self.name
        out = {}
        for key, item in value.items():
            if key == "user":
                out[key] = self._swapped(item, depth)
            elif key == "tags" and isinstance(item, dict):
                out[key] = self.tags(item, mine)
            else:
                out[key] = self.value(item, depth + 1)
        return out

    def tags(self, tags: dict[str, Any], mine: bool) -> dict[str, Any]:
        """Tags of a receipt: in the user's own whatever reads the same, in others' what is called `user`."""
        return {
            key: self.pseudonym if value == self.name and (mine or key == "user") else value
            for key, value in tags.items()
        }

    def cell(self, tags: str | None, mine: bool) -> str | None:
        """Tags as a receipt's row has them."""
        if not tags:
            return tags
        found = json.loads(tags)
        changed = self.tags(found, mine)
        if changed == found:
            return tags
        return json.dumps(changed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def _swapped(self, item: Any, depth: int) -> Any:
        if item == self.name:
            return self.pseudonym
        if isinstance(item, list):
            return [self.pseudonym if one == self.name else one for one in item]
        return self.value(item, depth + 1)
