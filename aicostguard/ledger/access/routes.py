"""Organisations, projects, keys and the audit log over HTTP.

Owns these routes, their parameters and the shape of their answers. What is decided is decided by `door`, `places` and
`keyring`; each change and its line in the audit log are one transaction.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any, Callable, Iterable, Sequence, TypeVar
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Request
from starlette.responses import Response

from aicostguard.ledger import drain, query
from aicostguard.ledger.access import audit, doc, keyring, names, places
from aicostguard.ledger.access.door import Door, actor
from aicostguard.ledger.access.face import Json, answered, parameters
from aicostguard.ledger.access.places import Organisation, Project
from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, PROJECT, REACHES, Principal, roles
from aicostguard.ledger.access.told import line_told, read_audit, read_limits, read_roles, state, when
from aicostguard.ledger.amounts import changed
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import MEASURES, Key, Query

T = TypeVar("T")
_UTC = ZoneInfo("UTC")


class Face:
    """What the routes do; the dashboard's pages do the same."""

    def __init__(self, door: Door) -> None:
        self.door = door

    def look(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return self.door.store.look(job)

    def change(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return self.door.store.change(job)

    # Organisations and projects.

    def organisations(self, principal: Principal, _: dict[str, Any]) -> Any:
        only = None if principal.may("read", LEDGER) else principal.organisation_id
        return {"organisations": [_organisation(item) for item in self.look(lambda c: places.organisations(c, only))]}

    def add_organisation(self, principal: Principal, body: dict[str, Any]) -> Response:
        names.only(body, ("name",))
        name = names.place(body.get("name"))
        made = self.change(lambda c: places.add_organisation(c, name, actor(principal), self.door.now_ms()))
        return Json(_organisation(made), status_code=201)

    def change_organisation(self, principal: Principal, body: dict[str, Any], name: str) -> Any:
        changed = _change_of_place(body)

        def job(connection: sqlite3.Connection) -> Organisation:
            found = places.organisation_named(connection, name, "name")
            if found.id != principal.organisation_id and not principal.may("manage", LEDGER):
                raise places.no_organisation(name, "name")
            if "archived" in changed and not principal.may("manage", LEDGER):
                raise Refused(403, "only who manages the whole ledger may archive an organisation or take it back")
            return places.change_organisation(
                connection,
                found.id,
                actor(principal),
                self.door.now_ms(),
                name=changed.get("name"),
                archived=changed.get("archived"),
            )

        return _organisation(self.change(job))

    def projects(self, principal: Principal, _: dict[str, Any]) -> Any:
        found = self.look(
            lambda c: places.projects(c, None if principal.may("read", LEDGER) else principal.organisation_id)
        )
        if not principal.may("read", ORGANISATION):
            found = [item for item in found if item.id in principal.visible]
        return {"projects": [_project(item) for item in found]}

    def add_project(self, principal: Principal, body: dict[str, Any]) -> Response:
        names.only(body, ("name", "organisation"))
        name = names.place(body.get("name"))
        wanted = body.get("organisation", principal.organisation)

        def job(connection: sqlite3.Connection) -> Project:
            number = principal.organisation_id
            if wanted != principal.organisation:
                if not principal.may("manage", LEDGER):
                    raise places.no_organisation(wanted, "organisation")
                number = places.organisation_named(connection, names.place(wanted, "organisation")).id
            return places.add_project(connection, number, name, actor(principal), self.door.now_ms())

        return Json(_project(self.change(job)), status_code=201)

    def change_project(self, principal: Principal, body: dict[str, Any], name: str) -> Any:
        changed = _change_of_place(body)
        within = None if principal.may("manage", LEDGER) and "/" in name else principal.organisation_id

        def job(connection: sqlite3.Connection) -> Project:
            found = places.project_named(connection, name, within, "name")
            return places.change_project(
                connection,
                found.id,
                actor(principal),
                self.door.now_ms(),
                name=changed.get("name"),
                archived=changed.get("archived"),
            )

        return _project(self.change(job))

    def costs(self, principal: Principal, given: dict[str, list[str]]) -> Any:
        """What each project of the organisation cost, and all of them together."""
        for name in ("group_by", "order", "limit"):
            if name in given:
                raise Refused(422, "does not apply here: there is a row for each project, the dearest first", name)
        drain(self.door.store)
        now_ms = self.door.now_ms()
        rows = []
        asked = {item: query.parse(given, item.id, now_ms) for item in self._projects_of(principal)}
        for item, one in asked.items():
            told = query.run(self.door.store, one)["totals"]
            rows.append({"project": item.name, "archived": item.archived_ms is not None, **told})
        rows.sort(key=lambda row: -(row["cost_nanousd"] or 0))
        whole = {name: sum(row[name] or 0 for row in rows) for name in MEASURES}
        totals = query.amounts(whole)
        if any("before" in row for row in rows):
            named = [name for name in rows[0]["before"] if name in MEASURES]
            totals.update(changed(whole, {name: sum(row["before"][name] or 0 for row in rows) for name in named}))
        return {
            "organisation": principal.organisation,
            "rows": rows,
            "totals": totals,
            "archived": query.lacking(self._lacking(asked.values())),
        }

    def _projects_of(self, principal: Principal) -> list[Project]:
        return self.look(lambda c: places.projects(c, principal.organisation_id))

    def _lacking(self, asked: Iterable[Query]) -> list[tuple[int, int]]:
        """Days, and receipts of them, that answers about several projects lack because they are archived."""
        days: Counter[int] = Counter()
        for one in asked:
            days.update(dict(self.door.store.missing(one, raw=one.latency == "exact")))
        return sorted(days.items())

    # Keys.

    def keys(self, principal: Principal, _: dict[str, Any]) -> Any:
        found = self.look(lambda c: keyring.listed(c, principal.project_id))
        return {"keys": [self.key(item) for item in found]}

    def key(self, key: Key) -> dict[str, Any]:
        now_ms = self.door.now_ms()
        return {
            **keyring.told(key),
            "state": state(key, now_ms),
            "project": key.project,
            "created_at": when(key.created_ms),
            "expires_at": when(key.expires_ms),
            "revoked_at": when(key.revoked_ms),
            "last_used_at": when(self.door.uses.at(key.id, key.last_used_ms)),
        }

    def add_key(self, principal: Principal, body: dict[str, Any]) -> dict[str, Any]:
        """The key, with its `secret`, which is said this once."""
        names.only(body, ("name", "roles", "reach", "expires_in", "per_minute", "max_bytes"))
        scopes = read_roles(body.get("roles", ["ingest"]))
        reach = names.one_of(body.get("reach", PROJECT), REACHES, "reach")
        for scope in scopes:
            if not principal.may(scope, reach):
                raise Refused(403, f"nobody gives what they do not have: you lack {scope} for the {reach}", "roles")
        values = read_limits(body, self.door.now_ms())
        name = names.label(body.get("name", ""))
        made, entry = self.change(
            lambda c: keyring.add(
                c, principal.project_id, scopes, actor(principal), self.door.now_ms(), name=name, reach=reach, **values
            )
        )
        return {**self.key(entry), "secret": made}

    def one_key(self, principal: Principal, name: str, job: Callable[[sqlite3.Connection, Key], T]) -> T:
        """Do something to a key that the principal could have made itself."""

        def whole(connection: sqlite3.Connection) -> T:
            found = keyring.found(connection, principal.project_id, name)
            if not all(principal.may(scope, found.reach) for scope in found.scopes):
                raise Refused(403, "this key may more than you; somebody with its rights has to change it", "key")
            return job(connection, found)

        return self.change(whole)

    def change_key(self, principal: Principal, body: dict[str, Any], name: str) -> Any:
        names.only(body, ("name", "expires_in", "per_minute", "max_bytes"))
        values: dict[str, Any] = {**read_limits(body, self.door.now_ms())}
        if "name" in body:
            values["name"] = names.label(body["name"])
        by, now_ms = actor(principal), self.door.now_ms()
        return self.key(self.one_key(principal, name, lambda c, key: keyring.change(c, key, by, now_ms, **values)))

    def rotate_key(self, principal: Principal, body: dict[str, Any], name: str) -> dict[str, Any]:
        """The new key, with its `secret`, which is said this once."""
        names.only(body, ("grace",))
        grace_ms = names.span(body.get("grace", "0s"), "grace")
        by, now_ms = actor(principal), self.door.now_ms()
        made, entry = self.one_key(principal, name, lambda c, key: keyring.rotate(c, key, grace_ms, by, now_ms))
        return {**self.key(entry), "secret": made}

    def revoke_key(self, principal: Principal, _: dict[str, Any], name: str) -> Any:
        by, now_ms = actor(principal), self.door.now_ms()
        return self.key(self.one_key(principal, name, lambda c, key: keyring.revoke(c, key, by, now_ms)))

    # Who and what.

    def whoami(self, principal: Principal, _: dict[str, Any]) -> Any:
        return {
            "kind": principal.kind,
            "who": principal.who,
            "roles": list(roles(principal.scopes)),
            "scopes": list(principal.scopes),
            "project": principal.project,
            "organisation": principal.organisation,
            "held": {reach: sorted(scopes) for reach, scopes in principal.held.items()},
        }

    def audit(self, principal: Principal, given: dict[str, str]) -> Any:
        reach = given.get("reach", PROJECT)
        whose: dict[str, int] = {
            PROJECT: {"project_id": principal.project_id},
            ORGANISATION: {"organisation_id": principal.organisation_id},
            LEDGER: {},
        }[reach]
        since_ms, before, limit = read_audit(given, self.door.now_ms())
        found = self.look(lambda c: audit.lines(c, **whose, since_ms=since_ms, before=before, limit=limit))
        return {"entries": [line_told(line) for line in found]}


def add(app: FastAPI, door: Door) -> None:
    """Add the routes."""
    face = Face(door)
    _places(app, face)
    _keys(app, face)

    @app.get("/v1/whoami", **doc.GET_WHOAMI)
    async def get_whoami(request: Request) -> Response:
        parameters(request, {})
        return await answered(request, face.whoami, "read", "ingest", "manage")

    @app.get("/v1/audit", **doc.GET_AUDIT)
    async def get_audit(request: Request) -> Response:
        given = parameters(request, doc.AUDIT)
        reach = names.one_of(given.get("reach", PROJECT), REACHES, "reach")
        return await answered(request, lambda principal, _: face.audit(principal, given), "manage", reach=reach)


def _places(app: FastAPI, face: Face) -> None:
    @app.get("/v1/organisations", **doc.GET_ORGANISATIONS)
    async def get_organisations(request: Request) -> Response:
        parameters(request, {})
        return await answered(request, face.organisations, "read", "manage")

    @app.post("/v1/organisations", **doc.POST_ORGANISATIONS)
    async def post_organisations(request: Request) -> Response:
        return await answered(request, face.add_organisation, "manage", reach=LEDGER)

    @app.patch("/v1/organisations/{name}", **doc.PATCH_ORGANISATION)
    async def patch_organisation(request: Request, name: str) -> Response:
        return await answered(
            request, lambda who, body: face.change_organisation(who, body, name), "manage", reach=ORGANISATION
        )

    @app.get("/v1/projects", **doc.GET_PROJECTS)
    async def get_projects(request: Request) -> Response:
        parameters(request, {})
        return await answered(request, face.projects, "read", "manage", "ingest")

    @app.post("/v1/projects", **doc.POST_PROJECTS)
    async def post_projects(request: Request) -> Response:
        return await answered(request, face.add_project, "manage", reach=ORGANISATION)

    @app.patch("/v1/projects/{name:path}", **doc.PATCH_PROJECT)
    async def patch_project(request: Request, name: str) -> Response:
        return await answered(
            request, lambda who, body: face.change_project(who, body, name), "manage", reach=ORGANISATION
        )

    @app.get("/v1/organisation/costs", **doc.GET_ORGANISATION_COSTS)
    async def get_organisation_costs(request: Request) -> Response:
        given: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            given.setdefault(name, []).append(value)
        return await answered(request, lambda who, _: face.costs(who, given), "read", reach=ORGANISATION)


def _keys(app: FastAPI, face: Face) -> None:
    @app.get("/v1/keys", **doc.GET_KEYS)
    async def get_keys(request: Request) -> Response:
        parameters(request, {})
        return await answered(request, face.keys, "manage")

    @app.post("/v1/keys", **doc.POST_KEYS)
    async def post_keys(request: Request) -> Response:
        return await answered(request, lambda who, body: Json(face.add_key(who, body), status_code=201), "manage")

    @app.patch("/v1/keys/{key}", **doc.PATCH_KEY)
    async def patch_key(request: Request, key: str) -> Response:
        return await answered(request, lambda who, body: face.change_key(who, body, key), "manage")

    @app.post("/v1/keys/{key}/rotate", **doc.ROTATE_KEY)
    async def rotate_key(request: Request, key: str) -> Response:
        return await answered(
            request, lambda who, body: Json(face.rotate_key(who, body, key), status_code=201), "manage"
        )

    @app.delete("/v1/keys/{key}", **doc.DELETE_KEY)
    async def delete_key(request: Request, key: str) -> Response:
        return await answered(request, lambda who, body: face.revoke_key(who, body, key), "manage")


def _change_of_place(body: dict[str, Any]) -> dict[str, Any]:
    names.only(body, ("name", "archived"))
    if not body:
        raise Refused(422, "give name, archived or both", "name")
    readers: Sequence[tuple[str, Callable[[Any, str], Any]]] = (("name", names.place), ("archived", names.truth))
    return {name: read(body[name], name) for name, read in readers if name in body}


def _organisation(item: Organisation) -> dict[str, Any]:
    return {"name": item.name, "created_at": when(item.created_ms), "archived_at": when(item.archived_ms)}


def _project(item: Project) -> dict[str, Any]:
    return {
        "name": item.name,
        "organisation": item.organisation,
        "created_at": when(item.created_ms),
        "archived_at": when(item.archived_ms),
    }
