"""A budget as people write it, as the guard's `Budget`, and the counters it has. Pure.

Owns the way between JSON and a rule, which counter an amount stands in (scope and period), and how amounts are told.
What a key takes and the sentence that refuses it are the policy's own.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Mapping, NamedTuple

from aicostguard.guard import period as calendar
from aicostguard.guard import stated
from aicostguard.guard.policy import BadPolicy, Budget
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.query import usd

#: unit → the key of its limit
LIMITS = {unit: key for key, (unit, _) in stated.LIMITS.items()}
MINUTE_MS = 60_000


class Counter(NamedTuple):
    """Where an amount stands: the values of the labels of `per` as JSON, and the start of the period in ms."""

    scope: str
    start_ms: int


def read(given: Mapping[str, Any]) -> Budget:
    """A rule from JSON. Raises `Refused` (422) that names field, value and remedy."""
    try:
        return stated.budget(given)
    except BadPolicy as error:
        field, _, rest = str(error).partition(": ")
        raise Refused(422, rest or str(error), field if rest else "") from None


def written(budget: Budget) -> dict[str, Any]:
    """The rule in the policy's vocabulary; defaults included, so that nobody has to know them."""
    limit = usd(budget.limit) if budget.unit == "nanousd" else budget.limit
    return {
        "name": budget.name,
        LIMITS[budget.unit]: limit,
        "match": dict(budget.match),
        "per": list(budget.per),
        "period": budget.period,
        "timezone": budget.timezone,
        "on_exceed": budget.on_exceed,
        "alert_at": [share / 1000 for share in budget.alert_at],
    }


def dumped(budget: Budget) -> str:
    """The rule as the ledger stores it."""
    return json.dumps(budget._asdict(), sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)
def loaded(text: str) -> Budget:
    """A stored rule."""
    found = json.loads(text)
    return Budget(**{**found, "per": tuple(found["per"]), "alert_at": tuple(found["alert_at"])})


def same_counters(old: Budget, new: Budget) -> bool:
    """Do both count the same into the same counters?"""
    shape = ("unit", "match", "per", "period", "timezone")
    return all(getattr(old, name) == getattr(new, name) for name in shape)


def labels_of(budget: Budget) -> tuple[str, ...]:
    """The labels that decide whether and where something counts."""
    session = ("session",) if budget.period == "session" else ()
    return tuple(dict.fromkeys((*budget.match, *_per(budget), *session)))


def _per(budget: Budget) -> tuple[str, ...]:
    if budget.period == "session" and "session" not in budget.per:
        return (*budget.per, "session")
    return budget.per


def matches(budget: Budget, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name, "") == value for name, value in budget.match.items())


def scope(budget: Budget, labels: Mapping[str, str]) -> str:
    """The values of the labels it is kept per, as JSON; `[]` for one that is kept for all together."""
    return json.dumps([labels.get(name, "") for name in _per(budget)], separators=(",", ":"))


def named(budget: Budget, scope_text: str) -> dict[str, str]:
    """A scope as people read it: `{"team": "marketing"}`."""
    return dict(zip(_per(budget), json.loads(scope_text)))


def counter(budget: Budget, labels: Mapping[str, str], at_ms: int) -> Counter:
    """Where a call with these labels at this time counts."""
    return Counter(scope(budget, labels), start(budget, at_ms))


def start(budget: Budget, at_ms: int) -> int:
    """The start of the period in ms; for `minute`, whose window moves, the second."""
    if budget.period == "minute":
        return at_ms - at_ms % 1000
    return bounds(budget.period, budget.timezone, at_ms)[0]


def resets(budget: Budget, at_ms: int) -> int | None:
    """When the period ends, None for one that does not. Of a minute, when all of it is over."""
    if budget.period == "minute":
        return at_ms - at_ms % 1000 + MINUTE_MS
    return bounds(budget.period, budget.timezone, at_ms)[1]


def bounds(period: str, zone: str, at_ms: int) -> tuple[int, int | None]:
    """Start and end of the calendar unit that `at_ms` lies in, in ms; `(0, None)` for periods without an end."""
    return _bounds(period, zone, at_ms // 900_000)


@lru_cache(maxsize=4096)
def _bounds(period: str, zone: str, quarter: int) -> tuple[int, int | None]:
    # No zone has changed its offset within a quarter of an hour of UTC since 1972.
    found = calendar.span(period, calendar.zone(zone), quarter * 900_000)
    return found.since, found.until


def dimension(budget: Budget) -> str:
    return budget.dimension or budget.period


def told(budget: Budget, amount: int) -> str | int:
    """An amount of the rule's unit as it leaves the ledger: dollars as exact text, the others as numbers."""
    return usd(amount) if budget.unit == "nanousd" else amount


def keyed(budget: Budget, name: str) -> str:
    """The key of an amount: `spent_usd`, `spent_tokens`, `spent_requests`."""
    return f"{name}_{LIMITS[budget.unit][6:]}"


def short(budget: Budget, amount: int) -> str:
    """An amount for a sentence: `$1.50`, more decimals when two would hide something; `12,000 tokens`."""
    if budget.unit != "nanousd":
        return f"{amount:,} {budget.unit}"
    text = usd(amount)
    whole, _, part = text.partition(".")
    return f"${int(whole):,}.{part.ljust(2, '0')}"
