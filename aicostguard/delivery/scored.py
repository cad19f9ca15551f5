"""`aicostguard.quality`: how good an answer was, told to the ledger that receipts go to.

Owns what waits to be sent and the thread that sends it, which is there only once a score was given. Scores are few and
can be told again, so they are kept in memory alone: what the ledger did not take by the end of the program is lost, and
counted. The ledger joins a score to the cost of the call or session it names. Nothing here raises into the host.
"""

from __future__ import annotations

import atexit
import json
import os
from collections import deque
from os import getpid
from typing import Any, Deque, Dict, List, Optional

from aicostguard import config, context
from aicostguard.clock import clock
from aicostguard.delivery import reply as replies
from aicostguard.delivery.threads import RLock, sleep, start_thread
from aicostguard.health import health
from aicostguard.receipt import FIELDS

PATH = "/v1/scores"
#: scores that wait at most, that go at once; seconds: of an exchange, of an end (with what receipts may take then, two
#: together), between two tries, for some to gather
MOST, AT_ONCE, SECONDS, AT_EXIT, PAUSE, GATHER = 10_000, 500, 5.0, 0.4, 1.0, 0.05
#: larger numbers are mistakes, as the ledger sees it
_LARGEST = 1e12
_OF = ("request", "session", "run")


def quality(
    name: str,
    value: float,
    *,
    request: Optional[str] = None,
    session: Optional[str] = None,
    run: Optional[str] = None,
    model: Optional[str] = None,
) -> bool:
    """Tell the ledger a score: any number with a name, of a call, a session or a run of an evaluation.

    `request` and `session` are those labels of the calls meant; without any of the three, what `aicostguard.labels` or
    `aicostguard.session` says here. A `run` names the `model` that was measured. The same name, subject and model
    again replaces the value. True when it was taken to be sent (in inline mode: when the ledger has it); False
    without a destination (`AICG_URL`), and for a score that cannot be, which is warned of once. Never raises.
    """
    try:
        score: Dict[str, Any] = {"name": name, "value": value}
        given = {"request": request, "session": session, "run": run}
        score.update((key, text) for key, text in given.items() if text is not None)
        if not any(key in score for key in _OF):
            labels = context.current()
            score.update((key, labels[key]) for key in _OF[:2] if labels.get(key) and len(score) == 2)
        if model is not None:
            score["model"] = model
        wrong = _wrong(score)
        if wrong:
            health.warn("quality.wrong", "quality(%s): the score is not sent" % wrong)
            return False
        score["at"] = int(clock.time() * 1000)
        where = config.load(os.environ)
        return where.active and _sender(where).take(score)
    except Exception as error:
        health.fault("quality", error)
        return False


def flush(seconds: float) -> bool:
    """Wait until what was given so far is with the ledger. False when it was not in that time."""
    return _made is None or _made.pid != getpid() or _made.flush(seconds)


def _wrong(score: Dict[str, Any]) -> str:
    """What of a score cannot be, or nothing. The ledger has the same rules."""
    label, value = FIELDS["request"], score["value"]
    if not label.fits(score["name"]):
        return "name: must be %s" % label.expects
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        return "value: must be a finite number between -1e12 and 1e12"
    named = [key for key in _OF if key in score]
    if len(named) != 1:
        return "say what it is of by one of request, session and run"
    if not label.fits(score[named[0]]):
        return "%s: must be %s" % (named[0], label.expects)
    if ("model" in score or named[0] == "run") and not FIELDS["model"].fits(score.get("model")):
        return "model: must name the model that was measured"
    return ""


class Sender:
    """Takes scores to one ledger, over HTTP or into the inbox of its file."""

    def __init__(self, where: config.Settings) -> None:
        self.where = where
        self.pid = getpid()
        self._waiting: Deque[Dict[str, Any]] = deque()
        self._lock = RLock()  # one exchange at a time
        self._running = self._ended = False
        self._to: Any = None

    def take(self, score: Dict[str, Any]) -> bool:
        """Keep a score to be sent; in inline mode it is sent before this returns."""
        if len(self._waiting) >= MOST:
            health.note("scores_dropped")
            return False
        self._waiting.append(score)
        if self.where.inline:
            return self.flush(SECONDS)
        if not self._running:
            self._running = True
            try:
                start_thread(self._run)
            except RuntimeError:  # the interpreter ends, or is one in which no thread may be: then at once
                self._running = False
                return self.flush(AT_EXIT)
        return True

    def flush(self, seconds: float) -> bool:
        """Send what waits, on this thread."""
        until = clock.monotonic() + seconds
        while self._waiting:
            if not self.send(until):
                left = until - clock.monotonic()
                if left <= 0 or self.where.inline:
                    return False
                sleep(min(left, 0.05))
        return True

    def send(self, until: float) -> bool:
        """One exchange; False when the ledger has not taken it and another try makes sense."""
        # Somebody else's exchange may hang for longer than this caller can wait.
        if not self._lock.acquire(timeout=max(0.0, until - clock.monotonic())):
            return False
        try:
            batch: List[Dict[str, Any]] = [self._waiting[place] for place in range(min(AT_ONCE, len(self._waiting)))]
            if not batch:
                return True
            answer = self._outlet().post(json.dumps({"scores": batch}).encode("ascii"), until)
            if answer.kind in (replies.LOST, replies.WAIT, replies.BROKEN):
                return False
            for _ in batch:
                self._waiting.popleft()
        finally:
            self._lock.release()
        if answer.kind != replies.TAKEN:
            health.note("scores_dropped", len(batch))
            health.warn(
                "quality.refused", "the ledger does not take scores (HTTP %s): see `aicg-diagnose`" % answer.status
            )
        return True

    def _outlet(self) -> Any:
        if self._to is None:
            if self.where.sqlite_path is not None:
                from aicostguard.delivery.sink import Sink

                self._to = Sink(self.where.sqlite_path)
            else:
                from aicostguard import __version__
                from aicostguard.delivery.client import Client

                self._to = Client(str(self.where.url), self.where.key, __version__, path=PATH)
        return self._to

    def _run(self) -> None:
        """Send until nothing waits; then the thread ends, and the next score starts another."""
        context.inside.set(True)  # what we send is nobody's call
        sleep(GATHER)
        while not self._ended:
            try:
                sent = self.send(clock.monotonic() + SECONDS)
            except Exception as error:
                health.fault("quality.send", error)
                sent = False
            if not sent:
                sleep(PAUSE)
            elif not self._waiting:
                self._running = False
                if not self._waiting:  # else somebody came between, and took this thread for one that goes on
                    return
                self._running = True

    def end(self) -> None:
        """At the end of the program: a last try, and what is left is counted."""
        self._ended = True
        if self.pid == getpid() and not self.flush(AT_EXIT):
            health.note("scores_dropped", len(self._waiting))
        self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._to is not None:
            self._to.close()


_made: Optional[Sender] = None


def _sender(where: config.Settings) -> Sender:
    """The one of this process and these settings. A forked child has none of its parent's scores, and no thread yet."""
    global _made
    if _made is None or _made.pid != getpid() or _made.where != where:
        if _made is not None and _made.pid == getpid():
            _made.end()
        _made = Sender(where)
        atexit.register(_made.end)
    return _made
