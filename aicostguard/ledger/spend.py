"""What calls cost, for Prometheus, at `GET /v1/metrics`: counters of what came in, and what today and this month cost.

Owns names, labels and kinds of these metrics, and whose they are shown to. Two kinds, for one could not be right:

- Counters (`aicg_cost_dollars_total`, …) count what was taken in since a moment, and never go down (`sqlite.taken`):
  how fast money goes, from `rate` and `increase`. They know nothing of what is done to receipts later.
- Gauges (`aicg_today_…`, `aicg_month_…`) are what `GET /v1/costs` says of the UTC day and month, at this moment,
  repriced, forgotten and late ones included: how much it is. They fall with the day, so no rate is made of them. Each
  breakdown has a name of its own: the sum of a metric is never several times the money.

Money is integer nano-dollars in the ledger and the nearest double here, which is exact to the nano-dollar up to four
million dollars. Cost is left out where not one call has a price: unknown is no zero. How many series there are is
bounded, with the rest under `(other)`. Users, sessions and hosts are in no label.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from aicostguard.ledger import query
from aicostguard.ledger.access.door import Door
from aicostguard.ledger.access.places import Project
from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, Principal
from aicostguard.ledger.amounts import less, priced
from aicostguard.ledger.budgets import book, owner, rule, status
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.model import OTHER
from aicostguard.ledger.sqlite import SqliteStore, taken
from aicostguard.usage import INPUT_PARTS, OUTPUT_PARTS

#: seconds for which an answer is given again, and how many different ones are kept
FRESH_S, MOST_KEPT = 5.0, 32
#: names of a breakdown that stand by themselves, the dearest; and projects that are told of, the first made
TOP, MOST_PROJECTS = 50, 200
PERIODS = ("today", "month")
BREAKDOWNS = ("provider", "model", "feature", "team", "environment")
PLACE = ("organisation", "project")
#: measure that is counted by the call → what is said of it
_CALLS: Mapping[str, str] = {
    "calls": "Calls",
    "unpriced_calls": "Calls that no price is known of, and that are in no cost",
    "usage_missing_calls": "Calls whose provider told no usage",
    "estimated_calls": "Calls whose usage is estimated",
    "partial_calls": "Calls that ended early",
}
#: measure of tokens → the label `type`
_TOKENS = {"input_tokens": "input", "output_tokens": "output"}
#: part of those → the label `part`
PARTS = {name: name.removesuffix("_tokens") for name in (*INPUT_PARTS, *OUTPUT_PARTS)}
#: measure of what is billed otherwise → (the label `unit`, how many of the measure one of it is)
UNITS = {
    **{name: (name, 1) for name in taken.UNITS},
    "audio_ms": ("audio_seconds", 1000),
    "video_ms": ("video_seconds", 1000),
    "tool_calls_billed": ("tool_calls", 1),
    "requests_billed": ("requests", 1),
}
#: these are told where they are none, too, so that the first one can be seen to come
ALWAYS = {"calls", "unpriced_calls"}


class Spend(NamedTuple):
    """What is told of some projects, read at one time."""

    projects: Sequence[Project]
    #: how many there are beyond `MOST_PROJECTS`
    untold: int
    #: when counting began, and what was counted
    since: taken.Since | None
    rows: Sequence[taken.Row]
    #: (project, period, breakdown or "") → name → sums
    costs: Mapping[tuple[int, str, str], Mapping[str, Mapping[str, int]]]
    budgets: Sequence[tuple[Kept, Mapping[str, Any]]]


class Told:
    """The answers of one server. Safe from many threads; the same question within some seconds is asked once."""

    def __init__(self, store: SqliteStore, desk: Desk, door: Door, now_ms: Callable[[], int]) -> None:
        self._store, self._desk, self._door, self._now_ms = store, desk, door, now_ms
        self._turn = threading.Lock()
        self._kept: dict[object, tuple[float, CollectorRegistry]] = {}

    def registry(self, who: Principal, only: int | None = None) -> CollectorRegistry:
        """What somebody may read, of all projects or `only` of one, ready to be written as text."""
        projects = [project for project in self._door.readable(who) if only in (None, project.id)]
        owners = shared(who, projects)
        key = (tuple(projects), tuple(owners))
        with self._turn:  # one at a time: several that scrape at once are no reason to read everything twice
            at, kept = self._kept.get(key, (0.0, None))
            if kept is None or time.monotonic() - at >= FRESH_S:
                self._desk.catch_up()
                kept = CollectorRegistry()
                kept.register(_Families(read(self._store, projects, owners, self._now_ms())))
                if len(self._kept) >= MOST_KEPT:
                    self._kept.clear()
                self._kept[key] = (time.monotonic(), kept)
            return kept


def shared(who: Principal, projects: Iterable[Project]) -> list[int]:
    """The organisations, as owners, whose budgets somebody may look into."""
    every = sorted({-project.organisation_id for project in projects}, reverse=True)
    if who.may("read", LEDGER):
        return every
    return [one for one in every if who.may("read", ORGANISATION) and one == -who.organisation_id]


def read(
    store: SqliteStore,
    projects: Sequence[Project],
    owners: Sequence[int],
    now_ms: int,
    periods: Sequence[str] = PERIODS,
) -> Spend:
    """What is told of these projects, and of the budgets of these organisations. Begins to count, if nobody did."""
    counted(store, now_ms)
    untold, projects = max(0, len(projects) - MOST_PROJECTS), projects[:MOST_PROJECTS]
    numbers = [project.id for project in projects]
    since, rows = store.look(lambda connection: (taken.since(connection), taken.rows(connection, numbers)))
    costs = {
        (number, period, by): _costs(store, number, period, by, now_ms)
        for number in numbers
        for period in periods
        for by in ("", *BREAKDOWNS)
    }

    def budgets(connection: sqlite3.Connection) -> list[tuple[Kept, Mapping[str, Any]]]:
        found = [kept for one in (*numbers, *owners) for kept in book.of(connection, one)]
        return [(kept, status.one(connection, kept, now_ms)) for kept in found]

    return Spend(projects, untold, since, rows, costs, store.look(budgets))


def counted(store: SqliteStore, now_ms: int) -> None:
    """Count all that came in; from now on, if nobody has asked before."""
    if store.look(taken.since) is None:
        store.change(lambda connection: taken.begin(connection, now_ms))
    store.fold()


def _costs(store: SqliteStore, project_id: int, period: str, by: str, now_ms: int) -> dict[str, Mapping[str, int]]:
    """The dearest names of a breakdown and all others, as the query path has them; without one, the total."""
    asked = {"since": [period], "limit": [str(TOP)], **({"group_by": [by]} if by else {})}
    found = store.costs(query.parse(asked, project_id, now_ms))
    if not by:
        return {"": found.totals}
    out: dict[str, Mapping[str, int]] = {values[0]: sums for values, sums in found.rows}
    rest = less(found.totals, [sums for name, sums in out.items() if name != OTHER])
    out.pop(OTHER, None)
    return {**out, OTHER: rest} if rest["calls"] else out


class _Families:
    """The metrics of what was read."""

    def __init__(self, spend: Spend) -> None:
        self._families = list(families(spend))

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._families


def families(spend: Spend) -> Iterator[Metric]:
    """Every metric, with its samples."""
    places = {project.id: (project.organisation, project.name) for project in spend.projects}
    yield GaugeMetricFamily("aicg_projects_untold", f"Projects beyond the first {MOST_PROJECTS}.", spend.untold)
    yield from _counters(spend, places)
    for period in PERIODS:
        yield from _gauges(spend, places, period)
    yield from _budgets(spend, places)


def labelled(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels of a set as they are told: who says no operation has made a chat."""
    named = dict(zip(taken.LABELS, labels))
    return tuple({**named, "operation": named["operation"] or "chat"}.values())


def _counters(spend: Spend, places: Mapping[int, tuple[str, str]]) -> Iterator[Metric]:
    if spend.since is not None:
        began = "When the counters of this ledger began. Another time: a ledger that was restored."
        yield GaugeMetricFamily("aicg_counted_since_seconds", began, spend.since.since_ms / 1000)
    labels = (*PLACE, *taken.LABELS)
    at = [((*places[row.project_id], *labelled(row.labels)), row.sums) for row in spend.rows]
    cost = CounterMetricFamily("aicg_cost_dollars", "US dollars that calls cost as they came in.", labels=labels)
    for where, sums in at:
        if priced(sums) is not None:
            cost.add_metric(where, sums["cost_nanousd"] / 10**9)
    yield cost
    for name, says in _CALLS.items():
        family = CounterMetricFamily(f"aicg_{name}", f"{says}, as they came in.", labels=labels)
        for where, sums in at:
            if sums[name] or name in ALWAYS:
                family.add_metric(where, sums[name])
        yield family
    tokens = CounterMetricFamily("aicg_tokens", "Tokens, as they came in.", labels=(*labels, "type"))
    parts = CounterMetricFamily("aicg_token_parts", "Tokens that are part of those.", labels=(*labels, "part"))
    for family, names in ((tokens, _TOKENS), (parts, PARTS)):
        for where, sums in at:
            for measure, name in names.items():
                if sums[measure]:
                    family.add_metric((*where, name), sums[measure])
        yield family
    units = CounterMetricFamily("aicg_units", "What is billed by it, as it came in.", labels=(*labels, "unit"))
    for where, sums in at:
        for measure, (name, size) in UNITS.items():
            if sums[measure]:
                units.add_metric((*where, name), sums[measure] / size)
    yield units


def _gauges(spend: Spend, places: Mapping[int, tuple[str, str]], period: str) -> Iterator[Metric]:
    when = "today" if period == "today" else "this month"
    whole = {places[number]: told[""] for (number, of, by), told in spend.costs.items() if of == period and not by}
    cost = GaugeMetricFamily(f"aicg_{period}_cost_dollars", f"US dollars, {when} (UTC).", labels=PLACE)
    for where, sums in whole.items():
        if priced(sums) is not None:
            cost.add_metric(where, sums["cost_nanousd"] / 10**9)
    yield cost
    for name, says in {**_CALLS, "input_tokens": "Input tokens", "output_tokens": "Output tokens"}.items():
        family = GaugeMetricFamily(f"aicg_{period}_{name}", f"{says}, {when} (UTC).", labels=PLACE)
        for where, sums in whole.items():
            family.add_metric(where, sums[name])
        yield family
    for by in BREAKDOWNS:
        told = [
            ((*places[number], name), sums)
            for (number, of, each), found in spend.costs.items()
            if (of, each) == (period, by)
            for name, sums in found.items()
        ]
        cost = GaugeMetricFamily(
            f"aicg_{period}_{by}_cost_dollars", f"US dollars by {by}, {when} (UTC).", labels=(*PLACE, by)
        )
        lacking = GaugeMetricFamily(
            f"aicg_{period}_{by}_unpriced_calls", f"Calls without a price by {by}, {when}.", labels=(*PLACE, by)
        )
        for named, sums in told:
            if priced(sums) is not None:
                cost.add_metric(named, sums["cost_nanousd"] / 10**9)
            if sums["unpriced_calls"]:
                lacking.add_metric(named, sums["unpriced_calls"])
        yield from (cost, lacking)


def budgeted(spend: Spend) -> Iterator[tuple[Kept, dict[str, str], Mapping[str, Any]]]:
    """Every budget, where it stands, and its figures. One of an organisation has no project."""
    places = {project.id: (project.organisation, project.name) for project in spend.projects}
    organisations = {-project.organisation_id: project.organisation for project in spend.projects}
    for kept, told in spend.budgets:
        place = (organisations[kept.owner], "") if kept.shared else places[kept.owner]
        about = {"budget": kept.name, "period": kept.budget.period, "reach": owner.reach(kept.owner)}
        yield kept, {**dict(zip(PLACE, place)), **about}, told


#: unit of a budget → how it ends a metric's name
BUDGETED = {unit: limit.removeprefix("limit_").replace("usd", "dollars") for unit, limit in rule.LIMITS.items()}


def _budgets(spend: Spend, places: Mapping[int, tuple[str, str]]) -> Iterator[Metric]:
    labels = (*PLACE, "budget", "period", "reach")
    made = {
        (name, unit): GaugeMetricFamily(f"aicg_budget_{name}_{unit}", f"{says} In {unit}.", labels=labels)
        for unit in BUDGETED.values()
        for name, says in (
            ("limit", "The limit of a budget; of one per user and the like, that of each."),
            ("spent", "What is spent of it in the present period."),
        )
    }
    states = GaugeMetricFamily(
        "aicg_budget_scopes",
        f"Users and the like that a budget is kept for, of the {status.SCOPES} fullest, by state; 1 in all for others.",
        labels=(*labels, "state"),
    )
    for kept, named, told in budgeted(spend):
        where, unit = tuple(named.values()), BUDGETED[kept.budget.unit]
        made["limit", unit].add_metric(where, told["limit"])
        if "spent" in told:
            made["spent", unit].add_metric(where, told["spent"])
        counts = Counter(row["state"] for row in told["scopes"])
        for state in ("ok", "warning", "exceeded"):
            states.add_metric((*where, state), counts[state])
    yield from made.values()
    yield states
