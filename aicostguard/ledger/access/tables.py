"""The tables of access, as steps forward of the SQLite store's schema: see `sqlite.schema`, which numbers them.

Owns these statements. A step, once released, is never edited: a change is a new step.
"""

from __future__ import annotations

# Who may do what, and who did. `key_uses` stands beside `keys`, so that a use never touches the row that decides.
ACCESS = (
    "ALTER TABLE organisations ADD COLUMN archived_ms INTEGER",
    "ALTER TABLE projects ADD COLUMN archived_ms INTEGER",
    "ALTER TABLE keys ADD COLUMN reach TEXT NOT NULL DEFAULT 'project'",
    *(f"ALTER TABLE keys ADD COLUMN {name} INTEGER" for name in ("expires_ms", "per_minute", "max_bytes")),
    "CREATE TABLE key_uses (key_id TEXT PRIMARY KEY, last_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    organisation_id INTEGER,
    project_id INTEGER,
    who TEXT NOT NULL,
    address TEXT NOT NULL,
    what TEXT NOT NULL,
    target TEXT NOT NULL,
    before TEXT,
    after TEXT
) STRICT""",
    "CREATE INDEX audit_by_project ON audit (project_id, id)",
    "CREATE INDEX audit_by_organisation ON audit (organisation_id, id)",
    *(
        f"""CREATE TRIGGER audit_is_not_{past} BEFORE {act} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is added to and never changed'); END"""
        for act, past in (("UPDATE", "changed"), ("DELETE", "cut"))
    ),
)

# People. Of whatever logs somebody in there is a hash here, and nothing else.
PEOPLE = (
    """CREATE TABLE people (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password TEXT,
    issuer TEXT,
    subject TEXT,
    created_ms INTEGER NOT NULL,
    disabled_ms INTEGER
) STRICT""",
    "CREATE UNIQUE INDEX people_by_subject ON people (issuer, subject) WHERE subject IS NOT NULL",
    """CREATE TABLE person_roles (
    person_id INTEGER NOT NULL,
    reach TEXT NOT NULL,
    target_id INTEGER NOT NULL,
    source TEXT NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (person_id, reach, target_id, source)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE sessions (
    hash TEXT PRIMARY KEY,
    person_id INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    address TEXT NOT NULL
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX sessions_by_person ON sessions (person_id)",
    "CREATE TABLE codes (hash TEXT PRIMARY KEY, person_id INTEGER NOT NULL, expires_ms INTEGER NOT NULL) STRICT",
    "CREATE TABLE devices (hash TEXT PRIMARY KEY, person_id INTEGER NOT NULL, created_ms INTEGER NOT NULL) STRICT",
    # Log-ins at an issuer that are under way: each is taken out by the one answer that it is for.
    """CREATE TABLE logins (
    state TEXT PRIMARY KEY,
    browser TEXT NOT NULL,
    target TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID""",
)

# The dashboard opened with a key instead of an account: links that are good once, and the sessions behind them.
OPENED = (
    """CREATE TABLE key_sessions (
    hash TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    address TEXT NOT NULL
) STRICT, WITHOUT ROWID""",
    "CREATE TABLE key_links (hash TEXT PRIMARY KEY, key_id TEXT NOT NULL, expires_ms INTEGER NOT NULL) STRICT",
)
