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
FULL: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "UTC days whose sums had no room for all values of what is grouped by: those without stand together "
    "in the group `(other)`. With a filter on a value the answer is exact.",
    "properties": {"days": _COUNT, "first_day": {"type": "string"}, "last_day": {"type": "string"}},
}
_ACT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _COUNT,
        "who": {"type": "string"},
        "pseudonym": {"type": "string", "description": "Random; not derived from the name."},
        "state": {"enum": ["open", "done", "stopped"]},
        "receipts": {**_COUNT, "description": "Receipts changed in the ledger."},
        "archived": {**_COUNT, "description": "Receipts changed in archives."},
        "others": {**_COUNT, "description": "Other rows changed: scopes of budgets, records, rules, messages."},
        "at": {"type": "string"},
        "ended_at": {"type": ["string", "null"]},
    },
}
_KEY: dict[str, Any] = {"security": [{"key": []}]}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid key."},
    403: {"description": "The key may not."},
    422: {"description": "`user` is missing or no name."},
    503: {"description": "Another act of keeping is under way, or the ledger cannot write."},
}
POST_FORGET: dict[str, Any] = {
    "summary": "Forget a user",
    "description": "Puts a random pseudonym in place of the user's name in receipts, sums, budgets, records and "
    "archives of the key's project. It cannot be undone, and no record holds the name. It goes on after the answer; "
    "GET tells how far.",
    "tags": ["forgetting"],
    "responses": {
        202: _answer("It is begun.", {"type": "object", "properties": {"id": _COUNT, "state": {"const": "open"}}}),
        **_ERRORS,
    },
    "openapi_extra": {
        **_KEY,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {"user": {"type": "string", "minLength": 1, "maxLength": 256}},
                        "required": ["user"],
                        "additionalProperties": False,
                    }
                }
            },
        },
    },
}
GET_FORGET: dict[str, Any] = {
    "summary": "Who forgot whom, without the name",
    "description": "The acts of forgetting of the key's project, the latest first.",
    "tags": ["forgetting"],
    "responses": {
        200: _answer("The acts.", {"type": "object", "properties": {"forgettings": {"type": "array", "items": _ACT}}}),
        **{number: said for number, said in _ERRORS.items() if number != 422},
    },
    "openapi_extra": _KEY,
}
