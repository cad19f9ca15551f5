"""From a request to a page: who may see it, what the address says, and what is shown when something does not work.

Owns the routes of pages. Whoever is not logged in is sent to do so and comes back to where they wanted to go. A form is
acted on only with the token of the page that it stands on.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Awaitable, Callable, Mapping, Sequence, cast
from urllib.parse import parse_qsl, urlencode

from fastapi import FastAPI, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from aicostguard.ledger import body as bodies
from aicostguard.ledger.access import chosen
from aicostguard.ledger.access.door import authorise
from aicostguard.ledger.access.principal import Principal
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.model import ASKED, known
from aicostguard.ledger.query import NOT
from aicostguard.ledger.web import policy, view, words
from aicostguard.ledger.web.state import State
from aicostguard.ledger.web.view import Page, Site, View

log = logging.getLogger("aicostguard.ledger")
TEMPLATES = Path(__file__).parent / "templates"
#: what the field for another filter is called; it turns into the filter's own parameter
WHERE = "where"
#: bytes and fields of a form
MOST_FORM, MOST_FIELDS = 64 * 1024, 200


def environment() -> Environment:
    """Templates: everything is escaped, and a name that is not given is a mistake, not an empty place."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(words.FILTERS)
    return made


def add(app: FastAPI, site: Site, pages: Sequence[Page]) -> None:
    """Add the routes of pages."""
    for page in pages:
        app.get(page.path, include_in_schema=False)(_shown(site, pages, page))
        if page.actions:
            app.post(page.path, include_in_schema=False)(_acted(site, pages, page))
    _strays(app, site, pages)


def _strays(app: FastAPI, site: Site, pages: Sequence[Page]) -> None:
    """Who came by a browser to where nothing is gets a page that says so; programs get what they got before."""
    problem = app.exception_handlers[HTTPException]
    page = Page("stray", "/", "", lambda shown: shown.go("/"), period=False)

    def nothing(principal: Principal) -> Response:
        raise Refused(404, "There is no page at this address")

    async def answer(request: Request, error: Exception) -> Response:
        browsed = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if browsed and getattr(error, "status_code", 0) == 404 and not request.url.path.startswith("/v1/"):
            return await run_in_threadpool(guarded, site, pages, page, request, page.scope, nothing)
        return await cast("Awaitable[Response]", problem(request, error))

    app.add_exception_handler(HTTPException, answer)


def _shown(site: Site, pages: Sequence[Page], page: Page) -> Callable[[Request], Response]:
    def get_page(request: Request) -> Response:
        def show(principal: Principal) -> Response:
            shown = _view(site, pages, page, request, principal)
            wanted = shown.state.one(WHERE)
            return shown.go(shown.address(shown.here, filtered(shown.state, wanted))) if wanted else page.show(shown)

        return guarded(site, pages, page, request, page.scope, show)

    return get_page


def _acted(site: Site, pages: Sequence[Page], page: Page) -> Callable[[Request], object]:
    async def post_page(request: Request) -> Response:
        def act(principal: Principal) -> Response:
            given = _view(site, pages, page, request, principal)
            given.form = ours(request, sent)
            action = page.actions.get(given.form.get("action", ""))
            if action is None:
                raise Refused(422, f"must be one of {', '.join(page.actions)}", "action")
            try:
                return action(given)
            except LedgerError as error:
                given.refused = error
                return page.show(given)

        try:
            sent = await form(request)
        except LedgerError as error:
            return failed(site, pages, page, request, error, None)
        return await run_in_threadpool(guarded, site, pages, page, request, page.acts, act)

    return post_page


def _view(site: Site, pages: Sequence[Page], page: Page, request: Request, principal: Principal) -> View:
    made = View(site, pages, page, request, principal)
    made.state = State.of(request.query_params.multi_items(), (*page.own, *((WHERE,) if page.period else ())))
    site.drain(site.store)
    return made


def filtered(state: State, wanted: str) -> State:
    """The state with a filter as somebody wrote it: NAME=VALUE or NAME!=VALUE. Raises `Refused` (422)."""
    name, equals, value = wanted.partition("=")
    excluded = name.endswith(NOT)
    name = name.removesuffix(NOT).strip()
    if not equals or not known(name):
        raise Refused(
            422,
            f"{wanted[:64]!a} is no filter; write model=gpt-4o or team!=search, with {', '.join(ASKED)}",
            WHERE,
        )
    return state.having(**{WHERE: None}).filtered(name, value.strip(), excluded=excluded)


async def form(request: Request) -> dict[str, str]:
    """The fields that were sent; of several with one name the last. Raises `Refused`."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Refused(415, "a form is sent as application/x-www-form-urlencoded")
    raw = await bodies.read(request.stream(), MOST_FORM)
    try:
        return dict(parse_qsl(raw.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise Refused(400, "the form cannot be read") from None


def ours(request: Request, sent: Mapping[str, str]) -> dict[str, str]:
    """The fields of a form that stands on our page, without its token. Raises `Refused` (403)."""
    if not view.genuine(request, sent.get("csrf", "")):
        raise Refused(403, "this form is of an earlier log-in or another page; load the page again and send it anew")
    return {name: value for name, value in sent.items() if name != "csrf"}


def guarded(
    site: Site,
    pages: Sequence[Page],
    page: Page,
    request: Request,
    scope: str,
    job: Callable[[Principal], Response],
) -> Response:
    """Do it for whoever may; show everybody else why not."""
    principal: Principal | None = None
    try:
        principal = authorise(request, scope)
        return job(principal)
    except LedgerError as error:
        return failed(site, pages, page, request, error, principal)
    except Exception as error:
        log.exception("the page %s failed", page.path)
        told = LedgerError(f"the page failed ({type(error).__name__}); the ledger's log says where")
        return failed(site, pages, page, request, told, principal)


def failed(
    site: Site,
    pages: Sequence[Page],
    page: Page,
    request: Request,
    error: LedgerError,
    principal: Principal | None,
) -> Response:
    """What is shown instead of a page."""
    if error.status == 401 and page.name != "login":
        where = request.url.path if request.method == "GET" else page.path
        pairs = [*request.query_params.multi_items()] if request.method == "GET" else []
        if name := request.scope.get(chosen.CHOSEN):
            pairs.append((chosen.NAME, str(name)))
        target = where + ("?" + urlencode(pairs) if pairs else "")
        there = "/login" + ("" if target == "/" else "?" + urlencode({"next": target}))
        return RedirectResponse(there, status_code=303, headers=policy.HEADERS)
    shown = View(site, pages, page, request, principal)
    response = shown.show("problem.html", error.status, error=error, field=getattr(error, "field", ""))
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
