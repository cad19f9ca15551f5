"""Who called which agent, on days before that was summed: the step of the schema, and what `backfill` does of a day.

Owns the sums of `parent_agent,agent` of receipts that were there before. Only days on which an agent is named are
worked through. Receipts that were deleted or archived by rule cannot tell who called: what the sums of their agents
hold beyond the others stands under `OTHER`, and the day is marked as full. If it were left out, those agents' money
would be shown as nobody's.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import Sequence

from aicostguard.ledger.model import DAY_MS, HOUR_MS, JOINT, MEASURES
from aicostguard.ledger.rollup import RollUp, Sums
from aicostguard.ledger.sqlite import room
from aicostguard.ledger.sqlite.sums import MEASURED
from aicostguard.ledger.sqlite.write import add, steps

PAIR = "parent_agent,agent"
#: Part of `schema`, whose rules hold here.
CALLERS = (
    "CREATE TABLE backfill_agents (project_id INTEGER NOT NULL, day_ms INTEGER NOT NULL, "
    "PRIMARY KEY (project_id, day_ms)) STRICT, WITHOUT ROWID",
    "INSERT OR IGNORE INTO backfill_agents SELECT projects.id, start_ms FROM projects "
    "CROSS JOIN daily ON project_id = projects.id AND dimension IN ('agent', 'parent_agent') WHERE value <> ''",
)


_HOUR = f"at_ms - at_ms % {HOUR_MS}"
_SUMMED = ", ".join(f"SUM({MEASURED[name]})" for name in MEASURES)


def fill(connection: sqlite3.Connection, project_id: int, day_ms: int) -> None:
    """Make the sums of a day and of its hours."""
    found = connection.execute(
        f"SELECT {_HOUR}, COALESCE(parent_agent, '') || '{JOINT}' || COALESCE(agent, ''), {_SUMMED} FROM receipts "
        "WHERE project_id = ? AND at_ms >= ? AND at_ms < ? AND (agent <> '' OR parent_agent <> '') GROUP BY 1, 2",
        (project_id, day_ms, day_ms + DAY_MS),
    ).fetchall()
    hourly: Sums = {(PAIR, hour, value): amounts for hour, value, *amounts in found}
    made = RollUp(MEASURES, hourly, _folded(day_ms, hourly))
    made = room.fit(connection, project_id, made, room.asked(made), day_ms, "")
    if gone := _gone(connection, project_id, day_ms, hourly):
        for (_, hour, other), amounts in gone.items():
            made.hourly[PAIR, hour, other] = _plus([amounts, *_known(made.hourly, hour, other)])
        made.daily.update(_folded(day_ms, made.hourly))
        room.note(connection, project_id, day_ms, PAIR, day_ms, "")
    for table, sums in (("hourly", made.hourly), ("daily", made.daily)):
        for statement, values in steps(add(table, MEASURES, project_id, sums)):
            connection.execute(statement, values)


def _known(hourly: Sums, hour: int, value: str) -> list[Sequence[int]]:
    return [hourly[PAIR, hour, value]] if (PAIR, hour, value) in hourly else []


def _plus(amounts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*amounts)))


def _folded(day_ms: int, hourly: Sums) -> Sums:
    """The sums of a day from those of its hours."""
    members: defaultdict[str, list[Sequence[int]]] = defaultdict(list)
    for (_, _, value), amounts in hourly.items():
        members[value].append(amounts)
    return {(PAIR, day_ms, value): _plus(found) for value, found in members.items()}


def _gone(connection: sqlite3.Connection, project_id: int, day_ms: int, hourly: Sums) -> Sums:
    """What the sums of agents hold, hour by hour, of receipts that are no longer there."""
    out: Sums = {}
    for hour, *whole in connection.execute(
        f"SELECT start_ms, {', '.join(f'SUM({name})' for name in MEASURES)} FROM hourly "
        "WHERE project_id = ? AND dimension = 'agent' AND start_ms >= ? AND start_ms < ? AND value <> '' GROUP BY 1",
        (project_id, day_ms, day_ms + DAY_MS),
    ):
        there = [amounts for (_, at, value), amounts in hourly.items() if at == hour and not value.endswith(JOINT)]
        rest = tuple(amount - sum(parts) for amount, *parts in zip(whole, *there))
        if rest[MEASURES.index("calls")] > 0:
            out[PAIR, hour, room.other_of(PAIR)] = rest
    return out
