"""Keys made, listed, changed, rotated and revoked.

Owns their rows and the lines about them in the audit log. The ledger holds a key's hash; whoever makes one sees it
once. Nobody gives rights that they do not have themselves.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Sequence

from aicostguard.config import mask
from aicostguard.ledger import keys, secret
from aicostguard.ledger.access import audit, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.principal import PROJECT, roles
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import Key
from aicostguard.ledger.sqlite import read


def told(key: Key) -> dict[str, Any]:
    """A key as the audit log and the API tell of it: never the key."""
    return {
        "id": key.id,
        "key": key.shown[:9],
        "name": key.name,
        "roles": list(roles(key.scopes)),
        "reach": key.reach,
        "expires_ms": key.expires_ms,
        "per_minute": key.per_minute,
        "max_bytes": key.max_bytes,
    }


def add(
    connection: sqlite3.Connection,
    project_id: int,
    scopes: Sequence[str],
    actor: Actor,
    now_ms: int,
    *,
    name: str = "",
    reach: str = PROJECT,
    expires_ms: int | None = None,
    per_minute: int | None = None,
    max_bytes: int | None = None,
) -> tuple[str, Key]:
    """`(the key, its entry)`. Raises `Refused` (409) for a project that is archived."""
    within = places.project(connection, project_id)
    if within.archived_ms is not None:
        raise Refused(409, f"the project {within.name} is archived; take it back first", "project")
    made = keys.make()
    entry = _insert(connection, made, project_id, name, scopes, now_ms, reach, expires_ms, per_minute, max_bytes)
    _note(connection, now_ms, actor, "key.created", entry, after=told(entry))
    return made, entry


def listed(connection: sqlite3.Connection, project_id: int) -> list[Key]:
    """All keys of a project, in the order they were made."""
    return [key for _, key in read.key_rows(connection, "keys.project_id = ?", (project_id,))]


def found(connection: sqlite3.Connection, project_id: int, name: str) -> Key:
    """One by its id, or by what it begins with (nine characters or more). Raises `Refused`: 404, or 422 for several."""
    begins = name.rstrip("•")
    where, value = "substr(keys.hash, 1, 16) = ?", begins
    if begins.startswith("aicg_") and len(begins) > 9:
        where, value = "keys.hash = ?", secret.hash_key(begins)
    elif begins.startswith("aicg_"):
        where = "keys.revoked_ms IS NULL AND substr(keys.shown, 1, 9) = ?"
    rows = read.key_rows(connection, f"keys.project_id = ? AND {where}", (project_id, value))
    if not rows:
        shown = begins[:9] if begins.startswith("aicg_") else begins[:16]
        raise Refused(404, f"no key in force begins with {shown!a}; `aicg keys list` shows them", "key")
    if len(rows) > 1:
        raise Refused(422, f"{len(rows)} keys begin with {begins}; give the id, or the whole key", "key")
    return rows[0][1]


def change(connection: sqlite3.Connection, key: Key, actor: Actor, now_ms: int, **values: Any) -> Key:
    """Set `name`, `expires_ms`, `per_minute` or `max_bytes`."""
    assert set(values) <= {"name", "expires_ms", "per_minute", "max_bytes"}
    before = {name: getattr(key, name) for name, value in values.items() if getattr(key, name) != value}
    if not before:
        return key
    sets = ", ".join(f"{name} = ?" for name in before)
    after = {name: values[name] for name in before}
    connection.execute(f"UPDATE keys SET {sets} WHERE substr(hash, 1, 16) = ?", (*after.values(), key.id))
    changed = key._replace(**after)
    _note(connection, now_ms, actor, "key.changed", changed, before=before, after=after)
    return changed


def rotate(connection: sqlite3.Connection, key: Key, grace_ms: int, actor: Actor, now_ms: int) -> tuple[str, Key]:
    """A new key that may what the old one may; the old one ends after a grace, or (0) now. Raises `Refused` (409)."""
    if key.revoked_ms is not None:
        raise Refused(409, "this key was revoked already; make a new one instead", "key")
    if key.expires_ms is not None and key.expires_ms <= now_ms:
        raise Refused(409, "this key has expired already; make a new one instead", "key")
    span = None if key.expires_ms is None else key.expires_ms - key.created_ms
    made = keys.make()
    expires_ms = None if span is None else now_ms + span
    entry = _insert(
        connection,
        made,
        key.project_id,
        key.name,
        key.scopes,
        now_ms,
        key.reach,
        expires_ms,
        key.per_minute,
        key.max_bytes,
    )
    if grace_ms:
        ends_ms = min(now_ms + grace_ms, key.expires_ms or now_ms + grace_ms)
        connection.execute("UPDATE keys SET expires_ms = ? WHERE substr(hash, 1, 16) = ?", (ends_ms, key.id))
        before = {**told(key), "expires_ms": ends_ms}
    else:
        connection.execute("UPDATE keys SET revoked_ms = ? WHERE substr(hash, 1, 16) = ?", (now_ms, key.id))
        before = {**told(key), "revoked_ms": now_ms}
    _note(connection, now_ms, actor, "key.rotated", entry, before=before, after=told(entry))
    return made, entry


def revoke(connection: sqlite3.Connection, key: Key, actor: Actor, now_ms: int) -> Key:
    """End a key, at once and for good. Again is no change."""
    if key.revoked_ms is not None:
        return key
    connection.execute("UPDATE keys SET revoked_ms = ? WHERE substr(hash, 1, 16) = ?", (now_ms, key.id))
    _note(connection, now_ms, actor, "key.revoked", key, before=told(key))
    return key._replace(revoked_ms=now_ms)


def used(connection: sqlite3.Connection, when: dict[str, int]) -> None:
    """Keep when keys, by their id, were last used."""
    connection.executemany(
        "INSERT INTO key_uses (key_id, last_ms) VALUES (?, ?) "
        "ON CONFLICT (key_id) DO UPDATE SET last_ms = max(last_ms, excluded.last_ms)",
        when.items(),
    )


def _insert(
    connection: sqlite3.Connection,
    key: str,
    project_id: int,
    name: str,
    scopes: Sequence[str],
    now_ms: int,
    reach: str,
    expires_ms: int | None,
    per_minute: int | None,
    max_bytes: int | None,
) -> Key:
    values = (
        secret.hash_key(key),
        project_id,
        mask(key),
        name,
        " ".join(scopes),
        now_ms,
        reach,
        expires_ms,
        per_minute,
        max_bytes,
    )
    connection.execute(
        "INSERT INTO keys (hash, project_id, shown, name, scopes, created_ms, reach, expires_ms, per_minute, "
        "max_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    return read.key_rows(connection, "keys.hash = ?", values[:1])[0][1]


def _note(connection: sqlite3.Connection, now_ms: int, actor: Actor, what: str, key: Key, **more: Any) -> None:
    audit.note(
        connection,
        now_ms,
        actor,
        what,
        f"{key.shown[:9]} ({key.name})" if key.name else key.shown[:9],
        organisation_id=key.organisation_id,
        project_id=key.project_id,
        **more,
    )
