"""What is usual at this time: a median of hours like this one, and how far they lie apart.

Owns which hours are compared, and what stands in for them while there is little history. The median and the median
distance from it do not follow a few wild hours, as a mean and a standard deviation would. Reads hourly sums only: as
much for a ledger of a million receipts as for one of ten.
"""

from __future__ import annotations

import sqlite3
import statistics
from datetime import datetime, timedelta
from typing import NamedTuple, Sequence
from zoneinfo import ZoneInfo

from aicostguard.ledger.model import HOUR_MS, SMALLEST

WEEKS, DAYS, HOURS = 8, 14, 72
#: of each kind of hours, how many there must be
LEAST_WEEKS, LEAST_DAYS, LEAST_HOURS = 4, 5, 6
#: a normal distribution's standard deviation is so many of its median distances
_SIGMA = 1.4826
#: what lies within so many standard deviations is no spike, however small the median
WITHIN = 3


class Usual(NamedTuple):
    """What an hour usually costs, in nano-dollars; `says` is what it was taken from, empty when nothing is known."""

    median: int
    spread: int
    says: str

    def line(self, factor: int, window_ms: int) -> int:
        """What a window has to pass: `factor` (millionths) times the usual, and what is within the usual spread."""
        times = self.median * factor // 10**6
        return max(times, self.median + WITHIN * self.spread) * window_ms // HOUR_MS


def of(costs: Sequence[int], says: str) -> Usual:
    """The usual of some hours."""
    median = statistics.median(costs)
    distance = statistics.median(abs(cost - median) for cost in costs)
    return Usual(round(median), round(_SIGMA * distance), says)


def usual(connection: sqlite3.Connection, project_id: int, now_ms: int, zone: ZoneInfo) -> Usual:
    """What is usual in the hour of `now_ms`: of the same hour of the week, else of the day, else of the last days."""
    first = connection.execute(
        "SELECT min(start_ms) FROM hourly WHERE project_id = ? AND dimension = ?", (project_id, SMALLEST)
    ).fetchone()[0]
    here = now_ms - now_ms % HOUR_MS
    if first is None:
        return Usual(0, 0, "")
    # An hour in which receipts began is not whole.
    known = first + HOUR_MS
    for starts, least, says in (
        (_back(here, zone, 7, WEEKS), LEAST_WEEKS, "this hour of the week, {n} weeks"),
        (_back(here, zone, 1, DAYS), LEAST_DAYS, "this hour of the day, {n} days"),
        (
            [here - n * HOUR_MS for n in range(1, HOURS + 1)],
            LEAST_HOURS,
            "the last {n} hours, for want of more history",
        ),
    ):
        within = [start for start in starts if start >= known]
        if len(within) >= least:
            return of(_costs(connection, project_id, within), says.format(n=len(within)))
    return Usual(0, 0, "")


def _back(here_ms: int, zone: ZoneInfo, days: int, times: int) -> list[int]:
    """The same hour by the local clock, so many days back, again and again."""
    local = datetime.fromtimestamp(here_ms / 1000, zone)
    found = [local - timedelta(days=days * n) for n in range(1, times + 1)]
    return [int(moment.timestamp()) * 1000 // HOUR_MS * HOUR_MS for moment in found]


def _costs(connection: sqlite3.Connection, project_id: int, starts: Sequence[int]) -> list[int]:
    """What these hours cost; one in which nothing was called cost nothing."""
    marks = ", ".join("?" * len(starts))
    found = dict(
        connection.execute(
            "SELECT start_ms, SUM(cost_nanousd) FROM hourly WHERE project_id = ? AND dimension = ? "
            f"AND start_ms IN ({marks}) GROUP BY start_ms",
            (project_id, SMALLEST, *starts),
        ).fetchall()
    )
    return [found.get(start, 0) for start in starts]
