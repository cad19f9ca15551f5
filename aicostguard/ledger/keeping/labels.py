"""How many different values of a label a day's sums have room for: what may be set, and what is full.

Owns the check and the record of a change; the rule itself is `sqlite.room`. A change holds for days that are not full.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from aicostguard.ledger.access import audit
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.keeping import books
from aicostguard.ledger.keeping.retention import day
from aicostguard.ledger.model import MOST_NAMES
from aicostguard.ledger.sqlite import SqliteStore, room


def set_bound(
    store: SqliteStore, project: str | None, dimension: str, most: int | None, now_ms: int, actor: Actor
) -> None:
    """Set the bound of a dimension or a pair, or go back to the general one (None), for a project (its name or number)
    or all without one of their own; the audit log says who did.

    Raises `Refused` (422).
    """
    if dimension not in MOST_NAMES:
        raise Refused(422, f"{dimension[:64]!a} has no sums; use one of {', '.join(MOST_NAMES)}", "dimension")
    if most is not None and not room.LEAST_BOUND <= most <= room.MOST_BOUND:
        raise Refused(422, f"is {most}; use {room.LEAST_BOUND} to {room.MOST_BOUND:,} values a day", "most")

    def put(connection: sqlite3.Connection) -> None:
        number = room.EVERY if project is None else books.project(connection, project)
        before = room.bounds(connection, number)[dimension]
        room.set_bound(connection, number, dimension, most)
        after = room.bounds(connection, number)[dimension]
        if before != after:
            whose = "every project" if number == room.EVERY else books.projects(connection)[number]
            audit.note(
                connection,
                now_ms,
                actor,
                "labels.bounded",
                f"{dimension} of {whose}",
                project_id=number or None,
                before={"most": before},
                after={"most": after},
            )

    store.change(put)


def shown(store: SqliteStore) -> dict[str, Any]:
    """The bounds of every project that has some of its own, and the days that are full, the latest first."""

    def read(connection: sqlite3.Connection) -> dict[str, Any]:
        projects = books.projects(connection)
        own = room.own_bounds(connection)
        return {
            "bounds": dict(room.bounds(connection, room.EVERY)),
            "of_projects": {projects.get(number, str(number)): most for number, most in own.items() if number},
            "full": [
                {
                    "project": projects.get(item.project_id, str(item.project_id)),
                    "day": day(item.start_ms),
                    "dimension": item.dimension,
                    "values": item.names,
                    "since_ms": item.full_ms,
                    "service": item.service or None,
                }
                for item in room.full(connection)
            ],
        }

    return store.look(read)
