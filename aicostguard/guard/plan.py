"""Which counters a call stands in.

Owns the way from a call's labels and time to counters of a store, and back from a counter's key to its rule. A key says
all that a settlement needs, so a ticket can be settled by another process than the one that asked:

    marketing/2026-11/team=marketing        name of the rule / span of its period / scope

The way there is kept per combination of label values until one of the spans ends, so that the usual call costs one look
into a dictionary. What is kept is bounded and can be dropped at any time.
"""

from __future__ import annotations

from datetime import tzinfo
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import parse_qsl, quote

from aicostguard.guard import period
from aicostguard.guard.policy import UNITS, BadPolicy, Budget, Policy
from aicostguard.guard.store import Counter

#: how many combinations of labels, and how many keys, are remembered
MAX_PLANS = 4096
#: a counter is kept this long after its period: calls that began in it are still settled
AFTER_MS = 3_600_000
#: a session that nobody used for so long is forgotten
SESSION_MS = 30 * 86_400_000
#: seconds that a rolling counter looks back
MINUTE = 60
_PLAN_MS = 3_600_000
#: more than is ever spent
NEVER = 2**63
#: beside nanousd, tokens and calls: of no rule that there is
NO_UNIT = len(UNITS)
_SAFE = " .:@_-"


class Rule:
    """A budget, and what is worked out of it once."""

    __slots__ = ("budget", "unit", "hard", "match", "per", "tz", "name", "alerts")

    def __init__(self, budget: Budget) -> None:
        if budget.unit not in UNITS:
            raise BadPolicy("unit: %r cannot be used: use one of %s" % (budget.unit, ", ".join(UNITS)))
        self.budget = budget
        self.unit = UNITS.index(budget.unit)
        self.hard = budget.on_exceed == "block"
        self.match = tuple(sorted(budget.match.items()))
        session = ("session",) if budget.period == "session" and "session" not in budget.per else ()
        self.per = (*budget.per, *session)
        self.tz: tzinfo = period.zone(budget.timezone)
        self.name = quote(budget.name, safe=_SAFE)
        #: (what must be spent, per mille), lowest first
        self.alerts = tuple((-(-budget.limit * line // 1000), line) for line in sorted(set(budget.alert_at)))

    def scope(self, labels: Mapping[str, str]) -> Dict[str, str]:
        """The labels that a counter of it is kept for."""
        return {**dict(self.match), **{name: labels.get(name) or "" for name in self.per}}


class Told:
    """Which thresholds of one counter were told here. `mark` is the amount at which the next alert is due."""

    __slots__ = ("mark", "at")

    def __init__(self) -> None:
        self.mark = NEVER
        #: threshold → minute of the clock in which it was told last (1 where the span has its own beginning)
        self.at: Dict[int, int] = {}


class Entry:
    """One counter of one rule in one span, for one scope."""

    __slots__ = ("rule", "counter", "scope", "span", "told")

    def __init__(
        self, rule: Rule, counter: Counter, scope: Mapping[str, str], span: period.Span, told: Optional[Told] = None
    ) -> None:
        self.rule = rule
        self.counter = counter
        self.scope = scope
        self.span = span
        self.told = Told() if told is None else told
        self.set_mark()

    def set_mark(self) -> None:
        """After something was told: the lowest amount of which there is something to tell again."""
        told = self.told
        left = (amount for amount, line in self.rule.alerts if self.counter.window or line not in told.at)
        told.mark = next(left, NEVER)

    def current(self, at: int) -> bool:
        """Does the instant lie in its span?"""
        return self.span.since <= at and (self.span.until is None or at < self.span.until)

    def resets_at(self, now: int) -> Optional[int]:
        """When what is counted now no longer is. Unix milliseconds, None for never."""
        return now + (MINUTE + 1) * 1000 if self.counter.window else self.span.until


class Plan(NamedTuple):
    """What a call with these labels stands in, from `since` until `until`."""

    entries: Tuple[Entry, ...]
    counters: Tuple[Counter, ...]
    keys: Tuple[str, ...]
    units: Tuple[int, ...]
    #: rules about one call, and the least that those of them that block allow, in nanousd and tokens
    calls: Tuple[Rule, ...]
    single: Tuple[Optional[int], Optional[int]]
    since: int
    until: int


class Settling(NamedTuple):
    """What a settlement needs of the counters of a ticket, parallel to its keys."""

    units: Tuple[int, ...]
    told: Tuple[Told, ...]


class Planner:
    """All rules of one policy."""

    def __init__(self, policy: Policy) -> None:
        names = [budget.name for budget in policy.budgets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BadPolicy("budgets: the name %r stands for two of them: give each its own" % twice[0])
        self.rules = tuple(Rule(budget) for budget in policy.budgets)
        self._by_name = {rule.name: rule for rule in self.rules}
        #: the labels that any rule looks at
        self._labels = tuple(
            sorted({name for rule in self.rules for name in (*rule.per, *(label for label, _ in rule.match))})
        )
        self._plans: Dict[Tuple[str, ...], Plan] = {}
        self._entries: Dict[str, Entry] = {}
        self._settled: Dict[Tuple[str, ...], Settling] = {}

    def plan(self, labels: Mapping[str, str], now: int) -> Plan:
        """What a call of now stands in."""
        get = labels.get
        values = tuple([get(name) or "" for name in self._labels])
        plan = self._plans.get(values)
        if plan is None or not plan.since <= now < plan.until:
            plan = self._make(labels, now)
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[values] = plan
        return plan

    def _make(self, labels: Mapping[str, str], now: int) -> Plan:
        entries: List[Entry] = []
        calls: List[Rule] = []
        since, until = now - now % _PLAN_MS, now - now % _PLAN_MS + _PLAN_MS
        for rule in self.rules:
            if any(labels.get(name) != value for name, value in rule.match):
                continue
            if rule.budget.period == "call":
                calls.append(rule)
                continue
            entry = self._entry(rule, rule.scope(labels), now)
            since = max(since, entry.span.since)
            until = min(until, entry.span.until or until)
            entries.append(entry)
        counters = tuple(entry.counter for entry in entries)
        units = tuple(entry.rule.unit for entry in entries)
        keys = tuple(counter.key for counter in counters)
        return Plan(tuple(entries), counters, keys, units, tuple(calls), _single(calls), since, until)

    def _entry(self, rule: Rule, scope: Dict[str, str], now: int) -> Entry:
        span = period.span(rule.budget.period, rule.tz, now)
        return self._remember(self.key(rule, span, scope), rule, span, scope, now)

    @staticmethod
    def prefix(rule: Rule, span: period.Span) -> str:
        """What the keys of all scopes of a rule begin with."""
        return "%s/%s/" % (rule.name, span.name)

    def key(self, rule: Rule, span: period.Span, scope: Mapping[str, str]) -> str:
        """The name of a counter. The matched labels are part of the rule, not of the key."""
        kept = "&".join("%s=%s" % (name, quote(scope[name], safe=_SAFE)) for name in rule.per)
        return "%s/%s/%s" % (rule.name, span.name, kept)

    def _remember(self, key: str, rule: Rule, span: period.Span, scope: Dict[str, str], now: int) -> Entry:
        window = MINUTE if rule.budget.period == "minute" else 0
        until = 0
        if span.until is not None:
            until = span.until + AFTER_MS
        elif window:
            until = now + 2 * AFTER_MS
        elif "session" in rule.per:
            until = now - now % _PLAN_MS + SESSION_MS
        old = self._entries.get(key)
        counter = Counter(key, rule.budget.limit, rule.hard, window, until)
        entry = Entry(rule, counter, scope, span, None if old is None else old.told)
        if old is None and len(self._entries) >= MAX_PLANS:
            self._entries.clear()
            self._settled.clear()
        self._entries[key] = entry
        return entry

    def entry(self, key: str, now: int) -> Optional[Entry]:
        """The rule and scope that a key stands for; None when its rule is not of this policy (any more)."""
        found = self._entries.get(key)
        if found is not None:
            return found
        name, _, rest = key.partition("/")
        span_name, _, kept = rest.partition("/")
        rule = self._by_name.get(name)
        if rule is None:
            return None
        scope = dict(rule.match)
        scope.update(parse_qsl(kept, True))
        span = period.span(rule.budget.period, rule.tz, now)
        if span.name != span_name:  # it has ended: nothing is due for it any more
            return Entry(rule, Counter(key, rule.budget.limit, rule.hard), scope, period.Span(span_name, 0, now))
        return self._remember(key, rule, span, scope, now)

    def settling(self, keys: Tuple[str, ...], now: int) -> Settling:
        """The same for all keys of a ticket at once, kept like a plan."""
        found = self._settled.get(keys)
        if found is None:
            entries = [self.entry(key, now) for key in keys]
            units = tuple([NO_UNIT if entry is None else entry.rule.unit for entry in entries])
            found = Settling(units, tuple([Told() if entry is None else entry.told for entry in entries]))
            if all(self._entries.get(key) is entry for key, entry in zip(keys, entries)):  # else it has ended
                if len(self._settled) >= MAX_PLANS:
                    self._settled.clear()
                self._settled[keys] = found
        return found


def _single(calls: List[Rule]) -> Tuple[Optional[int], Optional[int]]:
    limits: List[List[int]] = [
        [rule.budget.limit for rule in calls if rule.hard and rule.unit == unit] for unit in range(2)
    ]
    return (min(limits[0], default=None), min(limits[1], default=None))
