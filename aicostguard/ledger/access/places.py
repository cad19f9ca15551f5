"""Organisations and their projects: made, listed, renamed, archived.

Owns their rows. Nothing is ever deleted: an archived project can be read, takes nothing in, and can be taken back.
A name means one project within its organisation, whatever the case of its letters, archived ones included, so that a
report of last year never turns into one of something else.
"""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from aicostguard.ledger.access import audit, names
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import Refused


class Organisation(NamedTuple):
    id: int
    name: str
    created_ms: int
    archived_ms: int | None


class Project(NamedTuple):
    id: int
    organisation_id: int
    organisation: str
    name: str
    created_ms: int
    #: when it, or its organisation, was archived
    archived_ms: int | None


_PROJECTS = (
    "SELECT projects.id, organisations.id, organisations.name, projects.name, projects.created_ms, "
    "COALESCE(projects.archived_ms, organisations.archived_ms) "
    "FROM projects JOIN organisations ON organisations.id = projects.organisation_id"
)


def organisations(connection: sqlite3.Connection, organisation_id: int | None = None) -> list[Organisation]:
    """All of them, or one, in the order they were made."""
    where, values = ("WHERE id = ?", (organisation_id,)) if organisation_id is not None else ("", ())
    found = connection.execute(
        f"SELECT id, name, created_ms, archived_ms FROM organisations {where} ORDER BY id", values
    )
    return [Organisation(*row) for row in found]


def projects(connection: sqlite3.Connection, organisation_id: int | None = None) -> list[Project]:
    """All of them, or those of an organisation, in the order they were made."""
    where, values = ("WHERE organisations.id = ?", (organisation_id,)) if organisation_id is not None else ("", ())
    return [Project(*row) for row in connection.execute(f"{_PROJECTS} {where} ORDER BY projects.id", values)]


def project(connection: sqlite3.Connection, project_id: int) -> Project:
    """One by its number. Raises `Refused` (404)."""
    found = connection.execute(f"{_PROJECTS} WHERE projects.id = ?", (project_id,)).fetchone()
    if found is None:
        raise Refused(404, "there is no such project", "project")
    return Project(*found)


def organisation_named(connection: sqlite3.Connection, name: str, field: str = "organisation") -> Organisation:
    """One by its name. Raises `Refused` (404)."""
    found = connection.execute(
        "SELECT id, name, created_ms, archived_ms FROM organisations WHERE name = ? COLLATE NOCASE ORDER BY id", (name,)
    ).fetchone()
    if found is None:
        raise no_organisation(name, field)
    return Organisation(*found)


def no_organisation(name: object, field: str) -> Refused:
    """What is said of one that is not there, and, in the very words, of one that is not the asker's to know of."""
    return Refused(404, f"there is no organisation {str(name)[:64]!a}; `aicg projects list` shows them", field)


def project_named(
    connection: sqlite3.Connection, name: str, organisation_id: int | None = None, field: str = "project"
) -> Project:
    """One by its name within an organisation, or by `ORGANISATION/NAME`. Raises `Refused`: 404, 422 when two have it.

    Within an organisation, what is outside of it is not there.
    """
    within, slash, plain = name.rpartition("/")
    where, values = "projects.name = ? COLLATE NOCASE", [plain]
    if slash:
        where, values = where + " AND organisations.name = ? COLLATE NOCASE", [*values, within]
    if organisation_id is not None:
        where, values = where + " AND organisations.id = ?", [*values, organisation_id]  # type: ignore[list-item]
    found = [Project(*row) for row in connection.execute(f"{_PROJECTS} WHERE {where} ORDER BY projects.id", values)]
    if not found:
        raise Refused(404, f"there is no project {name[:130]!a}", field)
    if len(found) > 1:
        raise Refused(422, "is the name of several projects; give ORGANISATION/NAME", field)
    return found[0]


def add_organisation(connection: sqlite3.Connection, name: str, actor: Actor, now_ms: int) -> Organisation:
    """Make one. Raises `Refused`: 409 for a name that is taken."""
    name = names.place(name)
    _free(connection, "organisations", name)
    number = connection.execute(
        "INSERT INTO organisations (name, created_ms) VALUES (?, ?) RETURNING id", (name, now_ms)
    ).fetchone()[0]
    audit.note(connection, now_ms, actor, "organisation.created", name, organisation_id=number, after={"name": name})
    return Organisation(number, name, now_ms, None)


def add_project(connection: sqlite3.Connection, organisation_id: int, name: str, actor: Actor, now_ms: int) -> Project:
    """Make one. Raises `Refused`: 409 for a name that is taken or an organisation that is archived."""
    name = names.place(name)
    (within,) = organisations(connection, organisation_id)
    if within.archived_ms is not None:
        raise Refused(409, f"the organisation {within.name} is archived; take it back first", "organisation")
    _free(connection, "projects", name, organisation_id)
    number = connection.execute(
        "INSERT INTO projects (organisation_id, name, created_ms) VALUES (?, ?, ?) RETURNING id",
        (organisation_id, name, now_ms),
    ).fetchone()[0]
    audit.note(
        connection,
        now_ms,
        actor,
        "project.created",
        name,
        organisation_id=organisation_id,
        project_id=number,
        after={"name": name},
    )
    return project(connection, number)


def change_organisation(
    connection: sqlite3.Connection, number: int, actor: Actor, now_ms: int, *, name: str | None, archived: bool | None
) -> Organisation:
    """Rename, archive or take back. Raises `Refused` (409)."""
    (old,) = organisations(connection, number)
    before, after = _changed(
        connection, "organisations", number, old.name, old.archived_ms, name, archived, now_ms, None
    )
    (new,) = organisations(connection, number)
    if after:
        audit.note(
            connection,
            now_ms,
            actor,
            "organisation.changed",
            old.name,
            organisation_id=number,
            before=before,
            after=after,
        )
    return new


def change_project(
    connection: sqlite3.Connection, number: int, actor: Actor, now_ms: int, *, name: str | None, archived: bool | None
) -> Project:
    """Rename, archive or take back. Raises `Refused` (409)."""
    old = project(connection, number)
    own = connection.execute("SELECT archived_ms FROM projects WHERE id = ?", (number,)).fetchone()[0]
    before, after = _changed(connection, "projects", number, old.name, own, name, archived, now_ms, old.organisation_id)
    if after:
        audit.note(
            connection,
            now_ms,
            actor,
            "project.changed",
            old.name,
            organisation_id=old.organisation_id,
            project_id=number,
            before=before,
            after=after,
        )
    return project(connection, number)


def _changed(
    connection: sqlite3.Connection,
    table: str,
    number: int,
    old_name: str,
    archived_ms: int | None,
    name: str | None,
    archived: bool | None,
    now_ms: int,
    organisation_id: int | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`(before, after)` of what changed; both empty when nothing did."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if name is not None and names.place(name) != old_name:
        _free(connection, table, name, organisation_id, but=number)
        connection.execute(f"UPDATE {table} SET name = ? WHERE id = ?", (name, number))
        before["name"], after["name"] = old_name, name
    if archived is not None and archived != (archived_ms is not None):
        connection.execute(f"UPDATE {table} SET archived_ms = ? WHERE id = ?", (now_ms if archived else None, number))
        before["archived"], after["archived"] = not archived, archived
    return before, after


def _free(
    connection: sqlite3.Connection, table: str, name: str, organisation_id: int | None = None, but: int = 0
) -> None:
    where, values = "name = ? COLLATE NOCASE AND id != ?", [name, but]
    if organisation_id is not None:
        where, values = where + " AND organisation_id = ?", [*values, organisation_id]
    if connection.execute(f"SELECT 1 FROM {table} WHERE {where}", values).fetchone():
        raise Refused(409, f"{name!a} is taken, perhaps by one that is archived; choose another", "name")
