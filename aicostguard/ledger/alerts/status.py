"""What is told of alerts: rules, what fires and what did, channels and their log.

Owns the shape of these answers, the same for API and CLI. Decides nothing. Amounts are exact text.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Mapping, NamedTuple

from aicostguard.ledger import period
from aicostguard.ledger.access import places
from aicostguard.ledger.alerts import book, channel, outbox, words
from aicostguard.ledger.alerts.book import Kept
from aicostguard.ledger.alerts.incident import STATES
from aicostguard.ledger.alerts.rule import SORTS, told, unit_of, written
from aicostguard.ledger.errors import LedgerError, Refused

_UTC = period.zone("UTC")
MOST, DEFAULT_LIMIT = 1000, 100
#: parameter → what it means
PARAMETERS: Mapping[str, str] = {
    "state": f"Only those in these states, with commas: {', '.join(STATES)}; open means all but resolved.",
    "rule": "Only those of this rule.",
    "kind": f"Only those of rules of this kind: {', '.join(SORTS)}.",
    "budget": "Only those of this budget.",
    "since": f"Only those that began since then: {period.SAYS}.",
    "limit": f"At most, 1 to {MOST}, the newest first. Default {DEFAULT_LIMIT}.",
    "cursor": "The `cursor` of an earlier answer: what comes after it.",
}
OPEN = ("firing", "acknowledged", "snoozed")


class Asked(NamedTuple):
    """A question about alerts."""

    states: tuple[str, ...]
    rule: str
    kind: str
    budget: str
    since_ms: int
    limit: int
    before: int


def parse(given: Mapping[str, str], now_ms: int) -> Asked:
    """A question from parameters as they stand in a URL. Raises `Refused` (422) naming the parameter."""
    for name in given:
        if name not in PARAMETERS:
            raise Refused(422, f"is not a parameter; known are {', '.join(PARAMETERS)}", ascii(name[:64])[1:-1])
    states = tuple(state.strip() for state in given.get("state", "").split(",") if state.strip())
    states = tuple(one for state in states for one in (OPEN if state == "open" else (state,)))
    if set(states) - set(STATES):
        raise Refused(422, f"takes open and {', '.join(STATES)}, with commas", "state")
    kind = given.get("kind", "")
    if kind and kind not in SORTS:
        raise Refused(422, f"must be one of {', '.join(SORTS)}", "kind")
    limit, cursor = given.get("limit") or str(DEFAULT_LIMIT), given.get("cursor", "")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= MOST):
        raise Refused(422, f"must be an integer from 1 to {MOST}", "limit")
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise Refused(422, "must be the cursor of an earlier answer", "cursor")
    since_ms = period.start(given.get("since") or "all", now_ms, _UTC, "since")
    return Asked(
        states, given.get("rule", ""), kind, given.get("budget", ""), since_ms, int(limit), int(cursor or 2**62)
    )


def alerts(connection: sqlite3.Connection, project_id: int, asked: Asked, public_url: str) -> dict[str, Any]:
    """`{"alerts": [...], "cursor"}`, the newest first; the cursor is null when there are no more."""
    told_of = ["project_id = ?", "id < ?", "started_ms >= ?"]
    values: list[Any] = [project_id, asked.before, asked.since_ms]
    if asked.states:
        told_of.append(f"state IN ({', '.join('?' * len(asked.states))})")
        values += asked.states
    for name in ("rule", "kind"):
        if getattr(asked, name):
            told_of.append(f"{name} = ?")
            values.append(getattr(asked, name))
    if asked.budget:
        told_of.append("kind = 'budget' AND json_extract(scope, '$.budget') = ?")
        values.append(asked.budget)
    rows = connection.execute(
        "SELECT id, rule, rule_id, kind, action, state, started_ms, changed_ms, ended_ms, value, peak, line, text, "
        f"more, snoozed_ms, who FROM alerts WHERE {' AND '.join(told_of)} ORDER BY id DESC LIMIT ?",
        [*values, asked.limit + 1],
    ).fetchall()
    measures = {kept.id: _measure(kept) for kept in book.of_project(connection, project_id)}
    where = located(connection, project_id, public_url)
    shown = [_alert(row, measures.get(row[2], ""), where) for row in rows[: asked.limit]]
    return {"alerts": shown, "cursor": str(shown[-1]["id"]) if len(rows) > asked.limit else None}


def located(connection: sqlite3.Connection, project_id: int, public_url: str) -> words.Where:
    """Where links of this project lead. Its name is in them where there are others to mistake it for."""
    if not public_url or len(places.projects(connection)) < 2:
        return words.Where(public_url)
    its = places.project(connection, project_id)
    return words.Where(public_url, f"{its.organisation}/{its.name}")


def _measure(kept: Kept) -> str:
    try:
        return kept.rule.measure
    except LedgerError:
        return ""


def _alert(row: tuple[Any, ...], measure: str, where: words.Where) -> dict[str, Any]:
    number, name, _, kind, action, state, started, changed, ended, value, peak, line, text, more, snoozed, who = row
    said = json.loads(more)
    unit = "usd" if SORTS[kind].reads_usd else unit_of(kind, measure)
    out = {
        "id": number,
        "rule": name,
        "kind": kind,
        "action": action,
        "state": state,
        "text": text,
        "group": said.pop("group", {}),
        "value": told(unit, value),
        "peak": told(unit, peak),
        "threshold": told(unit, line),
        "unit": unit,
        "started_at": _iso(started),
        "changed_at": _iso(changed),
        "ended_at": _iso(ended),
        "snoozed_until": _iso(snoozed) if state == "snoozed" else None,
        "by": who or None,
        "url": words.link(where, said["view"]) or None,
    }
    return {**out, **said}


def _iso(at_ms: int | None) -> str | None:
    return period.iso(at_ms, _UTC) if at_ms else None


def one(connection: sqlite3.Connection, project_id: int, number: int, public_url: str) -> dict[str, Any]:
    """A single alert, which is there."""
    asked = Asked((), "", "", "", 0, 1, number + 1)
    return dict(alerts(connection, project_id, asked, public_url)["alerts"][0])


def rules(connection: sqlite3.Connection, project_id: int) -> dict[str, Any]:
    """`{"rules": [...]}`, in the order in which they were made."""
    counts = dict(
        connection.execute(
            "SELECT rule_id, COUNT(*) FROM alerts WHERE project_id = ? AND ended_ms IS NULL GROUP BY rule_id",
            (project_id,),
        ).fetchall()
    )
    return {"rules": [rule(kept, counts.get(kept.id, 0)) for kept in book.of_project(connection, project_id)]}


def rule(kept: Kept, open_: int) -> dict[str, Any]:
    """A rule, how many alerts of it are open, and why it could not be looked at, if so."""
    try:
        stated = written(kept.rule)
    except LedgerError as error:
        stated = {**json.loads(kept.text), "name": kept.name, "unreadable": str(error)}
    return {
        **stated,
        "open": open_,
        "fault": kept.fault,
        "fault_at": _iso(kept.fault_ms),
        "changed_at": _iso(kept.changed_ms),
        "changed_by": kept.who,
    }


def one_rule(connection: sqlite3.Connection, project_id: int, name: str) -> dict[str, Any]:
    kept = book.need(connection, project_id, name)
    open_ = connection.execute(
        "SELECT COUNT(*) FROM alerts WHERE rule_id = ? AND ended_ms IS NULL", (kept.id,)
    ).fetchone()[0]
    return rule(kept, open_)


def channels(connection: sqlite3.Connection, project_id: int) -> dict[str, Any]:
    """`{"channels": [...]}`, with what came of the last notice of each."""
    return {"channels": [_channel(connection, its) for its in channel.of_project(connection, project_id)]}


def one_channel(connection: sqlite3.Connection, project_id: int, name: str) -> dict[str, Any]:
    return _channel(connection, channel.need(connection, project_id, name))


def _channel(connection: sqlite3.Connection, its: channel.Channel) -> dict[str, Any]:
    waiting = connection.execute(
        "SELECT COUNT(*) FROM alert_notices WHERE channel_id = ? AND state IN ('waiting', 'sending')", (its.id,)
    ).fetchone()[0]
    last = outbox.log(connection, its.id, 1)
    return {**channel.told(its), "waiting": waiting, "last": _notice(connection, last[0]) if last else None}


def log(connection: sqlite3.Connection, project_id: int, name: str, limit: int) -> dict[str, Any]:
    """`{"log": [...]}`: the notices of a channel, the newest first, with every attempt."""
    its = channel.need(connection, project_id, name)
    return {"log": [_notice(connection, row) for row in outbox.log(connection, its.id, limit)]}


def _notice(connection: sqlite3.Connection, row: tuple[Any, ...]) -> dict[str, Any]:
    number, key, event, state, created_ms, _, next_ms, message = row
    said = json.loads(message)
    return {
        "id": key,
        "event": event,
        "state": state,
        "rule": said["rule"],
        "text": words.title(event, outbox.lines(said, event)),
        "created_at": _iso(created_ms),
        "next_attempt_at": _iso(next_ms) if state == "waiting" else None,
        "attempts": [
            {"at": _iso(at_ms), "took_ms": took_ms, "outcome": outcome, "said": text}
            for _, at_ms, took_ms, outcome, text in outbox.attempts(connection, number)
        ],
    }
