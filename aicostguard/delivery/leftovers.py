"""Segments that processes which ended have left in the folder, and the taking over of them.

Owns when to look for them, and which are ours by now. A live process's segment is locked, and stays its own. Used under
the spool's lock. If it is wrong, what a killed process had written is never sent, or sent by two.
"""

from __future__ import annotations

import os
from typing import Iterator, List, Optional, Set

from aicostguard.clock import clock
from aicostguard.delivery import folder
from aicostguard.delivery.folder import CLAIMED, NEW, OPEN
from aicostguard.delivery.segment import Segment, take_over

#: seconds between two looks at the folder
LOOK_EVERY = 30.0


class Leftovers:
    """What one process has taken over. `held` are the names of the files it has open, `serial` numbers new ones."""

    def __init__(self, where: str, epoch: str, serial: Iterator[int], held: Set[str]) -> None:
        self.claims: List[Segment] = []
        #: monotonic seconds of the last look that found nothing more; 0 before the first
        self.looked = 0.0
        self._found = False
        self._folder = where
        self._epoch = epoch
        self._serial = serial
        self._held = held

    def waiting(self) -> bool:
        """True when `next` may find something."""
        return any(not segment.busy for segment in self.claims) or self._due()

    def next(self) -> Optional[Segment]:
        """One that nobody reads."""
        return next((segment for segment in self.claims if not segment.busy), None) or self._look()

    def let_go(self) -> None:
        """They are whoever's comes next, ourselves included."""
        self.claims.clear()
        self.looked = 0.0

    def _due(self) -> bool:
        return self._found or not self.looked or clock.monotonic() - self.looked >= LOOK_EVERY

    def _look(self) -> Optional[Segment]:
        if self._due():
            for name, _ in folder.entries(self._folder):
                if name.endswith((OPEN, CLAIMED)) and name not in self._held:
                    claimed = self._take_over(name)
                    if claimed is not None:
                        return claimed
                elif name.endswith(NEW):
                    folder.sweep(os.path.join(self._folder, name))
            self.looked, self._found = clock.monotonic(), False
        return None

    def _take_over(self, name: str) -> Optional[Segment]:
        claimed = "%s.%s-%d%s" % (name.split(".")[0], self._epoch, next(self._serial), CLAIMED)
        self._held.add(claimed)
        segment = take_over(self._folder, name, claimed)
        if segment is None:
            self._held.discard(claimed)
            return None
        self._found = True
        self.claims.append(segment)
        return segment


def without(held: List[Segment], segment: Segment) -> None:
    """Take it out of a list from which other threads take it, too."""
    try:
        held.remove(segment)
    except ValueError:
        pass  # not in there, or not any more
