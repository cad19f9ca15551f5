"""Estimates where a provider has told no usage: on a thread of our own, after the call (extra `estimate`).

Owns which receipts are estimated, the bytes that are kept for it, and the thread. Text never leaves the process and is
not kept longer than its estimate takes; of each open stream at most `KEPT` bytes are held, of waiting receipts at most
`WAITING`. The caller's thread only appends to lists. If it breaks, receipts stay `usage_missing`, and none is lost:
each is delivered, with an estimate or without.

What is estimated: a response without any usage, and the output of a stream of Anthropic's that was left (its first
event tells the input, and an output that is only a beginning). What is not: a count that the provider told, zero
included; a request that reads what does not stand in it (images, files, earlier responses, searches); inline mode,
where the call would have to wait for it; `AICG_RECEIPT=core`, which could not say that it is one.
"""

from __future__ import annotations

import _thread
import collections
import os
from typing import Callable, Deque, List, NamedTuple, Optional

from aicostguard import health as our_health
from aicostguard.capture.state import state
from aicostguard.clock import clock
from aicostguard.delivery import hosts
from aicostguard.delivery.threads import sleep
from aicostguard.health import health
from aicostguard.metering import estimate, text
from aicostguard.receipt import MAX_TOKENS, Receipt
from aicostguard.usage import Reading

#: bytes of a stream that are held; its events are alike, so that the beginning stands for the rest
KEPT = 64 * 1024
#: receipts that wait for their estimate; what comes beyond is delivered without
WAITING = 64
#: seconds that the end of the program may take for it
EXIT_SECONDS = 1.0
#: formats whose text is known to be found
FORMATS = ("chat", "completions", "responses", "messages", "generate")
#: the module that the extra installs; it names the script of a letter
MODULE = "unicodedataplus"


class Kept:
    """The beginning of a response, and how long all of it is."""

    __slots__ = ("pieces", "held", "size")

    def __init__(self) -> None:
        self.pieces: List[bytes] = []
        self.held = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self.size += len(data)
        if self.held < KEPT:
            self.pieces.append(data)
            self.held += len(data)


class Job(NamedTuple):
    """One receipt, and what its estimate is made from."""

    receipt: Receipt
    kept: Kept
    request: Callable[[], Optional[bytes]]


class Estimates:
    """The receipts that wait for an estimate. `put` takes no lock and may be called from a finaliser."""

    def __init__(self) -> None:
        self._fresh()

    def _fresh(self) -> None:
        self._jobs: Deque[Job] = collections.deque()
        self._running = _thread.allocate_lock()  # held by the thread while there is one; never waited for
        self._closed = False

    def keep(self, format: str, body: Optional[bytes] = None) -> Optional[Kept]:  # noqa: A002
        """Where a response of this format is kept; None when it could not be estimated."""
        if format not in FORMATS:
            return None
        kept = Kept()
        if body is not None:
            kept.pieces.append(body)
            kept.held = kept.size = len(body)
        return kept

    def wanted(self, reading: Reading, format: str) -> bool:  # noqa: A002
        """Has the provider left something untold that can be estimated?"""
        usage = reading.usage
        if usage is None:
            return True
        return reading.partial and format == "messages" and bool(usage.input_tokens) and bool(usage.output_tokens)

    def put(self, receipt: Receipt, kept: Kept, request: Callable[[], Optional[bytes]]) -> bool:
        """Deliver this receipt later. False when there is no room, or the program ends: the caller delivers it."""
        if self._closed or len(self._jobs) >= WAITING:
            health.note("not_estimated")
            return False
        self._jobs.append(Job(dict(receipt), kept, request))
        self._start()
        return True

    def flush(self, seconds: float) -> float:
        """Wait until every receipt put so far has been handed to the sender; how many seconds are left of these."""
        limit = clock.monotonic() + seconds
        while (self._jobs or self._running.locked()) and clock.monotonic() < limit:
            sleep(0.005)
        return max(0.0, limit - clock.monotonic())

    def close(self) -> None:
        """The end of the program: what is not estimated in time goes as it is."""
        self.flush(EXIT_SECONDS)
        self._closed = True
        self._give_up()

    def _start(self) -> None:
        if not self._running.acquire(False):
            return
        try:
            # Not `threading`: its locks are taken while a thread starts, and a finaliser may come in between.
            if hosts.about_to_fork():
                raise RuntimeError("no thread of ours here")
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # the interpreter ends: no more threads
            self._running.release()
            self._give_up()

    def _give_up(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                return
            health.note("not_estimated")
            _deliver(job.receipt)

    def _run(self) -> None:
        try:
            while True:
                try:
                    job = self._jobs.popleft()
                except IndexError:
                    break
                _estimate(job)
                _deliver(job.receipt)
                del job  # not kept while the next one is waited for
        finally:
            self._running.release()
        if self._jobs:  # put after the last look, by somebody who saw the thread running
            self._start()


def make() -> Optional[Estimates]:
    """The estimates of this process; None when the extra is not installed. Call it after the sender was made."""
    from importlib.util import find_spec

    if find_spec(MODULE) is None:
        return None
    import atexit

    # Now and not on the thread: a fork in the middle of an import leaves the child with half a module.
    import unicodedataplus  # noqa: F401

    made = Estimates()

    atexit.register(made.close)  # after the sender's, so that it runs before it
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=made._fresh)  # the parent delivers its own
    return made


def _deliver(receipt: Receipt) -> None:
    try:
        if state.deliver is not None:
            state.deliver(receipt)
    except Exception as error:
        our_health.fault("estimating.deliver", error)


def _estimate(job: Job) -> None:
    """Put what was found into the receipt. Never raises; a receipt that it fails at stays as it is."""
    try:
        if _counted(job):
            health.note("estimated")
    except Exception as error:
        our_health.fault("estimating", error)


def _counted(job: Job) -> bool:
    from unicodedataplus import script

    receipt, kept = job.receipt, job.kept
    written = text.of_response(b"".join(kept.pieces))
    if written is None:
        return False
    model = str(receipt.get("model"))
    output = estimate.written(written, model, script, kept.held / kept.size if kept.size else 1.0)
    told = receipt.get("output_tokens")
    if told is not None:
        if output <= told:
            return False
        receipt.update(output_tokens=min(output, MAX_TOKENS), estimated=True)
        return True
    body = job.request()
    read = None if body is None else text.of_request(bytes(body))
    if read is None:
        return False
    receipt.update(
        input_tokens=min(estimate.read(read, model, script), MAX_TOKENS),
        output_tokens=min(output, MAX_TOKENS),
        estimated=True,
    )
    receipt.pop("usage_missing", None)
    return True
