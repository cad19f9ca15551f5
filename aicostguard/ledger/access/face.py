"""What the routes of access have in common: who may, the body within bounds, the work in a thread, times as text.

Owns nothing that a route decides.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping
from zoneinfo import ZoneInfo

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aicostguard.ledger import body as bodies
from aicostguard.ledger.access.door import authorise
from aicostguard.ledger.access.principal import PROJECT, Principal
from aicostguard.ledger.errors import Refused

_UTC = ZoneInfo("UTC")
#: bytes of a body; all that is sent here is small
MOST_BODY = 64 * 1024
_WITH_BODY = ("POST", "PUT", "PATCH")

Job = Callable[[Principal, dict[str, Any]], Any]


class Json(Response):
    """JSON in ASCII, as the rest of the ledger writes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


async def answered(request: Request, job: Job, *scopes: str, reach: str = PROJECT) -> Response:
    """Do a job for whoever may, and say what it gives: a `Response`, or what becomes JSON."""
    principal = await run_in_threadpool(authorise, request, *scopes, reach=reach)
    body = await sent(request, principal.max_bytes)
    found = await run_in_threadpool(job, principal, body)
    return found if isinstance(found, Response) else Json(found)


async def sent(request: Request, most: int | None = None) -> dict[str, Any]:
    """The JSON object of a request that has one; without a body it is empty. Raises `Refused`."""
    if request.method not in _WITH_BODY or request.headers.get("content-length") == "0":
        return {}
    encoding = request.headers.get("content-encoding")
    return await bodies.json_object(request.stream(), encoding, min(MOST_BODY, most or MOST_BODY))


def parameters(request: Request, known: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a URL, each once. Raises `Refused` (422)."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        shown = ascii(name[:64])[1:-1]
        if name not in known:
            has = f"known are {', '.join(known)}" if known else "there are none here"
            raise Refused(422, f"is not a parameter; {has}", shown)
        if name in found:
            raise Refused(422, "may be given once", shown)
        found[name] = value
    return found
