"""Routes for those who run the ledger: `/healthz`, `/readyz`, `/metrics` without a key, `/v1/metrics` with one.

Owns what is public without a key: nobody's costs. A probe that needs a key ends up with it in a manifest. What calls
cost is told on a route of its own, so that no slip of a check can show it on the public one.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping

from fastapi import FastAPI, Request
from starlette.responses import Response

from aicostguard.ledger import apidoc
from aicostguard.ledger.access import face
from aicostguard.ledger.access.door import PROJECT_HEADER, authorise
from aicostguard.ledger.metrics import Metrics, written
from aicostguard.ledger.readiness import Readiness
from aicostguard.ledger.spend import Told

_STATE = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {
                "status": {"type": "string"},
                "checks": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["status"],
        }
    }
}
_TEXT = {"text/plain": {"schema": {"type": "string"}}}

_ABOUT: Mapping[str, Any] = {
    "/healthz": {
        "summary": "Does the process live?",
        "responses": {200: {"description": "It does.", "content": _STATE}},
    },
    "/readyz": {
        "summary": "Can it be sent work? Reads from the file and commits to it, at most every five seconds.",
        "responses": {
            200: {"description": "It can.", "content": _STATE},
            503: {"description": "It cannot: `checks` says what failed, the log says why.", "content": _STATE},
        },
    },
    "/metrics": {
        "summary": "The ledger's own figures, in Prometheus' text form or OpenMetrics.",
        "responses": {200: {"description": "The figures.", "content": _TEXT}},
    },
    "/v1/metrics": {
        "summary": "What calls cost, in Prometheus' text form or OpenMetrics.",
        "description": "Of all projects that the key may read, or of the one in AICG-Project: counters of what was "
        "taken in, by provider, model, operation, feature, team and environment; gauges of what today and this month "
        "cost; budgets. The same answer is given again within five seconds. Counting begins with the first question.",
        "responses": {
            200: {"description": "The figures.", "content": _TEXT},
            **apidoc._errors(401, 403, 404, 422, 503),
        },
        "openapi_extra": apidoc._KEY_NEEDED,
    },
}


def add(app: FastAPI, metrics: Metrics, readiness: Readiness, told: Told, now_ms: Callable[[], int]) -> None:
    """Put the routes on the application."""

    @app.get("/healthz", tags=["operation"], **_ABOUT["/healthz"])
    async def healthz() -> Response:
        # On the loop, and nothing else: a full disk is no reason to start the process anew.
        return _json({"status": "ok"})

    @app.get("/readyz", tags=["operation"], **_ABOUT["/readyz"])
    def readyz() -> Response:
        state = readiness.now(now_ms())
        content = {"status": "ready" if state.ready else "not ready", "checks": state.checks}
        return _json(content, 200 if state.ready else 503)

    @app.get("/metrics", tags=["operation"], **_ABOUT["/metrics"])
    def figures(request: Request) -> Response:
        text, kind = metrics.text(request.headers.get("accept"))
        return Response(text, headers={"Content-Type": kind})

    @app.get("/v1/metrics", tags=["costs"], **_ABOUT["/v1/metrics"])
    def spend(request: Request) -> Response:
        who = authorise(request, "read")
        face.parameters(request, {})
        chosen = PROJECT_HEADER in request.headers
        text, kind = written(told.registry(who, who.project_id if chosen else None), request.headers.get("accept"))
        return Response(text, headers={"Content-Type": kind})


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content, separators=(",", ":")), status, media_type="application/json")
