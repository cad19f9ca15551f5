"""The dashboard opened with a key: links that are good once, and the sessions that they and keys begin.

Owns these rows. A ledger of one person or team has keys and no accounts; whoever holds a key that may read opens the
dashboard with it, and may there what the key may. The browser never holds the key: it holds a session's token, of which
the ledger has a hash. The session is over when the key is, at once.
"""

from __future__ import annotations

import sqlite3

from aicostguard.ledger import secret
from aicostguard.ledger.access import sessions
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import Key
from aicostguard.ledger.sqlite import read

#: setting: where people find this ledger; without it, where `aicg serve` listens if nobody says otherwise
PUBLIC_URL, DEFAULT_HOST, DEFAULT_PORT = "AICG_PUBLIC_URL", "127.0.0.1", 8090
#: how long a link is good for, if nobody uses it
LINK_MS = 10 * 60_000
#: what a session's token begins with; one of a person begins otherwise
TOKEN = "aicgk_"
#: sessions of one key; beyond, the oldest ends
MOST_SESSIONS = 200
#: what links and sessions of these kinds begin with
_LINK = "aicgl_"


def link(connection: sqlite3.Connection, key_id: str, now_ms: int) -> str:
    """A code that opens the dashboard with a key, once, within ten minutes."""
    made = secret.make(_LINK)
    connection.execute("DELETE FROM key_links WHERE expires_ms <= ?", (now_ms,))
    connection.execute("INSERT INTO key_links VALUES (?, ?, ?)", (secret.hash_key(made), key_id, now_ms + LINK_MS))
    return made


def address(url: str, code: str) -> str:
    """The link of a code. Behind the # it reaches no server's log, and nobody on the way."""
    return f"{url}/login#{code}"


def taken(connection: sqlite3.Connection, code: str, now_ms: int) -> str:
    """The id of the key that a link opens with; the link is used up by that. Raises `Refused` (401)."""
    row = connection.execute(
        "DELETE FROM key_links WHERE hash = ? AND expires_ms > ? RETURNING key_id", (secret.hash_key(code), now_ms)
    ).fetchone()
    if row is None:
        raise Refused(
            401, "this link was used already, or is older than ten minutes; `aicg dashboard` makes another", "link"
        )
    return str(row[0])


def begin(connection: sqlite3.Connection, key_id: str, address: str, now_ms: int) -> str:
    """A new session; returns its token."""
    token = secret.make(TOKEN)
    connection.execute(
        "DELETE FROM key_sessions WHERE seen_ms <= ? OR created_ms <= ?",
        (now_ms - sessions.IDLE_MS, now_ms - sessions.MOST_MS),
    )
    connection.execute(
        "INSERT INTO key_sessions VALUES (?, ?, ?, ?, ?)", (secret.hash_key(token), key_id, now_ms, now_ms, address)
    )
    connection.execute(
        "DELETE FROM key_sessions WHERE key_id = ? AND hash NOT IN "
        "(SELECT hash FROM key_sessions WHERE key_id = ? ORDER BY created_ms DESC, hash LIMIT ?)",
        (key_id, key_id, MOST_SESSIONS),
    )
    return token


def found(connection: sqlite3.Connection, token: str) -> tuple[sessions.Session, Key] | None:
    """A session and its key, in force or not; `person_id` says nothing."""
    row = connection.execute(
        "SELECT hash, key_id, created_ms, seen_ms FROM key_sessions WHERE hash = ?", (secret.hash_key(token),)
    ).fetchone()
    if row is None:
        return None
    key = of_id(connection, row[1])
    return None if key is None else (sessions.Session(row[0], 0, row[2], row[3]), key)


def of_id(connection: sqlite3.Connection, key_id: str) -> Key | None:
    """A key by its id."""
    rows = read.key_rows(connection, "substr(keys.hash, 1, 16) = ?", (key_id,))
    return rows[0][1] if rows else None


def end(connection: sqlite3.Connection, token: str | None, *, everywhere: bool = False) -> None:
    """End a session, or all of its key."""
    if not token:
        return
    hashed = secret.hash_key(token)
    if everywhere:
        connection.execute(
            "DELETE FROM key_sessions WHERE key_id = (SELECT key_id FROM key_sessions WHERE hash = ?)", (hashed,)
        )
    connection.execute("DELETE FROM key_sessions WHERE hash = ?", (hashed,))
