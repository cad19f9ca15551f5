"""What each kind of rule sees in the ledger: a reading for each group.

Owns the questions that rules ask. All but `query` with several labels are answered from hourly, daily and minute sums,
whose number does not grow with that of receipts. Each kind is one function in `READERS`; one that fails is that rule's
fault alone.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any, Callable, Mapping
from zoneinfo import ZoneInfo

from aicostguard.ledger import deliveries, period, query
from aicostguard.ledger.alerts import baseline, minutes, words
from aicostguard.ledger.alerts.incident import Reading
from aicostguard.ledger.alerts.rule import PART, Rule
from aicostguard.ledger.budgets import book as budgets
from aicostguard.ledger.budgets import counters
from aicostguard.ledger.budgets import rule as of_budget
from aicostguard.ledger.comparing import Change, changes
from aicostguard.ledger.model import DAY_MS, HOUR_MS, OTHER, TIMES, Query
from aicostguard.ledger.sqlite import SqliteStore, room

#: groups of a rule that are looked at, the dearest first
MOST_GROUPS = 100
#: so long after the end of a period, what still comes in for it is looked at
GRACE_MS = 300_000
_HIGHEST = 2**62
_UTC = ZoneInfo("UTC")


class Sight:
    """The ledger as one rule sees it now."""

    def __init__(self, store: SqliteStore, project_id: int, now_ms: int, usual: dict[Any, baseline.Usual]) -> None:
        self.store = store
        self.project_id = project_id
        self.now_ms = now_ms
        self._usual = usual

    def usual(self, zone: str) -> baseline.Usual:
        """What is usual in this hour; looked up once an hour."""
        key = (self.project_id, zone, self.now_ms // HOUR_MS)
        if key not in self._usual:
            if len(self._usual) > 1000:
                self._usual.clear()
            self._usual[key] = self.store.look(
                lambda connection: baseline.usual(connection, self.project_id, self.now_ms, period.zone(zone))
            )
        return self._usual[key]

    def sums(
        self, since_ms: int, until_ms: int, by: str = "", above: int = -1, **more: Any
    ) -> list[tuple[str, dict[str, int]]]:
        """`(group, sums)`; one without a group when `by` is empty. Groups that cost no more than `above` may lack.

        Each value is a group of its own: those that a day had no room for are looked up in the receipts, unless all of
        them together cost too little to matter.
        """
        asked = Query(self.project_id, since_ms, until_ms, (by,) if by else (), limit=MOST_GROUPS, **more)
        found = self.store.costs(asked)
        if not by:
            return [("", found.totals)]
        rows = [(values[0], sums) for values, sums in found.rows]
        if found.full:
            costs = {value: sums["cost_nanousd"] for value, sums in rows}
            others = costs.pop(OTHER, min(costs.values(), default=0))  # not among the first: no more than the last
            # Of one day a value is in sums of its own or among the others; of several days it may be in both.
            both = until_ms - 1 - (until_ms - 1) % DAY_MS > since_ms
            if others + (max(costs.values(), default=0) if both else 0) > above:
                rows = [(values[0], sums) for values, sums in self.store.costs(asked._replace(named=True)).rows]
        return [(value, sums) for value, sums in rows if value != OTHER]


def _shown(since_ms: int, until_ms: int, by: str = "model", **filters: Any) -> dict[str, Any]:
    """The parameters of a look at a period."""
    return {"since": period.iso(since_ms, _UTC), "until": period.iso(until_ms, _UTC), "group_by": by, **filters}


def _periods(rule: Rule, now_ms: int) -> list[tuple[int, int]]:
    """The present period, and the one before while it may still grow."""
    since, until = of_budget.bounds(rule.once_per, rule.timezone, now_ms)
    out = [(since, until or now_ms)]
    if now_ms - since < GRACE_MS:
        out.append((of_budget.bounds(rule.once_per, rule.timezone, since - 1)[0], since))
    return out


def _spend(rule: Rule, sight: Sight) -> list[Reading]:
    found: dict[str, Reading] = {}
    for since, until in _periods(rule, sight.now_ms):
        for value, sums in sight.sums(since, until, rule.per, rule.threshold, filters=rule.match):
            nano = sums["cost_nanousd"]
            group = {rule.per: value or None} if rule.per else {}
            scope = words.scope(group)
            # The earlier period counts only where nothing is to be said of the present one.
            if scope in found and (found[scope].value > rule.threshold or nano <= rule.threshold):
                continue
            filters = {**rule.match, **({rule.per: value} if rule.per else {})}
            others = {name: wanted[0] if len(wanted) == 1 else list(wanted) for name, wanted in rule.match.items()}
            found[scope] = Reading(
                scope,
                nano,
                rule.threshold,
                words.spend(rule, nano, {**{k: words.name(v) for k, v in others.items()}, **group}),
                _shown(since, until, "model", **filters),
                {"group": group, "unpriced_calls": sums["unpriced_calls"]},
                since,
            )
    return list(found.values())


def _single_request(rule: Rule, sight: Sight) -> list[Reading]:
    for since, _ in _periods(rule, sight.now_ms):
        dearest = sight.store.look(lambda connection: minutes.dearest(connection, sight.project_id, since))  # noqa: B023
        if dearest is not None and dearest.cost_nanousd > rule.threshold:
            filters = {"model": dearest.model, **({"feature": dearest.feature} if dearest.feature else {})}
            return [
                Reading(
                    words.scope({}),
                    dearest.cost_nanousd,
                    rule.threshold,
                    words.single(dearest.cost_nanousd, dearest.model, dearest.feature),
                    _shown(dearest.at_ms, dearest.at_ms + 1, "model", **filters),
                    {"group": {}, "model": dearest.model, "feature": dearest.feature},
                    since,
                )
            ]
    return []


def _rate_spike(rule: Rule, sight: Sight) -> list[Reading]:
    until = sight.now_ms - sight.now_ms % minutes.MINUTE_MS + minutes.MINUTE_MS
    length = rule.window_minutes * minutes.MINUTE_MS
    found = sight.store.look(lambda connection: minutes.window(connection, sight.project_id, until - length, until))
    usual = sight.usual(rule.timezone)
    line = max(rule.min_usd, usual.line(rule.threshold, length))
    return [
        Reading(
            words.scope({}),
            found.cost_nanousd,
            line,
            words.spike(found.cost_nanousd, usual, rule.window_minutes),
            _shown(until - length, until, "feature,model"),
            {"group": {}, "usual_says": usual.says, "unpriced_calls": found.unpriced_calls},
        )
    ]


def measured(rule: Rule, row: Mapping[str, Any]) -> int | None:
    """What a row of an answer says of the rule's measure; None where it says nothing."""
    cost, priced = row["cost_nanousd"] or 0, row["calls"] - row["unpriced_calls"]
    if rule.measure == "cost_usd":
        return int(cost) if priced or not row["calls"] else None
    if rule.measure == "cost_per_call_usd":
        return int(cost // priced) if priced else None
    if rule.measure == "tokens":
        return min(_HIGHEST, int(row["input_tokens"] + row["output_tokens"]) * PART)
    if rule.measure == "unpriced_share":
        return int(row["unpriced_calls"] * PART // row["calls"]) if row["calls"] else None
    return min(_HIGHEST, int(row[rule.measure]) * PART)


def _query(rule: Rule, sight: Sight) -> list[Reading]:
    asked = query.parse(rule.query, sight.project_id, sight.now_ms)
    answer = query.run(sight.store, asked._replace(limit=min(asked.limit, MOST_GROUPS), named=True))
    out = []
    for row in answer["rows"] if asked.group_by else [answer["totals"]]:
        value = measured(rule, row)
        if value is None:
            continue
        group = {name: row[name] for name in asked.group_by}
        filters = {**rule.query, **{name: value or "" for name, value in group.items() if name not in TIMES}}
        view = {**filters, "since": answer["since"], "until": answer["until"]}
        out.append(
            Reading(words.scope(group), value, rule.threshold, words.asked(rule, value, group), view, {"group": group})
        )
    return out


def _budget(rule: Rule, sight: Sight) -> list[Reading]:
    return sight.store.look(lambda connection: list(_thresholds(connection, rule, sight)))


def _thresholds(connection: sqlite3.Connection, rule: Rule, sight: Sight) -> list[Reading]:
    """The thresholds of budgets that are passed in a period that goes on or was told of just now.

    Of an organisation's a project is told that it is passed, and no amount: that is what all spend together. Where it
    is kept per label nothing is told, for its scopes are other projects' names.
    """
    out = []
    for kept in budgets.over(connection, sight.project_id):
        its = kept.budget
        if rule.budgets and its.name not in rule.budgets:
            continue
        if kept.shared and (its.per or its.period == "session"):
            continue
        start = 0 if its.period == "minute" else of_budget.start(its, sight.now_ms)
        since = min(start, sight.now_ms - GRACE_MS)
        # Whatever was found in the present period was found after it began.
        for row in connection.execute(
            'SELECT scope, start_ms, threshold, at_ms, spent, "limit", text FROM budget_alerts WHERE project_id = ? '
            "AND at_ms >= ? AND budget = ? AND threshold >= ? ORDER BY at_ms DESC, threshold DESC LIMIT ?",
            (kept.owner, since, its.name, rule.threshold // 1000, MOST_GROUPS),
        ):
            scope, of_period, threshold, at_ms = row[:4]
            if of_period == start:
                spent = counters.balance(connection, kept, scope, sight.now_ms).spent
                holds = counters.utilization(spent, its.limit) >= threshold  # the limit may have been raised
            else:
                holds = at_ms >= sight.now_ms - GRACE_MS
            if holds:
                out.append(_threshold(kept, sight.now_ms, *row))
    return sorted(out, key=lambda reading: (reading.more["at"], reading.value))


def _threshold(
    kept: budgets.Kept,
    now_ms: int,
    scope: str,
    start_ms: int,
    threshold: int,
    at_ms: int,
    spent: int,
    limit: int,
    text: str,
) -> Reading:
    its = kept.budget
    amounts: dict[str, Any] = {
        of_budget.keyed(its, "spent"): of_budget.told(its, spent),
        of_budget.LIMITS[its.unit]: of_budget.told(its, limit),
    }
    if kept.shared:
        amounts, text = {}, f"Budget utilization of the whole organisation exceeds alert threshold {threshold / 10:g}%"
    named = of_budget.named(its, scope)
    group = {"budget": its.name, "scope": scope, "threshold": str(threshold), "since": str(start_ms)}
    more = {
        "group": named,
        "budget": its.name,
        "scope": named,
        "threshold": threshold / 1000,
        "at": period.iso(at_ms, _UTC),
        "period_since": period.iso(start_ms, _UTC) if start_ms else None,
        **amounts,
        "subject": f"{words.name(its.name)}{words.of(named)}",
    }
    labels = {**its.match, **named}
    view = _shown(
        start_ms or now_ms - 30 * DAY_MS, now_ms, "model", **{k: v for k, v in labels.items() if "." not in k}
    )
    return Reading(words.scope(group), threshold * 1000, 0, text, view, more)


def _unpriced(rule: Rule, sight: Sight) -> list[Reading]:
    since, until = _last_day(sight.now_ms)
    out = []
    for model, sums in sight.sums(since, until, "model", order="unpriced_calls"):
        calls = sums["unpriced_calls"]
        if calls:
            text, view = words.unpriced(model, calls), _shown(since, until, "feature", model=model)
            group = {"model": model}
            out.append(Reading(words.scope(group), calls * PART, rule.threshold, text, view, {"group": group}))
    return out


def _last_day(now_ms: int) -> tuple[int, int]:
    """Whole hours, so that sums by the hour have the answer."""
    until = now_ms - now_ms % HOUR_MS + HOUR_MS
    return until - DAY_MS, until


def _deliveries(rule: Rule, sight: Sight) -> list[Reading]:
    asked = deliveries.parse({"since": ["24h"], "limit": [str(MOST_GROUPS)]}, sight.project_id, sight.now_ms)
    found: Counter[tuple[Any, ...]] = Counter()
    for answer in deliveries.every(sight.store, asked, sight.now_ms):
        for row in answer["rows"]:
            found[tuple(row[name] for name in asked.group_by)] += row["lost"] + row["known_lost"]
    out = []
    for names, lost in found.most_common(MOST_GROUPS):
        if lost:
            group = dict(zip(asked.group_by, names))
            view = {"since": "24h", "group_by": ",".join(asked.group_by), "of": "deliveries"}
            text = words.gap(lost, group)
            out.append(Reading(words.scope(group), lost * PART, rule.threshold, text, view, {"group": group}))
    return out


def _labels(rule: Rule, sight: Sight) -> list[Reading]:
    """Of each label the day that came to be full last, within the last day: it may be an earlier one."""
    found = sight.store.look(lambda connection: room.filled(connection, sight.project_id, sight.now_ms - DAY_MS))
    out: dict[str, Reading] = {}
    for day, calls in found:
        if day.dimension not in out:
            group = {"label": day.dimension}
            text = words.full(day.dimension, period.day(day.start_ms), day.names, calls, day.service)
            view = {"since": "24h", "of": "deliveries"}
            out[day.dimension] = Reading(
                words.scope(group), calls * PART, rule.threshold, text, view, {"group": group, "service": day.service}
            )
    return list(out.values())


def _cost_per_call(rule: Rule, sight: Sight) -> list[Reading]:
    since, until = _last_day(sight.now_ms)
    before = {value: _per_call(sums) for value, sums in sight.sums(since - 7 * DAY_MS, since, "feature")}
    found = {}
    for feature, sums in sight.sums(since, until, "feature"):
        (cost, calls), (was, were) = _per_call(sums), before.get(feature, (0, 0))
        if was and min(calls, were) >= rule.min_calls:
            found[feature] = (cost * PART // was, was, cost)
    # Sums tell where to look. Whether it is more than chance, and what changed, single receipts tell.
    dearer = tuple(feature for feature, (ratio, _, _) in found.items() if ratio > rule.threshold)
    looked = {} if not dearer else _changes(sight, dearer, since, rule.min_calls)
    out = []
    for feature, (ratio, was, cost) in found.items():
        change = looked.get(feature)
        if change is not None and not change.sure:
            ratio = min(ratio, rule.threshold)
        group = {"feature": feature or None}
        out.append(
            Reading(
                words.scope(group),
                min(_HIGHEST, ratio),
                rule.threshold,
                words.dearer(feature, was, cost, _why(change)),
                _shown(since - 7 * DAY_MS, until, "day,model", feature=feature),
                {"group": group},
            )
        )
    return out


def _per_call(sums: Mapping[str, int]) -> tuple[int, int]:
    """What a call costs, and how many there were that have a price."""
    calls = sums["calls"] - sums["unpriced_calls"]
    return (sums["cost_nanousd"] // calls if calls else 0), calls


def _changes(sight: Sight, features: tuple[str, ...], since_ms: int, min_calls: int) -> dict[str, Change]:
    found = changes(sight.store, sight.project_id, since_ms, filters={"feature": features}, min_calls=min_calls)
    return {one.feature or "": one for one in found}


def _why(change: Change | None) -> str:
    """Which model or release most calls have now and had not before, and how sure it is."""
    if change is None:
        return "of the week before there are sums alone, which do not tell why"
    why = "neither model nor release changed for most calls"
    for what, (was, now) in (("release", change.releases), ("model", change.models)):
        if now and now != was:
            instead = f" instead of {words.name(was)}" if was else ""
            why = f"most calls now have {what} {words.name(now)}{instead}"
    if change.low_nanousd is None or change.high_nanousd is None or change.low_nanousd == change.high_nanousd:
        return why
    return f"{words.between(change.low_nanousd, change.high_nanousd)} a call with 95 % confidence; {why}"


READERS: Mapping[str, Callable[[Rule, Sight], list[Reading]]] = {
    "spend": _spend,
    "single_request": _single_request,
    "rate_spike": _rate_spike,
    "query": _query,
    "budget": _budget,
    "unpriced": _unpriced,
    "deliveries": _deliveries,
    "labels": _labels,
    "cost_per_call": _cost_per_call,
}
