"""Files of ours: only for the user who runs the program, and whole or not there at all.

Owns modes and atomic replacement. Raises `OSError`; callers turn it into a counted fault.
"""

from __future__ import annotations

import errno
import itertools
import os
from os import getpid
from typing import Optional

from aicostguard.delivery import seats
from aicostguard.delivery.seats import Taken

_numbers = itertools.count()


def private_folder(*parts: str) -> str:
    """Create `parts[0]`, then each folder below it, with mode 0700 where it is new; gives the whole path."""
    path = parts[0]
    os.makedirs(path, mode=0o700, exist_ok=True)
    for part in parts[1:]:
        path = os.path.join(path, part)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # the usual case
    return path


def create_to_append(path: str) -> int:
    """The descriptor of a new file, 0600, for reading and appending; `FileExistsError` when it is there."""
    return seats.opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)


def open_to_append(path: str) -> int:
    """The descriptor of an existing file for reading and appending."""
    return seats.opened(path, os.O_RDWR | os.O_APPEND)


def write_all(fd: int, known: Optional[seats.Identity], data: bytes) -> None:
    """Write all of `data` or raise: a disk that fills up takes a part without an error."""
    view = memoryview(data)
    while view:
        if known is None or seats.identity(fd) != known:
            raise Taken()
        try:
            written = os.write(fd, view)
        except OSError as error:
            raise Taken() if error.errno == errno.EBADF else error from None
        if not written:
            raise OSError("nothing was written")
        view = view[written:]


def replace(path: str, data: bytes) -> None:
    """Put `data` at `path`: readers see the old file or the new one."""
    try:
        _replace(path, data)
    except Taken:  # in the middle of it, and hardly twice
        _replace(path, data)


def _replace(path: str, data: bytes) -> None:
    # Two threads may be at it at once: of two senders, or of two that send to different places.
    temporary = "%s.%d-%d.tmp" % (path, getpid(), next(_numbers))
    try:
        os.unlink(temporary)  # left by an earlier process with our id
    except FileNotFoundError:
        pass
    try:
        fd = seats.opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        known = seats.identity(fd)
        try:
            write_all(fd, known, data)
        finally:
            seats.close(fd, known)
        os.replace(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass  # the first error is the one that matters
        raise
