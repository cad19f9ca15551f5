"""What the ledger's answer to a batch demands.

Owns the rules of delivery, one for each kind of reply: what is taken is counted and forgotten, what is not is kept,
what the ledger will never take is set aside; whether, and when, the next attempt may be made; what is said to the user.
If a rule is wrong, receipts are lost or sent for ever.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from aicostguard import health as our_health
from aicostguard.clock import clock
from aicostguard.config import Settings
from aicostguard.delivery import hosts, reply
from aicostguard.delivery.envelope import Batch
from aicostguard.delivery.keeper import Keeper
from aicostguard.delivery.link import Link
from aicostguard.delivery.reply import Reply
from aicostguard.delivery.says import warn
from aicostguard.health import health


class Answers:
    """The rules, for the batches of one process. `keep` puts a batch where it waits, and tells where that is; `over`
    lets go of it."""

    def __init__(
        self,
        settings: Settings,
        epoch: str,
        link: Link,
        keeper: Keeper,
        keep: Callable[[Batch], str],
        over: Callable[[Batch], None],
    ) -> None:
        #: the last answer: `{"at_ms", "status", "kind", "detail"}`
        self.last: Optional[Dict[str, Any]] = None
        #: how many receipts there were when the ledger took our word that there will be no more, -1 before
        self.ended_at = -1
        self._settings = settings
        self._epoch = epoch
        self._link = link
        self._keeper = keeper
        self._keep = keep
        self._over = over

    def heard(self, answer: Reply) -> None:
        """Remember the answer, for whoever asks how things stand."""
        self.last = {
            "at_ms": int(clock.time() * 1000),
            "status": answer.status,
            "kind": answer.kind,
            "detail": answer.detail,
        }

    def obey(self, batch: Batch, answer: Reply) -> Optional[str]:
        """Do what the answer demands; where the batch is kept, None when it is done with."""
        self.heard(answer)
        # Neither the address nor what the ledger wrote: either may quote what is nobody's business.
        our_health.debug("receipts sent: %d, answered: %s (HTTP %s)", len(batch.seq), answer.kind, answer.status)
        return _RULES[answer.kind](self, batch, answer)

    def _taken(self, batch: Batch, answer: Reply) -> None:
        self._link.up()
        if "ended" in batch.head and batch.epoch == self._epoch:
            self.ended_at = batch.head["counters"]["generated"]
        self._leaves(batch, "sent")
        if answer.refused:
            health.note("refused", answer.refused)
            reason = answer.refusal or ""
            # A server may quote what it was sent: the key must not come back by way of a log.
            warn("ledger.refused", answer.refused, reason.replace(self._settings.key or "\0", "…"))

    def _leaves(self, batch: Batch, counter: str) -> None:
        """Count a batch that is done with. Receipts of another process are counted apart: its books are closed."""
        if batch.epoch == self._epoch:
            health.count(counter, len(batch.seq))
        else:
            health.note("%s_for_others" % counter, len(batch.seq))
        self._over(batch)

    def _waits(self, batch: Batch, answer: Reply) -> str:
        self._link.wait(answer.retry_after)
        health.note("asked_to_wait")
        return self._keep(batch)

    def _denied(self, batch: Batch, answer: Reply) -> str:
        self._link.pause("denied")
        warn("ledger.denied", _what(answer))
        return self._keep(batch)

    def _moved(self, batch: Batch, answer: Reply) -> str:
        self._link.pause("moved")
        warn("ledger.moved", answer.status)
        return self._keep(batch)

    def _rejected(self, batch: Batch, answer: Reply) -> None:
        self._link.up()
        health.note("rejected", len(batch.seq))
        self._keeper.set_aside("http%s.json" % answer.status, batch.render(None) + b"\n")
        self._leaves(batch, "dropped")
        warn("ledger.rejected", answer.status)

    def _lost(self, batch: Batch, answer: Reply) -> str:
        self._link.down()
        health.note("attempts_failed")
        if not hosts.frozen():  # where threads stand still, every deadline passes
            warn("ledger.unreachable", _what(answer))
        return self._keep(batch)

    def _broken(self, batch: Batch, answer: Reply) -> str:
        self._link.down()
        kept = self._keep(batch)
        warn("sink.broken", answer.detail)
        our_health.fault("sink.post", OSError(answer.detail))
        return kept


def _what(answer: Reply) -> str:
    return "HTTP %d" % answer.status if answer.status else answer.detail or "no answer"


_RULES: Dict[str, Callable[[Answers, Batch, Reply], Optional[str]]] = {
    reply.TAKEN: Answers._taken,
    reply.SPLIT: Answers._rejected,  # one receipt that is too large
    reply.WAIT: Answers._waits,
    reply.DENIED: Answers._denied,
    reply.MOVED: Answers._moved,
    reply.REJECTED: Answers._rejected,
    reply.LOST: Answers._lost,
    reply.BROKEN: Answers._broken,
}
