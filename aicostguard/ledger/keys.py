"""Keys: how they are made, what they may do, and the file that holds the first one.

Owns scopes and the key file. A key is shown in full once, to whoever made it; afterwards only its first nine
characters. Never logs one. If this is wrong, anybody who reaches the port reads or forges costs.
"""

from __future__ import annotations

import os
import re
import time

from aicostguard.ledger import secret
from aicostguard.ledger.errors import NotWritable, Refused
from aicostguard.ledger.model import Key
from aicostguard.ledger.store import Store

#: scope → what it allows
SCOPES = {
    "ingest": "send receipts and ask for room in budgets",
    "read": "ask for costs and receipts",
    "manage": "change budgets, keys and settings",
}
_KEY = re.compile(r"aicg_[A-Za-z0-9]{32,64}\Z")


def make() -> str:
    """A new key: `aicg_` and 40 letters and digits, 238 bits."""
    return secret.make("aicg_")


def authorise(store: Store, header: str | None, *scopes: str) -> Key:
    """The key of an `Authorization` header that has one of `scopes`.

    Raises `Refused`: 401 for no valid key, 403 for one without the scope.
    """
    found = known(store, header, time.time_ns() // 1_000_000)
    allowed(found.scopes, scopes, found.archived, "this key")
    return found


def known(store: Store, header: str | None, now_ms: int) -> Key:
    """The key of an `Authorization` header, if it is in force. Raises `Refused` (401)."""
    if not header:
        raise Refused(401, "a key is needed: send the header Authorization: Bearer aicg_…")
    kind, _, key = header.partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise Refused(401, "the header must read Authorization: Bearer aicg_…")
    found = store.find_key(key.strip())
    if found is None:
        raise Refused(401, "this key is not known here; `aicg keys list` shows which are")
    in_force(found, now_ms)
    return found


def in_force(found: Key, now_ms: int) -> None:
    """Refuse (401) a key that is over."""
    if found.revoked_ms is not None:
        raise Refused(401, "this key was revoked; ask for a new one, or make it with `aicg keys create`")
    if found.expires_ms is not None and found.expires_ms <= now_ms:
        raise Refused(401, "this key has expired; ask for a new one, or make it with `aicg keys create`")


def allowed(has: tuple[str, ...], scopes: tuple[str, ...], archived: bool, who: str) -> None:
    """Refuse (403) one that has none of `scopes`, or that would change what is archived."""
    usable = set(scopes) & set(has)
    if not usable:
        raise Refused(403, f"{who} may not {SCOPES[scopes[0]]}; it lacks the scope {scopes[0]}")
    if archived and "read" not in usable:
        raise Refused(403, "this project is archived: it can be read, and takes nothing in; an admin can take it back")


def first_key(store: Store, path: str, now_ms: int) -> tuple[str | None, bool]:
    """The key in the file at `path` and whether it was made just now; made for a ledger that has none.

    A key that already stands in the file is registered with the ledger, so that one can be handed in by the
    operator. `(None, False)` when the file is gone but the ledger has keys. Raises `NotWritable`.
    """
    project_id = store.default_project()
    key = _read(path)
    if key is not None:
        if store.find_key(key) is None:
            store.add_key(key, "first", tuple(SCOPES), project_id, now_ms)
        return key, False
    if store.keys(project_id):
        return None, False
    key = make()
    # The file first: a key that the ledger knows and nobody can read would lock the operator out.
    _write(path, key)
    store.add_key(key, "first", tuple(SCOPES), project_id, now_ms)
    return key, True


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(200).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotWritable(f"the key file {path} cannot be read: {error.strerror}") from error
    if not _KEY.match(text):
        raise NotWritable(
            f"the key file {path} holds no key (aicg_ and 32 to 64 letters and digits). Remove it, or name another "
            "with --key-file"
        )
    return text


def _write(path: str, key: str) -> None:
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
    except OSError as error:
        raise NotWritable(f"the key file {path} cannot be written: {error.strerror}") from error
