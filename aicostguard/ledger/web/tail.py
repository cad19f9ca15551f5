"""Receipts as they come in, to pages that are open: server-sent events.

Owns how many may listen at once, how often the ledger is asked, and when a stream ends: with the server, with the right
to look, and after a while in any case; a browser then comes back by itself and goes on where it was. Rows are made by
the template that also makes the page, so that both look alike and everything is escaped in one place.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, AsyncIterator, Callable

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from aicostguard.ledger import query
from aicostguard.ledger.access.door import authorise
from aicostguard.ledger.access.principal import Principal
from aicostguard.ledger.errors import Crowded, LedgerError
from aicostguard.ledger.web import policy
from aicostguard.ledger.web.state import State
from aicostguard.ledger.web.view import Page, Site, View

#: who may listen at once; how often the ledger is asked; how long one stream lasts
MOST, EVERY_S, LASTS_S = 32, 1.0, 600.0
#: how often it is asked whether somebody still may look, and something is said at least
CHECK_S = 10.0
#: rows of one event; of more that came in since, the newest
ROWS = 20


class Tails:
    """All streams of one server. `over` says that it is about to stop."""

    def __init__(self, site: Site, pages: tuple[Page, ...], over: Callable[[], bool]) -> None:
        self._site, self._pages, self._over = site, pages, over
        self._page = Page("tail", "/tail", "", lambda view: view.json({}), own=("after",), period=False)
        self.open = 0

    async def answer(self, request: Request) -> Response:
        principal = await run_in_threadpool(authorise, request, "read")
        state = State.of(request.query_params.multi_items(), ("after",))
        if self.open >= MOST:
            raise Crowded(f"{MOST} pages follow receipts already; load this page again later to see new ones", 30)
        after = request.headers.get("last-event-id") or state.one("after")
        view = View(self._site, self._pages, self._page, request, principal)
        view.state = state
        headers = {**policy.DATA_HEADERS, "X-Accel-Buffering": "no"}
        self.open += 1
        return _Stream(self, self._events(view, after), media_type="text/event-stream", headers=headers)

    async def _events(self, view: View, after: str) -> AsyncIterator[str]:
        try:
            ends, looked = time.monotonic() + LASTS_S, time.monotonic()
            yield "retry: 3000\n\n"
            while not self._over() and time.monotonic() < ends:
                if time.monotonic() - looked > CHECK_S:
                    await run_in_threadpool(authorise, view.request, "read")
                    looked = time.monotonic()
                    yield f"id: {after}\nevent: alive\ndata: {{}}\n\n"
                found = await run_in_threadpool(self._next, view, after)
                after = found["cursor"]
                if found["rows"] or found["skipped"]:
                    yield f"id: {after}\ndata: {json.dumps(found)}\n\n"
                await asyncio.sleep(EVERY_S)
        except LedgerError:
            yield "event: over\ndata: {}\n\n"

    def _next(self, view: View, after: str) -> dict[str, Any]:
        """What came since: `{rows, cursor, skipped}`, the newest first."""
        principal: Principal = view.principal
        asked = {name: list(values) for name, values in view.state.only_wanted.given.items()}
        asked["tz"] = [view.tz]
        if after:
            asked["after"] = [after]
        found = query.arrivals(self._site.store, asked, principal.project_id)
        macros = self._site.templates.get_template("row.html")
        fresh = found["receipts"][::-1][:ROWS]
        rows = [macros.render(view=view, row=row).strip() for row in fresh]
        return {"rows": rows, "cursor": found["cursor"], "skipped": found["skipped"]}


class _Stream(StreamingResponse):
    """One that is counted until it ends, even if its reader has gone before the first word of it."""

    def __init__(self, tails: Tails, *of: Any, **more: Any) -> None:
        super().__init__(*of, **more)
        self._tails = tails

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._tails.open -= 1


def add(app: FastAPI, site: Site, pages: tuple[Page, ...]) -> Tails:
    """Add the route."""
    tails = Tails(site, pages, lambda: bool(app.state.readiness.stopping))

    @app.get("/tail", include_in_schema=False)
    async def get_tail(request: Request) -> Response:
        return await tails.answer(request)

    return tails
