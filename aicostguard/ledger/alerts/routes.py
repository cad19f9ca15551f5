"""Alerts over HTTP: `/v1/alerts` and what is below it.

Owns these routes. Thin: what is done is done by the office.
"""

from __future__ import annotations

from typing import Any, Callable

from fastapi import FastAPI, Request
from starlette.responses import Response

from aicostguard.ledger.access import face
from aicostguard.ledger.access.door import actor
from aicostguard.ledger.access.principal import Principal
from aicostguard.ledger.alerts import doc
from aicostguard.ledger.alerts.office import Office
from aicostguard.ledger.alerts.watch import Watch
from aicostguard.ledger.errors import Refused

Job = Callable[[Office, dict[str, Any]], dict[str, Any]]


class Desk:
    """What the routes have in common."""

    def __init__(self, watch: Watch, now_ms: Callable[[], int]) -> None:
        self._watch = watch
        self._now_ms = now_ms

    async def do(self, request: Request, scope: str, job: Job, status: int = 200) -> Response:
        def work(asker: Principal, body: dict[str, Any]) -> Response:
            office = Office(self._watch, asker.project_id, actor(asker), self._now_ms)
            return face.Json(job(office, body), status_code=status)

        return await face.answered(request, work, scope)


def add(app: FastAPI, watch: Watch, now_ms: Callable[[], int]) -> None:
    """Add the routes."""
    desk = Desk(watch, now_ms)
    _rules(app, desk)
    _channels(app, desk)
    _alerts(app, desk)


def _alerts(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/alerts", **doc.GET_ALERTS)
    async def get_alerts(request: Request) -> Response:
        given = _once(request)
        return await desk.do(request, "read", lambda office, _: office.alerts(given))

    @app.post("/v1/alerts/check", **doc.POST_CHECK)
    async def post_check(request: Request) -> Response:
        return await desk.do(request, "manage", lambda office, body: _empty(body, office.check))

    @app.post("/v1/alerts/test", **doc.POST_TEST)
    async def post_test(request: Request) -> Response:
        return await desk.do(request, "manage", lambda office, body: office.test(_named(body)))

    @app.post("/v1/alerts/{number}/ack", **doc.POST_ACK)
    async def post_ack(request: Request, number: str) -> Response:
        return await desk.do(request, "manage", lambda office, body: _empty(body, lambda: office.ack(_number(number))))

    @app.post("/v1/alerts/{number}/snooze", **doc.POST_SNOOZE)
    async def post_snooze(request: Request, number: str) -> Response:
        return await desk.do(request, "manage", lambda office, body: office.snooze(_number(number), body))


def _rules(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/alerts/rules", **doc.GET_RULES)
    async def get_rules(request: Request) -> Response:
        return await desk.do(request, "read", lambda office, _: office.rules())

    @app.post("/v1/alerts/rules", **doc.POST_RULES)
    async def post_rules(request: Request) -> Response:
        return await desk.do(request, "manage", lambda office, body: office.add_rule(body), 201)

    @app.get("/v1/alerts/rules/{name:path}", **doc.GET_RULE)
    async def get_rule(request: Request, name: str) -> Response:
        return await desk.do(request, "read", lambda office, _: office.one_rule(name))

    @app.patch("/v1/alerts/rules/{name:path}", **doc.PATCH_RULE)
    async def patch_rule(request: Request, name: str) -> Response:
        return await desk.do(request, "manage", lambda office, body: office.change_rule(name, body))

    @app.delete("/v1/alerts/rules/{name:path}", **doc.DELETE_RULE)
    async def delete_rule(request: Request, name: str) -> Response:
        return await desk.do(request, "manage", lambda office, _: office.remove_rule(name))


def _channels(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/alerts/channels", **doc.GET_CHANNELS)
    async def get_channels(request: Request) -> Response:
        return await desk.do(request, "read", lambda office, _: office.channels())

    @app.post("/v1/alerts/channels", **doc.POST_CHANNELS)
    async def post_channels(request: Request) -> Response:
        return await desk.do(request, "manage", lambda office, body: office.add_channel(body), 201)

    @app.get("/v1/alerts/channels/{name}/log", **doc.GET_LOG)
    async def get_log(request: Request, name: str) -> Response:
        limit = _once(request).get("limit", "50")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= 1000):
            raise Refused(422, "must be an integer from 1 to 1000", "limit")
        return await desk.do(request, "read", lambda office, _: office.log(name, int(limit)))

    @app.get("/v1/alerts/channels/{name}", **doc.GET_CHANNEL)
    async def get_channel(request: Request, name: str) -> Response:
        return await desk.do(request, "read", lambda office, _: office.one_channel(name))

    @app.patch("/v1/alerts/channels/{name}", **doc.PATCH_CHANNEL)
    async def patch_channel(request: Request, name: str) -> Response:
        return await desk.do(request, "manage", lambda office, body: office.change_channel(name, body))

    @app.delete("/v1/alerts/channels/{name}", **doc.DELETE_CHANNEL)
    async def delete_channel(request: Request, name: str) -> Response:
        return await desk.do(request, "manage", lambda office, _: office.remove_channel(name))


def _once(request: Request) -> dict[str, str]:
    """The parameters of a question, each given once."""
    out: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in out:
            raise Refused(422, "may be given once", ascii(name[:64])[1:-1])
        out[name] = value
    return out


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(422, "must be the number of an alert", "id")
    return int(text)


def _named(body: dict[str, Any]) -> str | None:
    for name in body:
        if name != "channel":
            raise Refused(422, "is not known here; give channel, or nothing for all", ascii(name[:64])[1:-1])
    found = body.get("channel")
    if found is not None and not isinstance(found, str):
        raise Refused(422, "must be the name of a channel", "channel")
    return found


def _empty(body: dict[str, Any], job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    for name in body:
        raise Refused(422, "is not known here; send {} or nothing", ascii(name[:64])[1:-1])
    return job()
