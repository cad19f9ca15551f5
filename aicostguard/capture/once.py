"""Answers that may be fetched again are billed once.

Owns what this process remembers of them: work that was begun or watched here and is not finished, and files and jobs
whose results were billed. Bounded, and atomic where two threads poll the same id. Never leaves the process: ids are no
key of a receipt. If this is wrong, polling bills again and again, or never.
"""

from __future__ import annotations

from typing import Dict, List

from aicostguard.health import health, oldest
from aicostguard.metering import Endpoint
from aicostguard.usage import Reading

#: ids remembered, of each kind
MOST = 10_000

#: id → the one ticket of that response, which holds what was known when it was met first: whoever takes it out bills
#: the response. One that can be met under two ids has one ticket under both; where it was billed under one of them,
#: the empty ticket under the other says so to a poll that comes late.
pending: Dict[str, List[Reading]] = {}
#: key of a file or a job of results → how many of its lines were billed, in a list of one
_billed: Dict[str, List[int]] = {}


def remember(reading: Reading) -> None:
    """Keep the ids of work that is not finished."""
    ticket = [reading]
    for name in (reading.response_id, reading.also):
        if name:
            while len(pending) >= MOST and name not in pending:
                _let_go(pending.pop(oldest(pending) or "", []))
            # An id that is polled keeps its ticket, and that is the one of its other id, too, whoever is faster.
            ticket = pending.setdefault(name, ticket)


def _let_go(ticket: List[Reading]) -> None:
    try:
        ticket.pop()  # under its other id, too: it is counted once
    except IndexError:
        return
    health.count("unmetered")


def forget(readings: List[Reading]) -> List[Reading]:
    """Work that is billed by another answer than a poll's (a stream that went on to its end) is not waited for.

    What that answer does not say, the order said.
    """
    return [_of_order(reading) for reading in readings]


def _of_order(reading: Reading) -> Reading:
    if not reading.response_id or reading.pending:
        return reading
    begun = pending.pop(reading.response_id, [])[:1]  # one step: another thread may empty the ticket
    return reading._replace(model=begun[0].model) if begun and not reading.model else reading


def finished(readings: List[Reading]) -> List[Reading]:
    """What a poll bills: what was seen unfinished here and is finished now.

    The readings of one response share its id. Taking the ticket is one step, so that of two threads that poll the same
    response one bills it. What the answer does not say, the order said.
    """
    if not readings or readings[0].response_id is None:
        return []
    if readings[0].pending:
        return readings[:1]  # begun elsewhere perhaps, but watched from here
    try:
        begun = pending.pop(readings[0].response_id, []).pop()
    except IndexError:
        return []
    return [one._replace(model=one.model or begun.model, usage=one.usage or begun.usage) for one in readings]


def lines_billed(endpoint: Endpoint) -> int:
    """How many lines of this file of results were billed before."""
    known: List[int] = [*_billed.get(_key(endpoint), ()), 0]  # in one step: `due` may be at it on another thread
    return known[0]


def due(endpoint: Endpoint, readings: List[Reading], skipped: int, lines: int) -> List[Reading]:
    """What a file or a job of results bills now: nothing when it was billed before.

    `skipped` and `lines`: lines of the file that were billed before this fetch, and that have come by now.
    """
    if not readings:
        return []
    key, mine = _key(endpoint), [lines or 1]
    while len(_billed) >= MOST:
        _billed.pop(oldest(_billed) or "", None)
    # One step, so that of two threads that fetch the same file one bills it.
    known = _billed.setdefault(key, mine)
    if known is mine:
        return readings
    try:
        known.remove(skipped)  # one step, too
    except ValueError:
        return []
    known += mine  # what was cut off before has come now
    return readings


def _key(endpoint: Endpoint) -> str:
    return "%s %s %s" % (endpoint.provider, endpoint.format, endpoint.id)
