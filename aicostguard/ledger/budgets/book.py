"""The rules of a project's budgets, and who changed which, when and how. Statements of the ledger's file.

Owns the tables `budgets`, `budget_revisions`, `budget_openings` and `policies`. Each change is one revision, kept for
good. Runs inside the ledger's write transaction; knows nothing of HTTP.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Iterator, Mapping, NamedTuple

from aicostguard.guard.policy import Budget
from aicostguard.ledger.access import audit
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.budgets import rule
from aicostguard.ledger.errors import Refused

#: budgets of a project: each is looked at for every receipt
MOST = 200


class Kept(NamedTuple):
    """A budget as it is kept. `stale`: its counters have to be made anew from receipts."""

    id: int
    project_id: int
    budget: Budget
    revision: int
    counted_to: int
    stale: bool
    created_ms: int
    changed_ms: int

    @property
    def name(self) -> str:
        return self.budget.name


class Change(NamedTuple):
    """One line of a budget's history. `rule` is the rule as it was from then on, in the policy's vocabulary."""

    revision: int
    at_ms: int
    who: str
    what: str
    rule: Mapping[str, Any]


_COLUMNS = "id, project_id, rule, revision, counted_to, stale, created_ms, changed_ms"


def _kept(row: tuple[Any, ...]) -> Kept:
    return Kept(row[0], row[1], rule.loaded(row[2]), row[3], row[4], bool(row[5]), row[6], row[7])


def of_project(connection: sqlite3.Connection, project_id: int) -> list[Kept]:
    """The budgets of a project, by name."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM budgets WHERE project_id = ? ORDER BY name", (project_id,))
    return [_kept(row) for row in found]


def everybody(connection: sqlite3.Connection) -> list[Kept]:
    """The budgets of all projects."""
    return [_kept(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM budgets ORDER BY id")]


def find(connection: sqlite3.Connection, project_id: int, name: str) -> Kept | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM budgets WHERE project_id = ? AND name = ?", (project_id, name)
    ).fetchone()
    return None if row is None else _kept(row)


def need(connection: sqlite3.Connection, project_id: int, name: str) -> Kept:
    """As `find`; raises `Refused` (404) that names what there is."""
    found = find(connection, project_id, name)
    if found is None:
        names = [item.name for item in of_project(connection, project_id)]
        known = f"there are {', '.join(names[:20])}" if names else "there is none yet"
        raise Refused(404, f"there is no budget {name[:128]!a}; {known}", "name")
    return found


def counted_to(connection: sqlite3.Connection) -> int:
    """The last of `arrivals` that budgets have counted: one point for all; without budgets, all that has come in."""
    found = connection.execute(
        "SELECT COALESCE((SELECT min(counted_to) FROM budgets), (SELECT max(id) FROM arrivals), 0)"
    ).fetchone()
    return int(found[0])


def put(connection: sqlite3.Connection, project_id: int, budget: Budget, who: str, now_ms: int) -> tuple[Kept, bool]:
    """Keep a rule under its name. Gives it, and whether its counters have to be made anew (`stale`)."""
    old = find(connection, project_id, budget.name)
    text = rule.dumped(budget)
    if old is not None and old.budget == budget:
        return old, old.stale
    if old is None:
        number = connection.execute("SELECT count(*) FROM budgets WHERE project_id = ?", (project_id,)).fetchone()[0]
        if number >= MOST:
            raise Refused(422, f"there are {MOST} budgets already; one rule with `per` counts for many", "name")
        connection.execute(
            "INSERT INTO budgets (project_id, name, revision, rule, counted_to, stale, created_ms, changed_ms) "
            "VALUES (?, ?, 0, ?, ?, 1, ?, ?)",
            (project_id, budget.name, text, counted_to(connection), now_ms, now_ms),
        )
        stale = True
    else:
        reshaped = not rule.same_counters(old.budget, budget)
        stale = old.stale or reshaped
        if reshaped:  # what stands there means something else from now on
            _empty(connection, old.id)
        connection.execute(
            "UPDATE budgets SET rule = ?, changed_ms = ?, stale = ? WHERE id = ?", (text, now_ms, stale, old.id)
        )
    what = "created" if old is None else "changed"
    before = None if old is None else rule.written(old.budget)
    note(connection, project_id, budget.name, who, what, rule.written(budget), now_ms)
    audited(connection, project_id, budget.name, who, what, now_ms, before, rule.written(budget))
    return need(connection, project_id, budget.name), stale


def remove(connection: sqlite3.Connection, project_id: int, name: str, who: str, now_ms: int) -> None:
    """Forget a budget, all but its history. Raises `Refused` (404)."""
    kept = need(connection, project_id, name)
    _empty(connection, kept.id)
    connection.execute("DELETE FROM budgets WHERE id = ?", (kept.id,))
    note(connection, project_id, name, who, "removed", rule.written(kept.budget), now_ms)
    audited(connection, project_id, name, who, "removed", now_ms, rule.written(kept.budget), None)


def _empty(connection: sqlite3.Connection, number: int) -> None:
    for table in ("budget_counters", "budget_openings", "leases"):
        connection.execute(f"DELETE FROM {table} WHERE budget_id = ?", (number,))


def note(
    connection: sqlite3.Connection,
    project_id: int,
    name: str,
    who: str,
    what: str,
    written: Mapping[str, Any],
    now_ms: int,
) -> int:
    """Write down who did what; gives the number of the revision. Numbers go on when a name comes back."""
    number = 1 + int(
        connection.execute(
            "SELECT COALESCE(max(revision), 0) FROM budget_revisions WHERE project_id = ? AND name = ?",
            (project_id, name),
        ).fetchone()[0]
    )
    connection.execute(
        "INSERT INTO budget_revisions VALUES (?, ?, ?, ?, ?, ?, ?)",
        (project_id, name, number, now_ms, who, what, json.dumps(written, separators=(",", ":"))),
    )
    connection.execute("UPDATE budgets SET revision = ? WHERE project_id = ? AND name = ?", (number, project_id, name))
    return number


def audited(
    connection: sqlite3.Connection,
    project_id: int,
    name: str,
    who: str,
    what: str,
    now_ms: int,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """The line in the audit log, in the transaction of the change."""
    audit.note(
        connection, now_ms, Actor(who), f"budget.{what}", name, project_id=project_id, before=before, after=after
    )


def history(connection: sqlite3.Connection, project_id: int, name: str) -> Iterator[Change]:
    """What was done to a budget, the newest first; of one that is gone, too."""
    for row in connection.execute(
        "SELECT revision, at_ms, who, what, rule FROM budget_revisions WHERE project_id = ? AND name = ? "
        "ORDER BY revision DESC",
        (project_id, name),
    ):
        yield Change(row[0], row[1], row[2], row[3], json.loads(row[4]))


def settings(connection: sqlite3.Connection, project_id: int) -> dict[str, Any]:
    """What of the policy is no budget."""
    row = connection.execute("SELECT settings FROM policies WHERE project_id = ?", (project_id,)).fetchone()
    return {} if row is None else dict(json.loads(row[0]))


def put_settings(
    connection: sqlite3.Connection, project_id: int, values: Mapping[str, Any], who: str, now_ms: int
) -> None:
    before = settings(connection, project_id)
    if before != values:
        audit.note(
            connection,
            now_ms,
            Actor(who),
            "policy.changed",
            "policy",
            project_id=project_id,
            before=before,
            after=values,
        )
    connection.execute(
        "INSERT INTO policies (project_id, settings, changed_ms) VALUES (?, ?, ?) ON CONFLICT (project_id) "
        "DO UPDATE SET settings = excluded.settings, changed_ms = excluded.changed_ms",
        (project_id, json.dumps(values, sort_keys=True, separators=(",", ":")), now_ms),
    )
