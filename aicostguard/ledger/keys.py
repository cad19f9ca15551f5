"""Keys: how they are made, what they may do, and the file that holds the first one.

Owns scopes and the key file. A key is shown in full once, to whoever made it; afterwards only its first nine
characters. Never logs one. If this is wrong, anybody who reaches the port reads or forges costs.
"""

from __future__ import annotations

import os
import re
import secrets
import string

from aicostguard.ledger.errors import NotWritable, Refused
from aicostguard.ledger.model import Key
from aicostguard.ledger.store import Store

#: scope → what it allows
SCOPES = {
    "ingest": "send receipts and ask for room in budgets",
    "read": "ask for costs and receipts",
    "manage": "set budgets",
}
_ALPHABET = string.ascii_letters + string.digits
_KEY = re.compile(r"aicg_[A-Za-z0-9]{32,64}\Z")


def make() -> str:
    """A new key: `aicg_` and 40 letters and digits, 238 bits."""
    return "aicg_" + "".join(secrets.choice(_ALPHABET) for _ in range(40))


def authorise(store: Store, header: str | None, *scopes: str) -> Key:
    """The key of an `Authorization` header that has one of `scopes`.

    Raises `Refused`: 401 for no valid key, 403 for one without the scope.
    """
    if not header:
        raise Refused(401, "a key is needed: send the header Authorization: Bearer aicg_…")
    kind, _, key = header.partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise Refused(401, "the header must read Authorization: Bearer aicg_…")
    found = store.find_key(key.strip())
    if found is None:
        raise Refused(401, "this key is not known here; `aicg keys list` shows which are")
    if found.revoked_ms is not None:
        raise Refused(401, "this key was revoked")
    if not set(scopes) & set(found.scopes):
        raise Refused(403, f"this key may not {SCOPES[scopes[0]]}; it lacks the scope {scopes[0]}")
    return found


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
