"""Brings batches to the ledger, and does with each what the ledger's answer demands.

Owns the way of a batch: from the queue or the spool, over an exchange, to its end or back; what each answer demands is
`answers`' to know. Used by the worker's thread, by inline sending and at exit, also at once: it holds no lock while it
waits for a network. Never raises for what a network, a disk or a ledger does. If it is wrong, receipts are lost or sent
for ever.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from aicostguard import health as our_health
from aicostguard.clock import clock
from aicostguard.config import Settings
from aicostguard.delivery import envelope, reply
from aicostguard.delivery.answers import Answers
from aicostguard.delivery.envelope import Batch
from aicostguard.delivery.keeper import Keeper
from aicostguard.delivery.link import Link
from aicostguard.delivery.queue import BATCH, Entry, Queue
from aicostguard.delivery.reply import Reply
from aicostguard.delivery.says import warn
from aicostguard.delivery.segment import Vanished
from aicostguard.health import health

#: seconds for a whole exchange however slowly its bytes arrive; inline a user's request waits for it
EXCHANGE_SECONDS, INLINE_SECONDS = 10.0, 5.0
#: seconds that a program which ends may spend on what earlier ones left in the spool, when the ledger answers
LEFTOVERS_SECONDS = 0.5
#: seconds that a program which ends may spend on telling so
FAREWELL_SECONDS = 0.5

#: what became of a batch
TAKEN, KEPT, BACK = "taken", "kept", "back"


class Courier:
    """One process's deliveries to one ledger. Building it opens nothing and imports nothing heavy."""

    def __init__(self, settings: Settings, queue: Queue, epoch: str, numbers: Iterator[int]) -> None:
        """`numbers` are those that its receipts are given."""
        self.settings = settings
        self.queue = queue
        self.epoch = epoch
        self._numbers = numbers
        self.link = Link()
        #: monotonic seconds; set when the process ends
        self.deadline: Optional[float] = None
        #: True from the exit hook on: what the ledger does not take at once is for the next process
        self.leaving = False
        #: True while we shut down: what cannot be delivered now cannot wait in memory
        self.closing = False
        self.keeper = Keeper(settings, self.head, self.counters)
        self.answers = Answers(settings, epoch, self.link, self.keeper, self.keep, self._over)
        #: True once no further receipt is expected: the last batch says so
        self.ending = False
        self._said_farewell = False
        self._inflight: Dict[int, Batch] = {}
        #: none, or one under ""
        self._transports: Dict[str, Any] = {}
        self._head: Optional[Dict[str, Any]] = None

    # What is built late, because it imports what the host's start must not pay for.

    @property
    def transport(self) -> Any:
        """The HTTP client or the local sink: something with `post(body, deadline) -> Reply` and `close()`."""
        found = self._transports.get("")
        if found is not None:
            return found
        made: Any
        path = self.settings.sqlite_path
        if path is not None:
            from aicostguard.delivery.sink import Sink

            made = Sink(path)
        else:
            from aicostguard.delivery.client import Client

            made = Client(self.settings.url or "", self.settings.key, self.head()["agent"], self.settings.inline)
        # In one step: threads may send their first at one moment, and nobody closes what a second one has opened.
        return self._transports.setdefault("", made)

    def prepare(self) -> None:
        """Before the first receipt: load what has to be at hand for each of them. Opens nothing."""
        try:
            self.keeper.prepare()
        except Exception as error:
            self.keeper.durable = False
            our_health.fault("courier.prepare", error)

    def head(self) -> Dict[str, Any]:
        """The fixed part of our envelopes."""
        if self._head is None:
            self._head = envelope.head(self.settings, self.epoch)
        return self._head

    def counters(self) -> Dict[str, int]:
        """The counters of our envelopes: of the receipts of this process, those that are ours."""
        return health.counters_of(self._numbers)

    # One batch.

    def put(self, entries: Sequence[Entry]) -> None:
        """Queue receipts."""
        for entry in entries:
            if not self.queue.put(entry):
                self.no_room(entry)

    def no_room(self, entry: Entry) -> None:
        """A receipt that does not fit into the queue stays on disk, or is dropped and counted."""
        if not self.keeper.leave(entry[0]):
            health.count("dropped")
            warn("receipts.dropped")

    def next_batch(self) -> Optional[Batch]:
        """The next receipts of the queue, None when it is empty."""
        self.head()  # before anything is taken: if it fails, nothing is lost
        while True:
            entries = self.queue.take()
            if not entries:
                return None
            batch = self.batch(entries)
            if batch.seq:
                return batch

    def batch(self, entries: Sequence[Entry]) -> Batch:
        """A batch of these entries."""
        last = self.ending and not len(self.queue)
        return envelope.build(self.head(), entries, self.counters(), ended=last)

    def carry(self, batch: Batch, force: bool = False, seconds: Optional[float] = None) -> str:
        """Deliver a batch, or keep it. `force` skips our own backoff, never a pause the ledger asked for.

        An exchange takes `seconds` at most, where fewer than usual are given.
        """
        result, work = TAKEN, [batch]
        while work:
            part = work.pop()
            if self.may_send(force):
                self._inflight[id(part)] = part
                try:
                    result = self.settle(part, self._post(part, seconds), work, result)
                except BaseException as error:
                    if not isinstance(error, Exception):  # this thread ends; what it holds is for the next one
                        for rest in work + [part]:
                            self.keep(rest)
                            self._inflight.pop(id(rest), None)
                    raise
                finally:
                    self._inflight.pop(id(part), None)
            else:
                result = self.keep(part)
                self._inflight.pop(id(part), None)
            force = False
        return result

    async def acarry(self, batch: Batch, post: Callable[[bytes, float], Any], seconds: Optional[float] = None) -> str:
        """The same, awaiting `post`. Cancelled, the batch is back in the queue before the cancellation goes on."""
        result, work = TAKEN, [batch]
        while work:
            part = work.pop()
            if self.may_send(False):
                self._inflight[id(part)] = part
                try:
                    answer = await post(self.stamped(part), self.time_limit(seconds))
                except BaseException:
                    for rest in work + [part]:
                        self._put_back(rest)
                        self._inflight.pop(id(rest), None)
                    raise
                try:
                    result = self.settle(part, answer, work, result)
                finally:
                    self._inflight.pop(id(part), None)
            else:
                result = self.keep(part)
                self._inflight.pop(id(part), None)
        return result

    def _post(self, batch: Batch, seconds: Optional[float] = None) -> Reply:
        try:
            answer: Reply = self.transport.post(self.stamped(batch), self.time_limit(seconds))
        except Exception as error:  # ours: nobody has the batch, so it is kept like one that met a dead ledger
            our_health.fault("courier.post", error)
            answer = Reply(reply.LOST, detail=type(error).__name__)
        return answer

    def may_send(self, force: bool) -> bool:
        """May an attempt be made now?"""
        return self.link.may_force() if force else self.link.is_open()

    def stamped(self, batch: Batch) -> bytes:
        """The envelope of this attempt."""
        return batch.render(int(clock.time() * 1000))

    def time_limit(self, seconds: Optional[float] = None) -> float:
        """Monotonic seconds by which an exchange that starts now has to end."""
        usual = INLINE_SECONDS if self.settings.inline else EXCHANGE_SECONDS
        limit = clock.monotonic() + (usual if seconds is None else min(seconds, usual))
        return limit if self.deadline is None else min(limit, self.deadline)

    def settle(self, batch: Batch, answer: Reply, work: List[Batch], result: str) -> str:
        """Do what the answer demands. Parts still to be sent go to `work`; gives what became of the batch."""
        if answer.kind == reply.SPLIT and len(batch.seq) > 1:
            self.answers.heard(answer)
            halves = batch.halves()
            # The half that waits for the other is on its way, too: an end writes down both.
            self._inflight.update((id(half), half) for half in halves)
            work.extend(halves)
            return result
        try:
            kept = self.answers.obey(batch, answer)
        except Exception as error:  # ours: a batch that breaks us now would break us again
            health.count("dropped", len(batch.seq))
            self._over(batch)
            our_health.fault("courier.settle", error)
            return result
        return result if kept is None else kept

    def _over(self, batch: Batch) -> None:
        """Taken, or refused for good."""
        self._inflight.pop(id(batch), None)  # first: whoever writes down what is on its way does not find it there
        self.keeper.settle(batch)

    # What could not be delivered.

    def keep(self, batch: Batch, wanted: Optional[Callable[[], bool]] = None) -> str:
        """On disk, else back to the queue, else dropped and counted. Nothing of it where it is `wanted` no more."""
        if batch.stored:
            return KEPT
        left = self.keeper.keep(batch, wanted)
        if not left.seq:
            return KEPT
        self._put_back(left)
        return BACK

    def _put_back(self, batch: Batch) -> None:
        lost = len(batch.seq) if self.closing else self.queue.put_back(batch.entries())
        if lost:
            health.count("dropped", lost)
            warn("receipts.dropped")

    # The spool, when the ledger answers again.

    def resend_one(self, force: bool = False) -> bool:
        """Send the next batch of the spool; False when there is none, or not now."""
        keeper = self.keeper
        if not self.may_send(force) or not keeper.backlog():
            return False
        segment = None
        try:
            segment = keeper.spool.claim()
            if segment is None:
                return False
            batch = segment.next_batch()
            if batch is None:
                keeper.finish(segment)
                return True
            if batch.epoch == self.epoch:
                batch.head.update(self.head(), counters=self.counters())
            elif segment.last and segment.ended and keeper.spool.last_of(segment):
                batch.head["ended"] = True  # the word that its process could not send
            if self.carry(batch, force) != TAKEN:
                return False
            segment.advance()
            if segment.last:  # at once: there may be no next time
                keeper.finish(segment)
            return True
        except Vanished:
            keeper.spool.forget(segment)
            return True
        except OSError as error:
            keeper.fault("spool.claim", error)
            return False
        finally:
            if segment is not None:
                keeper.spool.give_back(segment)

    # All of it.

    def deliver_all(self, force: bool = False) -> None:
        """Deliver what is in the queue now and what this process has in the spool, as far as it goes."""
        waiting = len(self.queue)
        while waiting > 0:
            batch = self.next_batch()
            if batch is None:
                break
            waiting -= len(batch.seq)
            if self.carry(batch, force) == BACK:
                return
            force = False
        while not self.leaving and not self.keeper.clear():
            late = self.deadline is not None and clock.monotonic() >= self.deadline
            if late or not self.resend_one(force):
                return
            force = False
            if len(self.queue) >= BATCH:  # a long backlog does not hold up what comes in meanwhile
                fresh = self.next_batch()
                if fresh is not None and self.carry(fresh) == BACK:
                    return
        if self.leaving and self.link.state == "up":
            # What earlier runs left behind: a program of short runs would otherwise never send it.
            limit = clock.monotonic() + LEFTOVERS_SECONDS
            while clock.monotonic() < limit and self.resend_one():
                pass

    def deliver_within(self, seconds: float, force: bool) -> bool:
        """The same, for so long at most; True when nothing waits any more."""
        before = self.deadline
        if before is None:
            self.deadline = clock.monotonic() + seconds
        try:
            self.deliver_all(force)
        finally:
            self.deadline = before
        return self.clear()

    # The end.

    def farewell(self) -> None:
        """Tell the ledger that this process has ended, unless the last batch did: it then knows what is missing.

        Only where it costs one small exchange: the ledger answers, and has receipts of ours. What comes of it changes
        nothing.
        """
        said = self._said_farewell or self.answers.ended_at == self.counters()["generated"]
        if said or self.link.state != "up" or not health.counters["sent"] or len(self.queue) or self._inflight:
            return
        self._said_farewell = True
        answer = self._post(envelope.build(self.head(), (), self.counters(), ended=True), FAREWELL_SECONDS)
        if answer.kind == reply.TAKEN:
            self.answers.ended_at = self.counters()["generated"]

    def going_on(self) -> None:
        """After a shutdown that was not the end of the program: there may be more."""
        self.closing = False
        self.ending = self.leaving
        self._said_farewell = False

    def write_down(self) -> None:
        """What is in memory is on disk, too, before an end that waits for the ledger: whoever ends us may not wait.

        Celery's workers, for one, are killed with their main process.
        """
        self.keeper.secure_all(self._in_memory)

    def _in_memory(self) -> List[Entry]:
        # The queue first: what moves meanwhile is on its way by the second look.
        entries = self.queue.waiting()
        for batch in list(self._inflight.values()):
            if not batch.stored:
                entries += batch.entries()
        return entries

    def evacuate(self) -> None:
        """Write everything that is in memory, also what another thread is sending, to the spool."""
        self.closing = True
        self.keeper.last_chance()
        for key, batch in list(self._inflight.items()):
            self.keep(batch, partial(self._inflight.__contains__, key))
        while True:
            batch_or_none = self.next_batch()
            if batch_or_none is None:
                return
            self.keep(batch_or_none)

    def clear(self) -> bool:
        """True when nothing of this process waits for delivery."""
        return not len(self.queue) and not self._inflight and self.keeper.clear()

    def close(self) -> None:
        """Close connections and segments."""
        transport = self._transports.get("")
        if transport is not None:
            transport.close()
        self.keeper.close(ended=self.leaving)

    def abandon(self) -> None:
        """In a forked child: let go of the parent's sockets and files without a word to the other side."""
        transport = self._transports.get("")
        if transport is not None:
            transport.close()
        self.keeper.abandon()
