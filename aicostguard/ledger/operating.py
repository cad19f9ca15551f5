"""Routes for those who run the ledger: `/healthz`, `/readyz`, `/metrics`. No key needed, nobody's costs told.

Owns what is public without a key. A probe that needs one ends up with the key in a manifest.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping

from fastapi import FastAPI, Request
from starlette.responses import Response

from aicostguard.ledger.metrics import Metrics
from aicostguard.ledger.readiness import Readiness

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
}


def add(app: FastAPI, metrics: Metrics, readiness: Readiness, now_ms: Callable[[], int]) -> None:
    """Put the three routes on the application."""

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


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content, separators=(",", ":")), status, media_type="application/json")
