"""Log-in through a provider over HTTP: the way there, and the way back.

Owns these two routes and what an answer makes of somebody: which account, which roles. A log-in that was begun is taken
out by its first answer, whatever that is; and only the browser that began it can bring the answer.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from aicostguard.ledger import secret
from aicostguard.ledger.access import names, people, people_routes, places, sessions
from aicostguard.ledger.access import people_doc as doc
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.door import Door, address
from aicostguard.ledger.access.face import parameters
from aicostguard.ledger.access.people import Person
from aicostguard.ledger.access.principal import LEDGER, ORGANISATION
from aicostguard.ledger.errors import Limited, Refused

if TYPE_CHECKING:
    from aicostguard.ledger.access.oidc import Claims, Provider, Settings

#: how long somebody may take at the provider, and log-ins under way at once
LOGIN_MS, MOST_LOGINS = 10 * 60_000, 10_000
_COOKIE = "aicg_oidc"


class _Face:
    def __init__(self, door: Door, provider: Provider | None) -> None:
        self.door = door
        self.store = door.store
        self._provider = provider

    def provider(self) -> Provider:
        if self._provider is None:
            raise Refused(404, "no provider is set up here; log in with a password, or start `aicg serve --oidc FILE`")
        return self._provider

    def begin(self, request: Request, target: str) -> Response:
        provider, now_ms = self.provider(), self.door.now_ms()
        if not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable():
            raise Refused(422, "must be a path of this ledger, like /", "target")
        browser, state = secret.make("aicgo_"), secret.make("s")
        url = provider.begin(state, *_derived(browser))

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM logins WHERE created_ms <= ?", (now_ms - LOGIN_MS,))
            if connection.execute("SELECT count(*) FROM logins").fetchone()[0] >= MOST_LOGINS:
                raise Limited("too many log-ins are under way; try again in a minute", 60)
            connection.execute(
                "INSERT INTO logins VALUES (?, ?, ?, ?)",
                (secret.hash_key(state), secret.hash_key(browser), target[:500], now_ms),
            )

        self.store.change(job)
        response = RedirectResponse(url, status_code=303)
        sessions.set_cookie(request, response, browser, _COOKIE, LOGIN_MS)
        return response

    def finish(self, request: Request, given: dict[str, str]) -> Response:
        provider, now_ms = self.provider(), self.door.now_ms()
        browser = sessions.token_of(request, _COOKIE) or ""
        if not given.get("state"):
            raise Refused(400, "is missing: this is where the provider sends browsers back to", "state")
        row = self.store.change(
            lambda c: c.execute(
                "DELETE FROM logins WHERE state = ? RETURNING browser, target, created_ms",
                (secret.hash_key(given["state"]),),
            ).fetchone()
        )
        if row is None or row[2] <= now_ms - LOGIN_MS:
            raise Refused(
                400, "is of no log-in under way: it was answered already, or took too long; log in again", "state"
            )
        if row[0] != secret.hash_key(browser):
            raise Refused(403, "was begun by another browser; log in again in this one", "state")
        if "error" in given or not given.get("code"):
            raise Refused(
                401, f"the provider let nobody in ({ascii(given.get('error', 'no code')[:60])[1:-1]})", "code"
            )
        claims = provider.finish(given["code"], *_derived(browser))
        person = self.store.change(
            lambda c: _whom(c, claims, provider.settings, Actor("OpenID Connect", address(request)), now_ms)
        )
        if person.disabled_ms is not None:
            raise Refused(403, f"the account {person.email} is disabled; an admin can enable it")
        response = RedirectResponse(row[1], status_code=303)
        people_routes.begin(self.door, request, person, source=provider.settings.issuer, response=response)
        sessions.drop_cookie(request, response, _COOKIE)
        return response


def _derived(browser: str) -> tuple[str, str]:
    """`(nonce, verifier)` of a log-in: both follow from what only its browser has."""
    return secret.hash_key("nonce " + browser), secret.hash_key("verifier " + browser)


def _whom(connection: sqlite3.Connection, claims: Claims, settings: Settings, actor: Actor, now_ms: int) -> Person:
    """The account of whoever logged in, with the roles that their groups have now. Raises `Refused` (403)."""
    grants = [grant for grant in settings.roles if grant.group in claims.groups]
    person = people.of_subject(connection, settings.issuer, claims.subject)
    if person is None:
        if claims.email is None:
            raise Refused(403, "the provider tells no e-mail address; add `email` to the scopes", "email")
        if settings.verified_email and not claims.verified:
            raise Refused(403, "the provider does not say that your address was verified (email_verified)", "email")
        email = names.email(claims.email)
        person = people.known(connection, email)
        if person is None:
            if not (grants or settings.sign_up):
                raise Refused(403, f"{email} has no account here, and is in no group that has a role; ask an admin")
            person = people.add(connection, email, _name(claims.name), actor, now_ms)
        elif person.issuer is not None:
            raise Refused(403, f"the account {email} belongs to somebody else at the provider; ask an admin")
        elif not claims.verified:
            raise Refused(403, f"there is an account {email}; an address that is not verified cannot claim it", "email")
        people.link(connection, person, settings.issuer, claims.subject, actor, now_ms)
    _roles(connection, person, settings, {grant.group for grant in grants}, actor, now_ms)
    return people.of(connection, person.id)


def _roles(
    connection: sqlite3.Connection, person: Person, settings: Settings, groups: set[str], actor: Actor, now_ms: int
) -> None:
    """Give what the groups give, and take what they no longer do. A place that is not there is passed over."""
    wanted: dict[tuple[str, int], tuple[str, int | None]] = {}
    for grant in settings.roles:
        if grant.group not in groups:
            continue
        target, organisation = 0, None
        if grant.reach != LEDGER:
            try:
                if grant.reach == ORGANISATION:
                    target = organisation = places.organisation_named(connection, grant.of).id
                else:
                    project = places.project_named(connection, grant.of)
                    target, organisation = project.id, project.organisation_id
            except Refused:
                continue
        if wanted.get((grant.reach, target), ("", None))[0] != "admin":
            wanted[grant.reach, target] = (grant.role, organisation)
    has = [role for role in people.roles(connection, person.id) if role.source == settings.issuer]
    for reach, target in {*((role.reach, role.target_id) for role in has), *wanted}:
        role, organisation = wanted.get((reach, target), (None, None))
        people.set_role(
            connection,
            person,
            reach,
            target,
            role,
            actor,
            now_ms,
            organisation_id=organisation,
            source=settings.issuer,
        )


def _name(name: str) -> str:
    try:
        return names.label(name[: names.MOST_LABEL])
    except Refused:
        return ""


def add(app: FastAPI, door: Door, provider: Provider | None) -> None:
    """Add the routes."""
    face = _Face(door, provider)

    @app.get("/v1/oidc/login", **doc.GET_OIDC_LOGIN)
    async def get_oidc_login(request: Request) -> Response:
        given = parameters(request, doc.OIDC_LOGIN)
        return await run_in_threadpool(face.begin, request, given.get("target") or "/")

    @app.get("/v1/oidc/callback", **doc.GET_OIDC_CALLBACK)
    async def get_oidc_callback(request: Request) -> Response:
        # A provider may add parameters of its own.
        return await run_in_threadpool(face.finish, request, dict(request.query_params))
