"""What stored receipts come to for budgets. Reads only.

Owns how receipts are added up: by the labels that rules look at and by steps of time that no zone cuts, inside SQLite,
so that Python sees a few groups where there were thousands of receipts.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from aicostguard.ledger.budgets import rule
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.counters import Amount
from aicostguard.ledger.budgets.rule import Counter
from aicostguard.ledger.model import DIMENSIONS

#: receipts of a run are added up by these steps of time before Python sees them: no zone cuts one
STEP_MS, SECOND_MS = 900_000, 1000
LATEST_MS = 2**52

_SUMS = (
    "COALESCE(SUM(cost_nanousd), 0), COALESCE(SUM(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)), 0), "
    "COUNT(*), SUM(cost_nanousd IS NULL), COALESCE(SUM(usage_missing), 0), COALESCE(SUM(estimated), 0), MAX(at_ms)"
)


class Run(NamedTuple):
    """Receipts of one process that were stored together."""

    id: int
    project_id: int
    epoch: str
    first: int
    last: int


class Group(NamedTuple):
    """Some receipts that count alike: their labels, when they were made, and what they come to."""

    labels: Mapping[str, str]
    at_ms: int
    nanousd: int
    tokens: int
    calls: int
    unpriced: int
    usage_missing: int
    estimated: int
    #: when the last of them was made
    last_ms: int = 0

    def amount(self, unit: str) -> Amount:
        spent = {"nanousd": self.nanousd, "tokens": self.tokens, "requests": self.calls}[unit]
        unknown = {"nanousd": self.unpriced, "tokens": self.usage_missing, "requests": 0}[unit]
        return Amount(spent, 0, self.calls, unknown, self.estimated)


def runs(connection: sqlite3.Connection, after: int, limit: int, until: int = LATEST_MS) -> list[Run]:
    found = connection.execute(
        "SELECT id, project_id, epoch, first_seq, last_seq FROM arrivals WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
        (after, until, limit),
    )
    return [Run(*row) for row in found]


def of_run(
    connection: sqlite3.Connection, kept: Sequence[Kept], run: Run, left_out: Sequence[int]
) -> Iterator[tuple[Kept, Counter, Group]]:
    """What a run of receipts adds to which counter of these budgets."""
    if not kept:
        return
    step = SECOND_MS if any(item.budget.period == "minute" for item in kept) else STEP_MS
    names = sorted({name for item in kept for name in rule.labels_of(item.budget)})
    where = "project_id = ? AND epoch = ? AND seq BETWEEN ? AND ?"
    for group in groups(connection, names, step, where, run[1:], left_out):
        for item in kept:
            if item.budget.period != "call" and rule.matches(item.budget, group.labels):
                yield item, rule.counter(item.budget, group.labels, group.at_ms), group


def groups(
    connection: sqlite3.Connection,
    names: Iterable[str],
    step_ms: int,
    where: str,
    values: Sequence[Any],
    left_out: Sequence[int] = (),
) -> Iterator[Group]:
    """The receipts that `where` takes, added up by labels and steps of time; without the seqs `left_out`."""
    columns = sorted({name for name in names if name in DIMENSIONS})
    tags = any(name.startswith("tags.") for name in names)
    if tags:
        columns.append("tags")
    of = organisation(connection, values[0]) if "organisation" in names else ""
    if left_out:
        where += f" AND seq NOT IN ({', '.join('?' * len(left_out))})"
    by = [f"COALESCE(\"{name}\", '')" for name in columns] + [f"at_ms / {step_ms:d}"]
    for row in connection.execute(
        f"SELECT {', '.join(by)}, {_SUMS} FROM receipts WHERE {where} GROUP BY {', '.join(by)}", [*values, *left_out]
    ):
        labels = dict(zip(columns, row))
        if tags and (text := labels.pop("tags")):
            labels.update({f"tags.{name}": value for name, value in json.loads(text).items()})
        if of:
            labels["organisation"] = of
        yield Group(labels, row[len(columns)] * step_ms, *row[len(columns) + 1 :])


def organisation(connection: sqlite3.Connection, project_id: int) -> str:
    row = connection.execute(
        "SELECT organisations.name FROM projects JOIN organisations ON organisations.id = organisation_id "
        "WHERE projects.id = ?",
        (project_id,),
    ).fetchone()
    return "" if row is None else str(row[0])


def add(amounts: dict[Counter, Amount], counter: Counter, amount: Amount, sign: int = 1) -> None:
    old = amounts.get(counter, Amount())
    amounts[counter] = Amount(*(a + sign * b for a, b in zip(old, amount)))
