"""What the API page says of the routes of alerts."""

from __future__ import annotations

from typing import Any

from aicostguard.ledger.alerts.incident import STATES
from aicostguard.ledger.alerts.rule import ACTIONS, COMPARISONS, EVENTS, PERIODS, SORTS, UNITS
from aicostguard.ledger.alerts.status import PARAMETERS
from aicostguard.ledger.apidoc import _KEY_NEEDED, _errors, _json, _object, _texts

_AMOUNT = {"type": ["number", "string"], "description": "Exact; leaves the ledger as text."}
_RULE: dict[str, Any] = {
    "name": {"type": "string"},
    "kind": {"enum": list(SORTS), "description": "; ".join(f"{name}: {sort.says}" for name, sort in SORTS.items())},
    "threshold": {**_AMOUNT, "description": "Fires above; US dollars for spend and single_request."},
    "action": {"enum": list(ACTIONS)},
    "period": {"enum": list(PERIODS), "description": "spend: the calendar period."},
    "timezone": {"type": "string", "default": "UTC"},
    "match": {"type": "object", "description": "spend: only calls with these.", "examples": [{"team": "search"}]},
    "per": {"type": "string", "description": "spend: each value of this dimension by itself."},
    "window_minutes": {"type": "integer", "default": 10, "description": "rate_spike."},
    "min_usd": {**_AMOUNT, "description": "rate_spike: less in the window is no spike.", "default": "10"},
    "min_calls": {"type": "integer", "default": 50, "description": "cost_per_call: on either side."},
    "query": {"type": "object", "description": "query: parameters of GET /v1/costs."},
    "measure": {"enum": list(UNITS), "default": "cost_usd"},
    "comparison": {"enum": list(COMPARISONS), "default": "above"},
    "budgets": {"type": "array", "items": {"type": "string"}, "description": "budget: only these."},
    "clear": {"type": "number", "default": 0.9, "description": "Over at or below this share of the threshold …"},
    "hold_s": {"type": "integer", "default": 300, "description": "… for so long."},
    "once_per": {"enum": list(PERIODS), "description": "What comes back within it is not told again."},
    "notify": {"type": "array", "items": {"enum": list(EVENTS)}, "default": ["firing"]},
    "channels": {"type": "array", "items": {"type": "string"}, "description": "Empty for all."},
    "enabled": {"type": "boolean", "default": True},
}
_KEPT = _object(
    {
        **_RULE,
        "open": {"type": "integer", "description": "Alerts of it that are not resolved."},
        "fault": {"type": ["string", "null"], "description": "Why it could not be looked at the last time."},
        "changed_at": {"type": "string"},
        "changed_by": {"type": "string"},
    }
)
_MAYBE = {"type": ["string", "null"]}
_ALERT = _object(
    {
        "id": {"type": "integer"},
        "rule": {"type": "string"},
        "kind": {"enum": list(SORTS)},
        "action": {"enum": list(ACTIONS)},
        "state": {"enum": list(STATES)},
        "text": {"type": "string", "examples": ["Hourly spend $123.46 exceeds threshold"]},
        "group": {"type": "object"},
        **{name: {"type": "string"} for name in ("value", "peak", "threshold")},
        "unit": {"type": "string", "description": "usd, or empty."},
        "started_at": {"type": "string"},
        **dict.fromkeys(("changed_at", "ended_at", "snoozed_until", "by"), _MAYBE),
        "url": {**_MAYBE, "description": "The view that shows it."},
    },
    description="Alerts of budgets have budget, scope, spent_… and limit_… besides; the organisation's no amounts.",
)
_LIST = _object({"alerts": {"type": "array", "items": _ALERT}, "cursor": _MAYBE})
_CHANNEL_IN: dict[str, Any] = {
    "name": {"type": "string"},
    "url": {
        "type": "string",
        "description": "https://… for a signed webhook, or an address of apprise. Never shown again.",
    },
    "kind": {"enum": ["webhook", "apprise"], "description": "Left out, the address says."},
    "secret": {"type": "string", "description": "A webhook is signed with it; left out, one is made and shown once."},
    "enabled": {"type": "boolean", "default": True},
}
_CHANNEL = _object(
    {
        **_CHANNEL_IN,
        "url": {"type": "string", "description": "Masked."},
        "waiting": {"type": "integer", "description": "Notices not sent yet."},
        "last": {"type": ["object", "null"], "description": "The last notice, with every attempt."},
    }
)
_GONE = _object({"removed": {"type": "string"}})


def _body(schema: dict[str, Any], *, required: bool = True, **examples: Any) -> dict[str, Any]:
    content = {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
    return {**_KEY_NEEDED, "requestBody": {"required": required, "content": {"application/json": content}}}


def _route(
    summary: str, description: str, good: dict[int | str, Any], extra: dict[str, Any], *errors: int
) -> dict[str, Any]:
    return {
        "summary": summary,
        "description": description,
        "tags": ["alerts"],
        "responses": {**good, **_errors(401, 403, 422, 503, *errors)},
        "openapi_extra": extra,
    }


_SENT = (400, 413, 422)
GET_ALERTS = _route(
    "What fires, and what did",
    "The newest first, with thresholds of budgets. `cursor` leads on; null: there are no more.",
    {200: _json("The alerts.", _LIST)},
    {**_KEY_NEEDED, "parameters": _texts(PARAMETERS)},
    422,
)
POST_CHECK = _route(
    "Look at every rule now",
    "What the ledger does by itself every few seconds. Gives what is open, and the rules that could not be looked at.",
    {200: _json("What is open.", _LIST)},
    _body(_object({}), required=False, now={}),
    *_SENT,
)
POST_TEST = _route(
    "Send a test",
    "To one channel or to all, now; says what came of it. Not tried again.",
    {200: _json("What came of it.", _object({"tested": {"type": "array", "items": {"type": "object"}}}))},
    _body(_object({"channel": {"type": "string"}}), required=False, all={}, one={"channel": "ops"}),
    404,
    *_SENT,
)
POST_ACK = _route(
    "Acknowledge an alert",
    "Somebody looks after it; it stays open until it is over.",
    {200: _json("The alert.", _ALERT)},
    _body(_object({}), required=False, yes={}),
    404,
    *_SENT,
)
POST_SNOOZE = _route(
    "Hear nothing of it for a while",
    "Also when it comes back, or a new period begins. If it still fires then, it is told again.",
    {200: _json("The alert.", _ALERT)},
    _body(
        _object({"minutes": {"type": "integer"}, "until": {"type": "string"}}),
        hour={"minutes": 60},
        morning={"until": "2026-11-30T08:00:00+01:00"},
    ),
    404,
    *_SENT,
)
GET_RULES = _route(
    "Rules",
    "Those that there are from the start, too.",
    {200: _json("The rules.", _object({"rules": {"type": "array", "items": _KEPT}}))},
    _KEY_NEEDED,
)
POST_RULES = _route(
    "A new rule",
    "Which keys it takes depends on its kind; a wrong one is refused by name.",
    {201: _json("Made.", _KEPT)},
    _body(
        _object(_RULE, ("name", "kind")),
        team={"name": "search", "kind": "spend", "threshold": 20, "period": "day", "match": {"team": "search"}},
        query={
            "name": "dear answers",
            "kind": "query",
            "query": {"since": "24h", "group_by": "feature"},
            "measure": "cost_per_call_usd",
            "threshold": "0.05",
        },
    ),
    *_SENT,
)
GET_RULE = _route("One rule", "As it is kept.", {200: _json("The rule.", _KEPT)}, _KEY_NEEDED, 404)
PATCH_RULE = _route(
    "Change a rule",
    "What is not named stays; null takes what is taken by default.",
    {200: _json("The rule.", _KEPT)},
    _body(_object(_RULE), limit={"threshold": 250}, off={"enabled": False}),
    404,
    *_SENT,
)
DELETE_RULE = _route(
    "Remove a rule", "Its alerts are over; their history stays.", {200: _json("Removed.", _GONE)}, _KEY_NEEDED, 404
)
GET_CHANNELS = _route(
    "Channels",
    "Where alerts are told. Addresses are masked.",
    {200: _json("The channels.", _object({"channels": {"type": "array", "items": _CHANNEL}}))},
    _KEY_NEEDED,
)
POST_CHANNELS = _route(
    "A new channel",
    "A signed webhook, or any service that apprise knows: Slack, email, PagerDuty, Teams, Discord, …",
    {201: _json("Made; `secret` is shown this once.", _CHANNEL)},
    _body(
        _object(_CHANNEL_IN, ("name", "url")),
        webhook={"name": "ops", "url": "https://hooks.example.com/aicg"},
        slack={"name": "chat", "url": "slack://TokenA/TokenB/TokenC/#costs"},
    ),
    *_SENT,
)
GET_CHANNEL = _route("One channel", "Masked.", {200: _json("The channel.", _CHANNEL)}, _KEY_NEEDED, 404)
PATCH_CHANNEL = _route(
    "Change a channel",
    "What is not named stays.",
    {200: _json("The channel.", _CHANNEL)},
    _body(_object(_CHANNEL_IN), off={"enabled": False}),
    404,
    *_SENT,
)
DELETE_CHANNEL = _route(
    "Remove a channel",
    "With what was still to be sent there, and its log.",
    {200: _json("Removed.", _GONE)},
    _KEY_NEEDED,
    404,
)
GET_LOG = _route(
    "What was sent to a channel",
    "Each notice with its attempts, the newest first.",
    {200: _json("The log.", _object({"log": {"type": "array", "items": {"type": "object"}}}))},
    {**_KEY_NEEDED, "parameters": _texts({"limit": "At most, 1 to 1000. Default 50."})},
    404,
    422,
)
