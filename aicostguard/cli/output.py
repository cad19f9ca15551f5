"""What a command prints, and what becomes of it when nobody takes it: a pipe that is closed, a disk that is full.

Owns that such an end is one sentence and an exit code, never a traceback. Runs on CPython 3.9, without any extra.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Callable

#: errors of writing that say nothing of a fault of ours
_REFUSED = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EBADF", "EROFS", "ENXIO")
    if hasattr(errno, name)
)


class Closed(Exception):
    """Whoever read what was printed has gone."""


def told(command: Callable[[], int]) -> int:
    """Run a command and have all that it printed written. Returns its exit code, or 1 when that could not be.

    Whoever closes a pipe has read enough (`aicg costs | head`): that is 0. What a terminal's encoding lacks is escaped.
    """
    if sys.stdout is None:  # started with it closed: there is nobody to tell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 -- for the life of the process, as the one it stands for
    if hasattr(sys.stdout, "reconfigure") and (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command()
        sys.stdout.flush()
        return code
    except (BrokenPipeError, Closed):
        _closed()
        return 0
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        _closed()
        sys.stderr.write("aicg: cannot write: %s\n" % (error.strerror or error))
        return 1


def _closed() -> None:
    """Let the interpreter's own flush at its end find somebody who takes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
