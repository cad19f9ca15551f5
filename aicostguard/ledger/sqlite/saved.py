"""Views that people keep: a name for a question, each person's own in each project.

Owns the table. A view is kept as parameters, exclusions apart from the rest under plain names, so that a user who is
forgotten is forgotten here, too.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Mapping, NamedTuple, Sequence

from aicostguard.ledger.errors import Refused

#: of one person in one project
MOST = 50
LONGEST = 80

SAVED = (
    """CREATE TABLE saved_views (
    project_id INTEGER NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    page TEXT NOT NULL,
    parameters TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (project_id, owner, name)
) STRICT, WITHOUT ROWID""",
)

Parameters = Mapping[str, Sequence[str]]


class Saved(NamedTuple):
    """A view: what it is called, the path of its page, and the page's parameters as they stand in an address."""

    name: str
    page: str
    parameters: dict[str, tuple[str, ...]]


def of(connection: sqlite3.Connection, project_id: int, owner: str) -> list[Saved]:
    """Somebody's views, by name."""
    found = connection.execute(
        "SELECT name, page, parameters FROM saved_views WHERE project_id = ? AND owner = ? ORDER BY name",
        (project_id, owner),
    )
    return [Saved(name, page, _loaded(text)) for name, page, text in found]


def put(
    connection: sqlite3.Connection, project_id: int, owner: str, name: str, page: str, given: Parameters, now_ms: int
) -> None:
    """Keep a view, in place of one that has this name. Raises `Refused` (422)."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST or not name.isprintable():
        raise Refused(422, f"must be 1 to {LONGEST} printable characters, such as Search by model", "name")
    known = {one.name for one in of(connection, project_id, owner)}
    if name not in known and len(known) >= MOST:
        raise Refused(422, f"would be the {MOST + 1}st view: remove one first", "name")
    connection.execute(
        "INSERT INTO saved_views VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "page = excluded.page, parameters = excluded.parameters, created_ms = excluded.created_ms",
        (project_id, owner, name, page, _written(given), now_ms),
    )


def remove(connection: sqlite3.Connection, project_id: int, owner: str, name: str) -> None:
    """Raises `Refused` (404) for a view that is not there."""
    gone = connection.execute(
        "DELETE FROM saved_views WHERE project_id = ? AND owner = ? AND name = ?", (project_id, owner, name)
    )
    if not gone.rowcount:
        raise Refused(404, f"there is no view {name[:LONGEST]!a} of yours", "name")


def _written(given: Parameters) -> str:
    """`model!` stands under its plain name among `without`: who looks for a user looks for `user`."""
    kept: dict[str, dict[str, list[str]]] = {"given": {}, "without": {}}
    for name, values in given.items():
        kept["without" if name.endswith("!") else "given"][name.removesuffix("!")] = list(values)
    return json.dumps(kept, separators=(",", ":"))


def _loaded(text: str) -> dict[str, tuple[str, ...]]:
    kept = json.loads(text)
    return {
        name + mark: tuple(values)
        for part, mark in (("given", ""), ("without", "!"))
        for name, values in kept[part].items()
    }
