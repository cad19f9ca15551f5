"""The ledger over HTTP: a thin face on `ingest` and `query`.

Owns routes, authorisation, the shape of errors and the headers of every reply. Decides nothing about money.
Nothing is acknowledged here before the store has committed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aicostguard.ledger import (
    apidoc,
    apipage,
    body,
    deliveries,
    drain,
    ingest,
    now_ms,
    open_ledger,
    operating,
    query,
    queryroutes,
    supervised,
)
from aicostguard.ledger.access import oidc_routes, people_routes
from aicostguard.ledger.access import routes as access
from aicostguard.ledger.access.chosen import Chosen
from aicostguard.ledger.access.door import Door, authorise
from aicostguard.ledger.access.exposed import Hosts
from aicostguard.ledger.access.principal import Principal
from aicostguard.ledger.alerts import routes as alert_routes
from aicostguard.ledger.alerts.watch import Settings, Watch
from aicostguard.ledger.budgets import routes
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.errors import Crowded, LedgerError, Refused
from aicostguard.ledger.gate import Gate
from aicostguard.ledger.keeping import routes as keeping
from aicostguard.ledger.keeping.keeper import Keeper
from aicostguard.ledger.metrics import Counted, Metrics
from aicostguard.ledger.otlp import settings as otlp_settings
from aicostguard.ledger.problem import Problem
from aicostguard.ledger.readiness import Readiness
from aicostguard.ledger.spend import Told
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.store import Store
from aicostguard.ledger.web import table as dashboard

if TYPE_CHECKING:
    from aicostguard.ledger.access.oidc import Provider
    from aicostguard.ledger.otlp.sender import Sender

T = TypeVar("T")
log = logging.getLogger("aicostguard.ledger")

#: how often the inbox is looked at while nobody asks: a receipt is visible within two seconds (D16)
DRAIN_EVERY_S = 1.0

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class Json(Response):
    """JSON in ASCII: whatever a client sent as a name can be said back to it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class Headers:
    """Puts the security headers on every reply that does not bring its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message.get("headers", ())}
                more = [pair for pair in _HEADERS if pair[0] not in present]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def create_app(
    path: str | None = None,
    *,
    store: SqliteStore | None = None,
    price: ingest.Pricer | None = None,
    per_minute: int | None = None,
    alerts: Settings | None = None,
    provider: Provider | None = None,
    hosts: frozenset[str] | None = None,
    otlp: otlp_settings.Settings | None = None,
) -> FastAPI:
    """The application over the ledger at `path`, opened and closed with it, or over an open `store`.

    `hosts` are the names that it is asked by; None for any. `otlp` is where metrics are sent, if anywhere.
    Opens the file at once: raises what `SqliteStore` raises.
    """
    if store is None:
        if path is None:
            raise ValueError("name a path or give a store")
        store = open_ledger(path)
        owned: SqliteStore | None = store
    else:
        owned = None
    desk = Desk(store, now_ms)
    door = Door(store, now_ms, per_minute)
    gate = Gate()
    metrics = Metrics(store, gate)
    watch = Watch(store, now_ms, alerts, desk.catch_up)
    metrics.follow("aicg_alert_charts", "Charts for alerts, by what became of them.", "result", watch.pictures.counts)
    sender = _sender(store, otlp, metrics)
    app = FastAPI(lifespan=_lifespan(store, owned, desk, door, watch, sender), **apidoc.ABOUT)
    app.state.door = door
    app.state.readiness = Readiness(store)
    app.add_middleware(Chosen)
    app.add_middleware(Hosts, allowed=hosts)
    app.add_middleware(Headers)
    app.add_middleware(Counted, metrics=metrics)
    app.add_exception_handler(LedgerError, _refuse)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _broken)
    _routes(app, store, gate, metrics, price)
    operating.add(app, metrics, app.state.readiness, Told(store, desk, door, now_ms), now_ms)
    routes.add(app, store, desk, now_ms)
    access.add(app, door)
    alert_routes.add(app, watch, now_ms)
    people_routes.add(app, door)
    oidc_routes.add(app, door, provider)
    keeping.add(app, door)
    queryroutes.add(app, store, drain, now_ms)
    dashboard.add(app, store, desk, watch, door, provider, drain, now_ms)
    apidoc.complete(app)
    apipage.mount(app)
    return app


def _sender(store: SqliteStore, settings: otlp_settings.Settings | None, metrics: Metrics) -> Sender | None:
    """Who sends metrics to a collector, if that is wanted."""
    if settings is None:
        return None
    from aicostguard.ledger.otlp.sender import Sender  # needs an extra

    sender = Sender(store, settings, now_ms)
    metrics.follow(
        "aicg_otlp", "Sendings to the OpenTelemetry collector, by what became of them.", "result", sender.counts
    )
    return sender


def _lifespan(
    store: SqliteStore, owned: SqliteStore | None, desk: Desk, door: Door, watch: Watch, sender: Sender | None
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Three by themselves: neither a slow rule nor a receiver that stalls keeps receipts from being seen.
        tasks = [
            asyncio.create_task(_now_and_then(job, says))
            for job, says in (
                (_taking_in(store, desk, door), "the inbox could not be taken in"),
                (watch.tick, "alert rules could not be looked at"),
                (watch.deliver, "alerts could not be sent"),
            )
        ]
        keeper = Keeper(store, now_ms)
        if sender is not None:
            await run_in_threadpool(sender.start)
        try:
            yield
        finally:
            watch.stop()
            await run_in_threadpool(keeper.close)
            if sender is not None:
                await run_in_threadpool(sender.close)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(LedgerError):  # a full disk: when keys were last used is not worth more
                await run_in_threadpool(door.write, at_once=True)
            if owned is not None:
                await run_in_threadpool(owned.close)

    return lifespan


def _taking_in(store: Store, desk: Desk, door: Door) -> Callable[[], None]:
    def take_in() -> None:
        supervised.tell(supervised.ALIVE)  # a writer that hangs holds this up, too
        drain(store)
        desk.catch_up()
        door.write()
        store.fold()

    return take_in


async def _now_and_then(job: Callable[[], object], says: str) -> None:
    said = ""
    while True:
        await asyncio.sleep(DRAIN_EVERY_S)
        try:
            await run_in_threadpool(job)
            said = ""
        except LedgerError as error:
            if str(error) != said:  # a full disk is said once, not every second
                said = str(error)
                log.error("%s: %s", says, error)
        except Exception as error:
            if repr(error) != said:
                said = repr(error)
                log.exception("%s", says)


def _routes(app: FastAPI, store: Store, gate: Gate, metrics: Metrics, price: ingest.Pricer | None) -> None:
    def priced() -> ingest.Pricer | None:
        # Asked for each batch: own terms may change while this runs.
        return price or (store.book.cost if store.book is not None else None)

    def authorised(request: Request, scope: str, job: Callable[[Principal], T], *or_else: str) -> T:
        return job(authorise(request, scope, *or_else))

    @app.post("/v1/receipts", **apidoc.POST_RECEIPTS)
    async def post_receipts(request: Request) -> Response:
        received_ms = now_ms()
        # Before the body: of one whose sender may not send, nothing is kept.
        key = await run_in_threadpool(authorise, request, "ingest")
        encoding = request.headers.get("content-encoding")
        idempotency_key = request.headers.get("idempotency-key")
        with gate.visit() as visit:
            sent = await body.read(visit.parts(request.stream()), key.max_bytes)

            def take() -> dict[str, Any]:
                parsed = ingest.parse(body.plain(sent, encoding))
                return ingest.accept(
                    store, key.project_id, parsed, received_ms, idempotency_key=idempotency_key, price=priced()
                )

            reply = await visit.run(take)
            metrics.took(reply)
            return Json(reply)

    @app.get("/v1/arrivals", **apidoc.GET_ARRIVALS)
    def get_arrivals(request: Request) -> Response:
        def answer(key: Principal) -> dict[str, Any]:
            drain(store)
            return query.arrivals(store, _parameters(request), key.project_id)

        return Json(authorised(request, "read", answer))

    @app.get("/v1/deliveries", **apidoc.GET_DELIVERIES)
    def get_deliveries(request: Request) -> Response:
        parameters = _parameters(request)

        def answer(key: Principal) -> dict[str, Any]:
            asked = deliveries.parse(parameters, key.project_id, now_ms())
            drain(store)
            return deliveries.run(store, asked, now_ms())

        # Who may send as a process may ask what came of it; an id has 80 random bits and cannot be guessed.
        or_else = ("ingest",) if any(parameters.get("epoch", ())) else ()
        return Json(authorised(request, "read", answer, *or_else))

    @app.get("/v1/sources", **apidoc.GET_SOURCES)
    def get_sources(request: Request) -> Response:
        def answer(key: Principal) -> dict[str, Any]:
            return deliveries.sources(store, _parameters(request), key.project_id)

        return Json(authorised(request, "read", answer))

    @app.get("/v1/health", **apidoc.GET_HEALTH)
    def get_health(request: Request) -> Response:
        _parameterless(request)
        store.default_project()  # a ledger that cannot be read is not well
        return Json({"status": "ok"})


def _parameters(request: Request) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        out.setdefault(name, []).append(value)
    return out


def _parameterless(request: Request) -> None:
    for name in request.query_params:
        raise Refused(422, "is not a parameter; there are none here", ascii(name[:64])[1:-1])


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, LedgerError)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status >= 500 and not isinstance(error, Crowded):  # the gate says that once, not for each
        _complaint(str(error))
    if error.status in (408, 413):
        # Some of the body may be unread: the connection cannot serve another request.
        headers["Connection"] = "close"
    return Problem(error.status, str(error), getattr(error, "field", ""), headers)


_complaints: dict[str, float] = {}


def _complaint(text: str) -> None:
    """Into the log, the same one every ten seconds at most: agents try again, and a log fills a disk that is full."""
    now = time.monotonic()
    if now >= _complaints.get(text, 0.0):
        if len(_complaints) > 100:
            _complaints.clear()
        _complaints[text] = now + 10.0
        log.error("%s", text)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, str(error.detail), headers=error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    return Problem(422, "the request does not fit")


async def _left(_: Request, error: Exception) -> Response:
    # Nobody is there to read it; without this each one that goes would be a traceback in the log.
    return Problem(400, "the body did not arrive whole")


async def _broken(_: Request, error: Exception) -> Response:
    # The text of an unforeseen error may quote a value: only its type goes out. The server's log has the rest.
    return Problem(500, f"the ledger failed ({type(error).__name__}); its log says where")
