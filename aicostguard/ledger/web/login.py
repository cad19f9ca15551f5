"""Log-in and log-out as pages: with a link, a key, a password, a code for a first password, or a provider.

Owns these forms. What is right or wrong about what was given is decided in `access`. Whatever a browser held before is
ended by a log-in, so that nobody is handed a session that somebody else knows.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Callable, Mapping, Sequence
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aicostguard.ledger import keys
from aicostguard.ledger.access import audit, opened, people, sessions
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.door import address
from aicostguard.ledger.access.people_routes import Face
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.model import Key
from aicostguard.ledger.web.frame import failed, form, ours
from aicostguard.ledger.web.view import Page, Site, View

#: characters of a key or a link
MOST_SECRET = 200


class _Desk:
    """Log-ins of one site."""

    def __init__(self, site: Site, pages: Sequence[Page]) -> None:
        self.site, self.pages = site, pages
        self.people = Face(site.door)
        self.page = Page("login", "/login", "", self.show, own=("next",), period=False)
        self.code_page = Page("password", "/password", "", self.show_code, period=False)

    def view(self, request: Request, page: Page, sent: Mapping[str, str] | None = None) -> View:
        made = View(self.site, self.pages, page, request)
        made.form = dict(sent or {})
        return made

    def show(self, view: View) -> Response:
        target = view.form.get("next") or view.request.query_params.get("next", "")
        provider = self.site.provider
        there = local(target)
        has_people = bool(self.site.store.look(people.every))
        return view.show(
            "login.html",
            target=there,
            people=has_people,
            oidc=None if provider is None else "/v1/oidc/login?" + urlencode({"target": there}),
            local=local_name(view.request),
        )

    def show_code(self, view: View) -> Response:
        return view.show("password.html")

    # What the forms do.

    def with_key(self, view: View) -> Response:
        """By a key that may read."""
        given = view.form.get("key", "").strip()
        if not given or len(given) > MOST_SECRET:
            raise Refused(422, "paste a key: aicg_ and 40 letters and digits", "key")
        found = keys.known(self.site.store, f"Bearer {given}", view.now_ms)
        return self._open(view, found, "key")

    def with_link(self, view: View) -> Response:
        """By a link that `aicg serve` or `aicg dashboard` printed."""
        given = view.form.get("link", "")[:MOST_SECRET]

        def job(connection: sqlite3.Connection) -> Key | None:
            return opened.of_id(connection, opened.taken(connection, given, view.now_ms))

        found = self.site.store.change(job)
        if found is None:
            raise Refused(401, "the key of this link is gone", "link")
        keys.in_force(found, view.now_ms)
        return self._open(view, found, "link")

    def with_password(self, view: View) -> Response:
        """By an account's password."""
        given = {name: view.form.get(name, "") for name in ("email", "password")}
        response = view.go(local(view.form.get("next", "")))
        return self.people.log_in(view.request, given, response)

    def with_code(self, view: View) -> Response:
        """By a code that an admin gave, with which a first password is set."""
        if view.form.get("new") != view.form.get("again"):
            raise Refused(422, "are not the same", "the two passwords")
        response = view.go("/", "Your password is set.")
        return self.people.password(
            view.request, {"code": view.form.get("code", "").strip(), "new": view.form.get("new", "")}, response
        )

    def _open(self, view: View, key: Key, by: str) -> Response:
        keys.allowed(key.scopes, ("read",), key.archived, "this key")
        came, before = address(view.request), sessions.token_of(view.request)

        def job(connection: sqlite3.Connection) -> str:
            sessions.end(connection, before)
            opened.end(connection, before)
            who = f"key {key.shown[:9]}" + (f" ({key.name})" if key.name else "")
            audit.note(
                connection,
                view.now_ms,
                Actor(who, came),
                "login",
                who,
                organisation_id=key.organisation_id,
                project_id=key.project_id,
                after={"by": by},
            )
            return opened.begin(connection, key.id, came, view.now_ms)

        token = self.site.store.change(job)
        response = view.go(local(view.form.get("next", "")))
        sessions.set_cookie(view.request, response, token)
        return response

    def log_out(self, view: View) -> Response:
        """End the session, or all of this person or key."""
        token, everywhere = sessions.token_of(view.request), bool(view.form.get("everywhere"))
        response = view.go("/login", "You are logged out.")
        if token is not None and token.startswith(opened.TOKEN):
            self.site.store.change(lambda connection: opened.end(connection, token, everywhere=everywhere))
        elif token is not None:
            try:
                self.people.log_out(view.request, {"everywhere": everywhere})
            except Refused as error:
                if error.status != 401:  # who is not logged in is logged out
                    raise
        sessions.drop_cookie(view.request, response)
        return response


def local(target: str) -> str:
    """Where to go after a log-in: a path of ours, whatever was asked for."""
    fine = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if fine else "/"


def local_name(request: Request) -> bool:
    """Whether the browser is on the ledger's own machine, as far as the address says."""
    return (request.url.hostname or "") in ("127.0.0.1", "localhost", "::1")


def add(app: FastAPI, site: Site, pages: Sequence[Page]) -> None:
    """Add the routes."""
    desk = _Desk(site, pages)
    ways: Mapping[str, Callable[[View], Response]] = {
        "key": desk.with_key,
        "link": desk.with_link,
        "password": desk.with_password,
    }

    def answered(request: Request, page: Page, job: Callable[[View], Response], sent: Any = None) -> Response:
        view = desk.view(request, page, sent)
        try:
            if sent is not None:
                sessions.from_our_page(request)
                view.form = ours(request, sent)
            return job(view)
        except LedgerError as error:
            if sent is None or error.status == 403:
                return failed(site, pages, page, request, error, None)
            view.refused = error
            view.form = {name: value for name, value in view.form.items() if name in ("email", "next", "way")}
            return page.show(view)

    async def posted(request: Request, page: Page, job: Callable[[View], Response]) -> Response:
        try:
            sent = await form(request)
        except LedgerError as error:
            return failed(site, pages, page, request, error, None)
        return await run_in_threadpool(answered, request, page, job, sent)

    def one_of(view: View) -> Response:
        way = ways.get(view.form.get("way", ""))
        if way is None:
            raise Refused(422, f"must be one of {', '.join(ways)}", "way")
        return way(view)

    @app.get("/login", include_in_schema=False)
    def get_login(request: Request) -> Response:
        return answered(request, desk.page, desk.show)

    @app.post("/login", include_in_schema=False)
    async def post_login(request: Request) -> Response:
        return await posted(request, desk.page, one_of)

    @app.get("/password", include_in_schema=False)
    def get_password(request: Request) -> Response:
        return answered(request, desk.code_page, desk.show_code)

    @app.post("/password", include_in_schema=False)
    async def post_password(request: Request) -> Response:
        return await posted(request, desk.code_page, desk.with_code)

    @app.post("/logout", include_in_schema=False)
    async def post_logout(request: Request) -> Response:
        return await posted(request, desk.page, desk.log_out)
