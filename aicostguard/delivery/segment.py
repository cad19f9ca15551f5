"""One file of the spool: the form of its records, writing them, and reading them back.

A segment begins with the head of its process's envelopes (`h`); then come receipts (`r`) and, when the ledger has taken
some, a word that these are done with (`a`). Each record has a checksum and a newline before and behind, so that a
torn one damages nothing but itself. Writing is one `os.write` to a descriptor that appends, from any thread, without a
lock. Never deletes or moves a file: that is `spool.py`. If it is wrong, a receipt is lost or sent under another's name.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from aicostguard.delivery import envelope, files, seats
from aicostguard.delivery.envelope import Batch
from aicostguard.delivery.epoch import PATTERN
from aicostguard.delivery.folder import NEW, OPEN, lock, same
from aicostguard.delivery.queue import BATCH
from aicostguard.health import COUNTERS, health

#: bytes read at a time; no record of ours is longer than `LONGEST`; bytes of receipts in one batch that is read back
PIECE, LONGEST, BATCH_BYTES = 1 << 18, 1 << 16, 1 << 19

#: the largest prime that is one digit of an integer of CPython's
PRIME = 1_073_741_789

#: (first, last) of a run of sequence numbers
Run = Tuple[int, int]


def checksum(body: bytes) -> int:
    """The bytes as one number, modulo a prime: as good at finding damage as a CRC of 30 bits.

    One of zlib's reads a table of 16 KB that no other code of the host has just read: on the caller's thread it took
    three times as long, with its formatting 19 µs instead of 7.
    """
    return int.from_bytes(body, "big") % PRIME


def record(kind: bytes, text: bytes) -> bytes:
    """A record as it is stored; `text` is without newlines, as compact JSON is."""
    body = kind + b" " + text
    # Text is formatted and not bytes, because that is what everybody does: its code is at hand.
    return ("\n%08x " % checksum(body)).encode() + body + b"\n"


def receipt_record(seq: int, at: int, encoded: bytes) -> bytes:
    """An encoded receipt with its sequence number and its time in ms since 1970."""
    body = ("r %d %d " % (seq, at)).encode() + encoded
    # What `record` does, in one function: this runs for each call.
    return ("\n%08x " % (int.from_bytes(body, "big") % PRIME)).encode() + body + b"\n"


def head_record(fixed: Dict[str, Any]) -> bytes:
    """What every envelope of the process says of it."""
    return record(b"h", envelope.head_text(fixed))


def done_record(runs: Sequence[Run], counters: Dict[str, int], ended: Optional[bool] = None) -> bytes:
    """These receipts are done with; the counters of the process at that time; whether it makes no more, if it says."""
    import json

    says: Dict[str, Any] = {"seq": runs, "counters": counters}
    if ended is not None:
        says["ended"] = ended
    return record(b"a", json.dumps(says, separators=(",", ":")).encode())


def read_record(line: bytes) -> Tuple[bytes, bytes]:
    """`(kind, text)` of a line without its newline. Raises `ValueError` for a torn or damaged one."""
    if line[8:9] != b" " or int(line[:8], 16) != checksum(line[9:]):
        raise ValueError("checksum")
    kind, _, text = line[9:].partition(b" ")
    return kind, text


def lines(fd: int, start: int = 0) -> Iterator[Tuple[int, bytes]]:
    """`(offset behind it, line)` of each line that is not empty; what is too long to be a record comes in pieces."""
    kept = b""
    while True:
        piece = _read_at(fd, PIECE, start + len(kept))
        if not piece:
            break
        *whole, kept = (kept + piece).split(b"\n")
        for line in whole:
            start += len(line) + 1
            if line:
                yield start, line
        if len(kept) > LONGEST:  # such as the zeros that a power failure leaves
            start += len(kept)
            yield start, kept
            kept = b""
    if kept:
        yield start + len(kept), kept


def _read_at(fd: int, count: int, offset: int) -> bytes:
    if hasattr(os, "pread"):  # the position of the descriptor moves with every receipt that is appended
        return os.pread(fd, count, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, count)


def runs_of(seqs: Sequence[int]) -> List[Run]:
    """Sequence numbers as runs: batches are nearly always one."""
    runs: List[Run] = []
    for seq in sorted(seqs):
        if runs and seq == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs


class Vanished(OSError):
    """The descriptor was closed under us, and the file is gone too, or another process has taken it over."""


class Segment:
    """An open segment; its descriptor is closed when nobody refers to it any more.

    Never closed by hand while it may be written to: another thread may be on its way into `write`, and by then the
    number of the descriptor could be that of a file of the host program.
    """

    #: of one that is half made there is nothing to close
    fd, _identity = -1, None

    def __init__(self, path: str, fd: int, ours: bool) -> None:
        self.path = path
        self.fd = fd
        self._identity = seats.identity(fd)
        #: True when this process wrote it and keeps its books
        self.ours = ours
        #: receipts in it that are also in memory: queued or on their way
        self.live: Set[int] = set()
        #: receipts that a thread is writing this moment; they may be sent, and out of `live`, meanwhile
        self.writing: Set[int] = set()
        #: how many receipts of ours are in it alone
        self.shed = 0
        #: nobody begins to write to it any more
        self.retired = not ours
        #: somebody reads and sends it
        self.busy = False
        #: its end was reached, or nothing in it is wanted any more
        self.finished = False
        #: bytes, about: threads count without a lock; and how many there may be
        self.size = self.room = 0
        #: records that could not be read
        self.damaged = 0
        #: the batch that was read is the last one
        self.last = False
        #: its process wrote that it makes no further receipt
        self.ended = False
        self._head: Optional[Dict[str, Any]] = None
        self._done: Optional[List[Run]] = None
        self._unsaid: List[Run] = []
        self._partly: Set[int] = set()
        self._start = self._ahead = self._checked = 0

    def __del__(self, close: Any = seats.close) -> None:
        fd, self.fd = self.fd, -1
        close(fd, self._identity)

    def whole(self) -> int:
        """The descriptor, opened anew when the host program has closed it. Raises `Vanished` when that cannot be."""
        if seats.identity(self.fd) == self._identity:
            return self.fd
        try:
            fd = files.open_to_append(self.path)
        except OSError:
            raise Vanished() from None
        found = seats.identity(fd)
        if found != self._identity or not lock(fd):
            seats.close(fd, found)
            if seats.identity(self.fd) != self._identity:  # else another thread was faster
                raise Vanished()
        else:
            health.note("descriptor_closed")
            self.fd = fd
        return self.fd

    def let_go(self) -> None:
        """In a forked child: give up the copy of the parent's descriptor, whose lock it would keep alive.

        The number leads nowhere from now on, rather than being free: a frame that the fork cut off may write to it.
        """
        if seats.identity(self.fd) != self._identity:
            self.fd = -1  # somebody else's by now
            return
        try:
            nowhere = os.open(os.devnull, os.O_RDWR)
            try:
                os.dup2(nowhere, self.fd, inheritable=False)
            finally:
                os.close(nowhere)
            self._identity = seats.identity(self.fd)  # so that it is closed with the last reference
        except OSError:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def touch(self) -> None:
        """Its owner lives: where files cannot be locked, others go by its time."""
        try:
            os.utime(self.path)
        except FileNotFoundError:
            pass  # somebody tidied up; the receipts are still ours to read

    # Writing.

    def write(self, data: bytes) -> None:
        """Append one record. Raises `OSError` when not all of it could be written."""
        fd = self.fd
        try:
            whole = os.fstat(fd)[1:3] == self._identity
        except (OSError, ValueError):
            whole = False
        try:
            written = os.write(fd if whole else self.whole(), data)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            written = os.write(self.whole(), data)  # closed since that look at it
        self.size += written
        if written != len(data):
            raise OSError(errno.ENOSPC, "cut off")

    def done(self, seqs: Sequence[int], counters: Dict[str, int], ended: Optional[bool] = None) -> None:
        """Say in the file that these receipts need not be sent again. Without it they would be, which does no harm."""
        runs = runs_of(seqs)
        self._partly.update(seqs if self._done is not None else ())
        try:
            self.write(done_record(runs, counters, ended))
        except OSError:
            self._unsaid += runs

    # Reading: only when nobody writes to it.

    def next_batch(self) -> Optional[Batch]:
        """The next receipts that are not done with, None at the end. The same ones until `advance`."""
        self.whole()
        if self._done is None:
            self._look_through()
        rows: List[Tuple[int, int, bytes]] = []
        size = 0
        self._ahead = self._start
        for end, line in lines(self.fd, self._start):
            self._ahead = end
            row = self._receipt(line)
            if row is not None:
                rows.append(row)
                size += len(row[2])
                if len(rows) >= BATCH or size >= BATCH_BYTES:
                    break
        else:
            self.last = True
        if not rows or self._head is None:
            self._start = self._ahead
            return None
        seqs, times, receipts = (tuple(column) for column in zip(*rows))
        return Batch(self._head, seqs, times, receipts, source=self)

    def advance(self) -> None:
        """The batch that was read is done with."""
        self._start = self._ahead
        self._partly.clear()

    def _look_through(self) -> None:
        """Once, before the first batch: who wrote it, what is done with, and what its counters were."""
        runs, counters, last = list(self._unsaid), dict.fromkeys(COUNTERS, 0), -1
        head: Optional[Dict[str, Any]] = None
        foreign = False
        for _, line in lines(self.fd):
            try:
                kind, text = read_record(line)
                if kind == b"h":
                    try:
                        head = envelope.read_head(text)
                    except ValueError:
                        foreign = True  # of another release, whose receipts we do not know either
                        raise
                elif kind == b"a":
                    more, counted, ended = envelope.read_done(text)
                    runs += more
                    self.ended = self.ended if ended is None else ended
                    counters = {name: max(counters[name], counted[name]) for name in COUNTERS}
                elif kind == b"r":
                    last = max(last, int(text.split(b" ", 1)[0]))
            except ValueError:
                continue  # counted when its turn comes
        if head is None and not foreign:
            # Its first bytes are damaged; the name of the file says as much as is needed.
            epoch = os.path.basename(self.path).split("-")[0]
            head = envelope.bare_head(epoch) if PATTERN.match(epoch) else None
        if head is not None:
            counters["generated"] = max(counters["generated"], last + 1)
            head["counters"] = counters
        self._head = head
        self._done = _merged(runs)

    def _receipt(self, line: bytes) -> Optional[Tuple[int, int, bytes]]:
        """`(seq, at, receipt)` of a line, None when there is nothing in it to send."""
        try:
            kind, text = read_record(line)
            if kind == b"r":
                number, time, encoded = text.split(b" ", 2)
                seq = int(number)
                if self._is_done(seq):
                    return None
                if self._head is None:
                    raise ValueError("whose?")
                return seq, int(time), envelope.read_receipt(encoded)
            if kind not in (b"h", b"a") or (kind == b"h" and self._head is None):
                raise ValueError("kind")
        except ValueError:
            if self._ahead > self._checked:  # a batch may be read several times
                self._checked = self._ahead
                self.damaged += 1
        return None

    def _is_done(self, seq: int) -> bool:
        runs = self._done or []
        place = bisect_right(runs, (seq, 2**62)) - 1
        return seq in self._partly or (place >= 0 and runs[place][1] >= seq)


def create(where: str, name: str, head: Dict[str, Any]) -> Segment:
    """A new segment of this process, locked, with its head. Raises `OSError`."""
    # Under another name until it is locked: who looks for abandoned segments would take it for one.
    new = os.path.join(where, name + NEW)
    segment = Segment(new, files.create_to_append(new), ours=True)
    try:
        lock(segment.fd)
        segment.write(head_record(head))
        segment.path = os.path.join(where, name + OPEN)
        os.rename(new, segment.path)
    except BaseException:
        try:
            os.unlink(new)
        except OSError:
            pass  # the first error is the one that matters
        raise
    return segment


def take_back(path: str) -> None:
    """Its process said in this file that there will be no more, and goes on. Nothing when the file is gone."""
    try:
        fd = files.open_to_append(path)
    except OSError:
        return
    known = seats.identity(fd)
    try:
        files.write_all(fd, known, done_record((), dict.fromkeys(COUNTERS, 0), ended=False))
    finally:
        seats.close(fd, known)


def take_over(where: str, name: str, claimed: str) -> Optional[Segment]:
    """The segment `name`, from now on called `claimed`; None when its owner lives, or somebody else was faster."""
    path = os.path.join(where, name)
    try:
        segment = Segment(path, files.open_to_append(path), ours=False)
        if not lock(segment.fd) or not same(segment.fd, path):
            return None
        segment.path = os.path.join(where, claimed)
        os.rename(path, segment.path)
    except FileNotFoundError:
        return None
    segment.touch()
    return segment


def _merged(runs: List[Run]) -> List[Run]:
    """Runs in order, those that touch as one."""
    merged: List[Run] = []
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
