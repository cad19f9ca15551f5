"""Forgetting over HTTP: begun by a request, done in a thread of its own, told by its record.

Owns `/v1/forget`. The name is in the body of the request and nowhere else: no log, no record, no answer holds it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from concurrent.futures import Future
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from aicostguard.ledger.access import names
from aicostguard.ledger.access.door import Door, actor
from aicostguard.ledger.access.face import Json, answered, parameters
from aicostguard.ledger.access.principal import Principal
from aicostguard.ledger.access.told import when
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.keeping import doc, forgetting
from aicostguard.ledger.keeping.pace import Stopped

log = logging.getLogger("aicostguard.ledger")
#: an act that cannot begin by then says so
BEGIN_S = 25.0


def add(app: FastAPI, door: Door) -> None:
    """Add the routes to the application."""

    def forget(principal: Principal, body: dict[str, Any]) -> Response:
        names.only(body, ("user",))
        user = body.get("user")
        if not isinstance(user, str):
            raise Refused(422, "is required and must be text: the label `user` as it was sent", "user")
        return Json({"id": _begun(door, principal, user), "state": "open"}, status_code=202)

    @app.post("/v1/forget", **doc.POST_FORGET)
    async def post_forget(request: Request) -> Response:
        return await answered(request, forget, "manage")

    @app.get("/v1/forget", **doc.GET_FORGET)
    async def get_forget(request: Request) -> Response:
        def acts(principal: Principal, _: dict[str, Any]) -> Any:
            parameters(request, {})

            def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
                return forgetting.acts(connection, principal.project_id)

            return {"forgettings": [told(act) for act in door.store.look(read)]}

        return await answered(request, acts, "read")


def told(act: dict[str, Any]) -> dict[str, Any]:
    """A record as it leaves the ledger."""
    times = {"at": when(act["at_ms"]), "ended_at": when(act["ended_ms"])}
    return {**{name: value for name, value in act.items() if not name.endswith("_ms")}, **times}


def _begun(door: Door, principal: Principal, user: str) -> int:
    begun: Future[int] = Future()

    def run() -> None:
        try:
            forgetting.forget(
                door.store, principal.project_id, user, actor(principal), door.now_ms(), begun=begun.set_result
            )
        except (LedgerError, Stopped) as error:
            if not begun.done():
                begun.set_exception(error)
            else:
                log.error("a forgetting did not end: %s", error)
        except Exception as error:
            # Its text may quote the name.
            log.error("a forgetting did not end: %s", type(error).__name__)
            if not begun.done():
                begun.set_exception(LedgerError(f"forgetting failed ({type(error).__name__})"))

    threading.Thread(target=run, name="aicg-ledger-forget", daemon=True).start()
    return begun.result(BEGIN_S)
