"""What a ledger file holds, in figures that two files can be compared by.

Owns the count that a backup is verified with. Reads only. If a figure is missing here, a copy may lack what
it stands for and still be called whole.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, NamedTuple

from aicostguard.ledger.model import MEASURES, SMALLEST
from aicostguard.ledger.sqlite.sums import MEASURED


class Contents(NamedTuple):
    """`rows` of every table; `measures` summed over all receipts; the newest `at_ms` and `received_ms`, if any.

    `sums_agree`: the daily sums, from which totals are answered, add up to the receipts, here and archived.
    """

    version: int
    rows: dict[str, int]
    measures: dict[str, int]
    last_at_ms: int | None
    last_received_ms: int | None
    sums_agree: bool

    @property
    def receipts(self) -> int:
        return self.rows.get("receipts", 0)

    def as_json(self) -> dict[str, Any]:
        """What a program that makes backups wants to know."""
        return {
            "schema_version": self.version,
            "receipts": self.receipts,
            "cost_nanousd": self.measures["cost_nanousd"],
            "input_tokens": self.measures["input_tokens"],
            "output_tokens": self.measures["output_tokens"],
            "last_received_ms": self.last_received_ms,
            "waiting_in_inbox": self.rows.get("inbox", 0),
            "sums_agree": self.sums_agree,
        }


def read(connection: sqlite3.Connection) -> Contents:
    """Count and sum everything, in the transaction the connection is in. Reads the whole of every table."""
    names = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        )
    ]
    rows = {name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in names}
    # A file of an older release may lack a measure of this one.
    present = {row[1] for row in connection.execute("PRAGMA table_info(daily)")}
    measures = [name for name in MEASURES if name in present]
    raw = ", ".join(f"COALESCE(SUM({MEASURED[name]}), 0)" for name in measures)
    sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in measures)
    summed = connection.execute(f"SELECT {raw} FROM receipts").fetchone()
    daily = connection.execute(f"SELECT {sums} FROM daily WHERE dimension = ?", (SMALLEST,)).fetchone()
    gone = dict.fromkeys(measures, 0)
    if "archives" in rows:
        for (said,) in connection.execute("SELECT gone FROM archives WHERE gone_rows > 0"):
            for name, amount in json.loads(said).items():
                gone[name] = gone.get(name, 0) + amount
    whole = tuple(amount + gone[name] for name, amount in zip(measures, summed))
    last_at_ms, last_received_ms = connection.execute("SELECT max(at_ms), max(received_ms) FROM receipts").fetchone()
    return Contents(
        version=int(connection.execute("PRAGMA user_version").fetchone()[0]),
        rows=rows,
        measures=dict(zip(measures, summed)),
        last_at_ms=last_at_ms,
        last_received_ms=last_received_ms,
        sums_agree=whole == tuple(daily),
    )
