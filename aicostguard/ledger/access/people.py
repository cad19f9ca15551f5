"""People: their accounts, their roles, and the codes by which one sets a password for the first time.

Owns these rows. An account is never deleted: what stands in histories keeps its meaning. It is disabled, and every
session of it ends with that.
"""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from aicostguard.ledger import secret
from aicostguard.ledger.access import audit, names
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import Refused

#: what a person may be; `ingest` alone is for programs
ROLES = ("read", "admin")
#: how long a code is good for
CODE_MS = 24 * 3_600_000


class Person(NamedTuple):
    id: int
    email: str
    name: str
    #: the hash of the password, or None
    password: str | None
    issuer: str | None
    created_ms: int
    disabled_ms: int | None


class Role(NamedTuple):
    """A role in one project, throughout an organisation (`target_id` names it), or throughout the ledger (0).

    `source` is `local`, or the issuer that says so at each log-in.
    """

    reach: str
    target_id: int
    role: str
    source: str


_COLUMNS = "id, email, name, password, issuer, created_ms, disabled_ms"


def every(connection: sqlite3.Connection) -> list[Person]:
    """All accounts, in the order they were made."""
    return [Person(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM people ORDER BY id")]


def known(connection: sqlite3.Connection, email: str) -> Person | None:
    """The account of an address, or None."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM people WHERE email = ?", (email.lower(),)).fetchone()
    return None if row is None else Person(*row)


def found(connection: sqlite3.Connection, email: str, field: str = "email") -> Person:
    """The account of an address. Raises `Refused` (404)."""
    person = known(connection, email)
    if person is None:
        raise Refused(404, f"there is no account {email[:100]!a}; `aicg people list` shows them", field)
    return person


def of(connection: sqlite3.Connection, person_id: int) -> Person:
    return Person(*connection.execute(f"SELECT {_COLUMNS} FROM people WHERE id = ?", (person_id,)).fetchone())


def of_subject(connection: sqlite3.Connection, issuer: str, subject: str) -> Person | None:
    """The account that an issuer's subject has used before, or None."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM people WHERE issuer = ? AND subject = ?", (issuer, subject)
    ).fetchone()
    return None if row is None else Person(*row)


def add(connection: sqlite3.Connection, email: str, name: str, actor: Actor, now_ms: int) -> Person:
    """Make an account without a password and without roles. Raises `Refused` (409)."""
    email = names.email(email)
    if known(connection, email) is not None:
        raise Refused(
            409, f"there is an account {email} already; `aicg people password` gives it a new password", "email"
        )
    number = connection.execute(
        "INSERT INTO people (email, name, created_ms) VALUES (?, ?, ?) RETURNING id", (email, names.label(name), now_ms)
    ).fetchone()[0]
    audit.note(connection, now_ms, actor, "person.created", email, after={"name": name})
    return of(connection, number)


def link(connection: sqlite3.Connection, person: Person, issuer: str, subject: str, actor: Actor, now_ms: int) -> None:
    """From now on this subject of an issuer is this person."""
    connection.execute("UPDATE people SET issuer = ?, subject = ? WHERE id = ?", (issuer, subject, person.id))
    audit.note(connection, now_ms, actor, "person.linked", person.email, after={"issuer": issuer})


def set_password(connection: sqlite3.Connection, person: Person, hashed: str, actor: Actor, now_ms: int) -> None:
    """Another password, as a hash: whoever was logged in by the old one is so no longer, and no code is good."""
    connection.execute("UPDATE people SET password = ? WHERE id = ?", (hashed, person.id))
    for table in ("sessions", "codes", "devices"):
        connection.execute(f"DELETE FROM {table} WHERE person_id = ?", (person.id,))
    audit.note(connection, now_ms, actor, "person.password", person.email)


def code(connection: sqlite3.Connection, person: Person, actor: Actor, now_ms: int) -> str:
    """A code that sets a password, once, within a day."""
    made = secret.make("aicgc_")
    connection.execute("DELETE FROM codes WHERE person_id = ? OR expires_ms <= ?", (person.id, now_ms))
    connection.execute("INSERT INTO codes VALUES (?, ?, ?)", (secret.hash_key(made), person.id, now_ms + CODE_MS))
    audit.note(connection, now_ms, actor, "person.code", person.email)
    return made


def of_code(connection: sqlite3.Connection, given: str, now_ms: int) -> Person:
    """Whose code it is. Raises `Refused` (401)."""
    row = connection.execute(
        "SELECT person_id FROM codes WHERE hash = ? AND expires_ms > ?", (secret.hash_key(given), now_ms)
    ).fetchone()
    person = None if row is None else of(connection, row[0])
    if person is None or person.disabled_ms is not None:
        raise Refused(401, "is not known, was used, or is older than a day; ask an admin for another", "code")
    return person


def disable(connection: sqlite3.Connection, person: Person, disabled: bool, actor: Actor, now_ms: int) -> Person:
    """End what somebody may do, all of it at once, or take that back."""
    if disabled == (person.disabled_ms is not None):
        return person
    connection.execute("UPDATE people SET disabled_ms = ? WHERE id = ?", (now_ms if disabled else None, person.id))
    if disabled:
        for table in ("sessions", "codes", "devices"):
            connection.execute(f"DELETE FROM {table} WHERE person_id = ?", (person.id,))
    audit.note(
        connection,
        now_ms,
        actor,
        "person.disabled" if disabled else "person.enabled",
        person.email,
    )
    return of(connection, person.id)


def roles(connection: sqlite3.Connection, person_id: int) -> list[Role]:
    """What a person may, the widest first."""
    found = connection.execute(
        "SELECT reach, target_id, role, source FROM person_roles WHERE person_id = ? "
        "ORDER BY CASE reach WHEN 'ledger' THEN 0 WHEN 'organisation' THEN 1 ELSE 2 END, target_id, source",
        (person_id,),
    )
    return [Role(*row) for row in found]


def set_role(
    connection: sqlite3.Connection,
    person: Person,
    reach: str,
    target_id: int,
    role: str | None,
    actor: Actor,
    now_ms: int,
    *,
    organisation_id: int | None = None,
    source: str = "local",
) -> None:
    """Give a role, or take it away (None)."""
    before = connection.execute(
        "SELECT role FROM person_roles WHERE person_id = ? AND reach = ? AND target_id = ? AND source = ?",
        (person.id, reach, target_id, source),
    ).fetchone()
    old = None if before is None else before[0]
    if old == role:
        return
    connection.execute(
        "DELETE FROM person_roles WHERE person_id = ? AND reach = ? AND target_id = ? AND source = ?",
        (person.id, reach, target_id, source),
    )
    if role is not None:
        connection.execute(
            "INSERT INTO person_roles VALUES (?, ?, ?, ?, ?)", (person.id, reach, target_id, source, role)
        )
    told: dict[str, Any] = {"reach": reach, "source": source}
    audit.note(
        connection,
        now_ms,
        actor,
        "person.role",
        person.email,
        organisation_id=organisation_id,
        project_id=target_id if reach == "project" else None,
        before=None if old is None else {**told, "role": old},
        after=None if role is None else {**told, "role": role},
    )
