"""The places of the ledger's file that name a user, each with the statements that let it forget. One transaction each.

Owns completeness: receipts, their sums, budgets' scopes, and every text of every other table, whoever made it.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Iterator, NamedTuple, Sequence

from aicostguard.ledger.budgets import book, rule
from aicostguard.ledger.keeping.naming import Naming
from aicostguard.ledger.model import DAY_MS, MEASURES
from aicostguard.ledger.rollup import RollUp, Sums
from aicostguard.ledger.sqlite import room, tallies
from aicostguard.ledger.sqlite.sums import MEASURED
from aicostguard.ledger.sqlite.write import changed, quoted

#: tables that are handled on their own, or hold no text of anybody's
_APART = {"receipts", "hourly", "daily", "forgettings", "bare_receipts", "archived_apart", "repriced", "gaps"}
_APART |= {"tally_names", "tally_days", "tallies", "named_days", "bounds", "taken", "taken_to"}
#: tables with a budget's scope, found by its number; those of its alerts are found by its owner and its name
_SCOPED = ("budget_counters", "budget_openings", "leases")
_SUMMED = ", ".join(f"SUM({MEASURED[name]})" for name in MEASURES)

Place = tuple[str, int]


def found(connection: sqlite3.Connection, project_id: int, naming: Naming, after: Place, limit: int) -> list[Place]:
    """The next receipts behind `(epoch, seq)` that name the user."""
    return connection.execute(
        "SELECT epoch, seq FROM receipts WHERE project_id = ? AND (epoch, seq) > (?, ?) "
        f"AND (user = ? OR (tags IS NOT NULL AND {_mentions('tags', naming)})) ORDER BY epoch, seq LIMIT ?",
        (project_id, *after, naming.name, *naming.forms(), limit),
    ).fetchall()


def receipts(
    connection: sqlite3.Connection, number: int, project_id: int, naming: Naming, chunk: Sequence[Place]
) -> int:
    """Rename in these receipts, move what they are of the user's sums, and count it in the record."""
    done = 0
    for epoch, seq in chunk:
        key = (project_id, epoch, seq)
        where = "project_id = ? AND epoch = ? AND seq = ?"
        row = connection.execute(f"SELECT user, tags, at_ms, {_SUMMED} FROM receipts WHERE {where}", key).fetchone()
        user, tags, at_ms, *sums = row
        mine = user == naming.name
        renamed = naming.cell(tags, mine)
        if not mine and renamed == tags:
            continue
        connection.execute(
            f"UPDATE receipts SET user = ?, tags = ? WHERE {where}", (naming.pseudonym if mine else user, renamed, *key)
        )
        if mine:
            move(connection, project_id, naming, at_ms - at_ms % DAY_MS, sums)
        done += 1
    connection.execute("UPDATE forgettings SET receipts = receipts + ? WHERE id = ?", (done, number))
    return done


def move(connection: sqlite3.Connection, project_id: int, naming: Naming, day_ms: int, sums: Sequence[int]) -> None:
    """Take amounts from the name's sums of a day to the pseudonym's, wherever each of them stands."""
    at, to = room.renamed(connection, project_id, "user", day_ms, naming.name, naming.pseudonym)
    if at == to:  # both are among those that the day has no room for
        return
    moved: Sums = {("user", day_ms, to): tuple(sums), ("user", day_ms, at): tuple(-amount for amount in sums)}
    for statement, values in changed(project_id, RollUp(MEASURES, {}, moved)):
        connection.execute(statement, values)
    connection.execute(
        "DELETE FROM daily WHERE project_id = ? AND dimension = 'user' AND start_ms = ? AND value = ? AND calls = 0",
        (project_id, day_ms, at),
    )


def rest(connection: sqlite3.Connection, project_id: int, naming: Naming, after: int) -> bool:
    """Move what is left of the name's sums, of receipts that were deleted by rule. False while more receipts come."""
    oldest = connection.execute("SELECT COALESCE(min(id), 0) FROM arrivals").fetchone()[0]
    came = (
        after + 1 < oldest
        or connection.execute(
            "SELECT 1 FROM arrivals JOIN receipts USING (project_id, epoch) "
            "WHERE arrivals.id > ? AND project_id = ? AND seq BETWEEN first_seq AND last_seq AND user = ? LIMIT 1",
            (after, project_id, naming.name),
        ).fetchone()
    )
    if came:
        return False
    days = connection.execute(
        f"SELECT start_ms, {', '.join(MEASURES)} FROM daily WHERE project_id = ? AND dimension = 'user' AND value = ?",
        (project_id, naming.name),
    ).fetchall()
    for day_ms, *sums in days:
        move(connection, project_id, naming, day_ms, sums)
    tallies.forget(connection, project_id, "user", naming.name)
    return True


def scopes(connection: sqlite3.Connection, number: int, project_id: int, naming: Naming) -> int:
    """Budgets kept per user: their counters, openings, leases and alerts."""
    done = 0
    for kept in book.over(connection, project_id):
        named = rule.named(kept.budget, json.dumps([""] * 9))
        if "user" not in named:
            continue
        at = list(named).index("user")
        its_own: list[tuple[str, str, tuple[object, ...]]] = [(table, "budget_id = ?", (kept.id,)) for table in _SCOPED]
        of_name = ("budget_alerts", "project_id = ? AND budget = ?", (kept.owner, kept.name))
        for table, its, of in (*its_own, of_name):
            rows = connection.execute(
                f"SELECT DISTINCT scope FROM {table} WHERE {its} AND {_mentions('scope', naming)}",
                (*of, *naming.forms()),
            ).fetchall()
            for (text,) in rows:
                values = json.loads(text)
                if values[at] != naming.name:
                    continue
                values[at] = naming.pseudonym
                renamed = json.dumps(values, separators=(",", ":"))
                where = f"{its} AND scope = ?"
                moved = connection.execute(
                    f"UPDATE OR IGNORE {table} SET scope = ? WHERE {where}", (renamed, *of, text)
                ).rowcount
                done += moved
                # In the way was what came while this was under way: it is counted anew, from the receipts. So is what
                # other projects have under this name in a budget of the organisation.
                left = connection.execute(f"DELETE FROM {table} WHERE {where}", (*of, text)).rowcount
                if left or (moved and kept.shared):
                    connection.execute("UPDATE budgets SET stale = 1 WHERE id = ?", (kept.id,))
    connection.execute("UPDATE forgettings SET others = others + ? WHERE id = ?", (done, number))
    return done


class Texts(NamedTuple):
    """A table, what a row of it is found by, and its texts."""

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    #: whether its rows say of which project they are
    split: bool


def texts(connection: sqlite3.Connection) -> Iterator[Texts]:
    """Every table that may hold a name in some text."""
    for table, made in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
        if table in _APART or table.startswith("sqlite_"):
            continue
        found = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        columns = tuple(row[1] for row in found if row[2] in ("TEXT", "BLOB"))
        keys = [row[1] for row in sorted(found, key=lambda row: row[5]) if row[5]]
        if columns:
            split = any(row[1] == "project_id" for row in found)
            yield Texts(table, tuple(keys) if "WITHOUT ROWID" in made.upper() else ("rowid",), columns, split)


def mentioning(connection: sqlite3.Connection, project_id: int, at: Texts, naming: Naming) -> list[tuple[Any, ...]]:
    """Keys of the project's rows in whose texts the name stands, as a user or as anything else."""
    where = " OR ".join(_mentions(name, naming) for name in at.columns)
    values: list[Any] = naming.forms() * len(at.columns)
    if at.split:
        where, values = f"({where}) AND (project_id = ? OR project_id IS NULL)", [*values, project_id]
    return connection.execute(f'SELECT {quoted(at.key)} FROM "{at.table}" WHERE {where}', values).fetchall()


def rewrite(
    connection: sqlite3.Connection, number: int, at: Texts, naming: Naming, keys: Sequence[tuple[Any, ...]]
) -> int:
    """Take the name out of the texts of these rows, where it is a user's."""
    done = 0
    where = " AND ".join(f'"{name}" = ?' for name in at.key)
    for key in keys:
        row = connection.execute(f'SELECT {quoted(at.columns)} FROM "{at.table}" WHERE {where}', key).fetchone()
        if row is None:
            continue
        changed = {name: new for name, old in zip(at.columns, row) if (new := _without(name, old, naming)) != old}
        if changed:
            renamed = ", ".join(f"{quoted([name])} = ?" for name in changed)
            statement = f'UPDATE OR REPLACE "{at.table}" SET {renamed} WHERE {where}'
            connection.execute(statement, (*changed.values(), *key))
            done += 1
    connection.execute("UPDATE forgettings SET others = others + ? WHERE id = ?", (done, number))
    return done


def _without(column: str, value: Any, naming: Naming) -> Any:
    if column == "user" and value == naming.name:
        return naming.pseudonym
    if isinstance(value, bytes):
        return naming.data(value)
    return naming.text(value) if isinstance(value, str) else value


def _mentions(column: str, naming: Naming) -> str:
    one = f'instr(CAST("{column}" AS BLOB), CAST(? AS BLOB))'
    return "(" + " OR ".join([one] * len(naming.forms())) + ")"
