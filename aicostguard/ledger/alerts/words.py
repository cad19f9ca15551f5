"""What people are told: the sentences of the rules, and where to look.

Owns texts, how amounts are rounded in them, and the link to a view. Names of models, teams and users come from
receipts, so they are made fit for one line. Pure.
"""

from __future__ import annotations

import json
from typing import Any, Mapping, NamedTuple, Sequence
from urllib.parse import urlencode

from aicostguard.guard.words import amounts
from aicostguard.ledger.access import chosen
from aicostguard.ledger.alerts.baseline import Usual
from aicostguard.ledger.alerts.rule import PART, Rule
from aicostguard.ledger.query import usd

#: period of a spend rule → how its sentence begins
_SPEND = {"hour": "Hourly", "day": "Daily", "week": "Weekly", "month": "Monthly"}
#: what a view is of, if not of costs → its page
_PAGES = {"": "/", "deliveries": "/delivery"}
#: alerts of one message that are told one by one
MOST_LINES = 10


def name(value: object) -> str:
    """A name of somebody else's making, on one line and not long."""
    text = "".join(char if char.isprintable() else "�" for char in str(value))
    return text if len(text) <= 80 else text[:79] + "…"


def cents(nano: int) -> str:
    """Dollars to the cent, half up; of what would look like nothing three digits that count."""
    if nano < 0:
        return "-" + cents(-nano)
    if 0 < nano < 10**7:
        places = min(9, 12 - len(str(nano)))
        step = 10 ** (9 - places)
        return "$0." + f"{(nano + step // 2) // step:0{places}d}".rstrip("0")
    whole, part = divmod((nano + 5 * 10**6) // 10**7, 100)
    return f"${whole:,}.{part:02d}"


def amount(rule: Rule, value: int) -> str:
    if rule.unit == "usd":
        return cents(value)
    whole, part = divmod(value, PART)
    return f"{whole:,}" + (f".{part:06d}".rstrip("0") if part else "")


def of(group: Mapping[str, str | None]) -> str:
    """A group behind a sentence: ` (team=search)`."""
    said = ", ".join(f"{key}={name(value) if value else '(none)'}" for key, value in group.items())
    return f" ({said})" if said else ""


def spend(rule: Rule, nano: int, group: Mapping[str, str | None]) -> str:
    whole, part = divmod((nano + 5 * 10**6) // 10**7, 100)
    return f"{_SPEND[rule.period]} spend ${whole}.{part:02d} exceeds threshold{of(group)}"


def single(nano: int, model: str, feature: str | None) -> str:
    by = f", {name(feature)}" if feature else ""
    return f"Single request {cents(nano)} exceeds threshold ({name(model)}{by})"


def spike(nano: int, usual: Usual, minutes: int) -> str:
    spent = f"{cents(nano)} in {minutes} minutes" if minutes != 1 else f"{cents(nano)} in one minute"
    if not usual.says:
        return f"Spend rate: {spent}; there is no history yet to compare it with"
    normal = usual.median * minutes // 60
    if not normal:
        return f"Spend rate: {spent}, when usually nothing is spent (median of {usual.says})"
    times = nano / normal
    return f"Spend rate is {times:,.1f}× normal: {spent}, usually {cents(normal)} (median of {usual.says})"


def asked(rule: Rule, value: int, group: Mapping[str, str | None]) -> str:
    said, line = amount(rule, value), amount(rule, rule.threshold)
    if said == line and rule.unit == "usd":
        said, line = amounts("nanousd", value, rule.threshold)  # different ones look different
    return f"{name(rule.name)}: {rule.measure} {said} is {rule.comparison} {line}{of(group)}"


def unpriced(model: str, calls: int) -> str:
    verb = "is" if calls == 1 else "are"
    return f"Model {name(model)} has no price: {counted(calls, 'call')} of the last day {verb} in no sum"


def gap(lost: int, group: Mapping[str, str | None]) -> str:
    return f"{counted(lost, 'receipt')} of the last day {'is' if lost == 1 else 'are'} lost{of(group)}"


def full(label: str, day: str, values: int, calls: int, service: str) -> str:
    """A label is the name of a dimension or of a pair; who sent what had no room comes from receipts."""
    by = f", the first from service {name(service)}" if service else ""
    what = " × ".join(label.split(","))
    return (
        f"Label {what} has more than {counted(values, 'value')} on {day}: {counted(calls, 'call')} "
        f"{'stands' if calls == 1 else 'stand'} under (other){by}; aicg labels says more"
    )


def dearer(feature: str, before: int, now: int, why: str) -> str:
    more = (now - before) * 100 / before if before else 0
    who = name(feature) if feature else "(no feature)"
    return f"Cost per call of {who} rose by {more:,.0f} %: {cents(before)} to {cents(now)}; {why}"


def between(low: int, high: int) -> str:
    """How much more, in nano-dollars: `$0.0012 to $0.0016 more`."""
    return f"{cents(low)} to {cents(high)} more"


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def for_slack(alert: Mapping[str, Any]) -> str:
    """The line of an alert in a chat. Of a day's spend: how much, and how much was thought enough."""
    if alert["kind"] == "spend" and alert["period"] == "day" and not alert["group"] and alert["event"] == "firing":
        return daily(int(alert["value_nano"]), plain(int(alert["line_nano"])))
    return str(alert["line"])


def daily(nano: int, limit: str) -> str:
    whole, part = divmod((nano + 5 * 10**6) // 10**7, 100)
    return f"⚠️ Daily AI spend: ${whole}.{part:02d} exceeds ${limit} limit"


def plain(nano: int) -> str:
    return usd(nano)


class Where(NamedTuple):
    """Where people open the ledger, "" for nobody has said it, and the ORGANISATION/PROJECT that a link has to name."""

    url: str
    project: str = ""


def link(where: Where, view: Mapping[str, Any]) -> str:
    """The address of a view: the same parameters as `GET /v1/costs`. Empty when nobody has said where the page is."""
    if not where.url:
        return ""
    path, pairs = place(view)
    named = [(chosen.NAME, where.project)] if where.project else []
    return f"{where.url.rstrip('/')}{path}?{urlencode([*pairs, *named])}"


def place(view: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """The page that shows a view, and its parameters."""
    pairs = [
        (name, str(value))
        for name, values in view.items()
        for value in (values if isinstance(values, (list, tuple)) else (values,))
        if name != "of"
    ]
    return _PAGES[view.get("of", "")], pairs


def scope(group: Mapping[str, str | None]) -> str:
    """A group as it is kept."""
    return json.dumps(group, sort_keys=True, separators=(",", ":"))


def title(event: str, lines: Sequence[str]) -> str:
    first = lines[0] if lines else ""
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return ("Resolved: " if event == "resolved" else "") + first + more
