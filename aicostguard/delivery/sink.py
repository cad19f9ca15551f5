"""The local sink: envelopes into the `inbox` table of a ledger file (`AICG_URL=sqlite:///path`).

Owns the table's DDL, which the ledger shares word for word, and the insert. Knows nothing else of the
ledger: whoever opens it takes the rows out through the same door as HTTP. One connection per envelope: a
connection that lives across a fork corrupts the file (https://www.sqlite.org/howtocorrupt.html, 2.6).
"""

from __future__ import annotations

import os

from aicostguard.clock import clock
from aicostguard.delivery import reply as replies
from aicostguard.delivery.reply import Reply

DDL = "CREATE TABLE IF NOT EXISTS inbox (id INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, envelope BLOB NOT NULL)"

#: seconds to wait for another writer
BUSY_SECONDS = 5.0


class Sink:
    """Writes envelopes to one file. Safe from several threads."""

    def __init__(self, path: str) -> None:
        self._path = path

    def post(self, body: bytes, deadline: float) -> Reply:
        """Store one envelope; `deadline` in monotonic seconds."""
        import sqlite3

        busy = max(0.05, min(BUSY_SECONDS, deadline - clock.monotonic()))
        try:
            if not os.path.exists(self._path):
                _create(self._path)
            # The journal mode is the ledger's decision: a file in WAL stays in WAL, a new one is left as it is.
            connection = sqlite3.connect(self._path, timeout=busy)
            try:
                with connection:
                    connection.execute(DDL)
                    connection.execute(
                        "INSERT INTO inbox (received_ms, envelope) VALUES (?, ?)", (int(clock.time() * 1000), body)
                    )
            finally:
                connection.close()
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return Reply(replies.LOST, detail="locked")
            return Reply(replies.BROKEN, detail=type(error).__name__)
        except (sqlite3.Error, OSError) as error:
            return Reply(replies.BROKEN, detail=type(error).__name__)
        return Reply(replies.TAKEN)

    def close(self) -> None:
        """Nothing is kept open."""


def _create(path: str) -> None:
    """An empty file that only its owner reads; SQLite would make it readable for everybody."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        pass  # another process was faster
