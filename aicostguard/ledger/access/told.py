"""What the access API says of keys, people and the audit log, and how what it is given is read.

Owns these shapes, for HTTP and for the command line alike; no framework is needed for them.
"""

from __future__ import annotations

import sqlite3
from typing import Any
from zoneinfo import ZoneInfo

from aicostguard.ledger import period
from aicostguard.ledger.access import audit, names, places
from aicostguard.ledger.access.people import Person, Role
from aicostguard.ledger.access.principal import ORGANISATION, PROJECT, ROLES
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import Key

_UTC = ZoneInfo("UTC")
#: of a key: requests in a minute, bytes of a body
MOST_PER_MINUTE, MOST_BYTES = 1_000_000, 5 * 1024 * 1024


def when(at_ms: int | None) -> str | None:
    """A moment as it leaves the ledger."""
    return None if at_ms is None else period.iso(at_ms, _UTC)


def state(key: Key, now_ms: int) -> str:
    """`in force`, `expired` or `revoked`."""
    if key.revoked_ms is not None:
        return "revoked"
    return "expired" if key.expires_ms is not None and key.expires_ms <= now_ms else "in force"


def read_roles(value: Any) -> tuple[str, ...]:
    """The scopes of a list of roles. Raises `Refused` (422)."""
    if not isinstance(value, list) or not value:
        raise Refused(422, f"must be a list of some of {', '.join(ROLES)}", "roles")
    found = [scope for role in value for scope in ROLES[names.one_of(role, tuple(ROLES), "roles")]]
    return tuple(dict.fromkeys(found))


def read_limits(body: dict[str, Any], now_ms: int) -> dict[str, int | None]:
    """`expires_ms`, `per_minute` and `max_bytes`, of those that a body sets; null takes a limit away."""
    out: dict[str, Any] = {}
    if "expires_in" in body:
        given = body["expires_in"]
        out["expires_ms"] = None if given is None else now_ms + names.span(given, "expires_in", 1000)
    for name, least, most in (("per_minute", 1, MOST_PER_MINUTE), ("max_bytes", 100, MOST_BYTES)):
        if name in body:
            out[name] = None if body[name] is None else names.count(body[name], name, least, most)
    return out


def read_audit(given: dict[str, str], now_ms: int) -> tuple[int, int | None, int]:
    """`(since, before, limit)`. Raises `Refused` (422)."""
    out: list[int | None] = []
    for name, default, most in (("before", "", 2**62), ("limit", "100", audit.MOST)):
        text = given.get(name) or default
        if text and not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
            raise Refused(422, f"must be an integer from 1 to {most}", name)
        out.append(int(text) if text else None)
    return period.start(given.get("since") or "all", now_ms, _UTC, "since"), out[0], out[1] or 100


def line_told(line: audit.Line) -> dict[str, Any]:
    """A line of the audit log as it leaves the ledger."""
    return {
        "id": line.id,
        "at": when(line.at_ms),
        "who": line.who,
        "address": line.address,
        "what": line.what,
        "target": line.target,
        "before": line.before,
        "after": line.after,
    }


def account(connection: sqlite3.Connection, person: Person, roles: list[Role]) -> dict[str, Any]:
    """An account as it leaves the ledger: nothing of its password but whether there is one."""
    return {
        "email": person.email,
        "name": person.name,
        "has_password": person.password is not None,
        "issuer": person.issuer,
        "created_at": when(person.created_ms),
        "disabled_at": when(person.disabled_ms),
        "roles": [
            {"role": role.role, "reach": role.reach, "of": _of(connection, role), "by": role.source} for role in roles
        ],
    }


def _of(connection: sqlite3.Connection, role: Role) -> str | None:
    """What a role holds for, by name."""
    if role.reach == PROJECT:
        found = places.project(connection, role.target_id)
        return f"{found.organisation}/{found.name}"
    return places.organisations(connection, role.target_id)[0].name if role.reach == ORGANISATION else None
