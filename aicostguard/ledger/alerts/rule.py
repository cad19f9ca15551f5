"""A rule as people write it, and as it is looked at. Pure.

Owns the kinds of rules, the keys each takes, what is taken when a key is left out, and the rules that every project has
from the start. Amounts are integers, read from their decimal digits: money in nano-dollars, all else in millionths.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from aicostguard.guard import rules
from aicostguard.guard.policy import BadPolicy
from aicostguard.ledger import query
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DIMENSIONS, MEASURES
from aicostguard.ledger.query import usd

NANO, PART = 10**9, 10**6
PERIODS = ("hour", "day", "week", "month")
#: action → how loudly it is told where a channel knows the difference
ACTIONS: Mapping[str, str] = {"warn": "warning", "alert": "failure", "flag": "info", "investigate": "warning"}
EVENTS = ("firing", "resolved")
COMPARISONS = ("above", "below")
#: what a saved query can be asked for: its name → its unit
UNITS: Mapping[str, str] = {
    "cost_usd": "usd",
    "cost_per_call_usd": "usd",
    "tokens": "",
    "unpriced_share": "",
    **{name: "" for name in MEASURES if name not in ("cost_nanousd", "reported_cost_nanousd")},
}
#: the longest window that is summed up by the minute
MOST_MINUTES = 1440


class Rule(NamedTuple):
    """A rule. What its kind has no use for is empty. `clear` is in per mille."""

    name: str
    kind: str
    threshold: int
    action: str
    period: str
    timezone: str
    match: Mapping[str, tuple[str, ...]]
    per: str
    window_minutes: int
    min_usd: int
    min_calls: int
    query: Mapping[str, tuple[str, ...]]
    measure: str
    comparison: str
    budgets: tuple[str, ...]
    clear: int
    hold_s: int
    once_per: str
    notify: tuple[str, ...]
    channels: tuple[str, ...]
    enabled: bool

    @property
    def unit(self) -> str:
        """What is read: `usd`, or nothing in particular."""
        return "usd" if SORTS[self.kind].reads_usd else unit_of(self.kind, self.measure)


class Sort(NamedTuple):
    """A kind of rule: what it is for, the keys it has beside the common ones with what they are when left out."""

    says: str
    defaults: Mapping[str, Any]
    unit: str = ""
    #: seconds after which it is looked at although nothing has come in
    every_s: int = 60
    #: what it reads is money although its threshold is none
    reads_usd: bool = False


#: of a key that nobody can guess
REQUIRED = object()
SORTS: Mapping[str, Sort] = {
    "spend": Sort(
        "what calls of a calendar period cost together",
        {"threshold": REQUIRED, "period": "day", "timezone": "UTC", "match": {}, "per": ""},
        "usd",
    ),
    "single_request": Sort(
        "one request that costs more", {"threshold": "1", "action": "flag", "once_per": "hour"}, "usd"
    ),
    "rate_spike": Sort(
        "spend of the last minutes beside what is usual at this time; threshold is how many times the usual",
        {
            "threshold": "2",
            "action": "investigate",
            "window_minutes": 10,
            "min_usd": "10",
            "timezone": "UTC",
            "once_per": "hour",
        },
        reads_usd=True,
    ),
    "query": Sort(
        "any question that GET /v1/costs answers",
        {"threshold": REQUIRED, "query": REQUIRED, "measure": "cost_usd", "comparison": "above"},
    ),
    "budget": Sort(
        "a budget passes one of its alert_at; threshold is the smallest share told",
        {"threshold": "0", "budgets": [], "hold_s": 0},
        every_s=15,
    ),
    "unpriced": Sort(
        "a model without a price; threshold is how many calls are let pass",
        {"threshold": "0", "action": "investigate"},
    ),
    "deliveries": Sort(
        "receipts that were made and never came; threshold is how many are let pass",
        {"threshold": "0", "action": "investigate"},
    ),
    "labels": Sort(
        "a label has more different values in a day than sums have room for; threshold is how many calls of a day may "
        "stand together under (other)",
        {"threshold": "0", "action": "investigate"},
    ),
    "cost_per_call": Sort(
        "a feature's calls cost more each than in the week before: another model, another release; threshold is how "
        "many times as much",
        {"threshold": "1.2", "action": "investigate", "min_calls": 50, "clear": 0.95},
        every_s=300,
    ),
}
_COMMON: Mapping[str, Any] = {
    "action": "warn",
    "clear": 0.9,
    "hold_s": 300,
    "once_per": "day",
    "notify": ["firing"],
    "channels": [],
    "enabled": True,
}
#: present in every project from the start; a new one is put last, and given to projects that were there before
DEFAULTS: Sequence[Mapping[str, Any]] = (
    {"name": "hourly_spend", "kind": "spend", "threshold": "100", "period": "hour", "action": "warn"},
    {"name": "daily_spend", "kind": "spend", "threshold": "500", "period": "day", "action": "alert"},
    {"name": "single_request", "kind": "single_request", "threshold": "1", "action": "flag"},
    {"name": "rate_spike", "kind": "rate_spike", "threshold": "2", "action": "investigate"},
    {"name": "budget_thresholds", "kind": "budget", "action": "alert"},
    {"name": "unpriced_models", "kind": "unpriced"},
    {"name": "delivery_gaps", "kind": "deliveries"},
    {"name": "cost_per_call", "kind": "cost_per_call"},
    {"name": "labels_full", "kind": "labels"},
)


def _plain(value: Any) -> int:
    number = rules.decimal(value, PART)
    if number is None or number > rules.MOST:
        raise rules.Wrong
    return number


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def read_whole(value: Any) -> int:
        number = rules.decimal(value, 1)
        if number is None or not least <= number <= most:
            raise rules.Wrong
        return number

    return read_whole


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise rules.Wrong
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > 100 or not all(isinstance(item, str) for item in value):
        raise rules.Wrong
    return tuple(dict.fromkeys(str(rules.NAME.read(item)) for item in value))


def _events(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or any(item not in EVENTS for item in value):
        raise rules.Wrong
    return tuple(event for event in EVENTS if event in value)


def _several(value: Any) -> dict[str, tuple[str, ...]]:
    """Parameters as in a URL: text, or a list of texts."""
    if not isinstance(value, Mapping) or len(value) > 30:
        raise rules.Wrong
    out = {}
    for name, item in value.items():
        texts = [item] if isinstance(item, (str, int)) and not isinstance(item, bool) else item
        if not isinstance(name, str) or not isinstance(texts, (list, tuple)) or len(texts) > 100:
            raise rules.Wrong
        if not all(isinstance(text, (str, int)) and len(str(text)) <= 256 for text in texts):
            raise rules.Wrong
        out[name] = tuple(str(text) for text in texts)
    return out


def _match(value: Any) -> dict[str, tuple[str, ...]]:
    found = _several(value)
    for name in found:
        if name not in DIMENSIONS:
            raise rules.Wrong(rules.meant(name, DIMENSIONS))
    return found


def _query(value: Any) -> dict[str, tuple[str, ...]]:
    found = _several(value)
    try:
        query.parse(found, 0, 0)
    except Refused as error:
        raise rules.Wrong(f"{error.field} {error}") from None
    return found


def _per(value: Any) -> str:
    if value and value not in DIMENSIONS:
        raise rules.Wrong
    return str(value or "")


#: key → what it takes
KINDS: Mapping[str, rules.Kind] = {
    "name": rules.NAME,
    "kind": rules.choice(*SORTS),
    "threshold": rules.Kind(_plain, "use a number, 0 or more and no finer than a millionth, such as 100 or 1.5"),
    "action": rules.choice(*ACTIONS),
    "period": rules.choice(*PERIODS),
    "timezone": rules.ZONE,
    "match": rules.Kind(_match, f"use some of {', '.join(DIMENSIONS)} and their values, such as {{'team': 'search'}}"),
    "per": rules.Kind(_per, f"use one of {', '.join(DIMENSIONS)}"),
    "window_minutes": rules.Kind(_whole(1, MOST_MINUTES), f"use minutes, from 1 to {MOST_MINUTES}"),
    "min_usd": rules.USD,
    "min_calls": rules.Kind(_whole(1, 10**9), "use a whole number of calls, 1 or more"),
    "query": rules.Kind(_query, "use the parameters of GET /v1/costs, such as {'since': '24h', 'group_by': 'team'}"),
    "measure": rules.choice(*UNITS),
    "comparison": rules.choice(*COMPARISONS),
    "budgets": rules.Kind(_names, "use a list of names of budgets; an empty one means all"),
    "clear": rules.Kind(rules.share, "use a share of the threshold, such as 0.9"),
    "hold_s": rules.Kind(_whole(0, 86_400), "use seconds, from 0 to 86400"),
    "once_per": rules.choice(*PERIODS),
    "notify": rules.Kind(_events, "use a list of firing and resolved"),
    "channels": rules.Kind(_names, "use a list of names of channels; an empty one means all"),
    "enabled": rules.Kind(_flag, "use true or false"),
}
_EMPTY: Mapping[str, Any] = {
    "period": "", "timezone": "UTC", "match": {}, "per": "", "window_minutes": 0, "min_usd": 0, "min_calls": 0,
    "query": {}, "measure": "", "comparison": "above", "budgets": (),
}  # fmt: skip


def told(unit: str, amount: int) -> str:
    """An amount, exact."""
    return usd(amount) if unit == "usd" else usd(amount * (NANO // PART))


def unit_of(kind: str, measure: object) -> str:
    """What a threshold counts."""
    return UNITS.get(str(measure), "") if kind == "query" else SORTS[kind].unit


def keys(kind: str) -> tuple[str, ...]:
    """The keys that a rule of this kind takes, in the order in which they are shown."""
    own = {"name", "kind", *SORTS[kind].defaults, *_COMMON} - ({"once_per"} if kind == "spend" else set())
    return tuple(name for name in KINDS if name in own)


def read(given: Mapping[str, Any]) -> Rule:
    """A rule from JSON. Raises `Refused` (422) that names field, value and remedy."""
    try:
        return _read(given)
    except BadPolicy as error:
        field, _, rest = str(error).partition(": ")
        raise Refused(422, rest or str(error), field if rest else "") from None


def _read(given: Mapping[str, Any]) -> Rule:
    for name in ("name", "kind"):
        if given.get(name) is None:
            more = f"; known are {', '.join(SORTS)}" if name == "kind" else ""
            raise BadPolicy(f"{name}: is missing: every rule has one{more}")
    kind = rules.read(KINDS["kind"], "kind", given["kind"])
    known = keys(kind)
    for name in given:
        if name not in known:
            raise BadPolicy(f"{ascii(str(name)[:64])[1:-1]}: a {kind} rule has no such key: {rules.meant(name, known)}")
    stated = {**_COMMON, **SORTS[kind].defaults, **{name: item for name, item in given.items() if item is not None}}
    takes = KINDS
    if unit_of(kind, stated.get("measure")) == "usd":
        takes = {**KINDS, "threshold": rules.USD}
    for name, item in stated.items():
        if item is REQUIRED:
            raise BadPolicy(f"{name}: is missing: {takes[name].remedy}")
    made: dict[str, Any] = {name: rules.read(takes[name], name, item) for name, item in stated.items()}
    if kind == "spend":
        made["once_per"] = made["period"]
    return Rule(**{**_EMPTY, **made})


def written(rule: Rule) -> dict[str, Any]:
    """The rule as it can be sent again; what is taken by default included."""
    values = rule._asdict()
    out: dict[str, Any] = {name: values[name] for name in keys(rule.kind)}
    out["threshold"] = told(unit_of(rule.kind, rule.measure), rule.threshold)
    if "min_usd" in out:
        out["min_usd"] = usd(rule.min_usd)
    out["clear"] = rule.clear / 1000
    for name in ("match", "query"):
        if name in out:
            out[name] = {key: items[0] if len(items) == 1 else list(items) for key, items in out[name].items()}
    return {name: list(item) if isinstance(item, tuple) else item for name, item in out.items()}


def changed(old: Rule, given: Mapping[str, Any]) -> Rule:
    """The rule with what `given` names put in place; null takes what is taken by default. Raises `Refused` (422)."""
    if "kind" in given and given["kind"] != old.kind:
        raise Refused(422, f"of a rule cannot be changed from {old.kind}; make another rule", "kind")
    return read({**written(old), **given})


def dumped(rule: Rule) -> str:
    """The rule as the ledger stores it."""
    return json.dumps(written(rule), sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)
def loaded(text: str) -> Rule:
    """A stored rule."""
    return read(json.loads(text))
