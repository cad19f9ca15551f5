"""The seeded life of a client process. Owns what a client reads of its surroundings; imports nothing of the agent."""

from __future__ import annotations

import os
import random
import time

#: seconds that a program lives, and between two calls of one thread on average
LIFE, PAUSE = (4.0, 25.0), 0.25


class Life:
    """The seeded life of one process: how long, with what, when to stop."""

    def __init__(self) -> None:
        seed = "%s/%s/%s" % tuple(os.environ[name] for name in ("CHAOS_SEED", "CHAOS_SLOT", "CHAOS_LIFE"))
        self.rng = random.Random(seed)
        self.sdks = os.environ["CHAOS_SDKS"]
        self.pause = PAUSE / float(os.environ.get("CHAOS_PACE", "1"))
        self.until = time.monotonic() + self.rng.uniform(*LIFE)

    def over(self) -> bool:
        """Time to end, in good order?"""
        return time.monotonic() > self.until or os.path.exists(os.environ["CHAOS_STOP"])

    def nap(self) -> float:
        """Seconds until the next call."""
        return min(self.rng.expovariate(1 / self.pause), 4 * self.pause)
