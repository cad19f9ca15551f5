"""AI providers over real sockets on loopback, with their own count of what they billed.

Owns the truth in tests and in the demo: `Simulator.billed()`. Imports nothing of capture, metering or delivery, so
that a mistake of theirs cannot be its mistake too. Needs nothing beyond the standard library, except for br, zstd and
HTTP/2 (packages brotli, zstandard, h2 of the extra `demo`). Runs on CPython 3.9 and later.
"""

from __future__ import annotations

from aicostguard.simulator.behaviour import BadBehaviour, Behaviour
from aicostguard.simulator.count import Billed, Exchange
from aicostguard.simulator.routes import ALL
from aicostguard.simulator.server import Simulator

__all__ = ["ALL", "BadBehaviour", "Behaviour", "Billed", "Exchange", "Simulator"]
