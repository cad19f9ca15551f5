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

#: the columns of a receipt when the triggers below were made; a step never changes, so this list does not either
_KEPT_BY_BOTH = [
    "project_id",
    "epoch",
    "seq",
    "at_ms",
    "received_ms",
    "clock_adjusted",
    "service",
    "environment",
    "release",
    "host",
    "provider",
    "model",
    "input_tokens",
    "output_tokens",
    "latency_ms",
    "feature",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation_1h_input_tokens",
    "reasoning_output_tokens",
    "input_audio_tokens",
    "cache_read_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "input_video_tokens",
    "web_searches",
    "tool_calls_billed",
    "search_units",
    "characters",
    "audio_ms",
    "images",
    "video_ms",
    "requests_billed",
    "attempts",
    "ttft_ms",
    "reported_cost_nanousd",
    "operation",
    "service_tier",
    "region",
    "streamed",
    "partial",
    "estimated",
    "usage_missing",
    "session",
    "agent",
    "parent_agent",
    "team",
    "project",
    "request",
]


def _same(names: list[str]) -> str:
    return " AND ".join(f'NEW."{name}" IS OLD."{name}"' for name in names)


# Forgetting a user: the record says who did it, when and how much was changed, and never the name. While it is open, a
# receipt's `user` and `tags` may change to its pseudonym, and nothing else; the audit log likewise.
FORGETTING = (
    """CREATE TABLE forgettings (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    pseudonym TEXT NOT NULL,
    state TEXT NOT NULL,
    receipts INTEGER NOT NULL,
    archived INTEGER NOT NULL,
    others INTEGER NOT NULL,
    ended_ms INTEGER
) STRICT""",
    "CREATE INDEX forgettings_by_state ON forgettings (state)",
    "DROP TRIGGER receipts_are_immutable",
    f"""CREATE TRIGGER receipts_are_immutable BEFORE UPDATE ON receipts
WHEN NOT (({_same([*_KEPT_BY_BOTH, "user", "tags"])} AND EXISTS (
    SELECT 1 FROM repriced
    WHERE project_id = NEW.project_id AND epoch = NEW.epoch AND seq = NEW.seq AND cost_before IS OLD.cost_nanousd
    AND cost_after = NEW.cost_nanousd AND row_after = NEW.price_row AND NEW.unpriced_reason IS NULL
    AND repricing_id = (SELECT MAX(id) FROM repricings WHERE project_id = NEW.project_id)
)) OR ({_same([*_KEPT_BY_BOTH, "cost_nanousd", "price_row", "unpriced_reason"])} AND EXISTS (
    SELECT 1 FROM forgettings WHERE state = 'open' AND project_id = NEW.project_id
    AND (NEW.user IS OLD.user OR NEW.user = pseudonym)
    AND (NEW.tags IS OLD.tags OR instr(NEW.tags, pseudonym))
)))
BEGIN SELECT RAISE(ABORT, 'a stored receipt changes only by a recorded repricing or forgetting'); END""",
    "DROP TRIGGER audit_is_not_changed",
    f"""CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
WHEN NOT (
    {_same(["id", "at_ms", "organisation_id", "project_id", "who", "address", "what"])}
    AND EXISTS (SELECT 1 FROM forgettings WHERE state = 'open')
)
BEGIN SELECT RAISE(ABORT, 'the audit log is added to and never changed'); END""",
)
