"""Receipts on disk while the ledger cannot take them.

Owns the segments under `state_dir/spool/HASH/`, where HASH names URL and key, so that receipts never reach
another destination. A segment is an append-only file (0600) of checksummed lines, one batch each; a lock
tells whether its owner lives, a rename claims it. Segments with corrupt lines end in `quarantine/`, never
deleted unread. The whole folder is capped in bytes. Survives the end of the program; what was only in memory when
the program is killed is lost. If this module is wrong, receipts vanish on a bad day.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import zlib
from typing import List, NamedTuple, Optional, Set, Tuple

from aicostguard.config import Settings
from aicostguard.delivery import files
from aicostguard.delivery.envelope import Batch, parse
from aicostguard.delivery.threads import RLock
from aicostguard.health import health

try:
    import fcntl
except ImportError:  # no such locks there: see `_lock`
    fcntl = None  # type: ignore[assignment]

#: bytes of all segments of one destination, of its quarantine, and of one segment
CAP, QUARANTINE_CAP, SEGMENT = 32 << 20, 8 << 20, 1 << 20
#: without locks, a segment counts as abandoned when nobody has written to it for this many seconds
ABANDONED = 3600.0
#: seconds between two looks at the folder for what other processes left behind
LOOK_EVERY = 30.0

ROOT, QUARANTINE = "spool", "quarantine"


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
    segments = [entry for entry in _entries(folder) if entry[0].endswith((".open", ".claim"))]
    quarantined = sum(size for _, size in _entries(os.path.join(folder, QUARANTINE)))
    return Usage(sum(size for _, size in segments), len(segments), quarantined)


def _entries(folder: str) -> List[Tuple[str, int]]:
    """`(name, bytes)` of each file, oldest name first."""
    rows: List[Tuple[str, int]] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                try:
                    if entry.is_file(follow_symlinks=False):
                        rows.append((entry.name, entry.stat(follow_symlinks=False).st_size))
                except FileNotFoundError:
                    continue  # another process has just finished with it
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(rows)


def line(batch: Batch) -> bytes:
    """A batch as it is stored: the checksum of the JSON, a space, the JSON."""
    text = batch.render(None)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_line(text: bytes) -> Batch:
    """The batch of a stored line. Raises `ValueError` for a torn or damaged one."""
    if not text.endswith(b"\n") or text[8:9] != b" " or int(text[:8], 16) != zlib.crc32(text[9:-1]):
        raise ValueError("checksum")
    return parse(text[9:-1])


class Claimed:
    """A segment that this process has taken over; `current` is the line to send."""

    def __init__(self, path: str, file: io.FileIO) -> None:
        self.path = path
        self._file = file
        #: read when its turn comes: a long outage must not fill the memory with what is on disk
        self._lines: Optional[List[bytes]] = None
        self._next = 0
        #: set when a line was not what it should be
        self.damaged = False

    def current(self) -> Tuple[bytes, Optional[Batch]]:
        """`(line, its batch)`; no batch when the line is damaged, an empty line at the end."""
        if self._lines is None:
            self._file.seek(0)
            self._lines = self._file.readall().split(b"\n")
            self._lines = [part + b"\n" for part in self._lines[:-1]] + [part for part in self._lines[-1:] if part]
        if self._next >= len(self._lines):
            return b"", None
        text = self._lines[self._next]
        try:
            return text, read_line(text)
        except ValueError:
            return text, None

    def advance(self) -> bool:
        """The current line is done with. False when it was the last one."""
        self._next += 1
        return self._lines is not None and self._next < len(self._lines)

    def finish(self) -> None:
        """Its end was reached. With damage it moves to the quarantine whole: no copy that a full disk could refuse."""
        try:
            if self.damaged:
                folder = files.private_folder(os.path.dirname(self.path), QUARANTINE)
                os.rename(self.path, os.path.join(folder, os.path.basename(self.path) + ".corrupt"))
            else:
                os.unlink(self.path)
        finally:
            self._file.close()

    def close(self) -> None:
        """Let go of it: the next process that looks takes it."""
        self._file.close()


class Spool:
    """One process's view of one destination's folder. All methods raise `OSError` when the disk will not."""

    def __init__(self, state_dir: str, name: str, epoch: str) -> None:
        self.folder = os.path.join(state_dir, ROOT, name)
        #: receipts of this process that are in the spool
        self.pending = 0
        self._parts = (state_dir, ROOT, name)
        self._epoch = epoch
        self._serial = 0
        self._file: Optional[io.FileIO] = None
        self._path = ""
        self._size = 0
        self._looked = 0.0
        self._others = False
        self._sealed: List[Claimed] = []
        #: names of the files we have open: where files cannot be locked, only this tells them from abandoned ones
        self._held: Set[str] = set()
        self._total = 0
        # An RLock: a signal handler may end the process, and thus flush, while this thread writes.
        self._lock = RLock()

    def append(self, batch: Batch) -> bool:
        """Store a batch; False when the folder is full. Part of a line never stays: the segment is cut back."""
        text = line(batch)
        with self._lock:
            if self._file is None or self._size + len(text) > SEGMENT:
                self._seal()
                self._start()
            if self._total + len(text) > CAP:
                self._total = measure(self.folder).bytes  # others may have sent theirs since
                if self._total + len(text) > CAP:
                    return False
            file = self._file
            assert file is not None  # _start has set it
            try:
                files.write_all(file, text)
            except OSError:
                try:
                    file.truncate(self._size)
                finally:
                    self._seal()
                raise
            self._size += len(text)
            self._total += len(text)
            self.pending += len(batch.seq)
        return True

    def _start(self) -> None:
        folder = files.private_folder(*self._parts)
        self._total = measure(folder).bytes
        path = os.path.join(folder, "%s-%06d.open" % (self._epoch, self._serial))
        self._serial += 1
        file = files.open_new(path)
        _lock(file, path)
        self._held.add(os.path.basename(path))
        self._file, self._path, self._size = file, path, 0

    def _seal(self) -> None:
        """Stop writing to the current segment; it keeps its lock and waits for its turn."""
        if self._file is not None:
            self._sealed.append(Claimed(self._path, self._file))
            self._file = None

    def claim(self) -> Optional[Claimed]:
        """The next segment to send: our own, then, now and then, what dead processes left behind."""
        with self._lock:
            self._seal()
            if self._sealed:
                return self._sealed.pop(0)
            if not self.others_due():
                return None
            for name, _ in _entries(self.folder):
                if name.endswith((".open", ".claim")) and name not in self._held:
                    claimed = self._take_over(name)
                    if claimed is not None:
                        return claimed
            self._looked, self._others = time.monotonic(), False
        return None

    def others_due(self) -> bool:
        """True when it is time to look at the folder again, or the last look found something."""
        return self._others or not self._looked or time.monotonic() - self._looked >= LOOK_EVERY

    def _take_over(self, name: str) -> Optional[Claimed]:
        path = os.path.join(self.folder, name)
        try:
            file = files.open_existing(path)
        except OSError:
            return None  # taken, or gone, since the folder was read
        claimed = os.path.join(self.folder, "%s.%s-%d.claim" % (name.split(".")[0], self._epoch, self._serial))
        self._serial += 1
        try:
            if not _lock(file, path) or not _same(file, path):
                file.close()
                return None
            os.rename(path, claimed)
            self._others = True
            self._held.add(os.path.basename(claimed))
            return Claimed(claimed, file)
        except FileNotFoundError:
            file.close()
            return None  # another process was faster
        except BaseException:
            file.close()
            raise

    def give_back(self, claimed: Claimed) -> None:
        """Not now: keep the claim for the next time the ledger answers."""
        with self._lock:
            self._sealed.insert(0, claimed)

    def settle(self, receipts: int) -> None:
        """Receipts of this process have left the spool."""
        with self._lock:
            self.pending = max(0, self.pending - receipts)

    def waiting(self) -> bool:
        """True when a claim may find something."""
        return self._file is not None or bool(self._sealed) or self.others_due()

    def quarantine(self, name: str, text: bytes) -> bool:
        """Set bytes aside for a person to look at; False when the quarantine is full."""
        with self._lock:
            folder = files.private_folder(*self._parts, QUARANTINE)
            if measure(self.folder).quarantined + len(text) > QUARANTINE_CAP:
                return False
            self._serial += 1
            files.replace(os.path.join(folder, "%s-%06d.%s" % (self._epoch, self._serial, name)), text)
        return True

    def close(self) -> None:
        """Let go of every segment: they are on disk for whoever comes next, ourselves included."""
        with self._lock:
            self._seal()
            for claimed in self._sealed:
                claimed.close()
            self._sealed = []
            self._held.clear()
            self._looked = 0.0

    def abandon(self) -> None:
        """In a forked child: close its copies of the parent's descriptors, whose locks it would keep alive."""
        for file in [self._file] + [claimed._file for claimed in self._sealed]:
            if file is not None:
                file.close()


def _lock(file: io.FileIO, path: str) -> bool:
    """Try to own a segment. Where files cannot be locked, age decides."""
    if fcntl is not None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:  # a file system without locks
            health.note("spool_without_locks:%s" % type(error).__name__)
    return time.time() - os.stat(path).st_mtime > ABANDONED


def _same(file: io.FileIO, path: str) -> bool:
    """Is the locked file still the one at `path`? Another process may have finished it in between."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
