"""Questions about cost over HTTP: `/v1/costs`, `/v1/receipts`, `/v1/views/…`, `/v1/agents`, `/v1/focus`, `/v1/compare`,
`/costs/…`; `/v1/scores`.

Owns these routes and the choice between JSON and CSV. Thin: what is asked and answered is `query`'s and `views`'.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping, NamedTuple

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aicostguard.ledger import agents, comparedoc, comparing, focus, query, querydoc, scores, sheet, views
from aicostguard.ledger import body as bodies
from aicostguard.ledger.access.door import authorise
from aicostguard.ledger.access.principal import Principal
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.sqlite import SqliteStore, scored
from aicostguard.ledger.sqlite.write import COLUMNS
from aicostguard.ledger.store import Store

FORMATS = ("json", "csv")
#: columns of receipts as CSV, the same on each page
OF_RECEIPT = ("at", "cost_usd", *COLUMNS)
#: bytes of a body of scores
MOST_BODY = 512 * 1024
Parameters = dict[str, list[str]]


class Json(Response):
    """JSON in ASCII, as the rest of the ledger writes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def parameters_of(request: Request) -> Parameters:
    out: Parameters = {}
    for name, value in request.query_params.multi_items():
        out.setdefault(name, []).append(value)
    return out


def wants_csv(request: Request, parameters: Parameters) -> bool:
    """Whether CSV is asked for: by `format`, which is taken out of the parameters, else by the Accept header."""
    words = parameters.pop("format", [])
    if len(words) > 1 or (words and words[0] not in FORMATS):
        raise Refused(422, f"must be {' or '.join(FORMATS)}, given once", "format")
    if words:
        return words[0] == "csv"
    accepted = [item.partition(";")[0].strip().lower() for item in request.headers.get("accept", "").split(",")]
    return "text/csv" in accepted and "application/json" not in accepted


def csv(text: str, name: str, answer: Any = None) -> Response:
    """CSV that a browser stores as a file. What lines cannot say of an answer stands in headers."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    told = answer if isinstance(answer, dict) else {}
    if told.get("cursor"):
        headers["AICG-Cursor"] = told["cursor"]
    if gone := told.get("archived"):
        headers["AICG-Archived"] = "; ".join(f"{name}={value}" for name, value in gone.items())
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


class Face:
    """What the routes have in common: who may read, up-to-date receipts, JSON or CSV."""

    def __init__(self, store: SqliteStore, drain: Callable[[Store], int], now_ms: Callable[[], int]) -> None:
        self.store, self._drain, self.now_ms = store, drain, now_ms

    def answered(
        self,
        request: Request,
        name: str,
        job: Callable[[Principal, Parameters], Any],
        as_csv: Callable[[Any], str],
    ) -> Response:
        key = authorise(request, "read")
        parameters = parameters_of(request)
        wanted = wants_csv(request, parameters)
        self._drain(self.store)
        answer = job(key, parameters)
        return csv(as_csv(answer), name, answer) if wanted else Json(answer)

    def asker(self, key: Principal) -> views.Asker:
        return views.Asker(self.store, key.project_id, self.now_ms())


def listed(answer: Any) -> str:
    """CSV of an answer that is a list of objects, or holds one, or is one."""
    if isinstance(answer, dict):
        inner = next((value for value in answer.values() if isinstance(value, list)), None)
        answer = [answer] if inner is None else inner
    return sheet.rows(answer or [])


class Question(NamedTuple):
    """What is asked by `GET /v1/NAME`: its description, who answers it, and the answer as CSV."""

    doc: dict[str, Any]
    ask: Callable[[SqliteStore, Parameters, int, int], Any]
    as_csv: Callable[[Any], str]


def _costs(store: SqliteStore, parameters: Parameters, project_id: int, now_ms: int) -> Any:
    return query.run(store, query.parse(parameters, project_id, now_ms))


_QUESTIONS: Mapping[str, Question] = {
    "costs": Question(querydoc.GET_COSTS, _costs, sheet.costs),
    "receipts": Question(
        querydoc.GET_RECEIPTS, query.receipts, lambda answer: sheet.rows(answer["receipts"], OF_RECEIPT)
    ),
    "agents": Question(querydoc.GET_AGENTS, agents.ask, lambda answer: sheet.rows(agents.flat(answer), agents.COLUMNS)),
    "focus": Question(querydoc.GET_FOCUS, focus.export, lambda answer: sheet.rows(answer["rows"], focus.COLUMNS)),
    "compare": Question(comparedoc.GET_COMPARE, comparing.compare, lambda answer: sheet.rows(comparing.flat(answer))),
}


def _route(face: Face, name: str, question: Question) -> Callable[[Request], Response]:
    def route(request: Request) -> Response:
        def job(key: Principal, parameters: Parameters) -> Any:
            return question.ask(face.store, parameters, key.project_id, face.now_ms())

        return face.answered(request, name, job, question.as_csv)

    route.__name__ = "get_" + name  # which the OpenAPI document calls it by
    return route


def add(app: FastAPI, store: SqliteStore, drain: Callable[[Store], int], now_ms: Callable[[], int]) -> Face:
    """Add the routes."""
    face = Face(store, drain, now_ms)

    for name, question in _QUESTIONS.items():
        app.get(f"/v1/{name}", **question.doc)(_route(face, name, question))

    @app.get("/v1/views/{name}", **querydoc.GET_VIEW)
    def get_view(name: str, request: Request) -> Response:
        def job(key: Principal, parameters: Parameters) -> Any:
            return views.look(name, parameters, face.asker(key))

        return face.answered(request, name if name in views.VIEWS else "view", job, listed)

    for path, name in (("/costs/today", "costs_today"), ("/costs/feature", "feature_costs")):

        def known(request: Request, name: str = name) -> Response:
            def job(key: Principal, parameters: Parameters) -> Any:
                return views.look(name, parameters, face.asker(key))

            return face.answered(request, name, job, listed)

        app.get(path, **querydoc.KNOWN[name])(_only_request(known))

    @app.post("/v1/scores", **comparedoc.POST_SCORES)
    async def post_scores(request: Request) -> Response:
        key = await run_in_threadpool(authorise, request, "ingest")
        encoding = request.headers.get("content-encoding")
        body = await bodies.json_object(request.stream(), encoding, min(MOST_BODY, key.max_bytes or MOST_BODY))
        found = scores.parse(body, now_ms())
        await run_in_threadpool(store.change, lambda connection: scored.put(connection, key.project_id, found))
        return Json({"stored": len(found)})

    return face


def _only_request(route: Callable[[Request], Response]) -> Callable[[Request], Response]:
    def plain(request: Request) -> Response:
        return route(request)

    return plain
