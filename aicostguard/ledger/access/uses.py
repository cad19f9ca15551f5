"""When keys and sessions were last used, without a write for each request.

Owns what is not yet written. It is written once in a while, and at the end; a kill loses at most that while.
"""

from __future__ import annotations

import threading
from typing import Callable

#: how often what happened is written down
EVERY_MS = 60_000


class Uses:
    """`keep` writes `id → when, in ms` down."""

    def __init__(self, keep: Callable[[dict[str, int]], object]) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._due_ms = 0

    def note(self, name: str, now_ms: int) -> None:
        with self._lock:
            self._seen[name] = now_ms

    def at(self, name: str, written_ms: int | None) -> int | None:
        """The latest use that is known, written or not."""
        seen = self._seen.get(name)
        return written_ms if seen is None else max(seen, written_ms or 0)

    def write(self, now_ms: int, *, at_once: bool = False) -> None:
        """Write what is due. What could not be written stays for the next time."""
        if not self._seen or (now_ms < self._due_ms and not at_once):
            return
        with self._lock:
            seen, self._seen = self._seen, {}
        self._due_ms = now_ms + EVERY_MS
        try:
            self._keep(seen)
        except BaseException:
            with self._lock:
                self._seen = {**seen, **self._seen}
            raise
