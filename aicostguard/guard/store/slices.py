"""What a process has borrowed of one of the ledger's counters.

Owns the figures of one loan: what was granted, what this process had spent when it began, and what the ledger said last
stands there for all.
"""

from __future__ import annotations

from typing import List


class Slice:
    """What was lent of one counter. `base` is what this process had spent of it when the turn began."""

    __slots__ = ("budget", "scope", "turn", "granted", "base", "seen", "spent", "reserved", "limit", "until")

    def __init__(self, budget: str, scope: List[str], limit: int, until: int) -> None:
        self.budget = budget
        self.scope = scope
        self.limit = limit
        self.until = until
        self.turn = 0
        self.granted = 0
        self.base = 0
        #: spent when it was last looked at: who spends nothing gives back
        self.seen = 0
        #: what the ledger said last stands there for all
        self.spent = 0
        self.reserved = 0

    @property
    def room(self) -> int:
        """What was left for others when the ledger last answered."""
        return max(0, self.limit - self.spent - self.reserved)
