"""Where the spool lies: `state_dir/spool/HASH/`, one folder per destination, and whose a file in it is.

Owns the folder's name (a hash of URL and key, so that receipts never reach another destination), what lies in it,
and the lock by which a process shows that it lives. Never reads a receipt. If it is wrong, two processes send the same
file, or none does.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import List, NamedTuple, Optional, Tuple

from aicostguard.clock import clock
from aicostguard.config import Settings
from aicostguard.health import health

try:
    import fcntl
except ImportError:  # no such locks there: see `lock`
    fcntl = None  # type: ignore[assignment]

ROOT, QUARANTINE = "spool", "quarantine"
#: endings: being made, being written (or left behind), being sent by another process than its writer
NEW, OPEN, CLAIMED = ".new", ".open", ".claim"
#: without locks, a segment counts as abandoned when nobody has touched it for this many seconds
ABANDONED = 3600.0
#: seconds after which a file that was never finished being made is swept away
STILLBORN = 60.0


def destination(url: str, key: Optional[str]) -> str:
    """The folder's name for a URL and a key: the same for the same ledger, and it tells neither."""
    return hashlib.sha256(("%s\0%s" % (url, key or "")).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def destination_of(settings: Settings) -> str:
    """The destination of these settings; a relative sqlite path is made absolute first."""
    path = settings.sqlite_path
    return destination("sqlite:///" + os.path.abspath(path) if path else settings.url or "", settings.key)


class Usage(NamedTuple):
    """What lies in a folder: bytes and files of segments, and bytes in quarantine."""

    bytes: int
    segments: int
    quarantined: int


def measure(folder: str) -> Usage:
    """The sizes under one destination; a folder that is not there is empty."""
    segments = [size for name, size in entries(folder) if name.endswith((OPEN, CLAIMED))]
    quarantined = sum(size for _, size in entries(os.path.join(folder, QUARANTINE)))
    return Usage(sum(segments), len(segments), quarantined)


def entries(folder: str) -> List[Tuple[str, int]]:
    """`(name, bytes)` of each file, oldest name first."""
    rows: List[Tuple[str, int]] = []
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in sorted(names):
        try:
            found = os.lstat(os.path.join(folder, name))
        except FileNotFoundError:
            continue  # another process has just finished with it
        if stat.S_ISREG(found.st_mode):
            rows.append((name, found.st_size))
    return rows


def lock(fd: int) -> bool:
    """Try to own a file. Where files cannot be locked, age decides: then its owner has to touch it now and then."""
    if fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:  # a file system without locks
            health.note("spool_without_locks:%s" % type(error).__name__)
    return clock.time() - os.fstat(fd).st_mtime > ABANDONED


def same(fd: int, path: str) -> bool:
    """Is the open file still the one at `path`? Another process may have finished with it in between."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def sweep(path: str) -> None:
    """Remove what a process was making when it was killed: nothing but a head."""
    try:
        if clock.time() - os.stat(path).st_mtime > STILLBORN:
            os.unlink(path)
    except FileNotFoundError:
        return  # it was being made, and is made
