"""The browser's drawing library, at an address of its own: see `charts.bundle`, which makes it.

Owns the route. It needs no log-in: it is the same for everybody.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.web.assets import TYPES, Asset, packed
from aicostguard.ledger.web.charts import draw
from aicostguard.ledger.web.charts.bundle import Bundle

PATH = "/charts/"


def add(app: FastAPI, bundle: Bundle) -> None:
    """Add the route."""

    @app.get(PATH + "{name}", include_in_schema=False)
    def get_library(request: Request, name: str) -> Response:
        if not bundle.name or name != bundle.name:
            raise Refused(404, "there is no such file; load the page again")
        try:
            whole = bundle.packed()
            plain = b"" if "gzip" in request.headers.get("accept-encoding", "") else bundle.plain()
        except draw.NotDrawn as error:
            raise LedgerError(f"charts cannot be drawn in the browser now: {error}") from None
        return packed(request, Asset(plain, whole, TYPES[".js"]))
