"""The bounded queue between the caller's thread and the sender.

Owns the bound and the wake-up. Never blocks and never takes a lock: `put` runs in signal handlers and in
finalisers that the garbage collector starts anywhere, also inside our own code on the same thread. If it
blocked, the host program would hang.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Iterable, List, Optional, Tuple

from aicostguard.delivery.threads import Empty, SimpleQueue

#: receipts in memory at most: about 10 MB of full receipts, 10 s of a ledger that hangs at 1,600 calls a second
LIMIT = 16_384
#: from here on the queue asks to be emptied into the spool: the sender is stuck in a slow exchange
SPILL_AT = LIMIT * 3 // 4
#: receipts in one envelope
BATCH = 500

#: (seq, at in ms since 1970, the receipt's JSON): the same bytes go to the spool and to the ledger
Entry = Tuple[int, int, bytes]


class Queue:
    """First in, first out. `idle` is set by a worker that sleeps until the next receipt."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.idle = False
        self._items: Deque[Entry] = deque()
        # The C SimpleQueue is the one wake-up of the standard library whose `put` may interrupt itself.
        self._wake: SimpleQueue[Any] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, entry: Entry) -> int:
        """How many wait now; 0 when the queue is full: the caller counts a drop."""
        items = self._items
        waiting = len(items) + 1
        if waiting > self.limit:
            return 0
        items.append(entry)
        # One wake-up per batch, not per receipt: each costs the caller a switch of threads.
        if self.idle or waiting == BATCH:
            self.idle = False
            self._wake.put(None)
        return waiting

    def put_back(self, entries: Iterable[Entry]) -> int:
        """Return what could not be delivered to the front, oldest first. Gives the number that did not fit."""
        rows = list(entries)
        room = max(0, self.limit - len(self._items))
        kept = rows[:room]
        self._items.extendleft(reversed(kept))
        return len(rows) - len(kept)

    def take(self, most: int = BATCH) -> List[Entry]:
        """Remove up to `most` entries; safe beside other takers."""
        entries: List[Entry] = []
        try:
            while len(entries) < most:
                entries.append(self._items.popleft())
        except IndexError:
            pass  # empty: not a fault
        return entries

    def waiting(self) -> List[Entry]:
        """What is in it now, and stays in it."""
        return list(self._items.copy())  # copied in one step; without a GIL to go through them is none

    def signal(self, message: Any) -> None:
        """Wake the worker with a message of ours (a flush, a stop)."""
        self._wake.put(message)

    def wait(self, seconds: Optional[float]) -> Any:
        """The next message, or None after a wake-up without one or after `seconds`."""
        try:
            return self._wake.get(timeout=seconds) if seconds is None or seconds > 0 else self._wake.get_nowait()
        except Empty:
            return None
