"""The SQLite store's tables, as a numbered list of steps forward.

Owns every statement that shapes the file. A step, once released, is never edited: a change is a new step.
If a step were edited, files in the field would differ from new ones while carrying the same number.

Why no migration library: alembic wants SQLAlchemy, which nothing else here uses; yoyo and caribou run steps
on their own connection and keep their own lock, while ours must run inside the ledger's one write
transaction, next to the inbox that an older agent may be writing to at that moment. What is left is this list.

Tables are STRICT: a sum that leaves 64 bits is an error, where a plain SQLite table would turn it into a float.
Nothing relies on rowids or their order.
"""

from __future__ import annotations

from aicostguard.ledger.access.tables import ACCESS, OPENED, PEOPLE
from aicostguard.ledger.sqlite.callers import CALLERS
from aicostguard.ledger.sqlite.queried import QUERIES, SUBJECTS, TALLIES
from aicostguard.ledger.sqlite.room import ROOM
from aicostguard.ledger.sqlite.saved import SAVED
from aicostguard.ledger.sqlite.schema_alerts import ALERTS, GIVEN
from aicostguard.ledger.sqlite.schema_budgets import BUDGETS, SHARED
from aicostguard.ledger.sqlite.sized import FORGETTING, RETENTION
from aicostguard.ledger.sqlite.taken import TAKEN, TAKEN_UNITS

#: shared verbatim with the agent's `sqlite:///` sink, which imports nothing from here
INBOX = (
    "CREATE TABLE IF NOT EXISTS inbox (id INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, envelope BLOB NOT NULL)"
)

_SUMS = """
    cost_nanousd INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    unpriced_calls INTEGER NOT NULL,
    usage_missing_calls INTEGER NOT NULL,
    estimated_calls INTEGER NOT NULL,
    partial_calls INTEGER NOT NULL,
    clock_adjusted_calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_input_tokens INTEGER NOT NULL,
    cache_creation_input_tokens INTEGER NOT NULL,
    cache_creation_1h_input_tokens INTEGER NOT NULL,
    reasoning_output_tokens INTEGER NOT NULL,
    input_audio_tokens INTEGER NOT NULL,
    cache_read_audio_tokens INTEGER NOT NULL,
    output_audio_tokens INTEGER NOT NULL,
    input_image_tokens INTEGER NOT NULL,
    output_image_tokens INTEGER NOT NULL,
    input_video_tokens INTEGER NOT NULL,
    web_searches INTEGER NOT NULL,
    tool_calls_billed INTEGER NOT NULL,
    search_units INTEGER NOT NULL,
    characters INTEGER NOT NULL,
    audio_ms INTEGER NOT NULL,
    images INTEGER NOT NULL,
    video_ms INTEGER NOT NULL,
    requests_billed INTEGER NOT NULL,
    reported_cost_nanousd INTEGER NOT NULL,
"""

_FIRST = (
    "CREATE TABLE organisations (id INTEGER PRIMARY KEY, name TEXT NOT NULL, created_ms INTEGER NOT NULL) STRICT",
    """CREATE TABLE projects (
    id INTEGER PRIMARY KEY,
    organisation_id INTEGER NOT NULL REFERENCES organisations (id),
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT""",
    """CREATE TABLE keys (
    hash TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects (id),
    shown TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE receipts (
    project_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    clock_adjusted INTEGER NOT NULL,
    cost_nanousd INTEGER,
    price_row TEXT,
    unpriced_reason TEXT,
    service TEXT,
    environment TEXT,
    "release" TEXT,
    host TEXT,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    latency_ms INTEGER,
    feature TEXT,
    cache_read_input_tokens INTEGER,
    cache_creation_input_tokens INTEGER,
    cache_creation_1h_input_tokens INTEGER,
    reasoning_output_tokens INTEGER,
    input_audio_tokens INTEGER,
    cache_read_audio_tokens INTEGER,
    output_audio_tokens INTEGER,
    input_image_tokens INTEGER,
    output_image_tokens INTEGER,
    input_video_tokens INTEGER,
    web_searches INTEGER,
    tool_calls_billed INTEGER,
    search_units INTEGER,
    characters INTEGER,
    audio_ms INTEGER,
    images INTEGER,
    video_ms INTEGER,
    requests_billed INTEGER,
    attempts INTEGER,
    ttft_ms INTEGER,
    reported_cost_nanousd INTEGER,
    operation TEXT,
    service_tier TEXT,
    region TEXT,
    streamed INTEGER,
    partial INTEGER,
    estimated INTEGER,
    usage_missing INTEGER,
    user TEXT,
    session TEXT,
    agent TEXT,
    parent_agent TEXT,
    team TEXT,
    project TEXT,
    request TEXT,
    tags TEXT,
    PRIMARY KEY (project_id, epoch, seq)
) STRICT""",
    "CREATE INDEX receipts_by_time ON receipts (project_id, at_ms)",
    # An answer to a receipt may be lost after it was stored: these tables make a second sending harmless.
    """CREATE TABLE bare_receipts (
    project_id INTEGER NOT NULL,
    key_hash TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (project_id, key_hash)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE refusals (
    project_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    field TEXT NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (project_id, epoch, seq)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE epochs (
    project_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    "release" TEXT NOT NULL,
    host TEXT NOT NULL,
    first_received_ms INTEGER NOT NULL,
    last_received_ms INTEGER NOT NULL,
    last_sent_ms INTEGER NOT NULL,
    min_seq INTEGER NOT NULL,
    max_seq INTEGER NOT NULL,
    received INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    generated INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    spooled INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    unmetered INTEGER NOT NULL,
    unrecognised INTEGER NOT NULL,
    faults INTEGER NOT NULL,
    PRIMARY KEY (project_id, epoch)
) STRICT, WITHOUT ROWID""",
    *(
        f"""CREATE TABLE {table} (
    project_id INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    value TEXT NOT NULL,{_SUMS}
    PRIMARY KEY (project_id, dimension, start_ms, value)
) STRICT, WITHOUT ROWID"""
        for table in ("hourly", "daily")
    ),
    # What the sink left and the ledger could not read: kept for a person to look at, never in the way.
    """CREATE TABLE inbox_rejected (
    received_ms INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    error TEXT NOT NULL
) STRICT""",
    INBOX,
)

# What never came, kept as it happens: asking for it must not read the receipts.
_GAPS = (
    """CREATE TABLE gaps (
    project_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    PRIMARY KEY (project_id, epoch, first_seq)
) STRICT, WITHOUT ROWID""",
    *(
        f"ALTER TABLE epochs ADD COLUMN {name} INTEGER NOT NULL DEFAULT {default}"
        for name, default in (
            ("missing", 0),
            ("duplicates", 0),
            ("late", 0),
            ("late_max_ms", 0),
            ("clock_adjusted", 0),
            ("ended", -1),
        )
    ),
    "ALTER TABLE epochs ADD COLUMN offset_ms INTEGER",
    "ALTER TABLE epochs ADD COLUMN offset_since_ms INTEGER",
    """INSERT INTO gaps SELECT project_id, epoch, before + 1, seq - 1 FROM (
    SELECT project_id, epoch, seq, LAG(seq, 1, -1) OVER (PARTITION BY project_id, epoch ORDER BY seq) AS before FROM (
        SELECT project_id, epoch, seq FROM receipts WHERE epoch NOT LIKE 'bare:%'
        UNION ALL SELECT project_id, epoch, seq FROM refusals
    )
) WHERE seq > before + 1""",
    """UPDATE epochs SET missing = (
    SELECT COALESCE(SUM(last_seq - first_seq + 1), 0) FROM gaps
    WHERE gaps.project_id = epochs.project_id AND gaps.epoch = epochs.epoch
)""",
    "CREATE INDEX epochs_by_time ON epochs (project_id, last_received_ms)",
    # The order in which receipts came in, for whoever follows them live. One row for each run of a batch, the
    # oldest forgotten: an index on every receipt would cost each of them, for ever.
    """CREATE TABLE arrivals (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL
) STRICT""",
)

# A stored cost changes only by a recorded act: the record stands first, and the file itself holds to that.
_REPRICING = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE repricings (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    scope TEXT NOT NULL,
    changed INTEGER NOT NULL,
    before_nanousd INTEGER NOT NULL,
    after_nanousd INTEGER NOT NULL
) STRICT""",
    """CREATE TABLE repriced (
    project_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    repricing_id INTEGER NOT NULL,
    cost_before INTEGER,
    row_before TEXT,
    reason_before TEXT,
    cost_after INTEGER NOT NULL,
    row_after TEXT NOT NULL,
    PRIMARY KEY (project_id, epoch, seq, repricing_id)
) STRICT, WITHOUT ROWID""",
    """CREATE TRIGGER receipts_are_immutable BEFORE UPDATE ON receipts
WHEN NOT EXISTS (
    SELECT 1 FROM repriced
    WHERE project_id = NEW.project_id AND epoch = NEW.epoch AND seq = NEW.seq AND cost_before IS OLD.cost_nanousd
    AND cost_after = NEW.cost_nanousd AND row_after = NEW.price_row AND NEW.unpriced_reason IS NULL
    AND repricing_id = (SELECT MAX(id) FROM repricings WHERE project_id = NEW.project_id)
)
BEGIN SELECT RAISE(ABORT, 'a stored cost changes only by a recorded repricing'); END""",
)

# Receipts as SQL is written for by hand: one row a call, dollars. Read only, as every view is in SQLite. A time is
# written as SQLite's own `datetime('now')` is, so that comparing the two as text is right. A call without a price has
# none here either. `id` tells rows apart, and no more.
_REQUESTS = (
    """CREATE VIEW requests AS SELECT
    rowid AS id,
    strftime('%Y-%m-%d %H:%M:%f', at_ms / 1000.0, 'unixepoch') AS timestamp,
    model,
    feature,
    input_tokens,
    output_tokens,
    round(CAST(latency_ms AS REAL), 1) AS latency_ms,
    round(cost_nanousd / 1e9, 6) AS cost_usd
FROM receipts WHERE project_id = (SELECT min(id) FROM projects)""",
)

#: `MIGRATIONS[n]` brings a file from version n to n + 1
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    *(_FIRST, _GAPS, BUDGETS, _REPRICING, ACCESS, RETENTION, ALERTS, PEOPLE),
    *(FORGETTING, QUERIES, OPENED, TALLIES, SAVED, _REQUESTS, ROOM),
    *(SUBJECTS, CALLERS, GIVEN, SHARED, TAKEN, TAKEN_UNITS),
)
VERSION = len(MIGRATIONS)

#: the ledger's mark in the file's header (`PRAGMA application_id`): "AICG"
APPLICATION_ID = 0x41494347
