"""Inline delivery: on the wire before the call returns, because the host is frozen right after it.

Owns the two ways to do that: on the caller's thread, and awaited through asyncio streams when a loop runs.
Starts no thread. Never raises to the caller, except the caller's own cancellation. If it is wrong, a user's
request waits for us: every exchange has a deadline, and after a failure the next calls do not even try.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Awaitable, Callable, Optional, Sequence, Set, TypeVar

from aicostguard import health as our_health
from aicostguard.context import inside
from aicostguard.delivery.courier import BACK, TAKEN, Courier
from aicostguard.delivery.envelope import Batch
from aicostguard.delivery.queue import BATCH, Entry

T = TypeVar("T")

#: threads that are delivering: a finaliser that submits on one of them only queues, its outer loop delivers
_busy: Set[int] = set()


def send(
    courier: Courier,
    entries: Sequence[Entry] = (),
    force: bool = False,
    seconds: Optional[float] = None,
    alone: bool = False,
) -> None:
    """Deliver `entries` and what earlier calls had to leave in the queue, then, if it works, one batch of the spool.

    The entries do not go through the queue: another thread would take them, and we would return before they are out.
    `alone`: only these, because a worker looks after the rest; an exchange takes `seconds` at most.
    """
    thread = threading.get_ident()
    if thread in _busy:
        courier.put(entries)
        return
    before = inside.get()
    _busy.add(thread)
    inside.set(True)  # our own traffic is never metered
    try:
        _prepared(Courier.head, courier, entries)
        batch: Optional[Batch] = _first(courier, entries, alone)
        while batch is not None:
            if (batch.seq and courier.carry(batch, force, seconds) == BACK) or alone:
                return
            force = False
            batch = courier.next_batch()
        if courier.link.state == "up":
            courier.resend_one()
    except Exception as error:
        our_health.fault("inline.send", error)
    finally:
        inside.set(before)
        _busy.discard(thread)


async def asend(
    courier: Courier, entries: Sequence[Entry], seconds: Optional[float] = None, alone: bool = False
) -> None:
    """The same, awaited, without the spool. Call it inside a running asyncio loop."""
    before = inside.get()
    inside.set(True)
    try:
        post = _prepared(_poster, courier, entries)
        batch: Optional[Batch] = _first(courier, entries, alone)
        while batch is not None:
            if (batch.seq and await courier.acarry(batch, post, seconds) != TAKEN) or alone:
                return
            batch = courier.next_batch()
    except Exception as error:
        our_health.fault("inline.asend", error)
    finally:
        inside.set(before)


def forked() -> None:
    """In a child: the threads that were delivering are not here, and new ones get their idents."""
    _busy.clear()


def _first(courier: Courier, entries: Sequence[Entry], alone: bool) -> Batch:
    """The batch of these entries and, unless they go `alone`, of what waits in the queue."""
    waiting = [] if alone else courier.queue.take(max(0, BATCH - len(entries)))
    return courier.batch(waiting + list(entries))


def _prepared(prepare: Callable[[Courier], T], courier: Courier, entries: Sequence[Entry]) -> T:
    """What may fail before there is a batch: then the entries are not lost, a later call takes them along."""
    try:
        return prepare(courier)
    except Exception:
        courier.put(entries)
        raise


def _poster(courier: Courier) -> Callable[[bytes, float], Awaitable[Any]]:
    """Streams where the ledger is reached directly; a worker of the loop for a file or a tunnel."""
    import asyncio

    from aicostguard.delivery import awaited

    if courier.settings.sqlite_path is None:
        post = awaited.Awaited(courier.settings.url or "", courier.settings.key, courier.head()["agent"])
        if post.direct:
            return post
    loop = asyncio.get_running_loop()
    return lambda body, deadline: loop.run_in_executor(None, courier.transport.post, body, deadline)


def running_loop() -> Optional[Any]:
    """The asyncio loop that runs here, None without one (also under trio)."""
    asyncio = sys.modules.get("asyncio")
    return asyncio._get_running_loop() if asyncio is not None else None
