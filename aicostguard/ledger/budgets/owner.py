"""Whose a budget is: a project's, or an organisation's, which then holds for every call of all its projects.

Owns how both are written as one number: a project by its own, an organisation by its number below zero. So a budget,
its history and its alerts have one owner, and everything else is the same for both. Who belongs to an organisation is
asked when something is counted, never kept: a project that is made later counts from its first receipt.
"""

from __future__ import annotations

import sqlite3

from aicostguard.ledger.access.principal import ORGANISATION, PROJECT, Principal
from aicostguard.ledger.errors import Refused


def reach(owner: int) -> str:
    """`project` or `organisation`."""
    return ORGANISATION if owner < 0 else PROJECT


def organisation_of(connection: sqlite3.Connection, place: int) -> int:
    """The organisation over a project, as an owner; of one, itself."""
    if place < 0:
        return place
    row = connection.execute("SELECT -organisation_id FROM projects WHERE id = ?", (place,)).fetchone()
    return 0 if row is None else int(row[0])


def over(connection: sqlite3.Connection, place: int) -> tuple[int, ...]:
    """Whose budgets hold at a place: those of a project and of its organisation, or of an organisation alone."""
    return tuple(dict.fromkeys((place, organisation_of(connection, place))))


def members(connection: sqlite3.Connection, owner: int) -> tuple[int, ...]:
    """The projects whose calls an owner's budgets count, archived ones included."""
    if owner > 0:
        return (owner,)
    found = connection.execute("SELECT id FROM projects WHERE organisation_id = ? ORDER BY id", (-owner,))
    return tuple(number for (number,) in found)


def organisations(connection: sqlite3.Connection) -> dict[int, int]:
    """Project → its organisation, as an owner."""
    return dict(connection.execute("SELECT id, -organisation_id FROM projects").fetchall())


def of(principal: Principal, wanted: str) -> int:
    """The owner of a reach, as somebody stands to it."""
    return -principal.organisation_id if wanted == ORGANISATION else principal.project_id


def need(principal: Principal, owner: int, scope: str, name: str) -> None:
    """Raises `Refused` (403) unless somebody may do this (`read`, `manage`) with a budget of this owner."""
    if owner < 0 and not principal.may(scope, ORGANISATION):
        does = {"read": "what stands in it is told to", "manage": "it is set by"}[scope]
        raise Refused(
            403,
            f"{name[:128]!a} is a budget of the whole organisation {principal.organisation}: {does} a key or person "
            f"whose role has the reach organisation",
            "name",
        )
