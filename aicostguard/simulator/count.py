"""The simulator's own count: what it billed and what it was asked. In tests it is the truth.

Owns `Billed`, `Exchange` and the bounded lists of both. A response is billed before its first byte goes out, so
that a client never sees an answer that is not in the count yet. If this miscounts, every test that compares
receipts with it proves nothing.
"""

from __future__ import annotations

import collections
import threading
from typing import Deque, List, NamedTuple, Optional, Sequence, Tuple

from aicostguard.usage import Usage

MAX_BILLED = 200_000
MAX_EXCHANGES = 20_000
#: bytes of request bodies that are kept
MAX_KEPT = 64 * 1024 * 1024


class Billed(NamedTuple):
    """One billed response. `usage` is None when the response said nothing about it."""

    provider: str
    format: str
    model: Optional[str]
    usage: Optional[Usage]
    #: the request header `x-sim-tag`
    tag: Optional[str] = None
    streamed: bool = False
    service_tier: Optional[str] = None
    response_id: Optional[str] = None
    #: the whole response was handed to the client's socket; False also while it is still on its way
    complete: bool = False


class Exchange(NamedTuple):
    """One request as it came in (header names and order as sent) and the status it was given."""

    provider: str
    method: str
    #: request target as sent, with query; absolute when the simulator was used as a proxy
    path: str
    headers: Tuple[Tuple[str, str], ...]
    body: bytes
    status: int
    http_version: str = "HTTP/1.1"

    def header(self, name: str) -> Optional[str]:
        """The first header of that name, whatever its case."""
        lowered = name.lower()
        for key, value in self.headers:
            if key.lower() == lowered:
                return value
        return None


class Count:
    """Thread-safe, bounded. What no longer fits is counted in `lost_billed` and `lost_exchanges`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Start at zero."""
        with self._lock:
            self._billed: List[Billed] = []
            self._exchanges: Deque[Exchange] = collections.deque()
            self._kept = 0
            self._epoch = object()
            self.lost_billed = 0
            self.lost_exchanges = 0

    def bill(self, rows: Sequence[Billed]) -> Receiptbook:
        """Count responses; the book that is given back marks them complete, or not."""
        with self._lock:
            start = len(self._billed)
            room = max(0, MAX_BILLED - start)
            self._billed.extend(rows[:room])
            self.lost_billed += len(rows) - len(rows[:room])
            return Receiptbook(self, self._epoch, start, min(len(rows), room))

    def mark(self, book: Receiptbook, complete: bool) -> None:
        """Set `complete` of the rows of a book, unless the count was cleared since."""
        with self._lock:
            if book.epoch is not self._epoch:
                return
            for index in range(book.start, book.start + book.length):
                self._billed[index] = self._billed[index]._replace(complete=complete)

    def saw(self, exchange: Exchange) -> None:
        """Keep one exchange; the oldest make room."""
        with self._lock:
            self._exchanges.append(exchange)
            self._kept += len(exchange.body)
            while len(self._exchanges) > MAX_EXCHANGES or (self._kept > MAX_KEPT and len(self._exchanges) > 1):
                self._kept -= len(self._exchanges.popleft().body)
                self.lost_exchanges += 1

    def billed(self) -> List[Billed]:
        """A copy, in the order in which the responses began."""
        with self._lock:
            return list(self._billed)

    def exchanges(self) -> List[Exchange]:
        """A copy, oldest first."""
        with self._lock:
            return list(self._exchanges)


class Receiptbook(NamedTuple):
    """Where the rows of one response stand in the count."""

    owner: Count
    epoch: object
    start: int
    length: int

    def mark(self, complete: bool) -> None:
        """Say whether the client got all of the response."""
        if self.length:
            self.owner.mark(self, complete)
