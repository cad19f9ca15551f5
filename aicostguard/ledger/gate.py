"""How much of what is sent may be inside at once; whoever comes beyond that is told when to come again.

Owns the bounds on requests and bytes that wait to be stored, and the times that are named to those turned away.
After an outage every agent comes at once: without bounds the server holds all their bodies, answers each after its
sender has given up, and does the same work again. Lives on the server's loop: nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import AsyncIterator, Callable, Iterator, TypeVar

from anyio import CapacityLimiter, to_thread

from aicostguard.ledger.errors import Crowded, Refused

T = TypeVar("T")
log = logging.getLogger("aicostguard.ledger")

#: bodies worked on at once: enough to fill a commit while the one before is on its way to the disk, and each may
#: inflate to tens of megabytes
INSIDE = 8
#: nobody is let in who would wait longer than this: agents give an exchange ten seconds, five when they wait themselves
MOST_WAIT_S = 2.5
#: bytes of bodies, as sent, that are held for all who wait
MOST_BYTES = 48 * 1024 * 1024
#: a body that takes longer keeps others out for nothing
BODY_S = 30.0
#: the longest pause that is asked for
MOST_PAUSE_S = 30
_SAY_EVERY_S = 60.0


class Gate:
    """Counts who is inside. `turned_away` is how many were told to come again since the start."""

    def __init__(self) -> None:
        self.turned_away = 0
        self._waiting = 0
        self._bytes = 0
        self._limiter = CapacityLimiter(INSIDE)
        #: seconds from one departure to the next while there is a queue, smoothed
        self._each = 0.02
        self._left = 0.0
        self._said = -_SAY_EVERY_S

    @property
    def waiting(self) -> int:
        """How many wait for their turn, or have it."""
        return self._waiting

    @contextlib.contextmanager
    def visit(self) -> Iterator[Visit]:
        """Come in. Raises `Crowded` when the queue is too long."""
        self._turn_away_if(self._waiting * self._each > MOST_WAIT_S)
        visit = Visit(self)
        try:
            yield visit
        finally:
            self._bytes -= visit.size

    def hold(self, size: int) -> None:
        self._bytes += size
        self._turn_away_if(self._bytes > MOST_BYTES)

    async def run(self, job: Callable[[], T]) -> T:
        came = time.monotonic()
        self._waiting += 1
        try:
            return await to_thread.run_sync(job, limiter=self._limiter)
        finally:
            self._waiting -= 1
            now = time.monotonic()
            self._each += 0.1 * (now - max(came, self._left) - self._each)
            self._left = now

    def _turn_away_if(self, crowded: bool) -> None:
        if not crowded:
            return
        self.turned_away += 1
        wait = self._waiting * self._each
        if time.monotonic() > self._said + _SAY_EVERY_S:
            self._said = time.monotonic()
            log.warning("too much at once: agents are asked to come again (%d so far)", self.turned_away)
        # Spread over twice the time the queue needs: all of them at the same second would be the same again.
        pause = 1 + random.random() * min(MOST_PAUSE_S - 1, max(2.0, 2 * wait))
        raise Crowded(f"{self._waiting} requests wait here already; nothing of this one was stored", round(pause))


class Visit:
    """One request inside."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.size = 0

    async def parts(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A body's parts, counted while they are held. Raises `Crowded`, or `Refused` (408) for a body that dawdles."""
        deadline = asyncio.get_running_loop().time() + BODY_S
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    part = await stream.__anext__()
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Refused(408, f"the body did not arrive within {BODY_S:.0f} s; send it again") from None
            self.size += len(part)
            self._gate.hold(len(part))
            yield part

    async def run(self, job: Callable[[], T]) -> T:
        """Do the work in a thread, in turn."""
        return await self._gate.run(job)
