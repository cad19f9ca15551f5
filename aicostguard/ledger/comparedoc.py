"""What the API says of scores and comparisons: descriptions and shapes for the OpenAPI document. Owns no behaviour."""

from __future__ import annotations

from typing import Any

from aicostguard.ledger import apidoc, comparing, querydoc
from aicostguard.ledger.keeping.doc import ARCHIVED
from aicostguard.ledger.scores import KINDS, MOST_AT_ONCE

_TEXT = {"type": "string"}
_SCORE = apidoc._object(
    {
        "name": {**_TEXT, "description": "What is measured: accuracy, bleu, thumbs, …"},
        "value": {"type": "number", "description": "Any finite number."},
        **{kind: {**_TEXT, "description": f"Of {says}."} for kind, says in KINDS.items()},
        "model": {**_TEXT, "description": "The model that was measured; required for a run."},
        "at": {"type": "integer", "minimum": 0, "description": "When, in ms since 1970. Default: now."},
    },
    ("name", "value"),
    examples=[{"name": "accuracy", "value": 0.92, "request": "job-17"}],
)
POST_SCORES: dict[str, Any] = {
    "summary": "Say how good answers were",
    "description": 'One score, or `{"scores": [...]}`. Of a call, a session, or a run of an evaluation. The same name, '
    "subject and model again replaces the value: sending twice does no harm.",
    "tags": ["quality"],
    "responses": {
        200: apidoc._json("Stored.", apidoc._object({"stored": {"type": "integer"}}), {"stored": 1}),
        **apidoc._errors(400, 401, 403, 413, 415, 422, 503),
    },
    "openapi_extra": {
        **apidoc._KEY_NEEDED,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            _SCORE,
                            apidoc._object(
                                {"scores": {"type": "array", "maxItems": MOST_AT_ONCE, "items": _SCORE}}, ("scores",)
                            ),
                        ]
                    }
                }
            },
        },
    },
}
_PART = apidoc._object(
    {
        "calls": {"type": "integer", "description": "Calls that have a price on both sides."},
        **dict.fromkeys(("cost_usd", "cost_there_usd", "saved_usd"), _TEXT),
        "saved_nanousd": {"type": "integer", "description": "What was saved by not using the baseline."},
        "calls_left_out": {"type": "integer"},
        "left_out": {"type": "object", "description": "Calls that cannot be compared, by why."},
    }
)
_QUALITY = apidoc._object(
    {
        "scores": {"type": "integer"},
        "mean": {"type": "number"},
        **{name: {"type": ["number", "null"], "description": "95 %, Student's t"} for name in ("low", "high")},
    }
)
GET_COMPARE: dict[str, Any] = {
    "summary": "Models beside each other",
    "description": "Cost, latency and quality of each model, with `baseline` what its traffic would cost there.",
    "tags": ["quality"],
    "responses": {
        200: {
            "description": "The comparison.",
            "content": {
                "application/json": {
                    "schema": apidoc._object(
                        {
                            **dict.fromkeys(("since", "until", "tz"), _TEXT),
                            "models": {
                                "type": "array",
                                "items": apidoc._object(
                                    {
                                        "model": _TEXT,
                                        "avg_quality": {"type": ["number", "null"]},
                                        "quality": {"type": "object", "additionalProperties": _QUALITY},
                                        "cost_per_token_usd": {"type": ["string", "null"]},
                                        "on_baseline": {"oneOf": [_PART, {"type": "null"}]},
                                    }
                                ),
                            },
                            "more_models": {"type": "integer"},
                            "baseline": {"oneOf": [_PART, {"type": "null"}]},
                            "archived": ARCHIVED,
                            "quality_archived": {
                                **ARCHIVED,
                                "description": "Receipts that are archived or deleted, and so lead no score of a call "
                                "or a session to its model: `quality` is made without theirs. Null: none, or there are "
                                "no such scores.",
                            },
                        }
                    )
                },
                "text/csv": {"schema": _TEXT},
            },
        },
        **apidoc._errors(401, 403, 422, 503),
    },
    "openapi_extra": {
        **apidoc._KEY_NEEDED,
        "parameters": [
            *apidoc._parameters(*comparing.PARAMETERS, own=comparing.PARAMETERS),
            *querydoc.EXCLUDED,
            querydoc.FORMAT,
        ],
    },
}
