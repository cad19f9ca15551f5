"""How many requests a key may make: a bucket of tokens for each, filled by the clock.

Owns the buckets, which live in memory: a restart fills them. A key without a limit costs nothing here.
"""

from __future__ import annotations

import math
import threading
from typing import Callable, NamedTuple

from aicostguard.ledger.errors import Limited

#: buckets kept; beyond, those that are full again are forgotten
MOST = 10_000


class _Bucket(NamedTuple):
    left: float
    at_s: float


class Limits:
    """`clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def take(self, who: str, per_minute: int) -> None:
        """Count one request. Up to `per_minute` may come at once. Raises `Limited` when none is left."""
        now = self._clock()
        with self._lock:
            if len(self._buckets) >= MOST:
                self._forget(now)
            bucket = self._buckets.get(who, _Bucket(per_minute, now))
            left = min(per_minute, bucket.left + (now - bucket.at_s) * per_minute / 60)
            self._buckets[who] = _Bucket(left - 1 if left >= 1 else left, now)
        if left < 1:
            wait = math.ceil((1 - left) * 60 / per_minute)
            raise Limited(
                f"this key may make {per_minute} requests a minute; nothing of this one was stored. Come again in "
                f"{wait} s, or have the limit raised with `aicg keys set`",
                max(1, wait),
            )

    def _forget(self, now: float) -> None:
        # A bucket that nobody touched for a minute is full, whatever its size: it is as if it were not there.
        self._buckets = {who: bucket for who, bucket in self._buckets.items() if now - bucket.at_s < 60}
