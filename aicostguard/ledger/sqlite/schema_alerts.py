"""The tables of alerts: steps of `schema.MIGRATIONS`, which are never edited once they are released.

Amounts are integers: money in nano-dollars, all else in millionths. `alerts` is one row for each time something went
past its line; the notices of it are written in the same transaction: none is lost, none made twice.
"""

from __future__ import annotations

ALERTS = (
    # Which projects have been given the rules there are from the start: removing one is for good.
    "CREATE TABLE alert_projects (project_id INTEGER PRIMARY KEY, given_ms INTEGER NOT NULL) STRICT",
    """CREATE TABLE alert_rules (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    rule TEXT NOT NULL,
    changed_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    fault TEXT,
    fault_ms INTEGER,
    UNIQUE (project_id, name)
) STRICT""",
    """CREATE TABLE alerts (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    rule_id INTEGER NOT NULL,
    rule TEXT NOT NULL,
    kind TEXT NOT NULL,
    action TEXT NOT NULL,
    scope TEXT NOT NULL,
    state TEXT NOT NULL,
    period_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    quiet_ms INTEGER,
    value INTEGER NOT NULL,
    peak INTEGER NOT NULL,
    line INTEGER NOT NULL,
    text TEXT NOT NULL,
    more TEXT NOT NULL,
    snoozed_ms INTEGER NOT NULL,
    who TEXT NOT NULL
) STRICT""",
    "CREATE INDEX alerts_by_scope ON alerts (rule_id, scope, id)",
    "CREATE UNIQUE INDEX alerts_open ON alerts (rule_id, scope) WHERE ended_ms IS NULL",
    "CREATE INDEX alerts_by_project ON alerts (project_id, id)",
    """CREATE TABLE alert_channels (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    shown TEXT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    UNIQUE (project_id, name)
) STRICT""",
    # What is to be sent. `state`: waiting, sending, sent, failed. `key` is what a receiver knows a second one by.
    """CREATE TABLE alert_notices (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    channel_id INTEGER NOT NULL,
    event TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    message TEXT NOT NULL,
    state TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    ended_ms INTEGER
) STRICT""",
    "CREATE INDEX alert_notices_by_next ON alert_notices (next_ms) WHERE state IN ('waiting', 'sending')",
    "CREATE INDEX alert_notices_by_channel ON alert_notices (channel_id, id)",
    """CREATE TABLE alert_attempts (
    notice_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    took_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    said TEXT NOT NULL,
    PRIMARY KEY (notice_id, number)
) STRICT, WITHOUT ROWID""",
    # Spend by the minute of the call, for windows that are shorter than an hour; and the dearest call of those that
    # came in a minute. Both follow `arrivals`, as budgets do, up to `counted_to`.
    """CREATE TABLE alert_minutes (
    project_id INTEGER NOT NULL,
    minute_ms INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    unpriced_calls INTEGER NOT NULL,
    PRIMARY KEY (project_id, minute_ms)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE alert_dearest (
    project_id INTEGER NOT NULL,
    minute_ms INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    feature TEXT,
    PRIMARY KEY (project_id, minute_ms)
) STRICT, WITHOUT ROWID""",
    "CREATE TABLE alert_counted (id INTEGER PRIMARY KEY, counted_to INTEGER NOT NULL) STRICT",
    "INSERT INTO alert_counted SELECT 1, COALESCE(max(id), 0) FROM arrivals",
)

#: how many of the rules that there are from the start a project has been given: there were eight when it was not noted
GIVEN = ("ALTER TABLE alert_projects ADD COLUMN rules INTEGER NOT NULL DEFAULT 8",)
