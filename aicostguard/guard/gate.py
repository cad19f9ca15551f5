"""The guard in the call path: what capture asks before a call is sent, and tells when it is over.

Owns the way from a call to the guard's values (labels, the most it can use, what it did use) and back. Nothing here
decides: the rules do, in the engine. A fault of ours never reaches the host: it is counted, and the policy's
`on_store_failure` says whether the call goes on. An event loop is never blocked by a store that waits: what is asked is
awaited, what is told goes to a thread, and the next question waits for it. If this is wrong, calls are counted in
budgets that are not theirs, or with amounts that they have not used.
"""

from __future__ import annotations

import collections
import sys
import time
from _thread import get_ident
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from aicostguard import health
from aicostguard.capture.gate import Refused
from aicostguard.guard import aside, bound, running
from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded, BudgetExhausted
from aicostguard.guard.fingerprint import fingerprint
from aicostguard.guard.loops import Loops
from aicostguard.guard.running import Running
from aicostguard.guard.values import Bound, Facts, Spent, Ticket
from aicostguard.metering.table import form
from aicostguard.pricing import PriceBook
from aicostguard.receipt import Receipt

#: labels that are taken from the call as they are
_LABELS = ("user", "session", "agent", "parent_agent", "team", "project")
#: tiers of a request that say nothing: OpenAI's projects and others have one of their own then
#: (https://platform.openai.com/docs/api-reference/chat/create, service_tier)
_LEFT = (None, "auto")
_MOST_SERVED = 1024
#: what a provider charges more for by default in some places of work: its dearest region
_DEAREST: Dict[str, str] = {"anthropic": "us"}


class Reservation:
    """What one call holds. `watch` is true while its stream may have to be cut; `known`: its most is known."""

    __slots__ = ("ticket", "known", "watch", "running", "of")

    def __init__(
        self, ticket: Ticket, known: bool, stream: Optional[Running], of: Optional[Tuple[str, str]] = None
    ) -> None:
        self.ticket = ticket
        #: provider and model of a request that leaves its service tier to the provider
        self.of = of
        self.known = known
        self.running = stream
        self.watch = stream is not None


class CallGate:
    """The `Gate` over a `Guard`. `labels` are those of the whole program: service, environment, organisation."""

    def __init__(
        self, guard: Guard, book: PriceBook, labels: Mapping[str, str], waits: bool, loops: Optional[Loops] = None
    ) -> None:
        self.guard = guard
        self._book = book
        self._labels = dict(labels)
        self._waits = waits
        self._loops = loops
        self._closed = guard.policy.on_store_failure == "closed"
        #: provider and model → tiers by which requests were served that had left it to the provider: the account says
        self._served: Dict[Tuple[str, str], Set[str]] = {}
        #: threads that are inside the engine: what a finaliser tells meanwhile waits until they are out
        self._inside: Set[int] = set()
        self._told: Deque[Tuple[Callable[..., None], Tuple[Any, ...]]] = collections.deque()
        #: what was given to a thread and may not be done yet
        self._going: Deque[Any] = collections.deque()

    # -- before

    def ask(self, call: Any) -> Reservation:
        """See `capture.gate.Gate`."""
        try:
            facts, asked = self._facts(call)
            self._settled()
            with _Inside(self):
                ticket = self.guard.ask(facts)
            return self._reserved(call, facts, asked, ticket)
        except BudgetExhausted as error:
            raise Refused(error) from None
        except Exception as error:
            return self._failed("ask", error)

    async def aask(self, call: Any) -> Reservation:
        """See `capture.gate.Gate`."""
        try:
            facts, asked = self._facts(call)
            if self._going:
                await self._asettled()
            if self._waits:
                ticket = await self.guard.aask(facts)
            else:
                with _Inside(self):
                    ticket = self.guard.ask(facts)
            return self._reserved(call, facts, asked, ticket)
        except BudgetExhausted as error:
            raise Refused(error) from None
        except Exception as error:
            return self._failed("aask", error)

    def _reserved(self, call: Any, facts: Facts, asked: bound.Asked, ticket: Ticket) -> Reservation:
        stream = None
        try:
            if facts.bound.unknown is not None and any(most is not None for most in self.guard.holds(ticket)):
                stream = running.of(self.guard, self._book, ticket, call.endpoint, asked, call.body(), facts.at_ms)
        except Exception as error:  # the call is held: it goes on, and is not watched
            health.fault("guard.gate.reserved", error)
        of = (call.endpoint.provider, asked.model) if asked.model and asked.tier in _LEFT else None
        return Reservation(ticket, facts.bound.unknown is None, stream, of)

    def _facts(self, call: Any) -> Tuple[Facts, bound.Asked]:
        endpoint, body = call.endpoint, call.body()
        asked = bound.read(endpoint, body)
        now = time.time_ns() // 1_000_000
        labels = {**self._labels, **labels_of(call.labels), "provider": endpoint.provider}
        if call.feature:
            labels["feature"] = call.feature
        if asked.model:
            labels["model"] = asked.model
        row = form(endpoint.format)
        operation = None if row is None else row.operation
        if operation:
            labels["operation"] = operation
        priced = asked.model is not None and self._book.find(endpoint.provider, asked.model) is not None
        most = self._most(endpoint, asked, operation, now) if priced and asked.unknown is None else None
        mark = fingerprint(endpoint.format, body) if self._loops is not None and body else None
        limits = Bound(most, asked.input_tokens, asked.output_tokens, asked.unknown)
        facts = Facts(labels, limits, now, priced, endpoint.format, mark)
        if self._loops is not None:
            self._looping(facts, self._loops)
        return facts, asked

    def _looping(self, facts: Facts, loops: Loops) -> None:
        found = loops.look(facts)
        if found is not None:
            block = self.guard.policy.loop_action == "block"
            with _Inside(self):
                self.guard.decided(facts, found.error, block)
            if block:
                raise found.error
            if found.new:
                import logging

                logging.getLogger("aicostguard.guard").warning("%s", found.error)

    def _most(self, endpoint: Any, asked: bound.Asked, operation: Optional[str], now: int) -> Optional[int]:
        """The price of all that the request may use, at the dearest it may be served for."""
        assert asked.model is not None and asked.input_tokens is not None and asked.output_tokens is not None
        found: List[int] = []
        served = self._served.get((endpoint.provider, asked.model), ()) if asked.tier in _LEFT else ()
        for tier in {None, asked.tier, *served}:
            for region in {asked.region or endpoint.region, _DEAREST.get(endpoint.provider)}:
                price = self._book.ceiling(
                    endpoint.provider,
                    asked.model,
                    input_tokens_max=asked.input_tokens,
                    output_tokens_max=asked.output_tokens,
                    at_ms=now,
                    service_tier=tier,
                    operation=operation,
                    region=region,
                )
                if price is not None:
                    found.append(price)
        return max(found) if found else None

    # -- after

    def settle(self, held: Optional[Reservation], receipts: Sequence[Receipt]) -> None:
        """See `capture.gate.Gate`. Without a hold: what was never asked for has been used all the same."""
        if held is _NOTHING:
            return
        if held is None:
            self._tell(self._booked, receipts)
            return
        self._tell(self.guard.settle, held.ticket, self._spent(held, receipts))
        if held.of is not None:
            self._learn(held.of, receipts)

    def release(self, held: Reservation) -> None:
        """See `capture.gate.Gate`."""
        if held is not _NOTHING:
            self._tell(self.guard.release, held.ticket)

    def lost(self, held: Reservation) -> None:
        """See `capture.gate.Gate`."""
        if held is not _NOTHING:
            self._tell(self.guard.settle, held.ticket, Spent(estimated=True))

    def _learn(self, of: Tuple[str, str], receipts: Sequence[Receipt]) -> None:
        """The tier that an account has by itself is known from its answers only; the next request holds its price."""
        for receipt in receipts:
            tier = receipt.get("service_tier")
            if tier and (of in self._served or len(self._served) < _MOST_SERVED):
                self._served.setdefault(of, set()).add(tier)

    def _booked(self, receipts: Sequence[Receipt]) -> None:
        """Each in the budgets of its own labels: one file of results may be of several models."""
        alike: Dict[Tuple[Tuple[str, str], ...], List[Receipt]] = {}
        for receipt in receipts:
            labels = {**self._labels, **labels_of(receipt)}
            for name in ("feature", "model", "provider", "operation"):
                if receipt.get(name):
                    labels[name] = str(receipt[name])
            alike.setdefault(tuple(sorted(labels.items())), []).append(receipt)
        for known, several in alike.items():
            self.guard.book(Facts(dict(known), Bound(), time.time_ns() // 1_000_000), self._spent(None, several))

    def _spent(self, held: Optional[Reservation], receipts: Sequence[Receipt]) -> Spent:
        """What the receipts say; None where they do not, and then all that is held is booked."""
        now = time.time_ns() // 1_000_000
        nanousd: Optional[int] = 0
        tokens: Optional[int] = 0
        sure = bool(receipts)
        for receipt in receipts:
            cost = self._book.price(receipt, now).cost_nanousd
            if cost is None:
                cost = receipt.get("reported_cost_nanousd")
            nanousd = None if nanousd is None or cost is None else nanousd + cost
            if receipt.get("usage_missing"):
                tokens = None
            else:
                counts = (receipt.get("input_tokens") or 0) + (receipt.get("output_tokens") or 0)
                tokens = None if tokens is None else tokens + counts
            if receipt.get("partial") or receipt.get("usage_missing"):
                sure = False
        if sure:
            return Spent(nanousd, tokens, max(1, len(receipts)), any(r.get("estimated") for r in receipts))
        if held is None:
            return Spent(nanousd if receipts else None, tokens if receipts else None, max(1, len(receipts)), True)
        if held.running is None:
            return Spent(estimated=True)
        # Nothing bounds it: what has passed is the best that is known, and at least what is certain.
        used = held.running.used()
        return Spent(max(used[0] or 0, nanousd or 0) or None, max(used[1], tokens or 0) or None, 1, True)

    def _tell(self, step: Callable[..., None], *args: Any) -> None:
        """Carry out a step without waiting where nobody may wait."""
        if get_ident() in self._inside:
            self._told.append((step, args))
        elif self._waits and _in_loop():
            going = aside.later(self._carried, step, args)
            if going is not None:
                self._going.append(going)
        else:
            self._carried(step, args)

    def _carried(self, step: Callable[..., None], args: Tuple[Any, ...]) -> None:
        try:
            with _Inside(self):
                step(*args)
        except Exception as error:
            health.fault("guard.gate.tell", error)

    def _settled(self) -> None:
        """What this process has told is in the books before it asks again."""
        while self._going:
            try:
                going = self._going.popleft()
            except IndexError:  # another thread has waited for it
                return
            if not going.done():
                from concurrent.futures import wait

                wait([going], timeout=1.0)  # not `exception`, which raises when it takes longer

    async def _asettled(self) -> None:
        import asyncio

        while self._going:
            try:
                going = self._going.popleft()
            except IndexError:
                return
            if not going.done():
                await asyncio.shield(asyncio.wrap_future(going))

    # -- while a stream runs

    def passing(self, held: Reservation, call: Any, data: bytes) -> Optional[BaseException]:
        """See `capture.gate.Gate`."""
        stream = held.running
        if stream is None:
            return None
        try:
            with _Inside(self):
                error = stream.passed(data, aside.threads().submit if self._waits and _in_loop() else None)
        except Exception as fault:
            held.watch = False
            health.fault("guard.gate.passing", fault)
            return None
        if error is not None:
            held.watch = False
            self._tell(self.guard.cut, held.ticket, error)
        return error

    def _failed(self, where: str, error: Exception) -> Reservation:
        health.fault("guard.gate." + where, error)
        if self._closed:
            text = "The guard failed (%s), and on_store_failure is closed" % type(error).__name__
            raise Refused(BudgetExceeded(text, budget=self.guard.policy.name)) from None
        return _NOTHING

    def close(self) -> None:
        """Nothing more will be asked. What was told is carried out."""
        self._settled()
        self.guard.close()


class _Inside:
    """This thread is inside the engine, whose locks a finaliser of ours must not want."""

    __slots__ = ("_gate", "_ident")

    def __init__(self, gate: CallGate) -> None:
        self._gate = gate
        self._ident = 0

    def __enter__(self) -> None:
        ident = get_ident()
        if ident not in self._gate._inside:
            self._gate._inside.add(ident)
            self._ident = ident

    def __exit__(self, *exc: Any) -> None:
        if self._ident:
            self._gate._inside.discard(self._ident)
            while self._gate._told:
                try:
                    step, args = self._gate._told.popleft()
                except IndexError:
                    return
                self._gate._tell(step, *args)


#: what a call has that went on though nobody could be asked
_NOTHING = Reservation(Ticket("", 0), True, None)


def labels_of(given: Mapping[str, Any]) -> Dict[str, str]:
    """The labels of a call or a receipt that budgets may name."""
    found = {name: str(given[name]) for name in _LABELS if given.get(name) is not None}
    for name, value in (given.get("tags") or {}).items():
        found["tags." + name] = str(value)
    return found


def _in_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
