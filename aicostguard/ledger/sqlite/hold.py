"""Who has a ledger file open: a lock that every opener shares, and that a restore wants alone.

Owns the file `LEDGER-open`, which says nothing but is locked. Without it a restore could put a file in place
under a running server, whose next commit would go to the old one and be acknowledged.
"""

from __future__ import annotations

import os
import time

from aicostguard.ledger.errors import Busy, NotWritable

try:
    import fcntl
except ImportError:  # without flock a restore cannot see who has the file open; the docs say to stop the server
    _FLOCK = False
else:
    _FLOCK = True

#: how long an opener waits for another's start, whose check of a large file takes seconds, or for a restore
PATIENCE_S = 20.0
_POLL_S = 0.02


class Hold:
    """A share in a ledger file, or all of it. Released by `close`, and by the end of the process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1
        if not _FLOCK:
            return
        try:
            # Whatever name it is opened by: SQLite, too, keeps what belongs to a file beside the file itself.
            self._file = os.open(os.path.realpath(path) + "-open", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NotWritable(f"{path}-open, the lock of the ledger, cannot be opened: {error.strerror}") from error

    def share(self) -> None:
        """Hold the file beside others. Raises `Busy` while somebody has it alone for too long."""
        if not self._wait(shared=True, patience_s=PATIENCE_S):
            raise Busy(f"{self._path} is being restored, or checked by another start; try again")

    def alone(self, patience_s: float = 0.0) -> bool:
        """Hold the file alone; False when somebody else has it open."""
        return self._wait(shared=False, patience_s=patience_s)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _wait(self, *, shared: bool, patience_s: float) -> bool:
        if self._file < 0:
            return True
        deadline = time.monotonic() + patience_s
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while True:
            try:
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_POLL_S)
