"""What is said when something does not work: a problem document (RFC 9457), the same for every route.

Owns its shape: `status`, `title`, `detail` (what is wrong, where, and the way out), and beside them `error` and
`field`, which agents and the command line read.
"""

from __future__ import annotations

import http
import json
from typing import Any, Mapping

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
#: status → the way out, where the sentence itself need not name one
_REMEDY: Mapping[int, str] = {
    400: "The page /docs says what is taken",
    404: "The page /docs lists the paths; lists like /v1/projects and /v1/keys show what there is",
    405: "The page /docs lists what can be done with each path",
    422: "Put it right and send it again; the page /docs says what is taken",
    500: "It is not the request's fault; try again, and look at the ledger's log",
}


class Problem(Response):
    """One refusal. `more` stands beside the standard members and goes before them."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        error: str,
        field: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        said = f"{field}: {error}" if field else error
        remedy = _REMEDY.get(status)
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": _title(status),
            "status": status,
            "detail": f"{said}. {remedy}." if remedy else said,
            "error": error,
        }
        if field:
            content["field"] = field
        super().__init__({**content, **(more or {})}, status_code=status, headers=dict(headers or {}))

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def _title(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"
