"""What the API page says of the routes of access."""

from __future__ import annotations

from typing import Any, Mapping

from aicostguard.ledger import apidoc, query
from aicostguard.ledger.access.audit import MOST
from aicostguard.ledger.access.principal import REACHES, ROLES
from aicostguard.ledger.keeping.doc import ARCHIVED

_KEY_NEEDED: dict[str, Any] = {"security": [{"key": []}]}
_NAME = {"type": "string", "minLength": 1, "maxLength": 64, "description": "Letters, digits, blanks, any of _ . @ -"}
_TIME = {"type": ["string", "null"]}
_ORGANISATION = apidoc._object({"name": _NAME, "created_at": _TIME, "archived_at": _TIME})
_PROJECT = apidoc._object({"name": _NAME, "organisation": _NAME, "created_at": _TIME, "archived_at": _TIME})
_CHANGE = apidoc._object({"name": _NAME, "archived": {"type": "boolean"}}, additionalProperties=False, minProperties=1)
_SPAN = {"type": ["string", "null"], "description": "90d, 12h, 30m, 60s; null: for good.", "examples": ["90d"]}
_LIMITS: dict[str, Any] = {
    "expires_in": _SPAN,
    "per_minute": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": 1_000_000,
        "description": "Requests a minute.",
    },
    "max_bytes": {"type": ["integer", "null"], "minimum": 100, "maximum": 5_242_880, "description": "Of one body."},
}
_LABEL = {"type": "string", "maxLength": 100}
_ROLES = {"type": "array", "items": {"enum": list(ROLES)}, "minItems": 1}
_KEY: dict[str, Any] = {
    "id": {"type": "string", "description": "Names the key in requests; no secret."},
    "key": {"type": "string", "description": "Its first nine characters."},
    "name": _LABEL,
    "roles": {"type": "array", "items": {"type": "string"}},
    "reach": {"enum": list(REACHES)},
    "state": {"enum": ["in force", "expired", "revoked"]},
    "project": _NAME,
    **dict.fromkeys(("created_at", "expires_at", "revoked_at", "last_used_at"), _TIME),
    **{name: {"type": ["integer", "null"]} for name in ("expires_ms", "per_minute", "max_bytes")},
}
_MADE = apidoc._object({**_KEY, "secret": {"type": "string", "description": "The key itself: said once, here."}})
_ENTRY = apidoc._object(
    {
        "id": {"type": "integer"},
        "at": {"type": "string"},
        **{name: {"type": "string"} for name in ("who", "address", "what", "target")},
        **{name: {"type": ["object", "null"]} for name in ("before", "after")},
    }
)
#: parameters of `GET /v1/audit`
AUDIT: Mapping[str, str] = {
    "since": "Only entries of this time or later: an ISO date or time, 24h, 7d, today, month.",
    "before": "Only entries older than the one with this id: how to go on from the last of an answer.",
    "limit": f"Entries at most, 1 to {MOST}; 100 without it.",
    "reach": "project (the default), organisation (all its projects) or ledger (everything).",
}


def body(schema: dict[str, Any], **examples: Any) -> dict[str, Any]:
    """A route that takes JSON."""
    content = {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
    return {**_KEY_NEEDED, "requestBody": {"required": True, "content": {"application/json": content}}}


def route(
    summary: str, description: str, good: dict[int, dict[str, Any]], *errors: int, tag: str, extra: dict[str, Any]
) -> dict[str, Any]:
    """The words of one route for FastAPI."""
    return {
        "summary": summary,
        "description": description,
        "tags": [tag],
        "responses": {**good, **apidoc._errors(*errors, 429)},
        "openapi_extra": extra,
    }


def _list(name: str, item: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {200: apidoc._json("They.", apidoc._object({name: {"type": "array", "items": item}}))}


def _one(status: int, says: str, item: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {status: apidoc._json(says, item)}


_ALWAYS = (401, 403, 503)
_CHANGING = (400, *_ALWAYS, 404, 409, 413, 415, 422)

GET_WHOAMI = route(
    "Who am I here, and what may I?",
    "Of the key or session of the request, in the project that it means.",
    _one(200, "You.", apidoc._object({"kind": {"enum": ["key", "person"]}, "who": {"type": "string"}})),
    *_ALWAYS,
    404,
    422,
    tag="access",
    extra=_KEY_NEEDED,
)
GET_AUDIT = route(
    "Who changed what?",
    "The audit log, the newest first: who, what, when, from where, and what stood there before and after. It is added "
    "to and never changed. Needs the role admin.",
    _list("entries", _ENTRY),
    *_ALWAYS,
    404,
    422,
    tag="access",
    extra={**_KEY_NEEDED, "parameters": apidoc._texts(AUDIT)},
)
GET_ORGANISATIONS = route(
    "Organisations",
    "Your own; with the reach ledger all of them.",
    _list("organisations", _ORGANISATION),
    *_ALWAYS,
    404,
    422,
    tag="access",
    extra=_KEY_NEEDED,
)
POST_ORGANISATIONS = route(
    "Make an organisation",
    "Needs the role admin with the reach ledger.",
    _one(201, "Made.", _ORGANISATION),
    *_CHANGING,
    tag="access",
    extra=body(apidoc._object({"name": _NAME}, ("name",), additionalProperties=False), one={"name": "acme"}),
)
PATCH_ORGANISATION = route(
    "Rename or archive an organisation",
    "What is archived can be read and takes nothing in. Archiving needs the reach ledger.",
    _one(200, "Changed.", _ORGANISATION),
    *_CHANGING,
    tag="access",
    extra=body(_CHANGE, rename={"name": "acme-eu"}),
)
GET_PROJECTS = route(
    "Projects that you see",
    "A key of a project sees that one; the reach organisation shows all of the organisation, ledger all there are.",
    _list("projects", _PROJECT),
    *_ALWAYS,
    404,
    422,
    tag="access",
    extra=_KEY_NEEDED,
)
POST_PROJECTS = route(
    "Make a project",
    "Needs the role admin with the reach organisation.",
    _one(201, "Made.", _PROJECT),
    *_CHANGING,
    tag="access",
    extra=body(
        apidoc._object({"name": _NAME, "organisation": _NAME}, ("name",), additionalProperties=False),
        one={"name": "search"},
    ),
)
PATCH_PROJECT = route(
    "Rename or archive a project",
    "An archived project can be read, takes nothing in, and can be taken back (archived: false). Nothing is deleted.",
    _one(200, "Changed.", _PROJECT),
    *_CHANGING,
    tag="access",
    extra=body(_CHANGE, archive={"archived": True}),
)
GET_ORGANISATION_COSTS = route(
    "What did the organisation's projects cost?",
    "A row for each project, and all of them together. Filters, since, until and tz as for /v1/costs. Needs the role "
    "read or admin with the reach organisation.",
    _one(
        200,
        "The answer.",
        apidoc._object(
            {
                "organisation": _NAME,
                "rows": {"type": "array", "items": apidoc._object({"project": _NAME, **apidoc._AMOUNTS})},
                "totals": apidoc._object(apidoc._AMOUNTS),
                "archived": ARCHIVED,
            }
        ),
    ),
    *_ALWAYS,
    404,
    422,
    tag="costs",
    extra={
        **_KEY_NEEDED,
        "parameters": apidoc._parameters(*(name for name in query.PARAMETERS if name in ("since", "until", "tz"))),
    },
)
GET_KEYS = route(
    "Keys of the project",
    "Never a key itself. Needs the role admin.",
    _list("keys", apidoc._object(_KEY)),
    *_ALWAYS,
    404,
    422,
    tag="access",
    extra=_KEY_NEEDED,
)
POST_KEYS = route(
    "Make a key",
    "The key is said once, in `secret`; the ledger keeps its hash. Nobody gives a role or reach that they lack.",
    _one(201, "Made.", _MADE),
    *_CHANGING,
    tag="access",
    extra=body(
        apidoc._object(
            {"name": _LABEL, "roles": _ROLES, "reach": {"enum": list(REACHES)}, **_LIMITS}, additionalProperties=False
        ),
        sender={"name": "shop, production", "roles": ["ingest"]},
    ),
)
PATCH_KEY = route(
    "Name a key, or set its limits",
    "Null takes a limit away.",
    _one(200, "Changed.", apidoc._object(_KEY)),
    *_CHANGING,
    tag="access",
    extra=body(apidoc._object({"name": _LABEL, **_LIMITS}, additionalProperties=False), slower={"per_minute": 600}),
)
ROTATE_KEY = route(
    "Replace a key",
    "The new key may what the old one may. The old one goes on for `grace`, or ends at once (0s, the default).",
    _one(201, "Made.", _MADE),
    *_CHANGING,
    tag="access",
    extra=body(apidoc._object({"grace": {"type": "string"}}, additionalProperties=False), a_day={"grace": "1d"}),
)
DELETE_KEY = route(
    "Revoke a key",
    "At once, and for good.",
    _one(200, "Revoked.", apidoc._object(_KEY)),
    *_ALWAYS,
    404,
    422,
    tag="access",
    extra=_KEY_NEEDED,
)
