"""The name of one process's run: 26 characters that sort by time.

Owns the format, that of a ULID: 48 bits of milliseconds and 80 random bits in Crockford's base 32
(https://github.com/ulid/spec). A receipt's identity is (project, epoch, seq), so two processes must never
share an epoch: a forked child takes its own. Time first, because random ids halve the ledger's ingest.
"""

from __future__ import annotations

import os
import re

from aicostguard.clock import clock

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")


def new_epoch() -> str:
    """26 characters; later ones compare greater, to the millisecond."""
    value = (int(clock.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
