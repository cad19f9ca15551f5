"""The thread that keeps a served ledger small, hour by hour.

Owns when retention runs by itself. Whatever goes wrong here is said in the log, once, and never in a request's way.
"""

from __future__ import annotations

import logging
import threading
from typing import Callable

from aicostguard.ledger.errors import Busy, LedgerError
from aicostguard.ledger.keeping import compacting, retention
from aicostguard.ledger.keeping.pace import Pace, Stopped
from aicostguard.ledger.sqlite import SqliteStore, tallies

log = logging.getLogger("aicostguard.ledger")
#: seconds to the first run and between runs
FIRST_S, EVERY_S = 60.0, 3600.0


def tally(store: SqliteStore, now_ms: int, stop: Callable[[], bool] = lambda: False) -> int:
    """Tally the days that are over, in steps; gives how many. Raises `Stopped`."""
    pace = Pace(store, stop)
    days = store.look(lambda connection: tallies.due(connection, now_ms))
    return sum(tallies.make(day, pace.do, store.look, lambda: pace.size) for day in days)


class Keeper:
    """Runs what is due while the ledger is served. `close` waits for the step under way."""

    def __init__(self, store: SqliteStore, now: Callable[[], int]) -> None:
        self._store = store
        self._now = now
        self._stop = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="aicg-ledger-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20.0)

    def _run(self) -> None:
        wait = FIRST_S
        while not self._stop.wait(wait):
            self._turn()
            wait = EVERY_S

    def _turn(self) -> None:
        try:
            tally(self._store, self._now(), self._stop.is_set)
            retention.run(self._store, self._now(), stop=self._stop.is_set)
            if compacting.shrinks(self._store):
                compacting.in_steps(self._store, stop=self._stop.is_set)
            self._said = ""
        except (Stopped, Busy):
            pass  # it goes on another time, or somebody else is at it
        except LedgerError as error:
            if str(error) != self._said:
                self._said = str(error)
                log.error("retention could not be done: %s", error)
        except Exception:
            log.exception("retention could not be done")
