"""Alert rules as sentences, and alerts as lines of a list. Pure.

Owns words. What a rule does is decided in `alerts.rule`.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, NamedTuple

from aicostguard.guard import rules
from aicostguard.ledger.web import words

#: state of an alert → colour, and how it is called
STATES: Mapping[str, tuple[str, str]] = {
    "firing": ("bad", "firing"),
    "acknowledged": ("warn", "looked after"),
    "snoozed": ("", "snoozed"),
    "resolved": ("good", "over"),
}
#: kind → how it is called in a menu
KINDS: Mapping[str, str] = {
    "spend": "Spend of an hour, day, week or month",
    "single_request": "A single dear request",
    "rate_spike": "A sudden rise of spend",
    "query": "Any question to the ledger",
    "budget": "A budget that fills up",
    "unpriced": "Calls without a price",
    "deliveries": "Receipts that never came",
    "labels": "Labels with too many values",
    "cost_per_call": "Calls that became dearer",
}
#: key of a rule → what it is called in a form, and what may stand there
FIELDS: Mapping[str, tuple[str, str]] = {
    "name": ("Name", "search_daily"),
    "threshold": ("Threshold", "100"),
    "period": ("Period", ""),
    "timezone": ("Time zone", "Europe/Berlin"),
    "match": ("Only calls with", "team=search"),
    "per": ("Each value by itself of", "user"),
    "window_minutes": ("Minutes looked at", "10"),
    "min_usd": ("Never below, in dollars", "10"),
    "min_calls": ("Calls needed on either side", "50"),
    "query": ("Question, as in the address of a page", "since=24h&group_by=feature"),
    "measure": ("Measure", ""),
    "comparison": ("Fires when it is", ""),
    "budgets": ("Only these budgets", "all"),
    "action": ("Action", ""),
    "clear": ("Over at or below this share of the threshold", "0.9"),
    "hold_s": ("for so many seconds", "300"),
    "once_per": ("Told once per", ""),
    "channels": ("Channels", "all"),
}


def says(rule: Mapping[str, Any]) -> str:
    """What makes a rule fire, in a sentence."""
    if "unreadable" in rule:
        return "written by a newer release: it cannot be read here"
    return str(_SAYS[rule["kind"]](rule))


def _usd(value: Any) -> str:
    return words.money(rules.decimal(value, 10**9))


def _which(rule: Mapping[str, Any]) -> str:
    match = rule.get("match") or {}
    return f" with {pairs(match)}" if match else ""


def _zone(rule: Mapping[str, Any]) -> str:
    return "" if rule.get("timezone", "UTC") == "UTC" else f" ({rule['timezone']})"


def _several(value: str, one: str, many: str) -> str:
    return one if value == "0" else many.format(value)


def _query(rule: Mapping[str, Any]) -> str:
    usd = rule["measure"].endswith("_usd")
    line = _usd(rule["threshold"]) if usd else rule["threshold"]
    return f"{rule['measure']} of {pairs(rule['query'], '&')} is {rule['comparison']} {line}"


def _budget(rule: Mapping[str, Any]) -> str:
    whose = " or ".join(rule["budgets"]) if rule["budgets"] else "a budget"
    return f"{whose} passes one of the shares at which it is to be told"


_SAYS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "spend": lambda rule: (
        f"calls{_which(rule)} of one {rule['period']}{_zone(rule)} cost more than {_usd(rule['threshold'])}"
    ),
    "single_request": lambda rule: f"a request costs more than {_usd(rule['threshold'])}",
    "rate_spike": lambda rule: (
        f"{rule['window_minutes']} minutes cost more than {rule['threshold']} times what is usual "
        f"then, and more than {_usd(rule['min_usd'])}"
    ),
    "query": _query,
    "budget": _budget,
    "unpriced": lambda rule: _several(
        rule["threshold"], "a model without a price is called", "a model without a price is called more than {} times"
    ),
    "deliveries": lambda rule: _several(
        rule["threshold"], "receipts that were made never came", "more than {} receipts that were made never came"
    ),
    "labels": lambda rule: _several(
        rule["threshold"],
        "a label has more values in a day than sums have room for",
        "more than {} calls of a day stand under (other), their label having too many values",
    ),
    "cost_per_call": lambda rule: (
        f"a feature's calls cost more than {rule['threshold']} times what they did in the week before"
    ),
}


def pairs(given: Mapping[str, Any], between: str = ", ") -> str:
    """`team=search, feature=checkout`; a name with several values several times."""
    return between.join(
        f"{name}={value}"
        for name, values in given.items()
        for value in (values if isinstance(values, (list, tuple)) else (values,))
    )


class Line(NamedTuple):
    """An alert in a list; of a budget, all thresholds that it has passed: `numbers` are those of the alerts."""

    row: Mapping[str, Any]
    numbers: str
    says: str
    colour: str
    called: str
    value: str
    peak: str
    threshold: str
    view: str


def lines(rows: Iterable[Mapping[str, Any]], address: Callable[[Mapping[str, Any]], str]) -> list[Line]:
    """Alerts as a list; `address` makes a link of the query that shows what one speaks of."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_together(row), []).append(row)
    return [_line(found, address(found[0]["view"])) for found in groups.values()]


def _together(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is one line: an alert, or what a budget has passed in one period, in one state."""
    if row["kind"] != "budget" or "budget" not in row:
        return (row["id"],)
    return row["rule"], row["budget"], tuple(row["group"].items()), row.get("period_since"), row["state"], row["by"]


def _line(rows: list[Mapping[str, Any]], view: str) -> Line:
    row = max(rows, key=lambda one: rules.decimal(one["threshold"], 10**6) or 0)
    colour, called = STATES[row["state"]]
    numbers = ",".join(str(one["id"]) for one in rows)
    if "budget" in row:
        unit = next(name for name in ("usd", "tokens", "requests") if f"limit_{name}" in row)
        spent, limit = (figure(unit, row[f"{name}_{unit}"]) for name in ("spent", "limit"))
        scope = [f"{name}={value}" if value else f"no {name}" for name, value in row["group"].items()]
        whose = f" ({', '.join(scope)})" if scope else ""
        says = f"Budget {row['budget']}{whose} passed {words.share(float(row['threshold']))} of its limit"
        return Line(row, numbers, says, colour, called, spent, spent, limit, view)
    is_, peak, line = (figure(row["unit"], row[name]) for name in ("value", "peak", "threshold"))
    return Line(row, numbers, row["text"], colour, called, is_, peak, line, view)


def figure(unit: str, value: Any) -> str:
    """An amount of an alert as people read it."""
    return _usd(value) if unit == "usd" else f"{value:,}" if isinstance(value, int) else str(value)


def sent(notice: Mapping[str, Any] | None) -> tuple[str, str]:
    """`(colour, words)` of what came of a channel's last message."""
    if notice is None:
        return "", "nothing sent yet"
    last = notice["attempts"][-1]["said"] if notice["attempts"] else ""
    tries = len(notice["attempts"])
    if notice["state"] == "sent":
        return "good", "arrived" + (f" at attempt {tries}" if tries > 1 else "")
    if notice["state"] in ("waiting", "sending"):
        return "warn", f"on its way{f', attempt {tries} failed: {last}' if last else ''}"
    return "bad", f"did not arrive: {last or 'it was given up'}"


def open_first(alerts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Alerts that are open: those that nobody looks after first, then the newest."""
    order = list(STATES)
    return sorted(alerts, key=lambda row: (order.index(row["state"]), -row["id"]))
