"""Scores in the file, and what a comparison reads: quality by model, cost per call and its spread, traffic to price.

Owns the table `scores`. A score is stored once for its name, subject and model; again, it is replaced.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Iterator, NamedTuple, Sequence

from aicostguard.ledger.model import Query
from aicostguard.ledger.scores import Quality, Score, quality
from aicostguard.ledger.sqlite.sums import passing
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
    # Receipts are read for kinds of scores that there are: without any, none.
    kinds = {
        row[0]
        for row in connection.execute("SELECT DISTINCT kind FROM scores WHERE project_id = ?", (query.project_id,))
    }
    wanted, values = passing(query.filters, query.excluded)
    period = [query.project_id, query.since_ms, query.until_ms]
    named, more = (" AND s.name = ?", [name]) if name else ("", [])
    parts: list[str] = []
    bound: list[Any] = []
    for kind in ("request", "session"):
        if kind not in kinds:
            continue
        parts.append(
            f"SELECT s.name AS name, r.model AS model, s.value AS value FROM (SELECT DISTINCT model, {kind} AS subject "
            f"FROM receipts WHERE project_id = ? AND at_ms >= ? AND at_ms < ? AND {kind} IS NOT NULL{wanted}) AS r "
            f"JOIN scores AS s ON s.project_id = ? AND s.kind = '{kind}' AND s.subject = r.subject "
            f"AND s.model IN ('', r.model){named}"
        )
        bound += [*period, *values, query.project_id, *more]
    # A run has no receipt: only a filter by model can tell whether it belongs.
    only_model = not set(query.filters) - {"model"} and not set(query.excluded) - {"model"}
    if only_model:
        of_model, its = passing(query.filters, query.excluded)
        parts.append(
            "SELECT s.name, s.model, s.value FROM scores AS s WHERE s.project_id = ? AND s.at_ms >= ? AND s.at_ms < ? "
            f"AND s.kind = 'run'{named}{of_model}"
        )
        bound += [*period, *more, *its]
    if not kinds or not parts:
        return {}
    rows = connection.execute(
        f"SELECT model, name, COUNT(*), SUM(value), SUM(value * value) FROM ({' UNION ALL '.join(parts)}) "
        "GROUP BY model, name ORDER BY model, name",
        bound,
    )
    return {(model, what): quality(*sums) for model, what, *sums in rows}


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
