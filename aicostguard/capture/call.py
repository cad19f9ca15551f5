"""One AI call from the moment it is recognised to its receipts.

Owns `Call`. A call is begun before the user's request runs and fed in passing with the response's bytes. Nothing here
may raise into a transport's path: each public method catches its own `Exception`, and leaves cancellation and exits
alone. If this module is wrong, calls are lost, doubled or late.
"""

from __future__ import annotations

import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable, Hashable, List, Mapping, Optional, Sequence, Union

from aicostguard import context, receipt
from aicostguard.capture import caller, forks, once, permit
from aicostguard.capture.billed import receipt_of
from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook
from aicostguard.capture.quick import Quick, Unmet, quick
from aicostguard.capture.start import Start
from aicostguard.capture.state import Met, state
from aicostguard.health import health
from aicostguard.metering import UNRECOGNISED, Endpoint, Glance, Meter, read_body, recognise
from aicostguard.metering.formats import RETRIEVALS
from aicostguard.metering.table import RESULTS
from aicostguard.usage import Reading

if TYPE_CHECKING:
    from aicostguard.capture.asking import Answer
    from aicostguard.capture.estimating import Kept

#: recognised endpoints that are remembered
MAX_ENDPOINTS = 512

Header = Callable[[str], Optional[str]]
Body = Callable[[], Optional[bytes]]


def nothing() -> Optional[bytes]:
    """The body of a request whose call is over. A connection's context may hold the call for as long as it is open."""
    return None


class Call:
    """A recognised call. `asynchronous` calls in inline mode collect receipts in `outbox` to be awaited."""

    # What most calls never set stands here, once for all.
    #: when the first bytes of a stream came
    first: Optional[float] = None
    #: set by a transport that knows the bytes have ended, before it knows that we have seen them all
    complete = False
    #: under `AICG_STREAM_USAGE=request`: what keeps the chunk that we asked for from the caller
    hide: Optional[Answer] = None
    #: with the extra `estimate`: as much of the response as an estimate needs
    kept: Optional[Kept] = None
    #: what it holds of a budget, while a gate is set
    hold: Optional[permit.Hold] = None
    #: what the next read of a stream raises that has passed what it may cost
    cut: Optional[BaseException] = None
    outbox: Sequence[receipt.Receipt] = ()
    #: was a transport beneath the one that makes it asked? The status of its answer, where that is known
    asked: Union[bool, int] = False
    #: what its transport stands around, and where it is kept while it is sent
    around: Any = None
    place = context.inside
    #: the answer that it is billed by, where a hook of the user's own gives another call's in its place
    answer: Any = None
    #: its answer came out of a cache or off a cassette (`replays`): it was billed before
    replayed = False
    #: where its receipt is to be remembered, whose like was not known
    unmet: Optional[Unmet] = None
    #: the meter of a response that is read in passing. A list, because taking the meter out of it is one atomic step:
    #: the first of terminal event, close and garbage collection wins, on whatever thread it happens.
    _meter: List[Union[Meter, Start]] = []
    #: `forks.count` when that meter was made
    _born = 0

    def __init__(
        self,
        hook: Hook,
        endpoint: Endpoint,
        logical: Optional[context.Logical],
        request: Body,
        asynchronous: bool,
        known: Optional[Quick] = None,
    ) -> None:
        self.hook = hook
        self.endpoint = endpoint
        #: what is known of this endpoint's answers
        self.known = known
        labels = context.labelled.get()
        self.labels: Mapping[str, Any] = context.NOTHING if labels is None else labels.values
        if state.readers:
            self.labels = agents.read(self.labels)
        self.logical = logical
        if logical is None:
            self.feature = self.labels.get("feature") or caller.infer(state.rule, 3) or state.default
        else:
            logical.attempts += 1
            self.feature = logical.feature or state.default
        self.asynchronous = asynchronous
        self._request = request
        self.started = perf_counter()

    def body(self) -> Optional[bytes]:
        """The request's body, when it is at hand as bytes."""
        return self._request()

    def again(self) -> None:
        """What was sent so far gave nothing; it is sent once more, inside the same call of the transport."""
        self.started = perf_counter()
        if self.logical is not None:
            self.logical.attempts += 1

    def read(self, status: int, content_type: str, header: Header, body: bytes) -> None:
        """The whole decoded body is here."""
        try:
            if self.known is not None and status == 200 and not self.replayed:
                made = self.known.receipt(self, body, perf_counter())
                if made is not None:
                    if state.deliver is not None:
                        state.deliver(made)
                    if self.hook.failures:
                        self.hook.worked()
                    return
            if self.endpoint.id is not None and self.endpoint.format in RESULTS:
                # The meter has to know how much of it was billed before.
                if self.open(status, content_type, header):
                    self.feed(body)
                    self.end(True)
                return
            if 200 <= status < 300 and not self.replayed:
                now = perf_counter()
                readings = read_body(self.endpoint, status, content_type, body, self._request, header)
                if state.estimates is not None and any(r.usage is None or r.partial for r in readings):
                    self.kept = state.estimates.keep(self.endpoint.format, body)
                receipts = self._settle(readings, now)
                if self.unmet is not None and self.known is not None:
                    self.known.learn(self, receipts)
            else:
                self.unbilled()
            self.hook.worked()
        except Exception as error:
            self.lost("read", error)
        finally:
            self._request = nothing

    def open(self, status: int, content_type: str, header: Header) -> bool:
        """The head of the response is here; False when its body does not matter."""
        try:
            if not 200 <= status < 300 or self.replayed:
                self.unbilled()
                return False
            if state.estimates is not None:
                self.kept = state.estimates.keep(self.endpoint.format)
            skip = once.lines_billed(self.endpoint) if self.endpoint.format in RESULTS else 0
            self._born = forks.count
            make = partial(Meter, self.endpoint, status, content_type, self._request, header, skip)
            if self.known is None or self.kept is not None or self.hold is not None:
                self._meter = [make()]
            else:
                self._meter = [Start(self.known, make)]
            return True
        except Exception as error:
            self.lost("open", error)
            return False

    def unbilled(self) -> None:
        """The provider bills nothing for this answer."""
        self._request = nothing
        if self.replayed:
            health.note("replayed")
        if self.hold is not None:
            permit.nothing(self)

    def glance(self) -> Glance:
        """What tells, at one look, of bytes that need not come to `feed`."""
        meters = self._meter
        if self.kept is not None or not meters or (self.hold is not None and self.hold.watch):
            return Glance()
        return meters[0].glance

    def feed(self, data: bytes) -> None:
        """Some decoded bytes, split anywhere, in passing."""
        try:
            meter = self._meter[0]
        except IndexError:  # the call has ended, perhaps just now, on another thread
            return
        try:
            if self.first is None:
                self.first = perf_counter()
            if self.kept is not None:
                self.kept.add(data)
            meter.feed(data)
            if meter.done:
                self.end(True)
            elif self.hold is not None and self.hold.watch:
                permit.passed(self, data)
        except Exception as error:
            self.lost("feed", error)

    def end(self, complete: bool) -> None:
        """End of the bytes (`complete`), or close, break, cancellation, reset, collection. The first one counts."""
        try:
            meter = self._meter.pop()
        except IndexError:
            return
        if not complete and self._born != forks.count:
            return  # a copy of the parent's, let go of: the parent ends it
        try:
            now = perf_counter()
            if type(meter) is Start and meter.told is not None and self.known is not None:
                made = self.known.streamed(self, *meter.told, now)
                if made is not None:
                    if state.deliver is not None:
                        state.deliver(made)
                    if self.hook.failures:
                        self.hook.worked()
                    return
            readings = meter.finish(complete or self.complete)
            if self.endpoint.format in RESULTS:
                readings = once.due(self.endpoint, readings, meter.skip, meter.lines)
            receipts = self._settle(readings, now)
            if self.unmet is not None and self.known is not None:
                self.known.learn(self, receipts)
            self.hook.worked()
        except Exception as error:
            self.lost("end", error)
        finally:
            self._request = nothing

    def take(self, readings: Sequence[Reading]) -> None:
        """What this call bills, from a transport that has messages and no bytes for a meter."""
        try:
            self._settle(list(readings), perf_counter())
            self.hook.worked()
        except Exception as error:
            self.lost("take", error)

    def interrupted(
        self,
        error: Optional[BaseException] = None,
        sent: Any = None,
        before: Optional[Callable[[Optional[BaseException]], bool]] = None,
    ) -> None:
        """The request ended in an exception (the one in hand, else `error`) before its response could be seen.

        Nothing to make a receipt of, but not nothing: a provider may bill a call whose client timed out. Shown by
        diagnose as `interrupted`. Unless the exception tells of an error status: `sent`, the library's own request, is
        how it is known that it is ours. `before` says whether it was raised before anything was sent.
        """
        try:
            error = error or sys.exc_info()[1]
            if before is not None and before(error):
                permit.nothing(self)
                return
            if self.hold is not None:
                permit.broken(self, error, sent)
            if not permit.declined(error, sent):
                health.note("interrupted")
        except Exception as fault:
            self.lost("interrupted", fault)

    def unreadable(self, why: str) -> None:
        """The bytes cannot be decoded: the call is billed, but we cannot tell for what."""
        self._meter.clear()
        if self.hold is not None:
            permit.lost(self)
        health.count("unmetered")
        health.warn(
            "unreadable:" + why,
            "aicostguard: responses of %s come with %s, which cannot be read here; these calls are counted as "
            "unmetered." % (self.endpoint.provider, why),
        )

    async def drain(self) -> None:
        """Deliver what waits in the outbox, without blocking the loop."""
        receipts, self.outbox = self.outbox, ()
        try:
            if state.adeliver is not None:
                await state.adeliver(receipts)
        except Exception as error:
            self.lost("drain", error)

    def __del__(self) -> None:
        if not (self._meter or self.outbox):
            return
        try:
            self.end(False)
            for made in self.outbox:
                if state.deliver is not None:
                    state.deliver(made)
        except Exception as error:
            self.lost("del", error)

    def lost(self, where: str, error: Exception) -> None:
        """A fault of ours has cost this call its receipt: count both, and look at no further byte of it."""
        self._meter.clear()
        if self.hold is not None:
            permit.lost(self)
        health.count("unmetered")
        self.hook.failed("call." + where, error)

    def _settle(self, readings: List[Reading], now: float) -> List[receipt.Receipt]:
        if self.endpoint.format in RETRIEVALS:
            readings = once.finished(readings)
        elif once.pending:
            readings = once.forget(readings)
        receipts: List[receipt.Receipt] = []
        for reading in readings:
            if reading.pending:
                once.remember(reading)
            elif not reading.void:
                made = receipt_of(self, reading, now)
                receipts.append(made)
                if state.core:
                    made = receipt.core(made)
                if self.kept is None or not self._estimated(reading, made, len(readings)):
                    self._emit(made)
        self.kept = None
        if self.hold is not None or state.gate is not None:
            permit.settle(self, readings, receipts)
        return receipts

    @property
    def may_be_estimated(self) -> bool:
        """True while an estimate can be made of what the provider has not told, and delivered as one."""
        return self.kept is not None and state.deliver is not None and not state.inline and not state.core

    def _estimated(self, reading: Reading, made: receipt.Receipt, of: int) -> bool:
        """True when the receipt comes later, with an estimate of what the provider has not told."""
        estimates, kept = state.estimates, self.kept
        if estimates is None or kept is None or of > 1 or not self.may_be_estimated:
            return False
        return estimates.wanted(reading, self.endpoint.format) and estimates.put(made, kept, self._request)

    def _emit(self, made: receipt.Receipt) -> None:
        if state.inline and self.asynchronous:
            self.outbox = [*self.outbox, made]
        elif state.deliver is not None:
            state.deliver(made)


_NONE = Endpoint("", "", bills=False)


class Unrecognised(Call):
    """A request to an AI host on a path that nobody knows. Counted when it was met; nothing of it is looked at."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.endpoint = _NONE
        self.logical = None
        self.known = None
        self.asynchronous = False

    def read(self, status: int, content_type: str, header: Header, body: bytes) -> None:
        """Nothing."""

    def open(self, status: int, content_type: str, header: Header) -> bool:
        """Nothing to see."""
        return False

    def interrupted(self, *_: Any, **__: Any) -> None:
        """Nothing."""


def begin(
    hook: Hook,
    method: str,
    host: str,
    port: Optional[int],
    path: str,
    request: Body,
    asynchronous: bool = False,
) -> Optional[Call]:
    """The call that this request makes, or None when it is no business of ours. Cheap on a miss.

    A request that was counted as unrecognised gives a call, too, which meters nothing: the transports beneath
    must not count it again.

    `path` is without its query. `request` gives the request's body when it is at hand as bytes; it is asked only
    when the response does not name the model, and never consumes a stream.
    """
    if state.watchdog is not None:
        state.watchdog.met(host)
    logical = context.logical.get()
    # At a host that nobody knows the SDK says who answers.
    key = (method, host, port, path, logical and logical.family)
    met = state.endpoints.get(key)
    if met is None:
        found = recognise(method, host, port, path, state.hosts, None if logical is None else logical.family)
        if found is None:
            return None
        if found is UNRECOGNISED:
            health.count("unrecognised")
            health.note("unrecognised:%s" % host[:64])
            return Unrecognised(hook)
        assert isinstance(found, Endpoint)
        met = found, quick(found)
        remember(key, met)
    return Call(hook, met[0], logical, request, asynchronous, met[1]) if met[0].bills else None


def remember(key: Hashable, met: Met) -> None:
    """Recognise this request the next time by one look-up."""
    if len(state.endpoints) >= MAX_ENDPOINTS:  # paths that hold ids
        state.endpoints.clear()
    state.endpoints[key] = met
