"""Scores in the file, and what a comparison reads: quality by model, cost per call and its spread, traffic to price.

Owns the table `scores`. A score is stored once for its name, subject and model; again, it is replaced.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Iterator, NamedTuple, Sequence

from aicostguard.ledger.model import Query
from aicostguard.ledger.scores import Quality, Score, quality
from aicostguard.ledger.sqlite.sums import passing, union
from aicostguard.ledger.sqlite.write import quoted
from aicostguard.receipt import FIELDS

#: receipts priced again between two looks at the file
PAGE = 2_000


def put(connection: sqlite3.Connection, project_id: int, found: Sequence[Score]) -> None:
    """Store scores; the last of the same name, subject and model counts."""
    connection.executemany(
        "INSERT INTO scores (project_id, name, kind, subject, model, at_ms, value) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (project_id, name, kind, subject, model) DO UPDATE SET at_ms = excluded.at_ms, "
        "value = excluded.value",
        [(project_id, *one) for one in found],
    )


def qualities(connection: sqlite3.Connection, query: Query, name: str = "") -> dict[tuple[str, str], Quality]:
    """`(model, name) → Quality` of the scores that belong to the query's receipts, and of runs within its period.

    A score of a call or session counts once for each model that served it, unless it names the model itself.
    """
    parts: list[str] = []
    bound: list[Any] = []
    # One moment for the choice of ways and for the answer.
    connection.execute("BEGIN")
    try:
        calls = _calls(connection, query)
        for kind in ("request", "session"):
            scores = _number(connection, query.project_id, kind, name, calls + 1)
            if scores and calls:
                sql, values = _joined(query, kind, name, from_scores=scores <= calls)
                parts.append(sql)
                bound += values
        # A run has no receipt: only a filter by model can tell whether it belongs.
        if not set(query.filters) - {"model"} and not set(query.excluded) - {"model"}:
            passed, values = passing(query.filters, query.excluded)
            parts.append(
                "SELECT name, model, value FROM scores WHERE project_id = ? AND at_ms >= ? AND at_ms < ? "
                f"AND kind = 'run'{_NAMED * bool(name)}{passed}"
            )
            bound += [query.project_id, query.since_ms, query.until_ms, *[name] * bool(name), *values]
        if not parts:
            return {}
        rows = connection.execute(
            f"SELECT model, name, COUNT(*), SUM(value), SUM(value * value) FROM ({' UNION ALL '.join(parts)}) "
            "GROUP BY model, name ORDER BY model, name",
            bound,
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    return {(model, what): quality(*sums) for model, what, *sums in rows}


_NAMED = " AND name = ?"


def _number(connection: sqlite3.Connection, project_id: int, kind: str, name: str, most: int) -> int:
    """How many scores of a kind there are, whenever given; no more than `most` are counted."""
    found = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM scores WHERE project_id = ? AND kind = ?{_NAMED * bool(name)} LIMIT ?)",
        [project_id, kind, *[name] * bool(name), most],
    ).fetchone()
    return int(found[0])


def of_receipts(connection: sqlite3.Connection, project_id: int, name: str = "") -> bool:
    """Whether there are scores that only receipts lead to a model: of calls, or of sessions."""
    return any(_number(connection, project_id, kind, name, 1) for kind in ("request", "session"))


def _calls(connection: sqlite3.Connection, query: Query) -> int:
    """How many receipts the period has, whatever the filters: so many are read to find those that pass."""
    source, values = union(Query(query.project_id, query.since_ms, query.until_ms))
    return int(connection.execute(f"SELECT COALESCE(SUM(calls), 0) FROM ({source})", values).fetchone()[0])


def _joined(query: Query, kind: str, name: str, *, from_scores: bool) -> tuple[str, list[Any]]:
    """`SELECT name, model, value` of the scores of a kind, each with the models that served it, and its values.

    Two ways to the same rows: from each score to its receipts, or from each receipt of the period to its scores. Order
    and index stand in the statement: SQLite, which cannot know how many there are of either, read every score for every
    receipt.
    """
    passed, values = passing(query.filters, query.excluded)
    period = [query.project_id, query.since_ms, query.until_ms]
    index = "" if from_scores and name else " INDEXED BY scores_by_subject"  # those of one name stand in the key
    scored = [query.project_id, kind, *[name] * bool(name)]
    score = (
        f"(SELECT name, subject, model AS its, value FROM scores{index} "
        f"WHERE project_id = ? AND kind = ?{_NAMED * bool(name)})"
    )
    if from_scores:
        return (
            f"SELECT name, model, value FROM (SELECT DISTINCT name, subject, its, model, value FROM {score} "
            f"CROSS JOIN receipts INDEXED BY receipts_by_{kind} ON project_id = ? AND {kind} = subject "
            f"AND at_ms >= ? AND at_ms < ? WHERE its IN ('', model){passed})",
            [*scored, *period, *values],
        )
    return (
        f"SELECT name, model, value FROM (SELECT DISTINCT model, {kind} FROM receipts WHERE project_id = ? "
        f"AND at_ms >= ? AND at_ms < ? AND {kind} IS NOT NULL{passed}) CROSS JOIN {score} ON subject = {kind} "
        "WHERE its IN ('', model)",
        [*period, *values, *scored],
    )


def traffic(connection: sqlite3.Connection, query: Query) -> Iterator[list[tuple[dict[str, Any], int, int | None]]]:
    """Pages of `(receipt, at_ms, cost)` of the query's receipts."""
    names = [name for name in FIELDS if name != "tags"]
    wanted, values = passing(query.filters, query.excluded)
    rows = connection.execute(
        f"SELECT at_ms, cost_nanousd, {quoted(names)} FROM receipts WHERE project_id = ? AND at_ms >= ? AND at_ms < ?"
        f"{wanted}",
        [query.project_id, query.since_ms, query.until_ms, *values],
    )
    while some := rows.fetchmany(PAGE):
        yield [({n: v for n, v in zip(names, row[2:]) if v is not None}, row[0], row[1]) for row in some]


class Side(NamedTuple):
    """Priced calls of one feature, model and release on one side of a moment; `squares` of dollars."""

    feature: str
    after: bool
    model: str
    release: str
    calls: int
    cost_nanousd: int
    squares: float


def sides(connection: sqlite3.Connection, query: Query, moment_ms: int) -> list[Side]:
    """The query's priced receipts before a moment and from it on."""
    wanted, values = passing(query.filters, query.excluded)
    rows = connection.execute(
        "SELECT COALESCE(feature, ''), at_ms >= ?, model, COALESCE(\"release\", ''), COUNT(*), SUM(cost_nanousd), "
        "SUM((cost_nanousd / 1e9) * (cost_nanousd / 1e9)) FROM receipts "
        f"WHERE project_id = ? AND at_ms >= ? AND at_ms < ? AND cost_nanousd IS NOT NULL{wanted} GROUP BY 1, 2, 3, 4",
        [moment_ms, query.project_id, query.since_ms, query.until_ms, *values],
    )
    return [Side(row[0], bool(row[1]), *row[2:]) for row in rows]
