"""The tables of budgets: steps of `schema.MIGRATIONS`, which are never edited once they are released.

`counted_to` is the last of `arrivals` that a budget's counters hold, so that each receipt is counted exactly once
without ingest knowing of budgets. Amounts are integers of the rule's unit.
"""

from __future__ import annotations

BUDGETS = (
    """CREATE TABLE budgets (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    rule TEXT NOT NULL,
    counted_to INTEGER NOT NULL,
    stale INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    UNIQUE (project_id, name)
) STRICT""",
    # Who did what to a rule, kept for good: also of budgets that are gone.
    """CREATE TABLE budget_revisions (
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    rule TEXT NOT NULL,
    PRIMARY KEY (project_id, name, revision)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE budget_counters (
    budget_id INTEGER NOT NULL,
    scope TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    lapsed INTEGER NOT NULL,
    rate REAL NOT NULL,
    rate_ms INTEGER NOT NULL,
    PRIMARY KEY (budget_id, scope, start_ms)
) STRICT, WITHOUT ROWID""",
    # Opening balances and adjustments: what no receipt says.
    """CREATE TABLE budget_openings (
    budget_id INTEGER NOT NULL,
    scope TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (budget_id, scope, start_ms)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE budget_alerts (
    project_id INTEGER NOT NULL,
    budget TEXT NOT NULL,
    scope TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    threshold INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    "limit" INTEGER NOT NULL,
    unit TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (project_id, budget, scope, start_ms, threshold)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX budget_alerts_by_time ON budget_alerts (project_id, at_ms)",
    # A call that was let through. `state`: open, settled, released, receipt (a receipt told), unsettled (nobody did).
    """CREATE TABLE tickets (
    id TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    labels TEXT NOT NULL,
    bound_nanousd INTEGER,
    bound_tokens INTEGER,
    nanousd INTEGER,
    tokens INTEGER,
    key_hash TEXT,
    body_hash TEXT,
    answer TEXT NOT NULL
) STRICT, WITHOUT ROWID""",
    "CREATE UNIQUE INDEX tickets_by_key ON tickets (project_id, key_hash) WHERE key_hash IS NOT NULL",
    "CREATE INDEX tickets_by_end ON tickets (state, expires_ms)",
    "CREATE INDEX tickets_by_time ON tickets (project_id, at_ms)",
    # Receipts that came for a ticket: counted once, by the one or by the other.
    """CREATE TABLE ticket_receipts (
    ticket TEXT NOT NULL,
    project_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (ticket, epoch, seq)
) STRICT, WITHOUT ROWID""",
    # Room lent to a process, which spends of it without asking. `granted` only means something to holder and ledger
    # together; `held` is what of it no receipt of the holder has used up yet.
    """CREATE TABLE leases (
    budget_id INTEGER NOT NULL,
    scope TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    holder TEXT NOT NULL,
    turn INTEGER NOT NULL,
    granted INTEGER NOT NULL,
    held INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (budget_id, scope, start_ms, holder)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX leases_by_holder ON leases (holder)",
    "CREATE INDEX leases_by_end ON leases (expires_ms)",
    # What of a policy is no budget (`on_unpriced`, …), as JSON.
    """CREATE TABLE policies (
    project_id INTEGER PRIMARY KEY,
    settings TEXT NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT""",
    # Whoever could do all there was may do this, too.
    "UPDATE keys SET scopes = scopes || ' manage' WHERE scopes = 'ingest read'",
)

# A budget is a project's, or, with its `project_id` below zero, an organisation's. The column says so to whoever asks
# in SQL; that the file has a new version keeps a release away that would count past such a budget.
SHARED = (
    """ALTER TABLE budgets ADD COLUMN organisation_id INTEGER
GENERATED ALWAYS AS (CASE WHEN project_id < 0 THEN -project_id END) VIRTUAL""",
)
