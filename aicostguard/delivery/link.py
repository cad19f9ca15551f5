"""May we try the ledger now? The state between two attempts.

Owns backoff, pauses and their reasons. Never sleeps: it answers, the sender waits. If it says yes too
often we hammer a ledger that is down; if it says no for ever, nothing is delivered.
"""

from __future__ import annotations

from typing import Optional

from aicostguard.clock import clock

#: seconds: first pause after a failure, the longest, and the pause after a refused key
FIRST, LONGEST, DENIED_PAUSE = 0.5, 60.0, 60.0
#: seconds to wait when 429 or 503 does not say how long
DEFAULT_WAIT = 5.0


class Link:
    """`state` is one of `new, up, down, waiting, denied, moved`; times are those of `time.monotonic`."""

    def __init__(self) -> None:
        self.state = "new"
        self.failures = 0
        self.opens_at = 0.0

    def is_open(self) -> bool:
        """True when an attempt may be made now."""
        return clock.monotonic() >= self.opens_at

    def may_force(self) -> bool:
        """True when a flush may try ahead of time: our own backoff may be skipped, the ledger's word not."""
        return self.is_open() or self.state == "down"

    def seconds(self) -> float:
        """Until the next attempt may be made."""
        return max(0.0, self.opens_at - clock.monotonic())

    def up(self) -> None:
        """The ledger answered."""
        self.state, self.failures, self.opens_at = "up", 0, 0.0

    def down(self) -> None:
        """No answer: twice the pause of last time, with jitter so that a fleet does not come back as one."""
        import random

        self.failures += 1
        pause = min(LONGEST, FIRST * 2.0 ** min(self.failures - 1, 16))
        self._close("down", pause * random.uniform(0.5, 1.0))

    def wait(self, seconds: Optional[float]) -> None:
        """The ledger asked us to wait."""
        self._close("waiting", DEFAULT_WAIT if seconds is None else seconds)

    def pause(self, state: str) -> None:
        """The key or the address is wrong: somebody has to act; look again now and then."""
        self._close(state, DENIED_PAUSE)

    def _close(self, state: str, seconds: float) -> None:
        self.state, self.opens_at = state, clock.monotonic() + seconds
