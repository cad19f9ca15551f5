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
from aicostguard.ledger.access import keyring, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.limits import Limits
from aicostguard.ledger.access.places import Project
from aicostguard.ledger.access.principal import LEDGER, PROJECT, REACHES, Principal
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
        self._limits = Limits(time.monotonic)
        self._per_minute = per_minute

    def enter(self, request: HTTPConnection, scopes: tuple[str, ...], reach: str) -> Principal:
        address = request.client.host if request.client is not None else ""
        asked = request.headers.get(PROJECT_HEADER)
        key = keys.known(self.store, request.headers.get("authorization"), self.now_ms())
        limit = key.per_minute or self._per_minute
        if limit:
            self._limits.take(key.id, limit)
        self.uses.note(key.id, self.now_ms())
        found, archived = self._of_key(key, asked, address)
        _may(found, scopes, reach, archived)
        return found

    def write(self, *, at_once: bool = False) -> None:
        """Write down what was only noted."""
        self.uses.write(self.now_ms(), at_once=at_once)

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
