"""Files of ours: only for the user who runs the program, and whole or not there at all.

Owns modes and atomic replacement. Raises `OSError`; callers turn it into a counted fault.
"""

from __future__ import annotations

import io
import os
from typing import Optional, Tuple


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


def identity(descriptor: int) -> Optional[Tuple[int, int]]:
    """What stands behind a descriptor: no two files or sockets that exist are equal. None when it is closed.

    A program that becomes a daemon closes every descriptor it finds, ours too, and the number goes to the next file it
    opens. So what we keep open is looked at before it is used, which takes less than a microsecond.
    """
    try:
        seen = os.fstat(descriptor)
    except (OSError, ValueError):
        return None
    return seen[1:3]  # st_ino, st_dev


def _opener(path: str, flags: int) -> int:
    # Never through a link that somebody else laid.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def open_new(path: str) -> io.FileIO:
    """A new file, 0600, unbuffered, for reading and writing; `FileExistsError` when it is there."""
    return io.FileIO(path, "x+b", opener=_opener)


_APPEND = os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def create_to_append(path: str) -> int:
    """The descriptor of a new file, 0600, for reading and appending; `FileExistsError` when it is there."""
    return os.open(path, _APPEND | os.O_CREAT | os.O_EXCL, 0o600)


def open_to_append(path: str) -> int:
    """The descriptor of an existing file for reading and appending."""
    return os.open(path, _APPEND)


def write_all(file: io.FileIO, data: bytes) -> None:
    """Write all of `data` or raise: a disk that fills up takes a part without an error."""
    view = memoryview(data)
    while view:
        written = file.write(view)
        if not written:
            raise OSError("nothing was written")
        view = view[written:]


def replace(path: str, data: bytes) -> None:
    """Put `data` at `path`: readers see the old file or the new one."""
    temporary = "%s.%d.tmp" % (path, os.getpid())
    try:
        os.unlink(temporary)  # left by an earlier process with our id
    except FileNotFoundError:
        pass
    try:
        with open_new(temporary) as file:
            write_all(file, data)
        os.replace(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass  # the first error is the one that matters
        raise
