"""The audit log: who changed what, when, from where, and what stood there before and after.

Owns its rows. They are written in the transaction of the change itself, so that there is neither a change without a
line nor a line without a change, and the file refuses to alter or remove one. No secret is ever put into a line: no
key, password, code or hash of one.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Mapping, NamedTuple

#: lines that one question is answered with at most
MOST = 1000


class Actor(NamedTuple):
    """Who does something, and from where: `key aicg_AbCd (ci)`, `ada@example.com`, `command line (ada)`."""

    who: str
    address: str = ""


class Line(NamedTuple):
    """One entry. `before` and `after` hold what changed; None where there was, or is, nothing."""

    id: int
    at_ms: int
    organisation_id: int | None
    project_id: int | None
    who: str
    address: str
    what: str
    target: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


def note(
    connection: sqlite3.Connection,
    at_ms: int,
    actor: Actor,
    what: str,
    target: str,
    *,
    organisation_id: int | None = None,
    project_id: int | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Add a line, inside the caller's transaction. A project's organisation need not be named."""
    connection.execute(
        "INSERT INTO audit (at_ms, organisation_id, project_id, who, address, what, target, before, after) "
        "VALUES (?1, COALESCE(?2, (SELECT organisation_id FROM projects WHERE id = ?3)), ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (at_ms, organisation_id, project_id, actor.who, actor.address, what, target, _cell(before), _cell(after)),
    )


def lines(
    connection: sqlite3.Connection,
    *,
    organisation_id: int | None = None,
    project_id: int | None = None,
    since_ms: int = 0,
    before: int | None = None,
    limit: int = 100,
) -> list[Line]:
    """The newest lines first: of a project, of an organisation with all its projects, or (None) of everything."""
    where, values = ["at_ms >= ?"], [since_ms]
    for column, value in (("organisation_id", organisation_id), ("project_id", project_id)):
        if value is not None:
            where.append(f"{column} = ?")
            values.append(value)
    if before is not None:
        where.append("id < ?")
        values.append(before)
    found = connection.execute(
        "SELECT id, at_ms, organisation_id, project_id, who, address, what, target, before, after FROM audit "
        f"WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",
        (*values, limit),
    )
    return [Line(*row[:8], *(None if cell is None else json.loads(cell) for cell in row[8:])) for row in found]


def _cell(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))
