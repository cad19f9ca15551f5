"""When something fires, when it is over, and when somebody is told. Pure.

Owns the states and the steps between them:

    firing ── acknowledged ── snoozed     above the line, or not below the lower one for long enough
       └──────────┴─────────────┴──────►  resolved

Fires above the line. Is over once it was at or below `clear` of the line for `hold_s` without a break. Within one
period (`once_per`) the same thing is told once: what comes back after it was over is put back, in silence. If this is
wrong, people are told again and again, or never.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from aicostguard.ledger.alerts.rule import Rule
from aicostguard.ledger.budgets.rule import bounds

STATES = ("firing", "acknowledged", "snoozed", "resolved")
#: a value that only moves is written down this often
FRESH_MS = 60_000


class Reading(NamedTuple):
    """What a rule saw of one group. `value` and `line` are in the rule's unit, `view` the parameters of a look at it.

    `period_ms` is the start of a period in which `value` only grows: another one is another alert. None elsewhere.
    """

    scope: str
    value: int
    line: int
    text: str
    view: Mapping[str, Any]
    more: Mapping[str, Any] = {}
    period_ms: int | None = None


class Incident(NamedTuple):
    """One time that something was past its line. `quiet_ms`: since when it is below the lower one, else 0."""

    id: int
    scope: str
    state: str
    period_ms: int
    started_ms: int
    changed_ms: int
    ended_ms: int | None
    quiet_ms: int
    value: int
    snoozed_ms: int

    @property
    def open(self) -> bool:
        return self.ended_ms is None


class Move(NamedTuple):
    """A step: `what` is done with the group of `scope`.

    open (a new incident), back (the last one, again), seen (a newer value), quiet, loud, end. `tell` names the event
    that people are told of, if any.
    """

    what: str
    scope: str
    incident: Incident | None
    reading: Reading | None
    tell: str = ""
    snoozed_ms: int = 0


def over(rule: Rule, reading: Reading) -> bool:
    """Past the line: reaching it exactly is not."""
    return reading.value < reading.line if rule.comparison == "below" else reading.value > reading.line


def _clear(rule: Rule, reading: Reading | None) -> bool:
    if reading is None:  # nothing is there any more
        return True
    if rule.comparison == "below":
        return reading.value * rule.clear >= reading.line * 1000
    return reading.value * 1000 <= reading.line * rule.clear


def period(rule: Rule, at_ms: int) -> int:
    """The start of the period in which something is told once."""
    return bounds(rule.once_per, rule.timezone, at_ms)[0]


def steps(rule: Rule, found: Mapping[str, Incident], readings: Sequence[Reading], now_ms: int) -> list[Move]:
    """What follows from what was seen. `found` is the last incident of each scope that is open or was read."""
    seen = {reading.scope: reading for reading in readings}
    out: list[Move] = []
    for scope in dict.fromkeys((*found, *seen)):
        out += _step(rule, found.get(scope), seen.get(scope), scope, now_ms)
    return out


def _step(rule: Rule, last: Incident | None, reading: Reading | None, scope: str, now_ms: int) -> list[Move]:
    past = reading is not None and over(rule, reading)
    if last is None or not last.open:
        return [_begin(rule, last, reading, now_ms)] if past and reading is not None else []
    if past and reading is not None:
        return _goes_on(rule, last, reading, now_ms)
    if not _clear(rule, reading):
        return [Move("loud", scope, last, reading)] if last.quiet_ms else []
    if not last.quiet_ms and rule.hold_s:
        return [Move("quiet", scope, last, reading)]
    if now_ms - (last.quiet_ms or now_ms) < rule.hold_s * 1000:
        return []
    return [Move("end", scope, last, reading, _told(rule, last, "resolved", now_ms))]


def _begin(rule: Rule, last: Incident | None, reading: Reading, now_ms: int) -> Move:
    if last is not None:
        here = period(rule, now_ms) if reading.period_ms is None else reading.period_ms
        if last.period_ms == here:
            return Move("back", reading.scope, last, reading)
    return _new(rule, last, reading, now_ms)


def _new(rule: Rule, last: Incident | None, reading: Reading, now_ms: int) -> Move:
    snoozed_ms = last.snoozed_ms if last is not None and last.snoozed_ms > now_ms else 0
    tell = "firing" if "firing" in rule.notify and not snoozed_ms else ""
    return Move("open", reading.scope, None, reading, tell, snoozed_ms)


def _goes_on(rule: Rule, last: Incident, reading: Reading, now_ms: int) -> list[Move]:
    if reading.period_ms is not None and reading.period_ms != last.period_ms:
        return [Move("end", reading.scope, last, None), _new(rule, last, reading, now_ms)]
    if last.state == "snoozed" and last.snoozed_ms <= now_ms:  # it has not gone away in the meantime
        return [Move("back", reading.scope, last, reading, "firing" if "firing" in rule.notify else "")]
    if last.quiet_ms:
        return [Move("loud", reading.scope, last, reading)]
    if reading.value != last.value and now_ms - last.changed_ms >= FRESH_MS:
        return [Move("seen", reading.scope, last, reading)]
    return []


def _told(rule: Rule, last: Incident, event: str, now_ms: int) -> str:
    return event if event in rule.notify and last.snoozed_ms <= now_ms else ""
