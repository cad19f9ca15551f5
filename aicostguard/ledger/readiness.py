"""May this ledger be sent work right now? Asked by load balancers and orchestrators, which have no key.

Owns the probe: a question that is answered from the file, and a write that is committed to it, since a disk that is
full or read-only still answers questions. A probe of the last `FRESH_S` is told again, so that whoever asks a
thousand times a second costs the disk nothing. Says nothing of what the ledger holds.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, NamedTuple, Protocol

from aicostguard.ledger.errors import LedgerError

#: seconds for which an answer holds
FRESH_S = 5.0
#: under this name the file remembers when it was last written to by a probe
SETTING = "probed_ms"


class Probed(Protocol):
    """What is asked of a store."""

    def default_project(self) -> int:
        """Any question that the file has to answer."""

    def remember(self, name: str, value: str | None) -> None:
        """Any write that is committed."""


class State(NamedTuple):
    """`checks` maps each check to "ok" or the reason why it failed."""

    ready: bool
    checks: dict[str, str]


class Readiness:
    """Probes a store. `stopping` is set when the server is asked to end. Safe from many threads."""

    def __init__(self, store: Probed) -> None:
        self.stopping = False
        self._store = store
        self._turn = threading.Lock()
        self._known: State | None = None
        self._asked = 0.0

    def now(self, now_ms: int) -> State:
        """The state, at most `FRESH_S` old."""
        if self.stopping:
            return State(False, {"server": "it is stopping"})
        with self._turn:
            if self._known is None or time.monotonic() - self._asked >= FRESH_S:
                self._known = self._probe(now_ms)
                self._asked = time.monotonic()
            return self._known

    def _probe(self, now_ms: int) -> State:
        checks = {
            "read": _tried(self._store.default_project),
            "write": _tried(lambda: self._store.remember(SETTING, str(now_ms))),
        }
        return State(all(found == "ok" for found in checks.values()), checks)


def _tried(job: Callable[[], Any]) -> str:
    try:
        job()
    except LedgerError as error:
        # The sentence names files of this machine: it is in the log, and the asker has no key.
        return type(error).__name__
    return "ok"
