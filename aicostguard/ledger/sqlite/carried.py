"""Who may do what, carried from the ledger that a restore puts aside into the one it puts in place.

Owns which tables those are. A backup brings back costs as they were; it must not bring back a key that was revoked
since, a role that was taken away, or a name that now belongs to somebody else. So what the later ledger says of access
holds, and what only the backup knows stays beside it.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple


class Table(NamedTuple):
    """How one table is carried: what the later ledger says of an `of` replaces all that the backup says of it.

    `by` is where the later ledger lists every `of` it knows, if not in the table itself.
    """

    name: str
    of: str
    by: str = ""


#: in order: what others refer to first
TABLES = (
    Table("organisations", "id"),
    Table("projects", "id"),
    Table("keys", "hash"),
    Table("key_uses", "key_id"),
    Table("people", "id"),
    Table("person_roles", "person_id", "SELECT id FROM people"),
)
#: emptied: everybody logs in again, for who was logged in then may have been logged out since
GONE = ("sessions", "key_sessions", "key_links", "codes", "devices", "logins")
#: history: lines that the backup lacks are added
HISTORY = ("audit",)


def over(later: sqlite3.Connection, into: sqlite3.Connection) -> None:
    """Carry everything. `into` may be of a newer schema version than `later`."""
    into.execute("BEGIN IMMEDIATE")
    for table in TABLES:
        columns = _shared(later, into, table.name)
        if not columns:
            continue
        rows = later.execute(f"SELECT {_list(columns)} FROM {table.name}").fetchall()
        place = columns.index(table.of)
        known = set(later.execute(table.by)) if table.by else {(row[place],) for row in rows}
        into.executemany(f"DELETE FROM {table.name} WHERE {table.of} = ?", known)
        _insert(into, table.name, columns, rows)
    for name in GONE:
        if _shared(into, into, name):
            into.execute(f"DELETE FROM {name}")
    for name in HISTORY:
        columns = [column for column in _shared(later, into, name) if column != "id"]
        if columns:
            known = set(into.execute(f"SELECT {_list(columns)} FROM {name}"))
            rows = later.execute(f"SELECT {_list(columns)} FROM {name} ORDER BY id").fetchall()
            _insert(into, name, columns, [row for row in rows if row not in known])
    into.execute("COMMIT")


def _shared(later: sqlite3.Connection, into: sqlite3.Connection, table: str) -> list[str]:
    """The columns that both have; none when one of them lacks the table."""
    names = [{row[1] for row in each.execute(f"PRAGMA table_info({table})")} for each in (later, into)]
    return sorted(names[0] & names[1])


def _insert(into: sqlite3.Connection, table: str, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    into.executemany(f"INSERT INTO {table} ({_list(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)


def _list(columns: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
