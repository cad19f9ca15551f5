"""A file of which no record says anything is deleted, by the next act if this one is killed before.

Owns the one name that is on its way out or not in yet. It is noted in the transaction that makes the file superfluous,
or before a file is begun, and forgotten with the record of it. If this is wrong, a file stays that nobody knows of,
maybe with a name in it that was forgotten.
"""

from __future__ import annotations

import glob
import os
import sqlite3

from aicostguard.ledger.keeping import books
from aicostguard.ledger.sqlite import SqliteStore, repriced

SETTING = "archive_to_delete"


def note(connection: sqlite3.Connection, file: str | None) -> None:
    """No record names this file, or none does yet; None when one has come to."""
    repriced.remember(connection, SETTING, file)


def clear(store: SqliteStore, folder: str) -> None:
    """Delete the file that was noted, its manifest, and what was written of both."""
    name = store.setting(SETTING)
    if not name:
        return
    if not store.look(lambda connection: books.archives(connection, "file = ? AND state <> 'restored'", (name,))):
        path = os.path.join(folder, name)
        for left in (path, *glob.glob(glob.escape(path) + ".*")):
            if os.path.exists(left):
                os.unlink(left)
    store.remember(SETTING, None)
