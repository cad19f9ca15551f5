"""What is written down, and what happens when the disk will not.

Owns the choice between disk and memory: which receipts are written as they are made, where a batch goes that the ledger
did not take, and the pauses after a fault or while the disk is slow. Never makes the host wait for a bad disk again and
again, never raises for one. If it is wrong, the host is slowed down, or a receipt is believed safe that is not.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Any, Callable, Deque, Dict, Optional, Sequence

from aicostguard import health as our_health
from aicostguard.clock import clock
from aicostguard.config import Settings
from aicostguard.delivery.envelope import Batch
from aicostguard.delivery.queue import Entry
from aicostguard.delivery.says import warn
from aicostguard.delivery.threads import imports, sleep
from aicostguard.health import health

#: seconds for which a spool that failed, or that was slow, is left alone: at first, and at most when it goes on
PAUSE, LONGEST_PAUSE = 30.0, 960.0
#: seconds of one write from which on it counts as slow; and how many of them the host may lose within how many
SLOW, PATIENCE, WITHIN = 0.05, 0.25, 60.0
#: seconds until a full spool is asked again
FULL_PAUSE = 2.0


class Keeper:
    """One process's use of its spool. Building it opens nothing."""

    def __init__(
        self, settings: Settings, head: Callable[[], Dict[str, Any]], counters: Callable[[], Dict[str, int]]
    ) -> None:
        self.settings = settings
        #: every receipt is written before its call returns; inline it is on the wire by then
        self.durable = settings.spool == "durable" and not settings.inline
        #: the last thing we heard from the disk was an error
        self.broken = False
        self._head = head
        self._counters = counters
        self._spool: Any = None
        self._box: Dict[str, Any] = {}
        #: batches that ended while `secure_all` ran
        self._meanwhile: Optional[Deque[Batch]] = None
        #: monotonic seconds: the spool is left alone, only its writing beside the call is, it is full
        self._rests_until = self._slow_until = self._full_until = 0.0
        self._pause = PAUSE
        self._troubled = self._waited = self._since = 0.0

    @property
    def mode(self) -> str:
        """What is done here: `durable`, `on-failure` or `off`."""
        return "on-failure" if self.settings.spool == "durable" and not self.durable else self.settings.spool

    def prepare(self) -> None:
        """Build what `secure` needs, so that neither the first call nor two at once have to. Leaves nothing open."""
        if not self.durable:
            return
        with imports:
            import json  # noqa: F401

            from aicostguard.delivery import seats

            _ = self.spool
            seats.make_room()

    @property
    def spool(self) -> Any:
        """The `Spool`, or None when the user switched it off."""
        if self._spool is None and self.settings.spool != "off":
            from aicostguard.delivery.folder import destination_of
            from aicostguard.delivery.spool import Spool

            name, cap = destination_of(self.settings), self.settings.spool_mb << 20
            made = Spool(self.settings.state_dir, name, self._head(), cap)
            # One for all threads: two would give their first segments the same name, and the second would take the
            # place of the first. Building one opens nothing, so that the slower thread's is let go of.
            self._spool = self._box.setdefault("spool", made)
        return self._spool

    # On the host's threads.

    def secure(self, entry: Entry) -> None:
        """Write a receipt down. Never raises for a disk."""
        began = clock.monotonic()
        if began < self._rests_until or began < self._slow_until:
            return
        try:
            if not (self._spool or self.spool).write(entry):
                health.note("spool_full")
            took = clock.monotonic() - began
            if took > SLOW:
                self._slow(began, took)
            elif self.broken:
                self.broken = False
        except OSError as error:
            self.fault("spool.write", error)

    def secure_all(self, waiting: Callable[[], Sequence[Entry]]) -> None:
        """The same for what is in memory, and for all that comes from now on: the program ends (`on-failure`)."""
        if self.durable or self.memory_only():
            return
        # Before the look at what waits: the sender goes on, and what it settles before it is written down would
        # otherwise stand in a file that nobody settles any more.
        ended: Deque[Batch] = deque()
        self._meanwhile = ended
        entries = waiting()
        self.durable = bool(entries)
        for entry in entries:
            self.secure(entry)
        while ended:
            self._settle(ended.popleft())
        self._meanwhile = None

    def leave(self, seq: int) -> bool:
        """A receipt finds no room in memory. False when it is not on disk: then it is lost."""
        return self.durable and self._spool is not None and bool(self._spool.leave(seq))

    def _slow(self, began: float, took: float) -> None:
        """The disk held up the host. When that adds up, only the sender's own thread writes for a while."""
        health.note("spool_slow")
        if began - self._since > WITHIN:
            self._since, self._waited = began, 0.0
        self._waited += took
        if self._waited < PATIENCE:
            return
        self._waited = 0.0
        before = clock.monotonic()
        sleep(0)
        if clock.monotonic() - before > SLOW / 2:
            return  # so long takes here whatever lets other threads run: it is not the disk
        self._slow_until = clock.monotonic() + self._next_pause()
        warn("spool.slow")

    def _next_pause(self) -> float:
        now = clock.monotonic()
        if now - self._troubled > 2 * LONGEST_PAUSE:
            self._pause = PAUSE
        self._troubled = now
        pause, self._pause = self._pause, min(LONGEST_PAUSE, self._pause * 2)
        return pause

    # In the sender.

    def keep(self, batch: Batch, wanted: Optional[Callable[[], bool]] = None) -> Batch:
        """Leave a batch on disk; gives what is not there and must stay in memory.

        `wanted` is False once the thread that sends it has seen it taken: written once more, behind the word that it is
        done with, it would never be read.
        """
        spool = self._spool if self.durable else None
        left: Optional[Batch] = batch if spool is None else spool.shed(batch, wanted)
        if left is None:
            return batch.part(())
        kept = len(batch.seq) - len(left.seq)
        if left.seq and not self.memory_only():
            stored, error = self.spool.append(left.entries())
            kept += stored
            left = left.part(range(stored, len(left.seq)))
            if error is not None:
                self.fault("spool.append", error)
            elif left.seq:
                self._full_until = clock.monotonic() + FULL_PAUSE
                warn("spool.full")
            else:
                self.broken = False
        health.count("spooled", kept)
        return left

    def memory_only(self) -> bool:
        """True when there is no spool to write to: none wanted, or the disk will not, for now."""
        return self.settings.spool == "off" or clock.monotonic() < max(self._rests_until, self._full_until)

    def last_chance(self) -> None:
        """The end: what is not kept now is lost, so that a disk which is being left alone is asked once more."""
        self._rests_until = self._full_until = 0.0

    def backlog(self) -> bool:
        """True when the spool may hold something to send."""
        if self.settings.spool == "off" or clock.monotonic() < self._rests_until:
            return False
        return bool(self.spool.waiting())

    def settle(self, batch: Batch) -> None:
        """The receipts of a batch, which is on its way no more, need not be sent again."""
        ended = self._meanwhile
        if ended is not None:
            ended.append(batch)
        self._settle(batch)

    def _settle(self, batch: Batch) -> None:
        if self._spool is not None:
            try:
                self._spool.settle(batch, self._counters())
            except OSError as error:  # then they are sent once more some day, which the ledger notices
                self.fault("spool.settle", error)

    def set_aside(self, name: str, text: bytes) -> None:
        """Quarantine bytes."""
        if self.memory_only():
            return
        try:
            if not self.spool.quarantine(name, text):
                warn("quarantine.full")
        except OSError as error:
            self.fault("spool.quarantine", error)

    def finish(self, segment: Any) -> None:
        """A segment has been read to its end."""
        damaged, lost = self.spool.finish(segment)
        if damaged:
            health.note("spool_corrupt", damaged)
            warn("spool.corrupt")
        if lost:  # ours, and not readable any more; the file is in quarantine
            health.count("dropped", lost)

    def tend(self) -> None:
        """What has to be done now and then; the sender calls it in each of its turns."""
        if self._spool is not None and clock.monotonic() >= self._rests_until:
            try:
                self._spool.tend()
            except OSError as error:
                self.fault("spool.tend", error)

    def fault(self, where: str, error: OSError) -> None:
        """The disk will not: leave it alone for a while."""
        if error.errno == errno.EBADF:  # not the disk: the host program closed what we had open; it is opened anew
            our_health.fault(where, error)
            return
        self.broken = True
        self._rests_until = clock.monotonic() + self._next_pause()
        warn("spool.broken", type(error).__name__)
        our_health.fault(where, error)

    @property
    def slow(self) -> bool:
        """True while the disk is so slow that only the sender's own thread writes."""
        return clock.monotonic() < self._slow_until

    def measure(self) -> Any:
        """What lies in the folder: `Usage`."""
        from aicostguard.delivery.folder import Usage, measure

        return measure(self._spool.folder) if self._spool is not None else Usage(0, 0, 0)

    def clear(self) -> bool:
        """True when no receipt of this process waits on disk."""
        return self._spool is None or bool(self._spool.clear())

    @property
    def pending(self) -> int:
        """How many receipts of this process are on disk alone."""
        return int(self._spool.pending) if self._spool is not None else 0

    def close(self, ended: bool = False) -> None:
        """Let go of the files; what is left is on disk. `ended`: with the word that there will be no more."""
        if self._spool is not None:
            self._spool.close(self._counters() if ended else None)

    def abandon(self) -> None:
        """In a forked child: let go of the parent's files."""
        if self._spool is not None:
            self._spool.abandon()
