"""What the API page says of the routes of budgets."""

from __future__ import annotations

from typing import Any

from aicostguard.ledger.apidoc import _KEY_NEEDED, _errors, _json, _object
from aicostguard.ledger.problem import MEDIA_TYPE

_RULE: dict[str, Any] = {
    "name": {"type": "string", "description": "1 to 128 letters, digits, blanks or any of _ . : / @ -"},
    "limit_usd": {"type": ["number", "string"], "description": "One of the three limits; 0 or more, exact."},
    "limit_tokens": {"type": "integer"},
    "limit_requests": {"type": "integer"},
    "match": {"type": "object", "description": "Only calls with these labels.", "examples": [{"team": "search"}]},
    "per": {"type": "array", "items": {"type": "string"}, "description": "A limit for each value of these labels."},
    "period": {"enum": ["call", "session", "minute", "hour", "day", "week", "month", "total"], "default": "total"},
    "timezone": {"type": "string", "default": "UTC", "description": "Where hours, days, weeks and months begin."},
    "on_exceed": {"enum": ["block", "warn", "log"], "default": "block"},
    "alert_at": {"type": "array", "items": {"type": "number"}, "default": [0.75, 0.9, 1]},
}
_REACH: dict[str, Any] = {
    "reach": {
        "enum": ["project", "organisation"],
        "description": "Whose it is. An organisation's holds for all calls of all its projects, and counts them "
        "together; it takes a role with that reach. Left out: as it was, else project.",
    }
}
_SIMPLE: dict[str, Any] = {
    **_REACH,
    "limit": {"type": "number", "description": "Another word for limit_usd; alone it changes the limit only."},
    "spent": {"type": "number", "description": "The opening balance of a new budget. Later only with adjust: true."},
    "adjust": {"type": "boolean", "description": "Set `spent` all the same; written down in the history."},
}
_MONEY = {"type": "string", "description": "US dollars, exact."}
_SCOPE = _object(
    {
        "scope": {"type": "object"},
        "spent_usd": _MONEY,
        "reserved_usd": {**_MONEY, "description": "Promised to calls under way and lent to processes."},
        "remaining_usd": _MONEY,
        "utilization": {"type": "number"},
        "state": {"enum": ["ok", "warning", "exceeded"]},
        "calls": {"type": "integer"},
        "unpriced_calls": {"type": "integer", "description": "Without a price: in no sum of money."},
        "usage_missing_calls": {
            "type": "integer",
            "description": "Of a budget of tokens: calls whose provider told no usage, in no sum of tokens.",
        },
        "estimated_calls": {"type": "integer"},
        "lapsed_usd": {**_MONEY, "description": "Held by processes that fell silent, and given to others."},
        "resets_at": {"type": ["string", "null"]},
        "burn_per_hour_usd": {"type": "number"},
        "exhausted_at": {"type": ["string", "null"], "description": "At this rate; null: not before it resets."},
    },
    description="With limit_tokens or limit_requests the keys end in _tokens and _requests.",
)
_BUDGET = _object({**_RULE, **_REACH, "revision": {"type": "integer"}, "scopes": {"type": "array", "items": _SCOPE}})
_EXAMPLE = {"name": "marketing", "limit_usd": 500, "match": {"team": "marketing"}, "period": "month"}


def _body(schema: dict[str, Any], **examples: Any) -> dict[str, Any]:
    content = {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
    return {**_KEY_NEEDED, "requestBody": {"required": True, "content": {"application/json": content}}}


def _route(summary: str, description: str, responses: dict[int | str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "description": description,
        "tags": ["budgets"],
        "responses": responses,
        "openapi_extra": extra,
    }


_NOT_FOUND = _errors(404, 422)

GET_BUDGETS = _route(
    "Budgets, and what stands in them",
    "Each rule that holds for the project of the key with what is spent, reserved and left of it, scope by scope. "
    "Rules of its organisation stand among them for a role with that reach; for others, without any amount, apart.",
    {
        200: _json(
            "The budgets.",
            _object(
                {
                    "budgets": {"type": "array", "items": _BUDGET},
                    "of_organisation": {
                        "type": "array",
                        "items": _object({"name": {"type": "string"}}),
                        "description": "Rules of the organisation, for who does not see what it spends.",
                    },
                }
            ),
        ),
        **_errors(401, 403, 422, 503),
    },
    {
        **_KEY_NEEDED,
        "parameters": [
            {
                "name": "reach",
                "in": "query",
                "description": "Only the project's own, or only the organisation's.",
                "schema": {"enum": ["project", "organisation"]},
            }
        ],
    },
)
POST_BUDGETS = _route(
    "Set a budget",
    "Made when there is none of this name, changed when there is. What has been spent in the present period is counted "
    "from the receipts. A changed limit holds at once; a changed label, period or unit counts anew.",
    {200: _json("Changed.", _BUDGET), 201: _json("Made.", _BUDGET), **_errors(400, 401, 403, 422, 503)},
    _body(
        _object({**_RULE, **_SIMPLE}, ("name",)),
        rule=_EXAMPLE,
        simple={"name": "default", "limit": 50.0, "spent": 0.0},
    ),
)
GET_BUDGET = _route(
    "One budget, its history and its alerts",
    "Who changed it, when and how, the newest first.",
    {200: _json("The budget.", _BUDGET), **_errors(401, 403, 503), **_NOT_FOUND},
    _KEY_NEEDED,
)
PUT_BUDGET = _route(
    "Set the budget of this name",
    "As POST /v1/budgets.",
    {200: _json("Changed.", _BUDGET), 201: _json("Made.", _BUDGET), **_errors(400, 401, 403, 422, 503)},
    _body(_object({**_RULE, **_SIMPLE}), rule=_EXAMPLE),
)
DELETE_BUDGET = _route(
    "Remove a budget",
    "Its history stays.",
    {200: _json("Removed.", _object({"removed": {"type": "string"}})), **_errors(401, 403, 503), **_NOT_FOUND},
    _KEY_NEEDED,
)
POST_REBUILD = _route(
    "Count anew",
    "Makes the counters of the present period anew from receipts, opening balances, tickets and leases. Changes "
    "nothing when nothing is wrong.",
    {
        200: _json("Done.", _object({"rebuilt": {"type": "array", "items": {"type": "string"}}})),
        **_errors(400, 401, 403, 422, 503),
        **_NOT_FOUND,
    },
    _body(_object({"budgets": {"type": "array", "items": {"type": "string"}}}), all={}),
)
GET_POLICY = _route(
    "The policy that agents enforce",
    "Budgets and settings of the project of the key, with an ETag: asked again with If-None-Match it is 304 until "
    "something changes. For AICG_ENFORCE=ledger.",
    {
        200: _json("The policy.", _object({"version": {"const": 1}, "budgets": {"type": "array"}})),
        304: {"description": "As before."},
        **_errors(401, 403, 503),
    },
    {
        **_KEY_NEEDED,
        "parameters": [{"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}],
    },
)
PUT_POLICY = _route(
    "Set what of the policy is no budget",
    "on_unpriced, on_unknown_bound, on_store_failure, loop_window, loop_threshold, loop_action; null takes one back.",
    {200: _json("The policy.", _object({})), **_errors(400, 401, 403, 422, 503)},
    _body(_object({}), strict={"on_unpriced": "block"}),
)
POST_AUTHORIZE = _route(
    "May this call be made?",
    "For programs in any language. 200: it may, and what it may use at most is held until it is settled, released, or "
    "told of by a receipt whose `request` is the ticket; at the latest until the lease ends, when all of it is booked "
    "as an estimate. 402: a budget has no room, and nothing is held. An Idempotency-Key makes a second sending "
    "harmless. A body with `holder` and `leases` is an agent's, which borrows room for many calls.",
    {
        200: _json(
            "It may.",
            _object(
                {
                    "ticket": {"type": "string"},
                    "reserved_usd": _MONEY,
                    "reserved_tokens": {"type": "integer"},
                    "expires_at": {"type": "string"},
                    "state": {"type": "string"},
                    "warnings": {"type": "array", "items": {"type": "string"}},
                }
            ),
        ),
        402: _json(
            "It may not.",
            _object(
                {
                    "detail": {"const": "Budget limit reached. Inference blocked."},
                    "error": {"type": "string"},
                    "budget": {"type": "string"},
                    "reach": {
                        "enum": ["project", "organisation"],
                        "description": "Of the organisation's, limit, spent and reserved are left out, unless the role "
                        "of the key has that reach.",
                    },
                    "dimension": {"type": "string"},
                    "scope": {"type": "object"},
                    "limit_usd": _MONEY,
                    "spent_usd": _MONEY,
                    "reserved_usd": _MONEY,
                    "estimate_usd": _MONEY,
                    "resets_at": {"type": ["string", "null"]},
                }
            ),
            media=MEDIA_TYPE,
        ),
        **_errors(400, 401, 403, 413, 422, 503),
    },
    {
        **_body(
            _object(
                {
                    "model": {"type": "string"},
                    "provider": {"type": "string"},
                    **{name: {"type": "string"} for name in ("user", "session", "agent", "team", "project", "feature")},
                    "tags": {"type": "object"},
                    "input_tokens": {"type": "integer", "description": "At most."},
                    "max_output_tokens": {"type": "integer"},
                    "estimate_usd": {"type": ["number", "string"], "description": "Instead of tokens: at most."},
                    "lease_s": {"type": "integer", "default": 600, "description": "Seconds it may take."},
                },
                ("model",),
            ),
            call={"model": "gpt-4o", "team": "search", "input_tokens": 1200, "max_output_tokens": 500},
            estimate={"model": "gpt-4o", "estimate_usd": "0.02"},
        ),
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "1 to 255 visible ASCII characters.",
                "schema": {"type": "string"},
            }
        ],
    },
)
POST_SETTLE = _route(
    "What did the call use?",
    "Counts as in a receipt, or a cost, or release: true when nothing was billed. The first word counts; a second one "
    "is answered with what was booked, and `duplicate`.",
    {
        200: _json(
            "Booked.",
            _object(
                {
                    "ticket": {"type": "string"},
                    "state": {"enum": ["settled", "released", "receipt"]},
                    "cost_usd": {"type": ["string", "null"]},
                    "tokens": {"type": ["integer", "null"]},
                    "duplicate": {"type": "boolean"},
                }
            ),
        ),
        **_errors(400, 401, 403, 404, 413, 422, 503),
    },
    _body(
        _object({"ticket": {"type": "string"}, "release": {"const": True}, "cost_usd": {"type": ["number", "string"]}}),
        used={"ticket": "t019…", "input_tokens": 1180, "output_tokens": 212},
        nothing={"ticket": "t019…", "release": True},
    ),
)
