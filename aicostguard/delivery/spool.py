"""Receipts on disk: every one as it is made (`durable`), or those that the ledger could not take (`on-failure`).

Owns this process's segments and what it takes over from processes that ended: which receipts are in memory too, which
on disk alone, when a file may go. The whole folder is capped in bytes. `write` runs on the host's threads, also in
signal handlers and finalisers: it takes no lock. Segments with damaged records end in `quarantine/`, never deleted
unread. Survives the end of the program, `kill -9` included; not a power failure, because nothing waits for the disk.
If this module is wrong, receipts vanish on a bad day.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Set, Tuple

from aicostguard.clock import clock
from aicostguard.delivery import files, folder
from aicostguard.delivery.envelope import Batch
from aicostguard.delivery.folder import OPEN, QUARANTINE, ROOT
from aicostguard.delivery.leftovers import Leftovers, without
from aicostguard.delivery.queue import Entry
from aicostguard.delivery.segment import Segment, Vanished, create, receipt_record, take_back
from aicostguard.delivery.threads import RLock
from aicostguard.health import health

#: bytes of one segment; more when the folder fills up, so that no more than `FILES` and some are open
SEGMENT, FILES = 1 << 20, 16
#: bytes of the quarantine that batches refused by the ledger may fill
QUARANTINE_CAP = 8 << 20
#: seconds between two measurements of the folder
MEASURE_EVERY = 2.0

_CURRENT = "current"


class Spool:
    """One process's view of one destination's folder. All methods may raise `OSError` when the disk will not."""

    def __init__(self, state_dir: str, name: str, head: Dict[str, Any], cap: int) -> None:
        self.folder = os.path.join(state_dir, ROOT, name)
        #: receipts of this process that are on disk alone
        self.pending = 0
        self.cap = cap
        self._parts = (state_dir, ROOT, name)
        self._head = head
        self._epoch = str(head["epoch"])
        self._serial = itertools.count()
        # A dict for `setdefault`: of two threads that open the first segment at once, one wins, without a lock.
        self._box: Dict[str, Segment] = {}
        self._retired: List[Segment] = []
        #: files in which we said that there will be no more
        self._last_words: List[str] = []
        #: receipts that found the queue full: on disk, and let go of by the thread that made them
        self._late: Deque[Segment] = deque()
        #: names of the files we have open: where files cannot be locked, only this tells them from abandoned ones
        self._held: Set[str] = set()
        self._room = min(cap, max(SEGMENT, cap // 8))
        self._measured = 0.0
        self._touched = clock.monotonic()
        #: what earlier processes left here
        self.left = Leftovers(self.folder, self._epoch, self._serial, self._held)
        # An RLock: a signal handler may end the process, and thus flush, while this thread is in here.
        self._lock = RLock()

    # On the host's threads.

    def write(self, entry: Entry) -> bool:
        """One receipt, before its call returns. False when the folder is full."""
        data, seq = receipt_record(*entry), entry[0]
        while True:
            segment = self._box.get(_CURRENT) or self._open()
            if segment.size + len(data) > segment.room:
                return False
            segment.writing.add(seq)
            segment.live.add(seq)
            # Looked at after the receipt is in the books: from there on the file stays until it is out of them.
            if segment.retired:
                segment.live.discard(seq)  # replaced in between; its successor is in place already
                segment.writing.discard(seq)
                continue
            try:
                segment.write(data)
                return True
            except Vanished:
                segment.live.discard(seq)
                self.forget(segment)
            except BaseException as error:
                if not isinstance(error, Exception):
                    self._late.append(segment)  # an exception of the host's signal handler: it may well be on disk
                segment.live.discard(seq)
                raise
            finally:
                segment.writing.discard(seq)

    def forget(self, segment: Segment) -> None:
        """Its file was taken from us: gone, or sent by another process. What is in memory too is still delivered."""
        health.note("spool_vanished")
        if self._box.get(_CURRENT) is segment:
            self._box.pop(_CURRENT, None)
        segment.retired = segment.finished = True
        self.pending, segment.shed = max(0, self.pending - segment.shed), 0
        for held in (self._retired, self.left.claims):
            without(held, segment)

    def leave(self, seq: int) -> bool:
        """A receipt finds no room in memory. False when it is not on disk either."""
        segment = self._find(seq)
        if segment is None:
            return False
        self._late.append(segment)  # first: a segment without books would be deleted
        segment.live.discard(seq)
        return True

    def _open(self) -> Segment:
        """The current segment, made now; another thread may be faster."""
        made = self._make()
        won = self._box.setdefault(_CURRENT, made)
        if won is not made:
            self._remove(made)
        return won

    def _make(self) -> Segment:
        try:
            while True:  # first: the new file may be damaged or lost, and they would be believed
                take_back(self._last_words.pop())
        except IndexError:
            pass  # none, or none any more
        where = files.private_folder(*self._parts)
        name = "%s-%06d" % (self._epoch, next(self._serial))
        self._held.add(name + OPEN)
        segment = create(where, name, self._head)
        segment.room = self._room
        return segment

    def _find(self, seq: int) -> Optional[Segment]:
        """The segment whose books have this receipt."""
        current = self._box.get(_CURRENT)
        if current is not None and seq in current.live:
            return current
        for segment in tuple(self._retired):
            if seq in segment.live:
                return segment
        return None

    # What the ledger could not take.

    def shed(self, batch: Batch, wanted: Optional[Callable[[], bool]] = None) -> Optional[Batch]:
        """Let go of a batch's receipts in memory; gives those not on disk; None where it is `wanted` no more."""
        left: List[int] = []
        with self._lock:
            if wanted is not None and not wanted():
                return None
            for place, seq in enumerate(batch.seq):
                segment = self._find(seq)
                if segment is None:
                    left.append(place)
                else:
                    self._shed_one(segment)
                    segment.live.discard(seq)
        return batch.part(left)

    def _shed_one(self, segment: Segment) -> None:
        segment.shed += 1
        self.pending += 1

    def append(self, entries: Sequence[Entry]) -> Tuple[int, Optional[OSError]]:
        """Store encoded receipts. `(how many, what stopped it)`: a full folder when that is None."""
        stored = 0
        with self._lock:
            try:
                if _CURRENT not in self._box:
                    self._open()
                    self._measure()
                for seq, at, encoded in entries:
                    assert isinstance(encoded, bytes)
                    data = receipt_record(seq, at, encoded)
                    segment = self._box.get(_CURRENT) or self._open()
                    if segment.size + len(data) > segment.room:
                        self._measure()
                        segment = self._box.get(_CURRENT) or self._open()
                        if segment.size + len(data) > segment.room:
                            break
                    segment.write(data)
                    self._shed_one(segment)
                    stored += 1
                    self._roll()
            except OSError as error:
                return stored, error
        return stored, None

    def settle(self, batch: Batch, counters: Dict[str, int]) -> None:
        """The receipts of a batch are done with, taken or refused for good: they need not be sent again."""
        with self._lock:
            if batch.source is not None:
                self._settled(batch.source, batch.seq, counters, batch.epoch == self._epoch)
                return
            found: Dict[Segment, List[int]] = {}
            for seq in batch.seq:
                segment = self._find(seq)
                if segment is not None:
                    segment.live.discard(seq)
                    found.setdefault(segment, []).append(seq)
            for segment, seqs in found.items():
                if not self._over(segment):
                    segment.done(seqs, counters)

    def _settled(self, segment: Segment, seqs: Sequence[int], counters: Dict[str, int], own: bool) -> None:
        if own:
            self.pending = max(0, self.pending - len(seqs))
        if segment.ours:
            segment.shed = max(0, segment.shed - len(seqs))
            if self._over(segment):
                return
        segment.done(seqs, counters)

    def _over(self, segment: Segment) -> bool:
        """Delete a segment of ours that nobody writes to and that nothing is wanted of any more."""
        if not segment.retired or segment.live or segment.writing:
            return False
        self._drain_late()  # after the look at `live`: what has left it is in here by then
        if segment.shed:
            return False
        if not segment.finished:
            segment.finished = True
            without(self._retired, segment)
            self._remove(segment)
        return True

    def _remove(self, segment: Segment) -> None:
        self._held.discard(os.path.basename(segment.path))
        try:
            os.unlink(segment.path)
        except FileNotFoundError:
            pass  # somebody tidied up

    def _drain_late(self) -> None:
        while self._late:
            self._shed_one(self._late.popleft())
            health.count("spooled")

    # The rhythm: called by the sender's thread.

    def tend(self) -> None:
        """Replace a segment that is long enough; now and then measure the folder."""
        with self._lock:
            self._drain_late()
            self._roll()
            now = clock.monotonic()
            if now - self._measured >= MEASURE_EVERY and _CURRENT in self._box:
                self._measure()
            if now - self._touched >= folder.ABANDONED / 6:
                self._touched = now
                for segment in self._files():
                    segment.touch()

    def _files(self) -> List[Segment]:
        return [*self._box.values(), *self._retired, *self.left.claims]

    def _roll(self) -> None:
        current = self._box.get(_CURRENT)
        if current is None or current.size < SEGMENT:
            return
        if len(self._retired) < FILES or current.size >= self.cap // (2 * FILES):
            self._measure()
            self._retire(current)

    def _retire(self, segment: Segment) -> None:
        """Nobody begins to write to this one any more. A successor is in place before: `write` counts on it."""
        if segment.retired:
            return
        self._box[_CURRENT] = self._make()
        segment.retired = True
        self._retired.append(segment)
        self._over(segment)

    def _measure(self) -> None:
        """How long the current segment may become, by what all processes have in the folder."""
        self._measured = clock.monotonic()
        total = folder.measure(self.folder).bytes
        self._room = max(0, self.cap - total)
        current = self._box.get(_CURRENT) or self._open()
        try:
            current.size = os.fstat(current.whole()).st_size
        except Vanished:
            self.forget(current)
            self._open().room = self._room
            return
        current.room = self._room + current.size
        if not folder.same(current.fd, current.path):
            health.note("spool_vanished")  # somebody tidied up
            self._retire(current)

    # Taking turns to send.

    def waiting(self) -> bool:
        """True when a claim may find something."""
        current = self._box.get(_CURRENT)
        return bool(
            self._late
            or (current is not None and current.shed)
            or any(segment.shed and not segment.live and not segment.busy for segment in self._retired)
            or self.left.waiting()
        )

    def claim(self) -> Optional[Segment]:
        """The next segment to send: our own, then, now and then, what dead processes left behind.

        Nobody else gets it until `give_back` or `finish`.
        """
        with self._lock:
            segment = self._own() or self.left.next()
            if segment is not None:
                segment.busy = True
            return segment

    def _own(self) -> Optional[Segment]:
        self._drain_late()
        for segment in self._retired:
            if self._readable(segment):
                return segment
        current = self._box.get(_CURRENT)
        if current is not None and current.shed:
            self._retire(current)
            if self._readable(current):
                return current
        return None

    def _readable(self, segment: Segment) -> bool:
        if segment.live or segment.writing or segment.busy:  # without these nobody writes to it any more
            return False
        self._drain_late()
        return segment.shed > 0

    def give_back(self, segment: Segment) -> None:
        """Not now, or the next piece of it another time."""
        segment.busy = False

    def finish(self, segment: Segment) -> Tuple[int, int]:
        """Its end was reached. With damage it moves to the quarantine whole: no copy that a full disk could refuse.

        Gives how many records were damaged, and how many receipts of ours are lost with them.
        """
        with self._lock:
            damaged, lost = segment.damaged, segment.shed
            segment.shed = 0
            self.pending -= lost
            if segment.finished:
                return 0, 0
            segment.finished = True
            for held in (self._retired, self.left.claims):
                without(held, segment)
            if damaged:
                where = files.private_folder(*self._parts, QUARANTINE)
                self._held.discard(os.path.basename(segment.path))
                os.rename(segment.path, os.path.join(where, os.path.basename(segment.path) + ".corrupt"))
            else:
                self._remove(segment)
            return damaged, lost

    def quarantine(self, name: str, text: bytes) -> bool:
        """Set bytes aside for a person to look at; False when the quarantine is full."""
        with self._lock:
            where = files.private_folder(*self._parts, QUARANTINE)
            if folder.measure(self.folder).quarantined + len(text) > QUARANTINE_CAP:
                return False
            files.replace(os.path.join(where, "%s-%06d.%s" % (self._epoch, next(self._serial), name)), text)
        return True

    def last_of(self, segment: Segment) -> bool:
        """True when its process has no other file here."""
        own = os.path.basename(segment.path)
        epoch = own.split("-")[0]
        return not any(name.startswith(epoch) and name != own for name, _ in folder.entries(self.folder))

    def close(self, last: Optional[Dict[str, int]] = None) -> None:
        """Let go of every segment: what is left is on disk for whoever comes next, ourselves included.

        `last`: the process makes no further receipt, and these are its counters.
        """
        with self._lock:
            self._drain_late()
            current = self._box.pop(_CURRENT, None)
            if current is not None:
                current.retired = True
                self._retired.append(current)
            for segment in list(self._retired):
                if not self._over(segment) and last is not None:
                    segment.done((), last, ended=True)
                    self._last_words.append(segment.path)
            self._retired = []
            self.left.let_go()
            self._held.clear()

    def clear(self) -> bool:
        """True when no receipt of this process is on disk alone."""
        return not self.pending and not self._late

    def abandon(self) -> None:
        """In a forked child: let go of its copies of the parent's descriptors, whose locks it would keep alive."""
        for segment in self._files():
            segment.let_go()
        self._box, self._retired, self._last_words = {}, [], []
        self.left.claims.clear()
        self._late.clear()
