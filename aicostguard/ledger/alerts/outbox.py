"""What is to be sent, until it is: one notice for each channel and event, written with the state that it tells of.

Owns `alert_notices` and `alert_attempts`: who takes a notice, how often and when it is tried, and what came of it. A
notice is sent at least once: one whose sender was killed is taken again after `LEASE_MS`, with the same key.
"""

from __future__ import annotations

import json
import random
import secrets
import sqlite3
from typing import Any, Mapping, NamedTuple, Sequence

from aicostguard.ledger.alerts import words
from aicostguard.ledger.alerts.rule import Rule, told
from aicostguard.ledger.alerts.webhook import Outcome

#: attempts before it is given up: some four hours
MOST_ATTEMPTS = 14
FIRST_MS, LONGEST_MS = 5_000, 1_800_000
#: nobody sends for longer than that: then whoever had taken it is dead
LEASE_MS = 120_000
#: notices taken at once, and of them for one channel
AT_ONCE, OF_ONE = 8, 2
KEPT_MS = 90 * 86_400_000


class Notice(NamedTuple):
    """A notice that was taken, to be sent now. `again`: its last sender did not say what came of it."""

    id: int
    channel_id: int
    event: str
    key: str
    message: Mapping[str, Any]
    created_ms: int
    attempt: int
    again: bool


def put(
    connection: sqlite3.Connection, project_id: int, rule: Rule, event: str, alerts: Sequence[int], now_ms: int
) -> int:
    """Write down that people are to be told of these alerts. Gives how many notices that made."""
    message = {
        "rule": rule.name,
        "kind": rule.kind,
        "action": rule.action,
        "period": rule.period,
        "timezone": rule.timezone,
        "alerts": [_alert(connection, number, rule) for number in alerts],
    }
    made = 0
    for number, name in connection.execute(
        "SELECT id, name FROM alert_channels WHERE project_id = ? AND enabled = 1 ORDER BY id", (project_id,)
    ).fetchall():
        if not rule.channels or name in rule.channels:
            add(connection, project_id, number, event, message, now_ms)
            made += 1
    return made


def add(
    connection: sqlite3.Connection,
    project_id: int,
    channel_id: int,
    event: str,
    message: Any,
    now_ms: int,
    after_ms: int = 0,
) -> int:
    """One notice, which whoever passes by takes after so long; gives its number."""
    made = connection.execute(
        "INSERT INTO alert_notices (project_id, channel_id, event, key, message, state, created_ms, attempts, next_ms) "
        "VALUES (?, ?, ?, ?, ?, 'waiting', ?, 0, ?)",
        (project_id, channel_id, event, secrets.token_hex(16), json.dumps(message), now_ms, now_ms + after_ms),
    )
    return int(made.lastrowid or 0)


def _alert(connection: sqlite3.Connection, number: int, rule: Rule) -> dict[str, Any]:
    text, value, line, started_ms, more = connection.execute(
        "SELECT text, value, line, started_ms, more FROM alerts WHERE id = ?", (number,)
    ).fetchone()
    said = json.loads(more)
    return {
        "id": number,
        "text": text,
        "subject": said.get("subject", ""),
        "group": said.get("group", {}),
        "value": told(rule.unit, value),
        "threshold": told(rule.unit, line),
        "unit": rule.unit,
        "value_nano": value,
        "line_nano": line,
        "started_ms": started_ms,
        "unpriced_calls": said.get("unpriced_calls", 0),
        "view": said["view"],
    }


def waits(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Is there anything to be sent now?"""
    found = connection.execute(
        "SELECT 1 FROM alert_notices WHERE state IN ('waiting', 'sending') AND next_ms <= ? LIMIT 1", (now_ms,)
    )
    return found.fetchone() is not None


def take(connection: sqlite3.Connection, now_ms: int, only: Sequence[int] = ()) -> list[Notice]:
    """Take what is to be sent now, or these, whenever it is; nobody else gets it before `LEASE_MS` is over."""
    which = f"attempts = 0 AND id IN ({', '.join('?' * len(only))})" if only else "next_ms <= ?"
    found = connection.execute(
        "SELECT id, channel_id, event, key, message, created_ms, attempts, state FROM alert_notices "
        f"WHERE state IN ('waiting', 'sending') AND {which} ORDER BY next_ms, id LIMIT 200",
        tuple(only) or (now_ms,),
    ).fetchall()
    taken: list[Notice] = []
    for number, channel_id, event, key, message, created_ms, attempts, state in found:
        if len(taken) >= AT_ONCE:
            break
        if sum(item.channel_id == channel_id for item in taken) >= OF_ONE:
            continue
        taken.append(
            Notice(number, channel_id, event, key, json.loads(message), created_ms, attempts + 1, state == "sending")
        )
    connection.executemany(
        "UPDATE alert_notices SET state = 'sending', attempts = ?, next_ms = ? WHERE id = ?",
        [(item.attempt, now_ms + LEASE_MS, item.id) for item in taken],
    )
    return taken


def done(
    connection: sqlite3.Connection, notice: Notice, outcome: Outcome, began_ms: int, now_ms: int, counts: bool = True
) -> None:
    """Write down what came of an attempt, and when the next one is. `counts` is False for one that was cut off."""
    last = not outcome.again or (counts and notice.attempt >= MOST_ATTEMPTS)
    state = "sent" if outcome.ok else "failed" if last else "waiting"
    next_ms = now_ms + max(delay_ms(notice.attempt), outcome.after_s * 1000) if counts else now_ms
    connection.execute(
        "UPDATE alert_notices SET state = ?, attempts = ?, next_ms = ?, ended_ms = ? WHERE id = ?",
        (
            state,
            notice.attempt if counts else notice.attempt - 1,
            next_ms,
            None if state == "waiting" else now_ms,
            notice.id,
        ),
    )
    connection.execute(
        "INSERT INTO alert_attempts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (notice_id, number) DO UPDATE SET "
        "at_ms = excluded.at_ms, took_ms = excluded.took_ms, outcome = excluded.outcome, said = excluded.said",
        (notice.id, notice.attempt, began_ms, max(0, now_ms - began_ms), state, outcome.said),
    )


def delay_ms(attempt: int) -> int:
    """How long after a failed attempt the next one is: twice as long each time, and not all at the same moment."""
    longest = min(LONGEST_MS, FIRST_MS * 2 ** (attempt - 1))
    return int(longest // 2 + random.randrange(longest // 2 + 1))


def log(connection: sqlite3.Connection, channel_id: int, limit: int) -> list[tuple[Any, ...]]:
    """`(key, event, state, created_ms, attempts, next_ms, message)` of a channel's notices, the newest first."""
    return connection.execute(
        "SELECT id, key, event, state, created_ms, attempts, next_ms, message FROM alert_notices WHERE channel_id = ? "
        "ORDER BY id DESC LIMIT ?",
        (channel_id, limit),
    ).fetchall()


def attempts(connection: sqlite3.Connection, notice_id: int) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT number, at_ms, took_ms, outcome, said FROM alert_attempts WHERE notice_id = ? ORDER BY number",
        (notice_id,),
    ).fetchall()


def forget(connection: sqlite3.Connection, now_ms: int) -> None:
    """Let go of what was sent or given up long ago."""
    old = "SELECT id FROM alert_notices WHERE ended_ms < ?"
    connection.execute(f"DELETE FROM alert_attempts WHERE notice_id IN ({old})", (now_ms - KEPT_MS,))
    connection.execute("DELETE FROM alert_notices WHERE ended_ms < ?", (now_ms - KEPT_MS,))


def lines(message: Mapping[str, Any], event: str, slack: bool = False) -> list[str]:
    """What is said of each alert of a message, without links."""
    out = []
    for alert in message["alerts"]:
        line = (f"{alert['subject']}: " if alert["subject"] else "") + alert["text"]
        if slack:
            line = words.for_slack({**message, **alert, "line": line, "event": event})
        out.append(line)
    return out


def give_up(connection: sqlite3.Connection, numbers: Sequence[int], now_ms: int) -> None:
    """These are not tried again."""
    connection.executemany(
        "UPDATE alert_notices SET state = 'failed', ended_ms = ? WHERE id = ? AND state = 'waiting'",
        [(now_ms, number) for number in numbers],
    )
