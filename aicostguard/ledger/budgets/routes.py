"""Budgets over HTTP: `/v1/budgets`, `/v1/policy`, `/v1/authorize`, `/v1/settle`.

Owns these routes and the shape of a refusal for lack of room (402). Thin: what is decided is decided by the desk.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Callable
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aicostguard.ledger import body as bodies
from aicostguard.ledger import period
from aicostguard.ledger.access import names
from aicostguard.ledger.access.door import authorise
from aicostguard.ledger.access.principal import ORGANISATION, PROJECT, Principal
from aicostguard.ledger.budgets import ask, doc, permitted, rule, status
from aicostguard.ledger.budgets.desk import BLOCKED, Desk, Exceeded
from aicostguard.ledger.budgets.given import read_settings
from aicostguard.ledger.budgets.leases import LEASE_S
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.problem import Problem
from aicostguard.ledger.query import usd
from aicostguard.ledger.sqlite import SqliteStore

_UTC = ZoneInfo("UTC")
#: bytes of a body; a question is small
MOST_BODY = 256 * 1024
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


class Json(Response):
    """JSON in ASCII, as the rest of the ledger writes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class Face:
    """What the routes have in common: who may, the body within bounds, the work in a thread."""

    def __init__(self, store: SqliteStore, desk: Desk, now_ms: Callable[[], int]) -> None:
        self.store = store
        self.desk = desk
        self.now_ms = now_ms

    async def answered(
        self, request: Request, scopes: str, job: Callable[[Principal, dict[str, Any]], Response]
    ) -> Response:
        key = await run_in_threadpool(authorise, request, *scopes.split())
        body: dict[str, Any] = {}
        if request.method in ("POST", "PUT"):
            encoding = request.headers.get("content-encoding")
            body = await bodies.json_object(request.stream(), encoding, min(MOST_BODY, key.max_bytes or MOST_BODY))
        return await run_in_threadpool(job, key, body)

    def look(self, key: Principal, job: Callable[..., dict[str, Any]], *more: Any) -> dict[str, Any]:
        """Ask counters that are up to date."""
        self.desk.catch_up()
        return self.store.look(lambda connection: job(connection, key.project_id, *more))

    def put(self, key: Principal, body: dict[str, Any], name: str | None) -> Response:
        if name is not None and body.setdefault("name", name) != name:
            raise Refused(422, f"is {str(body['name'])[:64]!a} here and {name[:64]!a} in the path", "name")
        called, new = permitted.put(self.store, self.desk, key, body)
        return Json(self.look(key, status.detailed, called, self.now_ms()), status_code=201 if new else 200)

    def every(self, key: Principal, reach: str | None) -> Response:
        """All that hold for the project, or those of one reach. Raises `Refused` (403)."""
        sees = permitted.sees(key)
        if reach is not None and names.one_of(reach, permitted.REACHES, "reach") == ORGANISATION and not sees:
            raise Refused(403, "needs a role that reaches the whole organisation", "reach")
        told = self.look(key, status.budgets, self.now_ms(), sees)
        return Json(told if reach is None else {"budgets": [row for row in told["budgets"] if row["reach"] == reach]})

    def one(self, key: Principal, name: str) -> Response:
        permitted.known(self.store, key, name, "read")
        return Json(self.look(key, status.detailed, name, self.now_ms()))

    def remove(self, key: Principal, name: str) -> Response:
        permitted.remove(self.store, self.desk, key, name)
        return Json({"removed": name})

    def rebuild(self, key: Principal, body: dict[str, Any]) -> Response:
        wanted = body.get("budgets", [])
        if set(body) - {"budgets"} or not isinstance(wanted, list) or not all(isinstance(n, str) for n in wanted):
            raise Refused(422, "must be a list of names, or left out for all", "budgets")
        return Json({"rebuilt": [kept.name for kept in permitted.rebuild(self.store, self.desk, key, wanted)]})

    def policy(self, key: Principal, known: str) -> Response:
        answer = self.store.look(lambda connection: status.policy(connection, key.project_id))
        tag = status.etag(answer)
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if {tag, f"W/{tag}"} & {item.strip() for item in known.split(",")}:
            return Response(status_code=304, headers=headers)
        return Json(answer, headers=headers)

    def set_policy(self, key: Principal, body: dict[str, Any]) -> Response:
        self.desk.set_policy(key.project_id, read_settings(body), key.who)
        return Json(self.store.look(lambda connection: status.policy(connection, key.project_id)))

    def authorize(self, key: Principal, body: dict[str, Any], idempotency_key: str | None) -> Response:
        if "holder" in body:
            return self._lend(key, body)
        if idempotency_key is not None and not _KEY.match(idempotency_key):
            raise Refused(422, "must be 1 to 255 visible ASCII characters", "Idempotency-Key")
        asking = ask.authorize(body, self.now_ms(), self.desk.prices)
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        found = self.desk.authorize(key.project_id, asking, idempotency_key, digest)
        if isinstance(found, Exceeded):
            return _refused(found, self.now_ms(), permitted.sees(key))
        ticket = found.ticket
        return Json(
            {
                "ticket": ticket.id,
                "reserved_usd": usd(ticket.bound_nanousd),
                "reserved_tokens": ticket.bound_tokens,
                "expires_at": period.iso(ticket.expires_ms, _UTC),
                "state": ticket.state,
                **json.loads(ticket.answer),
            }
        )

    def _lend(self, key: Principal, body: dict[str, Any]) -> Response:
        holder, asked = ask.lend(body)
        answers = self.desk.lend(key.project_id, holder, asked)
        sees = permitted.sees(key)
        rows = [
            {"budget": name, "scope": json.loads(item.scope), **status.lent(kept, lent, self.now_ms(), sees)}
            for (name, item), (kept, lent) in zip(asked, answers)
        ]
        return Json({"holder": holder, "lease_s": LEASE_S, "leases": rows})

    def settle(self, key: Principal, body: dict[str, Any]) -> Response:
        number, used = ask.settle(body)
        ticket, news = self.desk.settle(key.project_id, number, used)
        cost = ticket.nanousd
        return Json(
            {
                "ticket": ticket.id,
                "state": ticket.state,
                "cost_usd": None if cost is None else usd(cost),
                "tokens": ticket.tokens,
                "duplicate": not news,
            }
        )


def add(app: FastAPI, store: SqliteStore, desk: Desk, now_ms: Callable[[], int]) -> None:
    """Add the routes."""
    face = Face(store, desk, now_ms)
    _rules(app, face)
    _policy(app, face)
    _calls(app, face)


def _rules(app: FastAPI, face: Face) -> None:
    @app.get("/v1/budgets", **doc.GET_BUDGETS)
    async def get_budgets(request: Request) -> Response:
        reach = request.query_params.get("reach")
        return await face.answered(request, "read", lambda key, _: face.every(key, reach))

    @app.post("/v1/budgets", **doc.POST_BUDGETS)
    async def post_budgets(request: Request) -> Response:
        return await face.answered(request, "manage", lambda key, body: face.put(key, body, None))

    @app.get("/v1/budgets/{name:path}", **doc.GET_BUDGET)
    async def get_budget(request: Request, name: str) -> Response:
        return await face.answered(request, "read", lambda key, _: face.one(key, name))

    @app.put("/v1/budgets/{name:path}", **doc.PUT_BUDGET)
    async def put_budget(request: Request, name: str) -> Response:
        return await face.answered(request, "manage", lambda key, body: face.put(key, body, name))

    @app.delete("/v1/budgets/{name:path}", **doc.DELETE_BUDGET)
    async def delete_budget(request: Request, name: str) -> Response:
        return await face.answered(request, "manage", lambda key, _: face.remove(key, name))

    @app.post("/v1/rebuild", **doc.POST_REBUILD)
    async def post_rebuild(request: Request) -> Response:
        return await face.answered(request, "manage", face.rebuild)


def _policy(app: FastAPI, face: Face) -> None:
    @app.get("/v1/policy", **doc.GET_POLICY)
    async def get_policy(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        return await face.answered(request, "ingest read", lambda key, _: face.policy(key, known))

    @app.put("/v1/policy", **doc.PUT_POLICY)
    async def put_policy(request: Request) -> Response:
        return await face.answered(request, "manage", face.set_policy)


def _calls(app: FastAPI, face: Face) -> None:
    @app.post("/v1/authorize", **doc.POST_AUTHORIZE)
    async def post_authorize(request: Request) -> Response:
        idempotency_key = request.headers.get("idempotency-key")
        return await face.answered(request, "ingest", lambda key, body: face.authorize(key, body, idempotency_key))

    @app.post("/v1/settle", **doc.POST_SETTLE)
    async def post_settle(request: Request) -> Response:
        return await face.answered(request, "ingest", face.settle)


def _refused(found: Exceeded, now_ms: int, sees: bool) -> Response:
    """402. What others spend of a shared budget is told to those only who see (`sees`) the organisation."""
    budget = found.budget
    headers = {}
    if found.resets_ms is not None:
        headers["Retry-After"] = str(max(1, -(-(found.resets_ms - now_ms) // 1000)))
    zone = ZoneInfo(budget.timezone)
    amounts = {"limit": budget.limit, "spent": found.spent, "reserved": found.reserved, "estimate": found.estimate or 0}
    if found.shared and not sees:
        amounts = {"estimate": found.estimate or 0}
    content = {
        "detail": BLOCKED,
        "error": found.reason(),
        "budget": budget.name,
        "reach": ORGANISATION if found.shared else PROJECT,
        "dimension": rule.dimension(budget),
        "scope": rule.named(budget, found.scope),
        **{rule.keyed(budget, name): rule.told(budget, amount) for name, amount in amounts.items()},
        "resets_at": None if found.resets_ms is None else period.iso(found.resets_ms, zone),
    }
    return Problem(402, found.reason(), headers=headers, more=content)
