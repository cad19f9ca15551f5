"""Steps of the schema that came with the queries: pairs of dimensions, latencies, cache savings, scores; then tallies,
and the way from a receipt to its scores.

Owns their statements, as `schema` does those of the other steps; `backfill` works out what they cannot. Never edited
once released.
"""

from __future__ import annotations

#: sums that came with the queries; `backfill` makes those of receipts that were there before
_SUMMED_LATER = ("cache_savings_nanousd", "timed_calls", "latency_ms", "first_token_calls", "ttft_ms")
QUERIES = (
    "ALTER TABLE receipts ADD COLUMN cache_savings_nanousd INTEGER",
    *(
        f"ALTER TABLE {table} ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0"
        for table in ("hourly", "daily")
        for name in _SUMMED_LATER
    ),
    # How latencies are spread; see `ledger.spread`.
    *(
        f"""CREATE TABLE {table} (
    project_id INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    value TEXT NOT NULL,
    latency_ms BLOB NOT NULL,
    ttft_ms BLOB NOT NULL,
    PRIMARY KEY (project_id, dimension, start_ms, value)
) STRICT, WITHOUT ROWID"""
        for table in ("hourly_spreads", "daily_spreads")
    ),
    # The last of `arrivals` whose latencies are in these tables.
    "CREATE TABLE spread_to (arrival INTEGER NOT NULL) STRICT",
    "INSERT INTO spread_to SELECT COALESCE(max(id), 0) FROM arrivals",
    # From a label that nobody rolls up, or that nearly everybody has another of, to its receipts.
    *(
        f"CREATE INDEX receipts_by_{name} ON receipts (project_id, {name}, at_ms) WHERE {name} IS NOT NULL"
        for name in ("request", "session", "user")
    ),
    # Quality, as the user measures it: of a call (label `request`), a session, or a run of an evaluation.
    """CREATE TABLE scores (
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    model TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (project_id, name, kind, subject, model)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX scores_by_time ON scores (project_id, at_ms)",
)

# Days that are over, their sums of very many names laid side by side; see `tallies`. `state`: making, few (names: it is
# read as it is), made. A change of one of its sums takes a day's mark away.
TALLIES = (
    """CREATE TABLE tally_names (
    project_id INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    value TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (project_id, dimension, value)
) STRICT, WITHOUT ROWID""",
    "CREATE UNIQUE INDEX tally_names_by_number ON tally_names (project_id, dimension, number)",
    """CREATE TABLE tally_days (
    project_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    state TEXT NOT NULL,
    token INTEGER NOT NULL,
    PRIMARY KEY (project_id, start_ms, dimension)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE tallies (
    project_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    chunk INTEGER NOT NULL,
    cost_nanousd BLOB NOT NULL,
    calls BLOB NOT NULL,
    PRIMARY KEY (project_id, start_ms, dimension, chunk)
) STRICT""",
)

# From what a receipt says of its call to the scores of it: their key has the score's name first.
SUBJECTS = ("CREATE INDEX scores_by_subject ON scores (project_id, kind, subject)",)
