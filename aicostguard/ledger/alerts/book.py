"""Rules and what became of them, as they are kept. Statements of the ledger's file.

Owns the tables `alert_projects`, `alert_rules` and `alerts`. What is to be told is handed to `outbox` in the same
transaction as the state that it is told of. Knows nothing of HTTP.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Mapping, NamedTuple, Sequence

from aicostguard.ledger.alerts import incident, outbox, rule
from aicostguard.ledger.alerts.incident import Incident, Move
from aicostguard.ledger.alerts.rule import Rule
from aicostguard.ledger.errors import Refused

#: rules of a project: each is looked at again and again
MOST = 200
#: how long what is over is kept
KEPT_MS = 400 * 86_400_000


class Kept(NamedTuple):
    """A rule as it is kept. `fault` says why it could not be looked at the last time."""

    id: int
    project_id: int
    name: str
    text: str
    changed_ms: int
    who: str
    fault: str | None
    fault_ms: int | None

    @property
    def rule(self) -> Rule:
        return rule.loaded(self.text)


_COLUMNS = "id, project_id, name, rule, changed_ms, who, fault, fault_ms"


def projects(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT id FROM projects ORDER BY id")]


def ungiven(connection: sqlite3.Connection) -> list[int]:
    """The projects that have not been given all the rules there are from the start."""
    found = connection.execute(
        "SELECT id FROM projects WHERE id NOT IN (SELECT project_id FROM alert_projects WHERE rules >= ?)",
        (len(rule.DEFAULTS),),
    )
    return [number for (number,) in found]


def give(connection: sqlite3.Connection, project_id: int, now_ms: int) -> None:
    """Give a project the rules there are from the start, each once; what has its name already stays as it is."""
    had = connection.execute("SELECT rules FROM alert_projects WHERE project_id = ?", (project_id,)).fetchone()
    names = {item.name for item in of_project(connection, project_id)}
    for stated in map(rule.read, rule.DEFAULTS[had[0] if had else 0 :]):
        if stated.name not in names:
            _insert(connection, project_id, stated, "from the start", now_ms)
    connection.execute(
        "INSERT INTO alert_projects (project_id, given_ms, rules) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET rules = max(rules, excluded.rules)",
        (project_id, now_ms, len(rule.DEFAULTS)),
    )


def everybody(connection: sqlite3.Connection) -> list[Kept]:
    return [Kept(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM alert_rules ORDER BY project_id, id")]


def of_project(connection: sqlite3.Connection, project_id: int) -> list[Kept]:
    found = connection.execute(f"SELECT {_COLUMNS} FROM alert_rules WHERE project_id = ? ORDER BY id", (project_id,))
    return [Kept(*row) for row in found]


def need(connection: sqlite3.Connection, project_id: int, name: str) -> Kept:
    """The rule of this name. Raises `Refused` (404) that names what there is."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM alert_rules WHERE project_id = ? AND name = ?", (project_id, name)
    ).fetchone()
    if row is None:
        known = ", ".join(item.name for item in of_project(connection, project_id)[:20]) or "none"
        raise Refused(404, f"there is no rule {name[:128]!a}; there are {known}", "name")
    return Kept(*row)


def _insert(connection: sqlite3.Connection, project_id: int, stated: Rule, who: str, now_ms: int) -> None:
    connection.execute(
        "INSERT INTO alert_rules (project_id, name, rule, changed_ms, who) VALUES (?, ?, ?, ?, ?)",
        (project_id, stated.name, rule.dumped(stated), now_ms, who),
    )


def add(connection: sqlite3.Connection, project_id: int, stated: Rule, who: str, now_ms: int) -> Kept:
    """Keep a new rule. Raises `Refused` (422) for a name that is taken."""
    names = {item.name for item in of_project(connection, project_id)}
    if stated.name in names:
        raise Refused(
            422, f"is taken: there is a rule {stated.name!a} already; change that one, or choose another", "name"
        )
    if len(names) >= MOST:
        raise Refused(422, f"there are {MOST} rules already; one with `per` or a grouped query looks at many", "name")
    _insert(connection, project_id, stated, who, now_ms)
    return need(connection, project_id, stated.name)


def change(
    connection: sqlite3.Connection, project_id: int, name: str, given: Mapping[str, Any], who: str, now_ms: int
) -> Kept:
    """Change a rule; what is not named stays. What fires by it is over when the new rule does not see it any more."""
    kept = need(connection, project_id, name)
    stated = rule.changed(kept.rule, given)
    others = {item.name for item in of_project(connection, project_id) if item.id != kept.id}
    if stated.name in others:
        raise Refused(422, f"is taken: there is a rule {stated.name!a} already", "name")
    connection.execute(
        "UPDATE alert_rules SET name = ?, rule = ?, changed_ms = ?, who = ?, fault = NULL, fault_ms = NULL "
        "WHERE id = ?",
        (stated.name, rule.dumped(stated), now_ms, who, kept.id),
    )
    if not stated.enabled:
        _end_all(connection, kept.id, now_ms)
    return need(connection, project_id, stated.name)


def remove(connection: sqlite3.Connection, project_id: int, name: str, now_ms: int) -> None:
    """Forget a rule. What fires by it is over; the history stays."""
    kept = need(connection, project_id, name)
    _end_all(connection, kept.id, now_ms)
    connection.execute("DELETE FROM alert_rules WHERE id = ?", (kept.id,))


def _end_all(connection: sqlite3.Connection, rule_id: int, now_ms: int) -> None:
    connection.execute(
        "UPDATE alerts SET state = 'resolved', ended_ms = ?, changed_ms = ? WHERE rule_id = ? AND ended_ms IS NULL",
        (now_ms, now_ms, rule_id),
    )


def note_fault(connection: sqlite3.Connection, rule_id: int, fault: str | None, now_ms: int) -> None:
    connection.execute(
        "UPDATE alert_rules SET fault = ?, fault_ms = ? WHERE id = ?", (fault, now_ms if fault else None, rule_id)
    )


_INCIDENT = "id, scope, state, period_ms, started_ms, changed_ms, ended_ms, COALESCE(quiet_ms, 0), value, snoozed_ms"


def lasts(connection: sqlite3.Connection, rule_id: int, scopes: Sequence[str]) -> dict[str, Incident]:
    """The incidents of a rule that are open, and the last one of each of these scopes."""
    out = {}
    for row in connection.execute(f"SELECT {_INCIDENT} FROM alerts WHERE rule_id = ? AND ended_ms IS NULL", (rule_id,)):
        out[row[1]] = Incident(*row)
    missing = [scope for scope in scopes if scope not in out]
    for scope in missing:
        row = connection.execute(
            f"SELECT {_INCIDENT} FROM alerts WHERE rule_id = ? AND scope = ? ORDER BY id DESC LIMIT 1", (rule_id, scope)
        ).fetchone()
        if row is not None:
            out[scope] = Incident(*row)
    return out


def apply(connection: sqlite3.Connection, kept: Kept, moves: Sequence[Move], now_ms: int) -> int:
    """Take these steps, and write down what is to be told of them. Gives how many notices that made."""
    told: dict[str, list[int]] = {}
    for move in moves:
        number = _take(connection, kept, move, now_ms)
        if move.tell:
            told.setdefault(move.tell, []).append(number)
    made = 0
    for event, numbers in told.items():
        made += outbox.put(connection, kept.project_id, kept.rule, event, numbers, now_ms)
    return made


def _take(connection: sqlite3.Connection, kept: Kept, move: Move, now_ms: int) -> int:
    reading, last = move.reading, move.incident
    if move.what == "open":
        assert reading is not None
        return _open(connection, kept, move, now_ms)
    assert last is not None
    if reading is not None and move.what in ("back", "seen", "loud"):
        connection.execute(
            "UPDATE alerts SET value = ?, peak = CASE WHEN ? THEN min(peak, ?) ELSE max(peak, ?) END, line = ?, "
            "text = ?, more = ?, changed_ms = ? WHERE id = ?",
            (
                *(reading.value, kept.rule.comparison == "below", reading.value, reading.value, reading.line),
                *(reading.text, _more(reading), now_ms, last.id),
            ),
        )
    changes: dict[str, tuple[str, tuple[Any, ...]]] = {
        "back": ("state = 'firing', ended_ms = NULL, quiet_ms = NULL, changed_ms = ?", (now_ms,)),
        "loud": ("quiet_ms = NULL", ()),
        "quiet": ("quiet_ms = ?", (now_ms,)),
        "end": ("state = 'resolved', ended_ms = ?, quiet_ms = NULL, changed_ms = ?", (now_ms, now_ms)),
    }
    if move.what in changes:
        statement, values = changes[move.what]
        connection.execute(f"UPDATE alerts SET {statement} WHERE id = ?", (*values, last.id))
    return last.id


def _more(reading: incident.Reading) -> str:
    return json.dumps({**reading.more, "view": dict(reading.view)}, separators=(",", ":"))


def _open(connection: sqlite3.Connection, kept: Kept, move: Move, now_ms: int) -> int:
    reading, its = move.reading, kept.rule
    assert reading is not None
    start = incident.period(its, now_ms) if reading.period_ms is None else reading.period_ms
    made = connection.execute(
        "INSERT INTO alerts (project_id, rule_id, rule, kind, action, scope, state, period_ms, started_ms, changed_ms, "
        "value, peak, line, text, more, snoozed_ms, who) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
        (
            *(kept.project_id, kept.id, its.name, its.kind, its.action, reading.scope),
            *("snoozed" if move.snoozed_ms else "firing", start, now_ms, now_ms),
            *(reading.value, reading.value, reading.line, reading.text, _more(reading), move.snoozed_ms),
        ),
    ).lastrowid
    return int(made or 0)


def answer(
    connection: sqlite3.Connection, project_id: int, number: int, state: str, who: str, now_ms: int, until_ms: int = 0
) -> None:
    """Somebody acknowledges an alert or snoozes it until a time. Raises `Refused`: 404, or 422 for what is over."""
    row = connection.execute(
        "SELECT ended_ms FROM alerts WHERE project_id = ? AND id = ?", (project_id, number)
    ).fetchone()
    if row is None:
        raise Refused(404, f"there is no alert {number}; GET /v1/alerts lists them", "id")
    if row[0] is not None:
        raise Refused(422, f"alert {number} is resolved: there is nothing to do about it", "id")
    connection.execute(
        "UPDATE alerts SET state = ?, who = ?, snoozed_ms = ?, changed_ms = ? WHERE id = ?",
        (state, who, until_ms, now_ms, number),
    )


def forget(connection: sqlite3.Connection, now_ms: int) -> None:
    """Let go of what was over long ago."""
    connection.execute("DELETE FROM alerts WHERE ended_ms < ?", (now_ms - KEPT_MS,))
