"""`Delivery`: where capture hands over a receipt, and all that follows fork, exit and flush.

Owns the identity of a receipt (epoch and seq), the queue, and the life of worker and courier. `submit`
costs a few microseconds, takes no lock and never raises, so that it may be called from anywhere, signal
handlers and finalisers included. If it is wrong, the host program hangs or receipts are counted twice.
"""

from __future__ import annotations

import os
import sys
from os import getpid
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence, Set

from aicostguard import context
from aicostguard import health as our_health
from aicostguard.clock import clock
from aicostguard.config import Settings
from aicostguard.delivery import hosts, living
from aicostguard.delivery.courier import BACK, INLINE_SECONDS, Courier
from aicostguard.delivery.envelope import encoded
from aicostguard.delivery.epoch import new_epoch
from aicostguard.delivery.queue import SPILL_AT, Entry, Queue
from aicostguard.delivery.says import warn
from aicostguard.delivery.status import Status, describe, worth_telling
from aicostguard.delivery.threads import get_ident, start_thread, subinterpreter
from aicostguard.delivery.worker import Request, Worker
from aicostguard.health import health
from aicostguard.receipt import Made, Receipt

if TYPE_CHECKING:
    from aicostguard.delivery.invocation import Held

#: seconds that the end of the program may take for us, that a flush may take by default, and a look at the worker
EXIT_SECONDS, FLUSH_SECONDS, LOOK = 1.6, 10.0, 0.1
#: seconds to wait at exit for an attempt when the one before has failed already
EXIT_WHEN_DOWN = 0.1


class Delivery:
    """One per process. Building it starts no thread and opens no file and no socket."""

    # No `__dict__`: what hangs on it, locks among them, is not for eventlet to find (see `health.Health`).
    __slots__ = (
        "__weakref__", "settings", "inline", "_exiting", "_seq", "_epoch", "_queue", "_courier", "_keeper", "_status",
        "_worker", "_heirs", "_spilling", "_followed", "_dropped", "_pid", "_core", "holding",
    )  # fmt: skip
    inline: bool

    def __init__(self, settings: Settings, ending: bool = False) -> None:
        """`ending`: it is made while the interpreter ends, when `atexit` takes no more functions."""
        if settings.sqlite_path is not None:
            # One file, wherever the program changes to afterwards.
            settings = settings._replace(url="sqlite:///" + os.path.abspath(settings.sqlite_path))
        if subinterpreter():
            # No thread may be started there, so what is delivered is delivered by the call itself.
            settings = settings._replace(mode="inline")
            health.note("subinterpreter")
        self.settings = settings
        self.inline = settings.inline
        self._exiting = ending
        #: the six core keys only
        self._core = settings.receipt == "core"
        self._fresh()
        living.add(self)

    def _fresh(self) -> None:
        """Start at zero, as this process: new names and empty hands."""
        self._seq = health.numbers()
        self._epoch = new_epoch()
        self._queue = Queue()
        self._courier = Courier(self.settings, self._queue, self._epoch, self._seq)
        self._courier.prepare()
        self._keeper = self._courier.keeper
        self._status = Status(self._courier)
        self._worker: Optional[Worker] = None
        self._heirs: Dict[str, Worker] = {}  # see `_start`
        self._spilling = False
        self._followed = False
        self._dropped = 0
        self._pid = getpid()
        #: invocations that keep receipts of ours until their handlers return
        self.holding: Set[Held] = set()

    @property
    def epoch(self) -> str:
        """The name of this process on its receipts."""
        if self._pid != getpid():
            living.forked()
        return self._epoch

    def submit(self, receipt: Receipt) -> None:
        """Take a receipt: never raises, never blocks in background mode; in inline mode it POSTs before it returns."""
        try:
            entry = self._stamp(receipt)
            if entry is None:
                return
            if self._keeper.durable:
                self._keeper.secure(entry)
            # Few programs need any of it, and each look costs every call.
            if self.inline or self._exiting or context.held.get() is not None or hosts.UWSGI in sys.modules:
                self._submit_otherwise(entry)
            else:
                worker, waiting = self._worker, self._queue.put(entry)
                if not (0 < waiting < SPILL_AT and worker is not None and worker.alive):
                    self._look_after(entry, waiting)
        except Exception as error:
            our_health.fault("delivery.submit", error)

    def _pass_on(self, entries: Sequence[Entry]) -> None:
        """To the sending thread."""
        for entry in entries:
            self._look_after(entry, self._queue.put(entry))

    def _look_after(self, entry: Entry, waiting: int) -> None:
        """It is queued as the one of so many; 0 when there was no room. Does somebody deliver them?"""
        if not waiting:
            self._courier.no_room(entry)
        if self._worker is None or not self._worker.alive:
            self._start()
        elif waiting >= SPILL_AT and not self._spilling:
            self._spill()

    def _submit_otherwise(self, entry: Entry) -> None:
        """A receipt that another than the sending thread delivers, or that it delivers too late."""
        entries = self._held(entry)
        if not entries:
            return
        if self.inline or self._exiting:
            self._send_here(entries)
        elif hosts.about_to_fork():
            self.deliver(entries, INLINE_SECONDS)
        else:
            self._pass_on(entries)
            if hosts.frozen():
                self._tick()  # the thread would do it too late

    async def asubmit(self, receipts: Sequence[Receipt]) -> None:
        """`submit` for each; in inline mode inside a running asyncio loop it awaits instead of blocking the loop."""
        from aicostguard.delivery import inline

        if not (self.inline and inline.running_loop()):
            for receipt in receipts:
                self.submit(receipt)
            return
        try:
            made = [entry for entry in map(self._stamp, receipts) if entry is not None]
            entries = [entry for each in made for entry in self._held(each)]
            if entries:
                await inline.asend(self._courier, entries)
                self._tick()
        except Exception as error:
            our_health.fault("delivery.asubmit", error)

    def _stamp(self, receipt: Receipt) -> Optional[Entry]:
        """The receipt as it is sent, with its identity and its time; None when it cannot be encoded."""
        if self._pid != getpid():
            living.forked()
        seq, at = next(self._seq), int(clock.time() * 1000)
        if type(receipt) is Made and not self._core:
            return seq, at, receipt.text.encode()
        try:
            return seq, at, encoded(receipt, self._core)
        except Exception as error:
            health.count("dropped")
            our_health.fault("delivery.encode", error)
            return None

    def _held(self, entry: Entry) -> Sequence[Entry]:
        """What is to be delivered now: nothing where an invocation keeps it until its handler returns."""
        held = context.held.get()
        return (entry,) if held is None or self._exiting else held.take(self, entry)

    def deliver(self, entries: Sequence[Entry], seconds: float) -> None:
        """Deliver what an invocation has kept, on this thread, in `seconds` at most."""
        from aicostguard.delivery import inline

        try:
            if self._exiting:
                self._send_here(entries)
                return
            inline.send(self._courier, entries, seconds=seconds, alone=not self.inline)
            self._tick()
        except Exception as error:
            our_health.fault("delivery.deliver", error)

    async def adeliver(self, entries: Sequence[Entry], seconds: float) -> None:
        """The same, awaited where an asyncio loop runs."""
        from aicostguard.delivery import inline

        if not inline.running_loop():
            self.deliver(entries, seconds)
            return
        try:
            await inline.asend(self._courier, entries, seconds=seconds, alone=not self.inline)
            self._tick()
        except Exception as error:
            our_health.fault("delivery.adeliver", error)

    def hand_over(self, entries: Sequence[Entry]) -> None:
        """Take back what an invocation has kept and cannot wait for."""
        try:
            self._courier.put(entries)
            if not self.inline:
                self._start()
        except Exception as error:
            our_health.fault("delivery.hand_over", error)

    def _release(self) -> None:
        """What invocations keep is delivered with the rest."""
        for held in list(self.holding):
            self._courier.put(held.drain())

    def _start(self) -> Optional[Worker]:
        """The running worker, started when there is none; None when the interpreter starts no more threads."""
        worker = self._worker
        if worker is not None and worker.alive:
            return worker
        made = Worker(self._courier, self._status)
        # First, and in one step: a receipt submitted meanwhile, or on another thread, must not start another.
        worker = self._worker = (self._heirs if worker is None else worker.heirs).setdefault("", made)
        if worker is not made:
            return worker
        self._follow()
        if hosts.frozen():
            warn("threads.frozen")
        if hosts.forks_in_c():
            worker.load()
        try:
            worker.start()
        except RuntimeError:  # the interpreter ends, or has no more threads to give: the exit hook delivers
            worker.alive = False
            if not self._exiting:
                health.note("no_thread")
            return None
        return worker

    def _follow(self) -> None:
        """Hear of the end of this process, where `atexit` will not."""
        if not self._followed:
            self._followed = True
            hosts.follow(living.leaving(self))

    def _spill(self) -> None:
        """The worker is stuck in a slow exchange: empty the queue into the spool beside it."""
        self._spilling = True
        try:
            start_thread(self._spill_here)
        except RuntimeError:
            self._spilling = False

    def _spill_here(self) -> None:
        try:
            courier = self._courier
            while len(self._queue) > SPILL_AT // 4 and not courier.keeper.memory_only():
                batch = courier.next_batch()
                if batch is None or courier.keep(batch) == BACK:
                    break
        except Exception as error:
            our_health.fault("delivery.spill", error)
        finally:
            self._spilling = False

    def _send_here(self, entries: Sequence[Entry]) -> None:
        """Deliver on this thread."""
        from aicostguard.delivery import inline

        courier = self._courier
        self._follow()
        if self._exiting:
            # After the exit hook nobody comes back for what stays in memory.
            courier.deadline = clock.monotonic() + EXIT_SECONDS
        inline.send(courier, entries)
        if self._exiting:
            courier.evacuate()
            courier.close()
        self._tick()

    def tell(self) -> None:
        """Show in the status file what has happened so far; never raises."""
        try:
            self._tick()
        except Exception as error:
            our_health.fault("delivery.tell", error)

    def _tick(self) -> None:
        """Write the status, except where nothing of this machine survives and nobody could read it."""
        if not self.settings.serverless:
            self._status.tick()

    def flush(self, timeout: Optional[float] = None) -> bool:
        """Deliver everything submitted so far; `timeout` in seconds, 10 when None.

        True when the ledger has all of it. False when it has not: still in the queue, in the spool, or
        dropped since the last flush.
        """
        try:
            if self._pid != getpid():
                living.forked()
            return self._finish(Request(), FLUSH_SECONDS if timeout is None else timeout)
        except Exception as error:
            our_health.fault("delivery.flush", error)
            return False

    def shutdown(self, timeout: Optional[float] = None) -> bool:
        """`flush`, then stop the thread and close what is open; what is left goes to the spool.

        A receipt submitted afterwards starts the thread again.
        """
        try:
            if self._pid != getpid():
                living.forked()
            return self._shut(FLUSH_SECONDS if timeout is None else timeout, force=True)
        except Exception as error:
            our_health.fault("delivery.shutdown", error)
            return False

    def stats(self) -> Dict[str, Any]:
        """Counters, faults, warnings, queue, spool, link, last answer: what the status file holds, as of now."""
        if self._pid != getpid():
            living.forked()
        return describe(self._courier)

    def _finish(self, request: Request, seconds: float) -> bool:
        """Have the worker serve a request, or do it here when there is none. True when nothing is left to deliver."""
        self._release()
        if self._worker is None and self._courier.clear():
            done = True
        elif self.inline or (self._worker is None and self._exiting):
            done = self._courier.deliver_within(seconds, request.force)
        elif self._ask(request, seconds):
            done = request.ok
        else:  # late, or no thread can be started any more
            alive = self._worker is not None and self._worker.alive
            done = not alive and self._courier.deliver_within(seconds, request.force)
        before, self._dropped = self._dropped, health.counters["dropped"]
        return done and before == self._dropped

    def _ask(self, request: Request, seconds: float) -> bool:
        """Put a request to the worker and wait. False when it has not served it."""
        worker = self._start()
        if worker is None or worker.ident == get_ident():
            return False  # the latter: a finaliser on our own thread, which cannot wait for itself
        limit = clock.monotonic() + seconds
        self._queue.signal(request)
        while not request.done.wait(max(0.0, min(LOOK, limit - clock.monotonic()))):
            if not worker.alive:
                # Killed: its successor reads the same queue, where the request may be or may have been.
                worker = self._start()
                if worker is None:
                    return False
                self._queue.signal(request)
            elif clock.monotonic() >= limit:
                return False
        return True

    def _shut(self, seconds: float, force: bool) -> bool:
        courier = self._courier
        courier.deadline = clock.monotonic() + seconds * 0.9  # leaves time to write down what was not taken
        courier.ending = True
        wait = EXIT_WHEN_DOWN if not force and courier.link.state == "down" else seconds
        used = self._worker is not None
        try:
            delivered = self._finish(Request(stop=True, force=force), wait)
            courier.farewell()
            courier.evacuate()
            courier.close()
            if not self.settings.serverless and (used or worth_telling()):
                self._status.final()
        finally:
            self._heirs = {}
            self._worker = None
            courier.deadline = None
            courier.going_on()
        return delivered

    def _leave(self) -> None:
        """The end of the program, bounded: what the ledger cannot take at once goes to the spool."""
        if self._pid != getpid():
            return  # a child that has submitted nothing: the queue is its parent's
        if self._exiting and self._courier.clear():
            return  # asked twice
        self._exiting = True
        self._courier.leaving = True
        self._release()
        self._courier.write_down()
        # With memory alone, what is not delivered now is lost: then our own backoff is no reason not to try.
        self._shut(EXIT_SECONDS, force=self._courier.keeper.memory_only() and not self._courier.clear())

    def leave(self) -> None:
        """What `atexit` does: call it at the end of the program; never raises."""
        try:
            self._leave()
        except Exception as error:
            our_health.fault("delivery.exit", error)

    def disown(self) -> None:
        """In a forked child: the parent delivers its own."""
        if self._pid != getpid():
            self._courier.abandon()
            self._fresh()
