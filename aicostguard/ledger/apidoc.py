"""What the API says about itself: the OpenAPI document. Owns descriptions and examples; `apipage` shows them."""

from __future__ import annotations

from typing import Any, Mapping

from fastapi import FastAPI

from aicostguard.ledger.deliveries import OF_SOURCES, STATES, SUMS
from aicostguard.ledger.deliveries import PARAMETERS as DELIVERIES
from aicostguard.ledger.model import DIMENSIONS, MEASURES
from aicostguard.ledger.problem import MEDIA_TYPE
from aicostguard.ledger.query import ARRIVALS, PARAMETERS
from aicostguard.receipt import FIELDS, REQUIRED

_TYPES = {"int": "integer", "flag": "boolean", "tags": "object"}

_EXAMPLE_RECEIPT: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1240,
    "output_tokens": 312,
    "latency_ms": 842,
    "feature": "generate_rag_answer",
}
_EXAMPLE_ENVELOPE: dict[str, Any] = {
    "schema": 1,
    "agent": "0.1.0",
    "epoch": "01JD8Y3W7ZK5T9Q2R4V6X8A0BC",
    "sent_at": 1795327200000,
    "service": "shop",
    "environment": "production",
    "counters": {"generated": 18, "sent": 16},
    "seq": [17],
    "at": [1795327199000],
    "receipts": [_EXAMPLE_RECEIPT],
}
_REPLY = {"accepted": 1, "duplicate": 0, "refused": []}


def _measure(name: str) -> dict[str, Any]:
    says = {
        "cost_nanousd": "Cost in billionths of a US dollar; null where no call of the row has a price.",
        "unpriced_calls": "Calls without a price: they are in no cost.",
        "usage_missing_calls": "Calls for which the provider reported no usage.",
        "estimated_calls": "Calls whose usage was estimated.",
        "partial_calls": "Calls that were cut off before their end.",
        "clock_adjusted_calls": "Calls whose sender's clock was beyond belief; they stand at the time of arrival.",
        "input_tokens": "All input tokens, cached and written ones included.",
        "output_tokens": "All output tokens, reasoning included.",
        "cache_savings_nanousd": "What the calls would have cost without any cache, less what they cost.",
        "timed_calls": "Calls that tell a latency.",
        "first_token_calls": "Calls that tell a time to first token.",
        "reported_cost_nanousd": "What providers themselves said the calls cost.",
    }
    nullable = name == "cost_nanousd"
    text = says.get(name, f"Sum of `{name}`.")
    return {"type": ["integer", "null"] if nullable else "integer", "description": text}


_AMOUNTS: dict[str, Any] = {
    "cost_usd": {"type": ["string", "null"], "description": "Cost in US dollars, exact.", "examples": ["0.00622"]},
    **{name: _measure(name) for name in MEASURES},
}
_NAMES = {
    name: {"type": ["string", "null"], "description": f"{dimension.says}; null = not said"}
    for name, dimension in DIMENSIONS.items()
}


def _object(properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {}), **more}


_RECEIPT = _object(
    {name: {"type": _TYPES.get(field.kind, "string"), "description": field.expects} for name, field in FIELDS.items()},
    REQUIRED,
    additionalProperties=False,
    examples=[_EXAMPLE_RECEIPT],
)
_COUNT = {"type": "integer", "minimum": 0}
_ENVELOPE = _object(
    {
        "schema": {"type": "integer", "description": "Version of the format: 1."},
        "agent": {"type": "string", "description": "Version of the sender."},
        "epoch": {"type": "string", "description": "Id of the sending process, new at every start."},
        "sent_at": {**_COUNT, "description": "The sender's clock now, in ms since 1970."},
        **{name: {"type": "string"} for name in ("service", "environment", "release", "host")},
        "counters": _object({}, description="Totals of the process so far.", additionalProperties=_COUNT),
        "ended": {"const": True, "description": "The process makes no further receipt: `generated` is final."},
        "seq": {
            "type": "array",
            "items": _COUNT,
            "description": "Number of each receipt within the epoch, from 0; one left out is taken for lost.",
        },
        "at": {"type": "array", "items": _COUNT, "description": "The sender's clock when each call was made."},
        "receipts": {"type": "array", "maxItems": 5000, "items": _RECEIPT},
    },
    ("schema", "epoch", "sent_at", "seq", "at", "receipts"),
    additionalProperties=False,
    examples=[_EXAMPLE_ENVELOPE],
)
_ERROR = _object(
    {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, where, and the way out."},
        "error": {"type": "string", "description": "What is wrong."},
        "field": {"type": "string", "description": "The key or parameter at fault."},
    },
    ("type", "title", "status", "detail", "error"),
)


def _json(says: str, schema: dict[str, Any], example: Any = None, media: str = "application/json") -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"description": says, "content": {media: content}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    says = {
        400: "Not JSON, not gzip, or a version this ledger does not read.",
        401: "No key, an unknown one, or a revoked one.",
        403: "The key lacks the scope.",
        404: "There is no such thing, or none that you see.",
        409: "It does not fit what there is now: a name is taken, or something is archived or revoked.",
        408: "The body did not arrive in time. Send it again.",
        413: "More than 5 MB as sent, 32 MB inflated, or 5,000 receipts: split it.",
        415: "A Content-Encoding other than gzip.",
        422: "A key, value or parameter that does not fit; `field` names it.",
        429: "This key asks more often than it may. Try again after `Retry-After` seconds.",
        503: "The ledger cannot write or read now. Try again after `Retry-After` seconds; nothing was stored.",
    }
    return {status: {"description": says[status], "content": {MEDIA_TYPE: {"schema": _ERROR}}} for status in statuses}


def _texts(parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "description": says, "schema": {"type": "string"}}
        for name, says in parameters.items()
    ]


def _parameters(*names: str, own: Mapping[str, str] = PARAMETERS) -> list[dict[str, Any]]:
    only = "Only receipts with this: {}. Empty for those without."
    filters = [(name, only.format(dimension.says)) for name, dimension in DIMENSIONS.items()]
    listed = _texts({name: own[name] for name in names})
    several = {"type": "array", "items": {"type": "string"}}
    return listed + [
        {"name": name, "in": "query", "required": False, "description": says, "schema": several}
        for name, says in filters
    ]


_PROJECT = {
    "name": "AICG-Project",
    "in": "header",
    "required": False,
    "description": "Which project is meant, for those who may see several: NAME or ORGANISATION/NAME.",
    "schema": {"type": "string"},
}
_KEY_NEEDED: dict[str, Any] = {"security": [{"key": []}]}

POST_RECEIPTS: dict[str, Any] = {
    "summary": "Send receipts",
    "description": "An envelope of an agent, or one bare receipt from any language. An envelope may be sent again, "
    "whole or cut otherwise: a receipt counts once. Give a bare receipt an `Idempotency-Key` and it counts once too; "
    "the same key with another receipt is refused. Any 2xx means taken: never send it again. Gzip is welcome.",
    "tags": ["receipts"],
    "responses": {
        200: _json(
            "Taken and stored. A refused receipt will be refused again.",
            _object(
                {
                    "accepted": {"type": "integer"},
                    "duplicate": {"type": "integer", "description": "Known already."},
                    "refused": {
                        "type": "array",
                        "items": _object(
                            {"index": {"type": "integer"}, "field": {"type": "string"}, "error": {"type": "string"}}
                        ),
                    },
                }
            ),
            _REPLY,
        ),
        **_errors(400, 401, 403, 413, 415, 422, 503),
    },
    "openapi_extra": {
        **_KEY_NEEDED,
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "For a bare receipt: 1 to 255 visible ASCII characters.",
                "schema": {"type": "string"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [_ENVELOPE, _RECEIPT]},
                    "examples": {
                        "one receipt": {"value": _EXAMPLE_RECEIPT},
                        "an envelope": {"value": _EXAMPLE_ENVELOPE},
                    },
                }
            },
        },
    },
}
GET_SOURCES: dict[str, Any] = {
    "summary": "Who delivered, and what is missing",
    "description": "Every process that sent envelopes, the one heard last first: its own counters beside what arrived. "
    "`missing` receipts lie between the first and the last that came, and never did. In pages: ask again with the "
    "`cursor` of the answer while there is one. A process that is heard meanwhile moves to the front.",
    "tags": ["receipts"],
    "responses": {
        200: _json(
            "The sources.",
            _object(
                {
                    "sources": {"type": "array", "items": {"type": "object"}},
                    "cursor": {"type": ["string", "null"]},
                }
            ),
        ),
        **_errors(401, 403, 422, 503),
    },
    "openapi_extra": {**_KEY_NEEDED, "parameters": _texts(OF_SOURCES)},
}
GET_ARRIVALS: dict[str, Any] = {
    "summary": "Receipts as they come in",
    "description": "What was stored after an earlier answer, in the order in which it was stored, late ones included. "
    "Ask without `after` for a cursor, then again and again with the cursor of the last answer; at once while `more` "
    "is true. `skipped` says that some in between are no longer told of: the asker was too slow, or the ledger was "
    "restored.",
    "tags": ["receipts"],
    "responses": {
        200: _json(
            "The receipts.",
            _object(
                {
                    "receipts": {"type": "array", "items": {"type": "object"}},
                    "cursor": {"type": "string"},
                    "skipped": {"type": "boolean"},
                    "more": {"type": "boolean"},
                }
            ),
        ),
        **_errors(401, 403, 422, 503),
    },
    "openapi_extra": {**_KEY_NEEDED, "parameters": _parameters("after", "tz", own=ARRIVALS)},
}
_BOOKS: dict[str, Any] = {name: {**_COUNT, "description": says} for name, says in SUMS.items()}
_MAYBE_TEXT = {"type": ["string", "null"]}
_DELIVERY = _object(
    {
        "process": {"type": "string", "description": "Its id, the epoch of its envelopes."},
        **dict.fromkeys(("service", "environment", "release", "host", "agent"), _MAYBE_TEXT),
        "state": {"enum": list(STATES), "description": "Of a single process."},
        **{name: {**_COUNT, "description": "How many processes."} for name in ("processes", *STATES)},
        **_BOOKS,
        "late_max_ms": {**_COUNT, "description": "The longest that a receipt took to arrive."},
        "clock_offset_ms": {
            "type": ["integer", "null"],
            "description": "How far the sender's clock is ahead of the ledger's; below 0 behind, or slow to reach.",
        },
        "clock_wrong": {"type": "boolean"},
        "first_heard": {"type": "string"},
        "last_heard": {"type": "string"},
        "highest_seq": {"type": ["integer", "null"]},
        "gaps": {
            "type": "array",
            "items": {"type": "array", "items": _COUNT},
            "description": "Runs [first, last] of seqs that never came while later ones did; the first twenty.",
        },
        "more_gaps": {"type": "boolean"},
        "counters": _object({}, description="What the process said of itself.", additionalProperties=_COUNT),
    }
)
GET_DELIVERIES: dict[str, Any] = {
    "summary": "Is everything here?",
    "description": "What arrived of each host, service or process beside what the processes said they made. Every "
    "receipt a process is known to have made is here, said to be dropped (`known_lost`), still waited for (`waiting`) "
    "or `lost`. A process that went without a word may have made more than anybody knows.",
    "tags": ["receipts"],
    "responses": {
        200: _json(
            "The answer.",
            _object(
                {
                    "since": {"type": "string"},
                    "group_by": {"type": "array", "items": {"type": "string"}},
                    "rows": {"type": "array", "items": _DELIVERY},
                    "other": {"oneOf": [_object({"groups": {"type": "integer"}, **_BOOKS}), {"type": "null"}]},
                    "totals": _object(_BOOKS),
                    "cursor": {
                        "type": ["string", "null"],
                        "description": "Asks for the processes heard before these, which are in no figure here; null: "
                        "these are all.",
                    },
                }
            ),
        ),
        **_errors(401, 403, 422, 503),
    },
    "openapi_extra": {**_KEY_NEEDED, "parameters": _texts(DELIVERIES)},
}
GET_HEALTH: dict[str, Any] = {
    "summary": "Is it up?",
    "description": "No key needed.",
    "tags": ["health"],
    "responses": {200: _json("It is.", _object({"status": {"type": "string"}}), {"status": "ok"}), **_errors(503)},
}

ABOUT: dict[str, Any] = {
    "title": "AI Cost Guard ledger",
    "version": "1",
    "description": "Takes receipts of AI calls exactly once, prices them, and answers what they cost. Every path but "
    "`/v1/health` needs a key: `Authorization: Bearer aicg_…`. All money is US dollars.",
    "docs_url": None,
    "redoc_url": None,
    # A redirect would name whatever host the request named.
    "redirect_slashes": False,
    "openapi_url": "/docs/openapi.json",
}

#: what every route that wants a key may say, and every one that takes a body
_OF_KEY, _OF_BODY = (401, 403, 404, 422, 429, 503), (400, 408, 413, 415, 422)


def _complete(operation: dict[str, Any]) -> None:
    """Add what holds for all routes alike, so that none has to say it, and take out what FastAPI supposes."""
    responses = operation["responses"]
    if len(responses) > 1 and responses.get("200", {}).get("description") == "Successful Response":
        del responses["200"]
    if operation.get("security"):
        operation["security"] = [{"key": []}, {"session": []}]
        operation.setdefault("parameters", []).append(_PROJECT)
    for wanted in (_OF_KEY if operation.get("security") else (), _OF_BODY if "requestBody" in operation else ()):
        for status, says in _errors(*wanted).items():
            responses.setdefault(str(status), says)


def complete(app: FastAPI) -> None:
    """Make its document say what holds for all routes."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        for path in schema["paths"].values():
            for operation in path.values():
                _complete(operation)
        schema.setdefault("components", {})["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "A ledger key: aicg_…"},
            "session": {"type": "apiKey", "in": "cookie", "name": "aicg_session", "description": "From POST /v1/login"},
        }
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
