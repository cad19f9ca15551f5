"""The rules of budgets, and who changed which, when and how. Statements of the ledger's file.

Owns the tables `budgets`, `budget_revisions`, `budget_openings` and `policies`; their `project_id` is an `owner`. Each
change is one revision, kept for good. A name means one budget for a call: a project has none of a name that its
organisation uses. Runs inside the ledger's write transaction; knows nothing of HTTP.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Iterator, Mapping, NamedTuple

from aicostguard.guard.policy import Budget
from aicostguard.ledger.access import audit
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.budgets import owner as owners
from aicostguard.ledger.budgets import rule
from aicostguard.ledger.errors import Refused

#: budgets of an owner: each is looked at for every receipt
MOST = 200


class Kept(NamedTuple):
    """A budget as it is kept. `stale`: its counters have to be made anew from receipts."""

    id: int
    owner: int
    budget: Budget
    revision: int
    counted_to: int
    stale: bool
    created_ms: int
    changed_ms: int

    @property
    def name(self) -> str:
        return self.budget.name

    @property
    def shared(self) -> bool:
        """Whether it is an organisation's, and so counts calls that not everybody may know of."""
        return self.owner < 0


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


def of(connection: sqlite3.Connection, owner: int) -> list[Kept]:
    """The budgets of an owner, by name."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM budgets WHERE project_id = ? ORDER BY name", (owner,))
    return [_kept(row) for row in found]


def over(connection: sqlite3.Connection, place: int) -> list[Kept]:
    """The budgets that hold at a place: a project's and its organisation's, by name; or an organisation's alone."""
    found = [kept for owner in owners.over(connection, place) for kept in of(connection, owner)]
    return sorted(found, key=lambda kept: kept.name)


def everybody(connection: sqlite3.Connection) -> list[Kept]:
    """The budgets of all."""
    return [_kept(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM budgets ORDER BY id")]


def find(connection: sqlite3.Connection, place: int, name: str) -> Kept | None:
    """The one of a name among those that hold at a place."""
    for owner in owners.over(connection, place):
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM budgets WHERE project_id = ? AND name = ?", (owner, name)
        ).fetchone()
        if row is not None:
            return _kept(row)
    return None


def need(connection: sqlite3.Connection, place: int, name: str) -> Kept:
    """As `find`; raises `Refused` (404) that names what there is."""
    found = find(connection, place, name)
    if found is None:
        names = [item.name for item in over(connection, place)]
        known = f"there are {', '.join(names[:20])}" if names else "there is none yet"
        raise Refused(404, f"there is no budget {name[:128]!a}; {known}", "name")
    return found


def counted_to(connection: sqlite3.Connection) -> int:
    """The last of `arrivals` that budgets have counted: one point for all; without budgets, all that has come in."""
    found = connection.execute(
        "SELECT COALESCE((SELECT min(counted_to) FROM budgets), (SELECT max(id) FROM arrivals), 0)"
    ).fetchone()
    return int(found[0])


def put(connection: sqlite3.Connection, owner: int, budget: Budget, who: str, now_ms: int) -> tuple[Kept, bool]:
    """Keep a rule under its name. Gives it, and whether its counters have to be made anew (`stale`).

    Raises `Refused` (422) for a name that means another's budget already.
    """
    old = find(connection, owner, budget.name)
    _fits(connection, owner, budget, old)
    text = rule.dumped(budget)
    if old is not None and old.budget == budget:
        return old, old.stale
    if old is None:
        number = connection.execute("SELECT count(*) FROM budgets WHERE project_id = ?", (owner,)).fetchone()[0]
        if number >= MOST:
            raise Refused(422, f"there are {MOST} budgets already; one rule with `per` counts for many", "name")
        connection.execute(
            "INSERT INTO budgets (project_id, name, revision, rule, counted_to, stale, created_ms, changed_ms) "
            "VALUES (?, ?, 0, ?, ?, 1, ?, ?)",
            (owner, budget.name, text, counted_to(connection), now_ms, now_ms),
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
    note(connection, owner, budget.name, who, what, rule.written(budget), now_ms)
    audited(connection, owner, budget.name, who, what, now_ms, before, rule.written(budget))
    return need(connection, owner, budget.name), stale


def _fits(connection: sqlite3.Connection, owner: int, budget: Budget, old: Kept | None) -> None:
    if old is not None and old.owner != owner:
        raise Refused(422, f"is taken: {budget.name!a} is a budget of the organisation; choose another", "name")
    if owner > 0:
        return
    if "user" in budget.match:
        raise Refused(422, "names a user, whom one project may forget; use per: user for a limit for each", "match")
    taken = [project for project in owners.members(connection, owner) if find(connection, project, budget.name) != old]
    if taken:
        (name,) = connection.execute("SELECT name FROM projects WHERE id = ?", (taken[0],)).fetchone()
        raise Refused(422, f"is taken: the project {name} has a budget {budget.name!a}; choose another", "name")


def remove(connection: sqlite3.Connection, place: int, name: str, who: str, now_ms: int) -> None:
    """Forget a budget, all but its history. Raises `Refused` (404)."""
    kept = need(connection, place, name)
    _empty(connection, kept.id)
    connection.execute("DELETE FROM budgets WHERE id = ?", (kept.id,))
    note(connection, kept.owner, name, who, "removed", rule.written(kept.budget), now_ms)
    audited(connection, kept.owner, name, who, "removed", now_ms, rule.written(kept.budget), None)


def _empty(connection: sqlite3.Connection, number: int) -> None:
    for table in ("budget_counters", "budget_openings", "leases"):
        connection.execute(f"DELETE FROM {table} WHERE budget_id = ?", (number,))


def note(
    connection: sqlite3.Connection,
    owner: int,
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
            (owner, name),
        ).fetchone()[0]
    )
    connection.execute(
        "INSERT INTO budget_revisions VALUES (?, ?, ?, ?, ?, ?, ?)",
        (owner, name, number, now_ms, who, what, json.dumps(written, separators=(",", ":"))),
    )
    connection.execute("UPDATE budgets SET revision = ? WHERE project_id = ? AND name = ?", (number, owner, name))
    return number


def audited(
    connection: sqlite3.Connection,
    owner: int,
    name: str,
    who: str,
    what: str,
    now_ms: int,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """The line in the audit log, in the transaction of the change."""
    whose = {"organisation_id": -owner} if owner < 0 else {"project_id": owner}
    audit.note(connection, now_ms, Actor(who), f"budget.{what}", name, **whose, before=before, after=after)


def history(connection: sqlite3.Connection, owner: int, name: str) -> Iterator[Change]:
    """What was done to a budget, the newest first; of one that is gone, too."""
    for row in connection.execute(
        "SELECT revision, at_ms, who, what, rule FROM budget_revisions WHERE project_id = ? AND name = ? "
        "ORDER BY revision DESC",
        (owner, name),
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
