"""Where our descriptors sit: high, where no file that the host program opens comes to sit.

A program that becomes a daemon closes every descriptor it finds, ours too, and the next file it opens gets the lowest
number that is free. We look at a number before we use it, but the interpreter lets other threads run at each call of
the system, so that a number may change hands between the look and the use. One above `FLOOR` does not: the system gives
it only to who has taken all those below, or who asks for it by name.

What remains is the moment in which a file is opened, because the system opens at the lowest number only. Nothing is
written there; but should that number change hands between the last look at it and its closing, two calls in a row, then
a file of the host's is closed. If this module is wrong, our bytes stand in somebody else's file.
"""

from __future__ import annotations

import errno
import os
from typing import Optional, Tuple

from aicostguard.health import health

try:
    import fcntl
except ImportError:  # Windows, where nobody closes descriptors by their numbers
    fcntl = None  # type: ignore[assignment]

#: the lowest number that we keep; three quarters of the limit where that is less
FLOOR = 768

#: a descriptor's file or socket: inode and device
Identity = Tuple[int, int]


class Taken(OSError):
    """The host program closed our descriptor; the number may be another's by now."""

    def __init__(self) -> None:
        super().__init__(errno.EBADF, "closed by the host program")
        health.note("descriptor_closed")


def identity(descriptor: int) -> Optional[Identity]:
    """What stands behind a descriptor: no two files or sockets that exist are equal. None when it is closed.

    It takes less than a microsecond.
    """
    try:
        seen = os.fstat(descriptor)
    except (OSError, ValueError):
        return None
    return seen[1:3]  # st_ino, st_dev


def floor() -> int:
    """The lowest number that we take."""
    limit = os.sysconf("SC_OPEN_MAX")
    return FLOOR if limit < 0 else min(FLOOR, limit * 3 // 4)


def raised(low: int) -> int:
    """A copy of the descriptor on a high number, or `low` itself where none can be had. `low` stays open.

    Whether the copy is of what was opened is for the caller to see: `low` may have changed hands.
    """
    if fcntl is not None:
        try:
            return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, floor())
        except OSError as error:  # else a limit
            if error.errno == errno.EBADF:
                raise Taken() from None
    return low


def close(descriptor: int, known: Optional[Identity]) -> None:
    """Close it if it is still what it was; else it has been closed already."""
    if known is not None and identity(descriptor) == known:
        _close(descriptor)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


def opened(path: str, flags: int) -> int:
    """`os.open` with mode 0600, never through a link that somebody else laid, on a high number."""
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    before = _at(path)
    low = os.open(path, flags, 0o600)
    high = raised(low)
    known = identity(high)
    if known is None or (known != before and known != _at(path)):  # or moved away twice: then one descriptor is lost
        if high != low:
            _close(high)  # a copy made here, of whatever it is
        raise Taken()
    if high != low:
        close(low, known)
    return high


def _at(path: str) -> Optional[Identity]:
    try:
        found = os.lstat(path)
    except OSError:  # `os.open` says what is wrong
        return None
    return found.st_ino, found.st_dev


def make_room() -> None:
    """Have the system's table of this process grow now, to where we are going to sit.

    Once, and in a program of several threads the system waits some milliseconds for it: not in the middle of a call.
    """
    if fcntl is not None:
        for low in os.pipe():
            known = identity(low)
            high = raised(low)
            close(low, known)
            close(high, known)
