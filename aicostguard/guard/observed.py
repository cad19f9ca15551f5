"""The dearest calls seen, for those whose most is not known.

Owns one pair of figures per provider, model and feature, of this process. Bounded: the kind that was used longest ago
is forgotten first.
"""

from __future__ import annotations

from typing import Dict, Tuple

from aicostguard.guard.values import Spent
from aicostguard.health import oldest

MAX_KINDS = 1024


class Observed:
    """What calls of one kind have used at most."""

    def __init__(self) -> None:
        self._kinds: Dict[Tuple[str, ...], Tuple[int, int]] = {}

    def dearest(self, kind: Tuple[str, ...]) -> Tuple[int, int, int]:
        """nanousd, tokens and requests to hold for a call of this kind.

        The first one holds the least amount there is: it needs something to be left, and no more. Holding everything
        would stop all other calls for as long as it runs, and waiting for it would stop the program.
        """
        nanousd, tokens = self._kinds.get(kind, (1, 1))
        return nanousd, tokens, 1

    def learn(self, kind: Tuple[str, ...], spent: Spent) -> None:
        """A call of this kind has ended. What is only estimated tells nothing."""
        if spent.estimated or (spent.nanousd is None and spent.tokens is None):
            return
        before = self._kinds.get(kind)
        nanousd, tokens = spent.nanousd or 0, spent.tokens or 0
        if before is None or nanousd > before[0] or tokens > before[1]:
            known = before or (1, 1)
            now = (max(known[0], nanousd), max(known[1], tokens))
            self._kinds.pop(kind, None)
            while len(self._kinds) >= MAX_KINDS:
                self._kinds.pop(oldest(self._kinds) or kind, None)
            self._kinds[kind] = now
