"""The statements of retention: rules, records of archives, rows that go and rows that come back.

Owns the tables `retention` and `archives`. Each function runs inside one transaction of the writer, or reads. That a
row goes, what it was of the sums, and the record of it change together: sums = receipts + `archives.gone`, always.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from aicostguard.ledger.errors import Corrupt, Refused
from aicostguard.ledger.keeping.parquet import Columns, Values, Written, added, summed
from aicostguard.ledger.model import DAY_MS, MEASURES, SMALLEST
from aicostguard.ledger.sqlite.sums import MEASURED
from aicostguard.ledger.sqlite.write import quoted

#: the project that a rule for all others is kept under
EVERY = 0
#: what becomes of old rows
ARCHIVE, DELETE = "archive", "delete"

_SUMMED = ", ".join(f"COALESCE(SUM({MEASURED[name]}), 0)" for name in MEASURES)


class Rule(NamedTuple):
    """Rows older than `days` whole days go; `keep` is `archive` or `delete`."""

    days: int
    keep: str


class Archive(NamedTuple):
    """A record of `archives`. `gone_rows` of its rows are in no `receipts` now."""

    id: int
    project_id: int
    day_ms: int
    state: str
    file: str
    sha256: str
    bytes: int
    rows: int
    sums: dict[str, int]
    gone_rows: int
    gone: dict[str, int]
    created_ms: int
    until_ms: int


_COLUMNS = "id, project_id, day_ms, state, file, sha256, bytes, rows, sums, gone_rows, gone, created_ms, until_ms"


def rules(connection: sqlite3.Connection) -> dict[int, Rule]:
    """The rules there are, by project; `EVERY` for all without one of their own."""
    found = connection.execute("SELECT project_id, days, keep FROM retention ORDER BY project_id")
    return {row[0]: Rule(row[1], row[2]) for row in found}


def set_rule(connection: sqlite3.Connection, project_id: int, rule: Rule | None, now_ms: int) -> None:
    """Set a project's rule, or take it away (None)."""
    connection.execute("DELETE FROM retention WHERE project_id = ?", (project_id,))
    if rule is not None:
        connection.execute("INSERT INTO retention VALUES (?, ?, ?, ?)", (project_id, rule.days, rule.keep, now_ms))


def projects(connection: sqlite3.Connection) -> dict[int, str]:
    return dict(connection.execute("SELECT id, name FROM projects ORDER BY id").fetchall())


def project(connection: sqlite3.Connection, name: str) -> int:
    """The project of a name or ORGANISATION/NAME, or of a number where no name fits. Raises `Refused` (422)."""
    rows = connection.execute(
        "SELECT projects.id, projects.name, organisations.name || '/' || projects.name FROM projects "
        "JOIN organisations ON organisations.id = organisation_id ORDER BY projects.id"
    ).fetchall()
    known: dict[int, str] = {number: whole for number, _, whole in rows}
    found: list[int] = [number for number, called, whole in rows if name in (called, whole)]
    if not found and name.isdigit() and int(name) in known:
        found = [int(name)]
    if len(found) == 1:
        return found[0]
    wrong = "names several projects; give ORGANISATION/NAME, or the number" if found else "is no project"
    raise Refused(
        422, f"{name[:64]!a} {wrong}: {', '.join(f'{key} {called}' for key, called in known.items())}", "project"
    )


def archives(connection: sqlite3.Connection, where: str = "1", values: Sequence[Any] = ()) -> list[Archive]:
    """Records that match, by project and day."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM archives WHERE {where} ORDER BY project_id, day_ms, id", values)
    return [
        Archive._make((*row[:8], json.loads(row[8]), row[9], json.loads(row[10]), *row[11:]))
        for row in found.fetchall()
    ]


def columns(connection: sqlite3.Connection) -> Columns:
    """The columns of a receipt."""
    found = connection.execute("PRAGMA table_info(receipts)").fetchall()
    return Columns(tuple(row[1] for row in found), frozenset(row[1] for row in found if row[2] == "INTEGER"))


def days(connection: sqlite3.Connection, project_id: int, before_ms: int) -> Iterator[int]:
    """Starts of the UTC days that begin before `before_ms` and hold rows."""
    at = -1
    while True:
        (found,) = connection.execute(
            "SELECT min(at_ms) FROM receipts WHERE project_id = ? AND at_ms > ?", (project_id, at)
        ).fetchone()
        if found is None or found >= before_ms:
            return
        yield found - found % DAY_MS
        at = found - found % DAY_MS + DAY_MS - 1


def held(connection: sqlite3.Connection, project_id: int, day_ms: int) -> tuple[int, int]:
    """`(rows, nano-dollars)` that a day has in `receipts`: its sums without what is gone."""
    calls, cost = connection.execute(
        "SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(cost_nanousd), 0) FROM daily "
        "WHERE project_id = ? AND dimension = ? AND start_ms = ?",
        (project_id, SMALLEST, day_ms),
    ).fetchone()
    for item in archives(connection, "project_id = ? AND day_ms = ?", (project_id, day_ms)):
        calls, cost = calls - item.gone_rows, cost - item.gone["cost_nanousd"]
    return calls, cost


def page(
    connection: sqlite3.Connection, names: Sequence[str], project_id: int, day_ms: int, after: Values, limit: int
) -> list[Values]:
    """The next rows of a day behind `(at_ms, epoch, seq)`, in that order."""
    return connection.execute(
        f"SELECT {quoted(names)} FROM receipts WHERE project_id = ? AND at_ms >= ? AND at_ms < ? "
        "AND (at_ms, epoch, seq) > (?, ?, ?) ORDER BY at_ms, epoch, seq LIMIT ?",
        (project_id, max(day_ms, after[0]), day_ms + DAY_MS, *after, limit),
    ).fetchall()


def begin(connection: sqlite3.Connection, project_id: int, day_ms: int, state: str, now_ms: int) -> int:
    """Open a record; from now on no row of that day is repriced."""
    nothing = json.dumps(dict.fromkeys(MEASURES, 0))
    return int(
        connection.execute(
            "INSERT INTO archives (project_id, day_ms, state, file, sha256, bytes, rows, sums, gone_rows, gone, "
            "created_ms, changed_ms, until_ms) VALUES (?, ?, ?, '', '', 0, 0, ?, 0, ?, ?, ?, 0)",
            (project_id, day_ms, state, nothing, nothing, now_ms, now_ms),
        ).lastrowid
        or 0
    )


def written(connection: sqlite3.Connection, number: int, found: Written, state: str, now_ms: int) -> None:
    """The file is there, whole: note it, and what follows."""
    connection.execute(
        "UPDATE archives SET state = ?, file = ?, sha256 = ?, bytes = ?, rows = ?, sums = ?, changed_ms = ? "
        "WHERE id = ?",
        (state, found.file, found.sha256, found.bytes, found.rows, json.dumps(found.sums), now_ms, number),
    )


def discard(connection: sqlite3.Connection, number: int) -> None:
    """Forget a record of which no row went."""
    connection.execute("DELETE FROM archives WHERE id = ? AND gone_rows = 0", (number,))


def state(connection: sqlite3.Connection, number: int, state: str, now_ms: int, until_ms: int = 0) -> None:
    connection.execute(
        "UPDATE archives SET state = ?, changed_ms = ?, until_ms = ? WHERE id = ?", (state, now_ms, until_ms, number)
    )


def take_out(connection: sqlite3.Connection, item: Archive, epoch: str, first: int, last: int) -> int:
    """Delete a run of rows, and note what they were of the sums; gives how many there were."""
    key = (item.project_id, epoch, first, last)
    where = "project_id = ? AND epoch = ? AND seq BETWEEN ? AND ?"
    count, *sums = connection.execute(f"SELECT count(*), {_SUMMED} FROM receipts WHERE {where}", key).fetchone()
    if not count:
        return 0
    if epoch.startswith("bare:"):
        connection.execute("INSERT OR IGNORE INTO archived_apart VALUES (?, ?, ?)", (item.project_id, epoch, first))
    connection.execute(
        f"INSERT OR IGNORE INTO archived_apart SELECT project_id, epoch, seq FROM refusals WHERE {where}", key
    )
    connection.execute(f"DELETE FROM receipts WHERE {where}", key)
    gone(connection, item.id, count, dict(zip(MEASURES, sums)))
    return int(count)


def take_out_all(connection: sqlite3.Connection, item: Archive, runs: Sequence[tuple[str, int, int]]) -> int:
    return sum(take_out(connection, item, *run) for run in runs)


def gone(connection: sqlite3.Connection, number: int, rows: int, sums: Mapping[str, int], sign: int = 1) -> None:
    """Note that rows went, or came back."""
    (before,) = connection.execute("SELECT gone FROM archives WHERE id = ?", (number,)).fetchone()
    after = json.dumps(added(json.loads(before), sums, sign))
    connection.execute(
        "UPDATE archives SET gone_rows = gone_rows + ?, gone = ? WHERE id = ?", (sign * rows, after, number)
    )


def put_back(connection: sqlite3.Connection, number: int, names: Sequence[str], rows: Sequence[Values]) -> int:
    """Insert those of these rows that are not here, and note it; gives how many."""
    known = tuple(map(names.index, ("project_id", "epoch", "seq")))
    statement = f"INSERT INTO receipts ({quoted(names)}) VALUES ({', '.join('?' * len(names))})"
    back = []
    for row in rows:
        key = [row[place] for place in known]
        if not connection.execute(
            "SELECT 1 FROM receipts WHERE project_id = ? AND epoch = ? AND seq = ?", key
        ).fetchone():
            connection.execute(statement, row)
            back.append(row)
    if back:
        gone(connection, number, len(back), summed(names, back), -1)
    return len(back)


def finish(connection: sqlite3.Connection, number: int, end: str, now_ms: int, until_ms: int = 0) -> None:
    """Close an act, if all went, or all came back. Raises `Corrupt` when the books say otherwise."""
    (item,) = archives(connection, "id = ?", (number,))
    wanted = dict.fromkeys(MEASURES, 0) if end == "restored" else item.sums
    rows = 0 if end == "restored" else item.rows
    if end != "deleted" and (item.gone_rows, item.gone) != (rows, wanted):
        raise Corrupt(
            f"archive {number}: {item.gone_rows} of {item.rows} receipts are out of the ledger and their sums differ; "
            "its file is kept, and nothing else was changed"
        )
    if end == "deleted":
        connection.execute("UPDATE archives SET rows = gone_rows, sums = gone WHERE id = ?", (number,))
    state(connection, number, end, now_ms, until_ms)
