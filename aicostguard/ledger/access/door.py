"""The one way in: from a request to who asks, or a refusal.

Owns the order of the checks: who is it, is it still good, does it come too often, which project is meant, may it do
this there. What one may not see is refused in the very words for what does not exist. If this is wrong, one tenant
reads another's costs.
"""

from __future__ import annotations

import time
from typing import Callable

from starlette.requests import HTTPConnection

from aicostguard.ledger import keys
from aicostguard.ledger.access import keyring, opened, people, places, sessions
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.guesses import Guesses
from aicostguard.ledger.access.limits import Limits
from aicostguard.ledger.access.people import Person, Role
from aicostguard.ledger.access.places import Project
from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, PROJECT, REACHES, ROLES, Principal
from aicostguard.ledger.access.uses import Uses
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import Key
from aicostguard.ledger.sqlite import SqliteStore

#: which project is meant, for those who may see several: NAME or ORGANISATION/NAME
PROJECT_HEADER = "aicg-project"
_WIDER = {"organisation": "its whole organisation", "ledger": "the whole ledger"}


def authorise(request: HTTPConnection, *scopes: str, reach: str = PROJECT) -> Principal:
    """Who asks, having one of `scopes` (throughout `reach`). Reads the ledger: not on the loop.

    Raises `Refused`: 401 for nobody known, 403 for one who may not, 404 for a project that it does not see; `Limited`.
    """
    door: Door = request.app.state.door
    return door.enter(request, scopes, reach)


def actor(principal: Principal) -> Actor:
    """How it stands in the audit log."""
    return Actor(principal.who, principal.address)


class Door:
    """What `authorise` needs of one ledger. `per_minute` holds for keys that have no limit of their own."""

    def __init__(self, store: SqliteStore, now_ms: Callable[[], int], per_minute: int | None = None) -> None:
        self.store = store
        self.now_ms = now_ms
        self.uses = Uses(lambda seen: store.change(lambda connection: keyring.used(connection, seen)))
        self.sessions = Uses(lambda seen: store.change(lambda connection: sessions.seen(connection, seen)))
        self.guesses = Guesses(time.monotonic)
        self._limits = Limits(time.monotonic)
        self._per_minute = per_minute

    def enter(self, request: HTTPConnection, scopes: tuple[str, ...], reach: str) -> Principal:
        header, token = request.headers.get("authorization"), sessions.token_of(request)
        if header is None and token is not None:
            of_key = token.startswith(opened.TOKEN)
            found, archived = (self._of_opened if of_key else self._of_session)(request, token)
        else:
            key = keys.known(self.store, header, self.now_ms())
            self._limit(key.id, key.per_minute)
            self.uses.note(key.id, self.now_ms())
            found, archived = self._of_key(key, request.headers.get(PROJECT_HEADER), address(request))
        _may(found, scopes, reach, archived)
        return found

    def _limit(self, who: str, per_minute: int | None) -> None:
        limit = per_minute or self._per_minute
        if limit:
            self._limits.take(who, limit)

    def write(self, *, at_once: bool = False) -> None:
        """Write down what was only noted."""
        self.uses.write(self.now_ms(), at_once=at_once)
        self.sessions.write(self.now_ms(), at_once=at_once)

    def person(self, token: str | None) -> Person:
        """Whose session it is, if it is in force. Raises `Refused` (401)."""
        session = None if token is None else self.store.look(lambda connection: sessions.found(connection, token))
        if session is None:
            raise Refused(401, "nobody is logged in here, or no longer; log in with POST /v1/login")
        now_ms = self.now_ms()
        self._lasts(session, now_ms)
        found = self.store.look(lambda connection: people.of(connection, session.person_id))
        if found.disabled_ms is not None:
            raise Refused(401, "this account is disabled; an admin can enable it")
        self._limit(f"person {found.id}", None)
        self.sessions.note(session.id, now_ms)
        return found

    def readable(self, principal: Principal) -> list[Project]:
        """The projects whose costs somebody may look at, in the order they were made."""
        every = self.store.look(places.projects)
        if principal.kind == "person":
            roles = self.store.look(lambda connection: people.roles(connection, int(principal.id)))
            return [project for project in every if "read" in _scopes(roles, project)]
        if principal.may("read", LEDGER):
            return every
        if principal.may("read", ORGANISATION):
            return [project for project in every if project.organisation_id == principal.organisation_id]
        return [project for project in every if project.id in principal.visible]

    def _lasts(self, session: sessions.Session, now_ms: int) -> None:
        seen_ms = self.sessions.at(session.id, session.seen_ms) or 0
        if seen_ms <= now_ms - sessions.IDLE_MS or session.created_ms <= now_ms - sessions.MOST_MS:
            raise Refused(401, "this session is over; log in again with POST /v1/login")

    def _of_opened(self, request: HTTPConnection, token: str) -> tuple[Principal, bool]:
        """A session that a key began may what the key may, as long as the key does."""
        found = self.store.look(lambda connection: opened.found(connection, token))
        if found is None:
            raise Refused(401, "nobody is logged in here, or no longer; open the dashboard with a key again")
        session, key = found
        now_ms = self.now_ms()
        self._lasts(session, now_ms)
        keys.in_force(key, now_ms)
        sessions.from_our_page(request)
        self._limit(key.id, key.per_minute)
        self.sessions.note(session.id, now_ms)
        self.uses.note(key.id, now_ms)
        return self._of_key(key, request.headers.get(PROJECT_HEADER), address(request))

    def _of_session(self, request: HTTPConnection, token: str) -> tuple[Principal, bool]:
        person = self.person(token)
        sessions.from_our_page(request)
        asked = request.headers.get(PROJECT_HEADER)
        roles, every = self.store.look(lambda c: (people.roles(c, person.id), places.projects(c)))
        seen = [project for project in every if _scopes(roles, project)]
        if asked is not None:
            _, slash, _ = asked.rpartition("/")
            names = [(f"{item.organisation}/{item.name}" if slash else item.name).lower() for item in seen]
            seen = [item for item, name in zip(seen, names) if name == asked.lower()]
            if not seen:
                raise Refused(404, f"there is no project {asked[:130]!a}", "AICG-Project")
            if len(seen) > 1:
                raise Refused(422, "is the name of several projects; give ORGANISATION/NAME", "AICG-Project")
        if not seen:
            raise Refused(403, f"{person.email} has no role in any project yet; an admin can give one")
        project = next((item for item in seen if item.archived_ms is None), seen[0])
        held = {
            ORGANISATION: frozenset(_scopes([role for role in roles if role.reach != PROJECT], project)),
            LEDGER: frozenset(_scopes([role for role in roles if role.reach == LEDGER], project)),
        }
        found = Principal(
            "person",
            str(person.id),
            person.name,
            person.email,
            _scopes(roles, project),
            project.id,
            project.name,
            project.organisation_id,
            project.organisation,
            {reach: scopes for reach, scopes in held.items() if scopes},
            address(request),
            visible=frozenset(role.target_id for role in roles if role.reach == PROJECT),
        )
        return found, project.archived_ms is not None

    def _of_key(self, key: Key, asked: str | None, address: str) -> tuple[Principal, bool]:
        held = {level: frozenset(key.scopes) for level in REACHES[1 : REACHES.index(key.reach) + 1]}
        found = Principal(
            "key",
            key.id,
            key.name,
            key.shown,
            key.scopes,
            key.project_id,
            key.project,
            key.organisation_id,
            key.organisation,
            held,
            address,
            key.max_bytes,
            frozenset({key.project_id}),
        )
        if asked is None or asked.lower() in (key.project.lower(), f"{key.organisation}/{key.project}".lower()):
            return found, key.archived
        if key.reach == PROJECT:
            raise Refused(404, f"there is no project {asked[:130]!a}", "AICG-Project")
        other = self._other(asked, key.organisation_id, key.reach)
        return _into(found, other), other.archived_ms is not None

    def _other(self, asked: str, organisation_id: int, reach: str) -> Project:
        """The project that somebody means, who may see beyond one. Raises `Refused` (404)."""
        within = None if reach == LEDGER and "/" in asked else organisation_id
        return self.store.look(lambda connection: places.project_named(connection, asked, within, "AICG-Project"))


def address(request: HTTPConnection) -> str:
    """Where it came from; a proxy's word for it is taken only from those that `serve` was told to trust."""
    return request.client.host if request.client is not None else ""


def _scopes(roles: list[Role], project: Project) -> tuple[str, ...]:
    """What roles allow in a project."""
    held = {PROJECT: project.id, ORGANISATION: project.organisation_id, LEDGER: 0}
    found = [scope for role in roles if held[role.reach] == role.target_id for scope in ROLES[role.role]]
    return tuple(dict.fromkeys(found))


def _into(principal: Principal, project: Project) -> Principal:
    return principal._replace(
        project_id=project.id,
        project=project.name,
        organisation_id=project.organisation_id,
        organisation=project.organisation,
    )


def _may(principal: Principal, scopes: tuple[str, ...], reach: str, archived: bool) -> None:
    what = "this key" if principal.kind == "key" else principal.shown
    if reach == PROJECT:
        keys.allowed(principal.scopes, scopes, archived, what)
    elif not any(principal.may(scope, reach) for scope in scopes):
        raise Refused(403, f"{what} may not {keys.SCOPES[scopes[0]]} for {_WIDER[reach]}; it needs that reach")
