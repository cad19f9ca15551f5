"""Steps of the schema that keep a file small and let people be forgotten. Part of `schema`, whose rules hold here.

A receipt changes or goes only by a recorded act: the record stands first, and the file itself holds to that.
"""

from __future__ import annotations

# Raw receipts that are no longer here: where they are, and what of the sums they are. `gone` (measure → amount, JSON)
# and `gone_rows` say how much of an archive is no row of `receipts` at this moment: sums = receipts + gone, always.
# State: writing → removing → archived (or deleted, by rule, without a file) → restoring → restored.
RETENTION = (
    """CREATE TABLE retention (
    project_id INTEGER PRIMARY KEY,
    days INTEGER NOT NULL,
    keep TEXT NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT""",
    """CREATE TABLE archives (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    day_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    file TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    sums TEXT NOT NULL,
    gone_rows INTEGER NOT NULL,
    gone TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT""",
    "CREATE INDEX archives_by_day ON archives (project_id, day_ms, state)",
    # Archived receipts that the books of their process do not tell: of no process, or refused at another time.
    """CREATE TABLE archived_apart (
    project_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (project_id, epoch, seq)
) STRICT, WITHOUT ROWID""",
    """CREATE TRIGGER receipts_go_by_record BEFORE DELETE ON receipts
WHEN NOT EXISTS (
    SELECT 1 FROM archives
    WHERE project_id = OLD.project_id AND day_ms = OLD.at_ms - OLD.at_ms % 86400000 AND state = 'removing'
)
BEGIN SELECT RAISE(ABORT, 'a receipt goes only by a recorded act of retention'); END""",
)
