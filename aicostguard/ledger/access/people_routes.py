"""Log-in, log-out, passwords and people over HTTP.

Owns these routes. What a wrong password is answered with is the same whether there is such an account or not, in words
and in time.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from aicostguard.ledger.access import audit, names, passwords, people, places, sessions
from aicostguard.ledger.access import people_doc as doc
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.door import Door, actor, address
from aicostguard.ledger.access.face import Json, answered, parameters, sent
from aicostguard.ledger.access.people import Person, Role
from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, PROJECT, REACHES, Principal
from aicostguard.ledger.access.told import account
from aicostguard.ledger.errors import Limited, Refused

_DEVICE = "aicg_device"
#: when somebody last tried to log in as nobody that there is
UNKNOWN = "unknown_login_ms"


class Face:
    """What the routes do; pages that log somebody in do the same."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.store = door.store

    # Log-in and log-out.

    def log_in(self, request: Request, body: dict[str, Any], response: Response | None = None) -> Response:
        names.only(body, ("email", "password"))
        for name in ("email", "password"):
            if not isinstance(body.get(name), str) or len(body[name]) > passwords.MOST:
                raise Refused(422, f"must be text of at most {passwords.MOST} characters", name)
        email, came = body["email"].lower(), address(request)
        mark = sessions.token_of(request, _DEVICE)
        now_ms = self.door.now_ms()

        def look(connection: sqlite3.Connection) -> tuple[Person | None, str | None]:
            found = people.known(connection, email)
            return found, None if found is None else sessions.known_device(connection, mark, found.id, now_ms)

        person, device = self.store.look(look)
        try:
            self.door.guesses.may(email, came, device)
        except Limited:
            self._note(person, came, "login.held")
            raise
        good = passwords.right(body["password"], None if person is None else person.password)
        if person is None or not good or person.disabled_ms is not None:
            self.door.guesses.wrong(email, came, device)
            self._note(person, came, "login.refused")
            raise Refused(
                401, "the e-mail address or the password is wrong; an admin can give you a code for a new one"
            )
        self.door.guesses.right(email, came, device)
        stored = person.password or ""
        renewed = passwords.hashed(body["password"]) if passwords.outdated(stored) else None
        return begin(self.door, request, person, renewed, response=response)

    def _note(self, person: Person | None, came: str, what: str) -> None:
        """A line of the audit log. Without an account there is none, but as much is written: that, too, takes time."""
        if person is None:
            self.store.remember(UNKNOWN, str(self.door.now_ms()))
            return
        self.store.change(lambda c: audit.note(c, self.door.now_ms(), Actor(person.email, came), what, person.email))

    def log_out(self, request: Request, body: dict[str, Any]) -> Response:
        names.only(body, ("everywhere",))
        everywhere = names.truth(body.get("everywhere", False), "everywhere")
        token = sessions.token_of(request)
        sessions.from_our_page(request)
        person = self.door.person(token)

        def job(connection: sqlite3.Connection) -> None:
            sessions.end(connection, token)
            if everywhere:
                sessions.end_all(connection, person.id)
            what = "logout.everywhere" if everywhere else "logout"
            audit.note(connection, self.door.now_ms(), Actor(person.email, address(request)), what, person.email)

        self.store.change(job)
        response = Json({"logged_out": person.email, "everywhere": everywhere})
        sessions.drop_cookie(request, response)
        return response

    def password(self, request: Request, body: dict[str, Any], response: Response | None = None) -> Response:
        """Set a password: by the old one, or by a code."""
        names.only(body, ("old", "new", "code"))
        now_ms = self.door.now_ms()
        if "code" in body:
            given = body["code"]
            if not isinstance(given, str) or len(given) > 200:
                raise Refused(422, "must be a code that an admin gave", "code")
            person = self.store.look(lambda c: people.of_code(c, given, now_ms))
        else:
            sessions.from_our_page(request)
            person = self.door.person(sessions.token_of(request))
            self.door.guesses.may(person.email, address(request), None)
            old = body.get("old")
            if not isinstance(old, str) or len(old) > passwords.MOST or not passwords.right(old, person.password):
                self.door.guesses.wrong(person.email, address(request), None)
                raise Refused(403, "is not your password; without one, ask an admin for a code", "old")
            self.door.guesses.right(person.email, address(request), None)
        hashed = passwords.hashed(passwords.check(body.get("new"), person.email, "new"))

        def job(connection: sqlite3.Connection) -> Person:
            found = people.of_code(connection, body["code"], now_ms) if "code" in body else person
            people.set_password(connection, found, hashed, Actor(found.email, address(request)), now_ms)
            return people.of(connection, found.id)

        return begin(self.door, request, self.store.change(job), response=response)

    # People.

    def people(self, principal: Principal, _: dict[str, Any]) -> Any:
        every = principal.may("manage", LEDGER)

        def job(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            out = []
            within = {item.id: item for item in places.projects(connection)}
            for person in people.every(connection):
                roles = [
                    role for role in people.roles(connection, person.id) if every or _near(role, principal, within)
                ]
                if roles or every:
                    out.append(account(connection, person, roles))
            return out

        return {"people": self.store.look(job)}

    def add_person(self, principal: Principal, body: dict[str, Any]) -> Response:
        names.only(body, ("email", "name"))
        email, name = names.email(body.get("email")), names.label(body.get("name", ""))
        by, now_ms = actor(principal), self.door.now_ms()

        def job(connection: sqlite3.Connection) -> dict[str, Any]:
            person = people.add(connection, email, name, by, now_ms)
            return {**account(connection, person, []), "code": people.code(connection, person, by, now_ms)}

        return Json(self.store.change(job), status_code=201)

    def change_person(self, principal: Principal, body: dict[str, Any], email: str) -> Any:
        names.only(body, ("disabled",))
        disabled = names.truth(body.get("disabled"), "disabled")

        def job(connection: sqlite3.Connection) -> dict[str, Any]:
            person = people.found(connection, email)
            person = people.disable(connection, person, disabled, actor(principal), self.door.now_ms())
            return account(connection, person, people.roles(connection, person.id))

        return self.store.change(job)

    def code(self, principal: Principal, body: dict[str, Any], email: str) -> dict[str, Any]:
        """A code that is said this once."""
        names.only(body, ())
        made = self.store.change(lambda c: people.code(c, people.found(c, email), actor(principal), self.door.now_ms()))
        return {"email": email.lower(), "code": made}

    def set_role(self, principal: Principal, body: dict[str, Any], email: str) -> Any:
        names.only(body, ("role", "reach"))
        reach = names.one_of(body.get("reach", PROJECT), REACHES, "reach")
        if "role" not in body:
            raise Refused(422, f"must be one of {', '.join(people.ROLES)}, or null to take it away", "role")
        role = None if body["role"] is None else names.one_of(body["role"], people.ROLES, "role")
        if not principal.may("manage", reach):
            raise Refused(403, f"nobody gives what they do not have: you lack admin for the {reach}", "reach")
        target = {PROJECT: principal.project_id, ORGANISATION: principal.organisation_id, LEDGER: 0}[reach]
        by, now_ms = actor(principal), self.door.now_ms()

        def job(connection: sqlite3.Connection) -> dict[str, Any]:
            # Whether there was an account before is the ledger's affair: it is answered alike.
            person = people.known(connection, names.email(email))
            if person is None:
                person = people.add(connection, email, "", by, now_ms)
            people.set_role(
                connection,
                person,
                reach,
                target,
                role,
                by,
                now_ms,
                organisation_id=None if reach == LEDGER else principal.organisation_id,
            )
            return {"email": person.email, "role": role, "reach": reach}

        return self.store.change(job)


def begin(
    door: Door,
    request: Request,
    person: Person,
    renewed: str | None = None,
    source: str = "password",
    response: Response | None = None,
) -> Response:
    """Log somebody in: a new session, whatever the browser held before, and a mark for the browser."""
    now_ms, came = door.now_ms(), address(request)
    before = sessions.token_of(request)

    def job(connection: sqlite3.Connection) -> tuple[str, str]:
        sessions.end(connection, before)
        if renewed is not None:
            connection.execute("UPDATE people SET password = ? WHERE id = ?", (renewed, person.id))
        audit.note(connection, now_ms, Actor(person.email, came), "login", person.email, after={"by": source})
        return sessions.begin(connection, person.id, came, now_ms), sessions.device(connection, person.id, now_ms)

    token, mark = door.store.change(job)
    response = response or Json({"email": person.email, "name": person.name})
    sessions.set_cookie(request, response, token)
    sessions.set_cookie(request, response, mark, _DEVICE, sessions.DEVICE_MS)
    return response


def add(app: FastAPI, door: Door) -> None:
    """Add the routes."""
    face = Face(door)

    @app.post("/v1/login", **doc.POST_LOGIN)
    async def post_login(request: Request) -> Response:
        sessions.from_our_page(request, else_refused=False)
        return await run_in_threadpool(face.log_in, request, await sent(request))

    @app.post("/v1/logout", **doc.POST_LOGOUT)
    async def post_logout(request: Request) -> Response:
        return await run_in_threadpool(face.log_out, request, await sent(request))

    @app.post("/v1/password", **doc.POST_PASSWORD)
    async def post_password(request: Request) -> Response:
        sessions.from_our_page(request, else_refused=False)
        return await run_in_threadpool(face.password, request, await sent(request))

    @app.get("/v1/people", **doc.GET_PEOPLE)
    async def get_people(request: Request) -> Response:
        parameters(request, {})
        return await answered(request, face.people, "manage")

    @app.post("/v1/people", **doc.POST_PEOPLE)
    async def post_people(request: Request) -> Response:
        return await answered(request, face.add_person, "manage", reach=LEDGER)

    @app.patch("/v1/people/{email}", **doc.PATCH_PERSON)
    async def patch_person(request: Request, email: str) -> Response:
        return await answered(request, lambda who, body: face.change_person(who, body, email), "manage", reach=LEDGER)

    @app.post("/v1/people/{email}/code", **doc.POST_CODE)
    async def post_code(request: Request, email: str) -> Response:
        return await answered(
            request, lambda who, body: Json(face.code(who, body, email), status_code=201), "manage", reach=LEDGER
        )

    @app.put("/v1/people/{email}/role", **doc.PUT_ROLE)
    async def put_role(request: Request, email: str) -> Response:
        return await answered(request, lambda who, body: face.set_role(who, body, email), "manage")


def _near(role: Role, principal: Principal, within: dict[int, places.Project]) -> bool:
    """Whether a role is of the principal's affair: of its project, or, with that reach, of its organisation."""
    if role.reach == PROJECT:
        of = within[role.target_id].organisation_id
        wide = principal.may("manage", ORGANISATION) and of == principal.organisation_id
        return role.target_id == principal.project_id or wide
    return role.reach == ORGANISATION and role.target_id == principal.organisation_id
