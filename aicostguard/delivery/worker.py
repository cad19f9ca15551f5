"""The thread that delivers: started by the first receipt, a daemon, one per process.

Owns the rhythm: when a batch goes out, when the spool is looked at, when the status is written. Never
holds a lock that a caller could need. If it dies, the next receipt or flush starts another.
"""

from __future__ import annotations

import threading
from typing import Dict, Optional

from aicostguard import health as our_health
from aicostguard.clock import clock
from aicostguard.context import inside
from aicostguard.delivery.courier import Courier
from aicostguard.delivery.queue import BATCH
from aicostguard.delivery.status import EVERY, Status
from aicostguard.delivery.threads import Flag, get_ident, imports, start_thread

#: seconds from the first waiting receipt to its batch: at first short, so that a newcomer sees it come in
FIRST_LINGER, LINGER = 0.1, 0.5
#: seconds for which nothing is opened after a flush, unless it is asked for
QUIET = 0.3
#: seconds after which an idle worker looks around (counters that changed without a receipt)
IDLE = 5.0


class Request:
    """A flush: `done` is set when it is over, `ok` says whether everything was delivered."""

    def __init__(self, stop: bool = False, force: bool = True) -> None:
        self.stop = stop
        #: try even while our own backoff runs
        self.force = force
        self.ok = False
        self.done = Flag()


class Worker:
    """The thread and what it is doing."""

    def __init__(self, courier: Courier, status: Status) -> None:
        self.courier = courier
        self.status = status
        self.alive = True
        self.ident: Optional[int] = None
        #: the one that has taken its place once it was dead. A dict for `setdefault`: of two threads that start one,
        #: one wins, without a lock
        self.heirs: Dict[str, Worker] = {}
        self._linger = FIRST_LINGER
        self._due: Optional[float] = None
        self._wrote = True
        #: monotonic seconds until which the spool waits: a long backlog leaves the host half of the processor
        self._rest_until = 0.0

    def start(self) -> None:
        """Start the thread. Raises `RuntimeError` when the interpreter no longer starts any."""
        self.ident = start_thread(self._run)

    def _run(self) -> None:
        self.ident = get_ident()
        request: Optional[Request] = None
        try:
            inside.set(True)  # this thread's traffic is ours: never metered
            threading.current_thread().name = "aicostguard"
            self.load()
            while request is None or not request.stop:
                if request is None:
                    self.courier.keeper.tend()
                # Whoever was served may go on as if we were quiet, such as by closing all descriptors: so we are.
                request = self.courier.queue.wait(self._pause() if request is None else QUIET)
                if request is not None:
                    self._serve(request)
                else:
                    self._turn()
                    self.status.tick()
        except Exception as error:
            our_health.fault("worker.run", error)
        finally:
            self.alive = False

    def load(self) -> None:
        """Import what the first batch needs. Opens nothing; what fails here is met again, and dealt with, in use."""
        try:
            with imports:
                import gzip  # noqa: F401
                import json  # noqa: F401

                _ = self.courier.head(), self.courier.transport, self.courier.keeper.spool
        except Exception as error:
            our_health.fault("worker.load", error)

    def _pause(self) -> float:
        """Seconds until there is something to do without being woken."""
        queue, link = self.courier.queue, self.courier.link
        if not len(queue):
            queue.idle = True
            # Looked at again after the flag is up: a receipt that came in between has not woken us.
            if not len(queue):
                self._due = None
                # Soon after work once more, so that the status file does not lag behind.
                idle, self._wrote = IDLE if self._wrote else EVERY, True
                return min(self._until_resend(), idle)
        queue.idle = False
        now = clock.monotonic()
        if self._due is None:
            self._due = now + self._linger
        if len(queue) >= BATCH and not self.courier.keeper.memory_only():
            return 0.0
        # Without a spool a closed link is waited out: there is no other place to go.
        wait = max(self._due - now, link.seconds() if self.courier.keeper.memory_only() else 0.0)
        return min(max(wait, 0.0), self._until_resend(), IDLE)

    def _until_resend(self) -> float:
        """Seconds until a piece of the spool may be sent."""
        link = self.courier.link
        if link.state == "new" or not self.courier.keeper.backlog():
            return IDLE
        return max(link.seconds(), self._rest_until - clock.monotonic(), 0.0)

    def _turn(self) -> None:
        """One piece of work: a batch that is due, and a piece of the spool."""
        now = clock.monotonic()
        courier = self.courier
        ready = len(courier.queue) >= BATCH or (self._due is not None and now >= self._due)
        if ready and len(courier.queue) and (courier.link.is_open() or not courier.keeper.memory_only()):
            self._due = None
            self._wrote = False
            batch = courier.next_batch()
            if batch is not None:
                courier.carry(batch)
                self._linger = LINGER
        if courier.link.state != "new" and clock.monotonic() >= self._rest_until:
            before = clock.thread_time()
            if courier.resend_one():
                self._rest_until = clock.monotonic() + clock.thread_time() - before

    def _serve(self, request: Request) -> None:
        """Deliver everything that was submitted before the request."""
        courier = self.courier
        courier.deliver_all(request.force)
        request.ok = courier.clear()
        if request.stop:
            courier.farewell()
            courier.close()  # what is left is written down by whoever asked, who may have gone on without us
        else:
            courier.keeper.tend()
        self._due = None
        self.status.tick()
        request.done.set()
