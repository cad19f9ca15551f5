"""Budgets as a list: what is gone, or will be soonest, first. Pure.

Owns the order, and the words for what stands in a budget, how fast it goes and when it is gone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Iterable, Iterator, Mapping, NamedTuple
from urllib.parse import urlencode

from aicostguard.guard import rules
from aicostguard.ledger.web import words

UNITS = ("usd", "tokens", "requests")
#: scopes of one budget that stand in the list; its own page has the others
SCOPES = 5
#: state of the API → colour, and how it is called
STATES: Mapping[str, tuple[str, str]] = {
    "exceeded": ("bad", "used up"),
    "warning": ("warn", "nearly used up"),
    "ok": ("good", "within the limit"),
}
#: on_exceed → what happens to a call that has no room
EXCEEDED: Mapping[str, str] = {
    "block": "refuses calls",
    "warn": "lets calls through with a warning",
    "log": "lets calls through, and writes it down",
}
_EVERY: Mapping[str, str] = {
    "call": "for each call by itself",
    "session": "for each session by itself",
    "minute": "in any 60 seconds",
    "hour": "every hour",
    "day": "every day",
    "week": "every week",
    "month": "every month",
    "total": "for good, without a reset",
}


class Amount(NamedTuple):
    """An amount as it is shown, and exactly."""

    shown: str
    exact: str


class Bar(NamedTuple):
    """In per mille of the limit: what is spent, what is promised to calls beside it, where people are told."""

    spent: int
    reserved: int
    marks: tuple[int, ...]


class Line(NamedTuple):
    """One budget, or one scope of a budget that is kept per label."""

    name: str
    scope: Mapping[str, str]
    state: str
    used: str
    spent: Amount
    reserved: Amount | None
    remaining: Amount
    limit: Amount
    rate: Amount | None
    bar: Bar
    gone: str
    gone_at: str | None
    resets_at: str | None
    unpriced: int
    usage_missing: int
    estimated: int
    lapsed: Amount | None
    calls: int

    @property
    def colour(self) -> str:
        return STATES[self.state][0]

    @property
    def address(self) -> str:
        """The scope as it stands in an address."""
        return urlencode(self.scope)

    @property
    def called(self) -> str:
        return STATES[self.state][1]


class Group(NamedTuple):
    """A budget with the lines of it that are shown; `more` says that there are others."""

    row: Mapping[str, Any]
    says: str
    does: str
    limit: Amount
    lines: tuple[Line, ...]
    more: bool


def unit(row: Mapping[str, Any]) -> str:
    """`usd`, `tokens` or `requests`."""
    return next(name for name in UNITS if f"limit_{name}" in row)


def amount(of: str, value: Any) -> Amount:
    """An amount of a unit: money as exact text or a number, counts as integers."""
    if of == "usd":
        nano = rules.decimal(value, 10**9) or 0
        return Amount(words.money(nano), words.exact(nano))
    return Amount(f"{words.short(value).strip()} {of}", f"{value:,} {of}")


def listed(budgets: Iterable[Mapping[str, Any]], now_ms: int, scopes: int = SCOPES) -> list[Group]:
    """The budgets of an answer, the most urgent first."""
    groups = [grouped(row, now_ms, scopes) for row in budgets]
    return sorted(groups, key=lambda group: min((_urgency(line) for line in group.lines), default=_LAST))


def grouped(row: Mapping[str, Any], now_ms: int, scopes: int = SCOPES) -> Group:
    """One budget, its most urgent scopes first."""
    lines = sorted((line(row, scope, now_ms) for scope in row["scopes"]), key=_urgency)
    of = unit(row)
    return Group(
        row,
        says(row),
        EXCEEDED[row["on_exceed"]],
        amount(of, row[f"limit_{of}"]),
        tuple(lines[:scopes]),
        bool(row["more_scopes"]) or len(lines) > scopes,
    )


def line(row: Mapping[str, Any], scope: Mapping[str, Any], now_ms: int) -> Line:
    """What stands in one scope of a budget."""
    of = unit(row)
    spent, reserved = (integer(of, scope[f"{name}_{of}"]) for name in ("spent", "reserved"))
    limit = integer(of, row[f"limit_{of}"])
    rate = scope[f"burn_per_hour_{of}"]
    return Line(
        row["name"],
        scope["scope"],
        scope["state"],
        words.share(scope["utilization"]),
        amount(of, scope[f"spent_{of}"]),
        amount(of, scope[f"reserved_{of}"]) if reserved else None,
        amount(of, scope[f"remaining_{of}"]),
        amount(of, row[f"limit_{of}"]),
        amount(of, rate) if rate else None,
        _bar(spent, reserved, limit, row["alert_at"]),
        gone(row, scope, now_ms),
        scope["exhausted_at"],
        scope["resets_at"] if row["period"] != "minute" else None,
        scope["unpriced_calls"],
        scope["usage_missing_calls"],
        scope["estimated_calls"],
        amount(of, scope[f"lapsed_{of}"]) if integer(of, scope[f"lapsed_{of}"]) else None,
        scope["calls"],
    )


def integer(of: str, value: Any) -> int:
    """An amount of a unit as the integer that it is counted in: nano-dollars, tokens, requests."""
    return (rules.decimal(value, 10**9) or 0) if of == "usd" else int(value)


def _bar(spent: int, reserved: int, limit: int, alert_at: Iterable[float]) -> Bar:
    part = min(1000, spent * 1000 // limit) if limit else 1000 if spent else 0
    held = min(1000 - part, -(-reserved * 1000 // limit)) if limit else 0
    return Bar(part, held, tuple(round(share * 1000) for share in alert_at if share < 1))


def gone(row: Mapping[str, Any], scope: Mapping[str, Any], now_ms: int) -> str:
    """When nothing is left at the present rate, in words."""
    of = unit(row)
    if scope["state"] == "exceeded":
        return "used up"
    if scope["exhausted_at"]:
        left = datetime.fromisoformat(scope["exhausted_at"]).timestamp() - now_ms / 1000
        return f"in {words.span(left)}" if left >= 60 else "within a minute"
    if not scope[f"burn_per_hour_{of}"]:
        # The rate is known from what came in since the budget counts as it does; what was there before says nothing.
        age = now_ms / 1000 - datetime.fromisoformat(row["changed_at"]).timestamp()
        return "not known yet" if age < 3600 and row["period"] != "minute" else "nothing spent lately"
    return "not before it resets" if scope["resets_at"] else "not within a year"


_LAST = (9, 0.0, 0.0)


def _urgency(item: Line) -> tuple[int, float, float]:
    """Used up first, then what will be soonest, then what is fullest."""
    full = -float(item.bar.spent)
    if item.state == "exceeded":
        return 0, 0.0, full
    if item.gone_at:
        return 1, datetime.fromisoformat(item.gone_at).timestamp(), full
    return 2, full, 0.0


def says(row: Mapping[str, Any]) -> str:
    """What a rule counts: `calls with team=search, each user by itself, every month (Europe/Berlin)`."""
    which = ", ".join(f"{name}={value}" for name, value in row["match"].items())
    parts = [f"calls with {which}" if which else "all calls"]
    if row["per"]:
        parts.append(f"each {' and '.join(row['per'])} by itself")
    parts.append(_EVERY[row["period"]] + (f" ({row['timezone']})" if _zoned(row) else ""))
    return ", ".join(parts)


def _zoned(row: Mapping[str, Any]) -> bool:
    return row["period"] in ("day", "week", "month") and row["timezone"] != "UTC"


#: what is done to a budget → how its history says so
_DONE: Mapping[str, str] = {
    "created": "made it",
    "changed": "changed it",
    "removed": "removed it",
    "adjusted": "set what is spent",
    "rebuilt": "counted it anew",
}


class Past(NamedTuple):
    """One line of a budget's history."""

    at: str
    who: str
    did: str
    changes: tuple[tuple[str, str, str], ...]


def history(rows: Iterable[Mapping[str, Any]]) -> Iterator[Past]:
    """What was done to a budget, the newest first, each with what it changed: (key, before, after)."""
    every = list(rows)
    for place, row in enumerate(every):
        older = every[place + 1]["rule"] if place + 1 < len(every) else {}
        changes = [
            (key, _said(older.get(key)), _said(row["rule"].get(key)))
            for key in dict.fromkeys((*older, *row["rule"]))
            if older.get(key) != row["rule"].get(key) and key != "name"
        ]
        yield Past(row["at"], row["who"], _DONE.get(row["what"], row["what"]), tuple(changes if older else ()))


def _said(value: Any) -> str:
    if value is None or value == {} or value == []:
        return "nothing"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
