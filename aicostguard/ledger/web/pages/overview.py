"""The first screen: what is spent, where it goes, what moved, what is left of budgets, and how much of it is known.

Owns which questions the screen asks and what follows from their answers by arithmetic (run rate, forecast). Every one
is answered from sums that were kept as receipts came in; only the few latest receipts are read themselves. A screen
that read all of them would take longer with every day.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Mapping, NamedTuple, Sequence
from zoneinfo import ZoneInfo

from starlette.responses import Response

from aicostguard.ledger import agents as tree
from aicostguard.ledger import comparing
from aicostguard.ledger.access.principal import ORGANISATION
from aicostguard.ledger.amounts import rounded
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DAY_MS, DIMENSIONS, PAIRS, TIMES
from aicostguard.ledger.web import stacked
from aicostguard.ledger.web.charts import spend
from aicostguard.ledger.web.charts.chart import Chart
from aicostguard.ledger.web.cut import cut, extremes
from aicostguard.ledger.web.pages import agents
from aicostguard.ledger.web.view import View

#: what spend may be stacked and broken down by, in the order of the buttons: known by the hour and by the day
CHOICES = tuple(name for name, one in DIMENSIONS.items() if one.hourly)
FIRST = "feature"
#: rows of the breakdown, unless the address says more; of what moved, up and down; of the other lists
ROWS, MOVED, FEW = 12, 5, 6
#: lines of the tree of agents
AGENTS = 10
#: names up to which one answer holds all of them: as many as the query path chooses before it adds up
ALL = 20
#: days whose mean is the run rate
RATE_DAYS = 7
#: parts of tokens: name, the whole it is a part of, the measure
TOKENS = (
    ("Input", "", "input_tokens"),
    ("read from a cache", "input_tokens", "cache_read_input_tokens"),
    ("written to a cache", "input_tokens", "cache_creation_input_tokens"),
    ("Output", "", "output_tokens"),
    ("reasoning", "output_tokens", "reasoning_output_tokens"),
)


class Pace(NamedTuple):
    """How fast money goes: nano-dollars a day, over so many days; and what the month comes to at that rate."""

    per_day: int | None
    days: float
    month: int | None


def show(view: View) -> Response:
    """The screen, or, before the first receipt, how to get one there."""
    if view.site.store.first_at(view.principal.project_id) is None:
        return view.show("welcome.html", url=_url(view))
    dimension = _dimension(view)
    month = view.costs(since="month", until=None, compare="previous", group_by=None, order=None, limit=None)
    today = view.costs(since="today", until=None, compare="previous", group_by=None, order=None, limit=None)
    whole = view.state.one("since", view.page.since) != "all"
    limit = view.state.one("limit", str(ROWS))
    # One answer for the table and for what moved, as long as there are not too many names for that.
    full = view.costs(
        group_by=dimension,
        compare="previous" if whole else None,
        order=_order(view, dimension, compared=whole),
        limit=str(max(int(limit), ALL)) if limit.isdecimal() and len(limit) < 6 else limit,
        latency=None,
        exact=None,
    )
    broken = cut(full, int(limit))
    budgets = sorted(view.budgets(), key=_by_exhaustion)
    chart, stack, time = _over_time(view, dimension, broken, budgets)
    return view.show(
        "overview.html",
        dimension=dimension,
        choices=CHOICES,
        month=month["totals"],
        today=today["totals"],
        totals=broken["totals"],
        answer=broken,
        pace=pace(view, month),
        chart=chart,
        drawing=stack,
        time=time,
        moved=_moved(view, dimension, full) if whole else None,
        budgets=budgets[:FEW],
        all_budgets=len(budgets),
        budget=_main(budgets),
        tokens=tokens(broken["totals"]),
        agents=_agents(view) if _of_sums(view, "parent_agent", "agent") else None,
        alerts=view.office.alerts({"state": "open", "limit": str(FEW)})["alerts"],
        latest=view.receipts(limit=str(ROWS), tz=view.tz)["receipts"] if not view.state.one("until") else [],
        sorts=(("cost", "Cost"), ("calls", "Calls"), ("tokens", "Tokens"), *((("change", "Change"),) if whole else ())),
    )


def _dimension(view: View) -> str:
    """What is broken down by: the first of `group_by` that is no time, which is what links of alerts bring."""
    named = [name for name in view.state.group_by if name not in TIMES]
    for name in named:
        if name not in DIMENSIONS:
            raise Refused(422, f"{name[:64]!a} cannot be grouped by; use {', '.join(DIMENSIONS)}", "group_by")
    return named[0] if named else FIRST


def _order(view: View, dimension: str, *, compared: bool) -> str:
    """The order of the breakdown. What an address asks for that does not apply here is as if it were not there."""
    asked = view.state.one("order", "-cost")
    name = asked.lstrip("-")
    if name in TIMES or (name == "change" and not compared) or (name in DIMENSIONS and name != dimension):
        return "-cost"
    return asked


def pace(view: View, month: Mapping[str, Any]) -> Pace:
    """The mean of the last full days, or of as many as there are; and the month so far with that for what is left."""
    tz = ZoneInfo(view.tz)
    now = datetime.fromtimestamp(view.now_ms / 1000, tz)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first_ms = view.site.store.first_at(view.principal.project_id) or view.now_ms
    since = max(midnight - timedelta(days=RATE_DAYS), datetime.fromtimestamp(first_ms / 1000, tz))
    until = midnight
    if since.replace(hour=0, minute=0, second=0, microsecond=0) >= midnight:
        since, until = midnight, now  # the first day: what there is of it
    given = {"order": None, "limit": None, "compare": None, "group_by": None}
    start, end = since.replace(hour=0, minute=0, second=0, microsecond=0), until
    # Until "now" would need single receipts; nothing lies behind it anyway.
    totals = view.costs(since=start.isoformat(), until=end.isoformat() if end == midnight else None, **given)["totals"]
    days = max((end - start) / timedelta(days=1), 1 / 24)
    cost = totals["cost_nanousd"]
    if cost is None:
        return Pace(None, days, None)
    milli = max(1, round(days * 1000))
    per_day = rounded(cost * 1000, milli)
    following = (midnight.replace(day=28) + timedelta(days=4)).replace(day=1)
    left = round((following - now) / timedelta(milliseconds=1))
    so_far = month["totals"]["cost_nanousd"]
    return Pace(per_day, days, None if so_far is None else so_far + rounded(per_day * left, DAY_MS))


def _over_time(
    view: View, dimension: str, broken: Mapping[str, Any], budgets: Sequence[Mapping[str, Any]]
) -> tuple[Chart, stacked.Stack, str]:
    """Spend by time, the dearest values each for itself: to be drawn by the browser, or by this page alone.

    Two questions, so that no limit cuts a day in half and their answers stay small, however many names there are.
    """
    span = datetime.fromisoformat(broken["until"]) - datetime.fromisoformat(broken["since"])
    lengths = ((timedelta(days=2), "hour"), (timedelta(days=92), "day"), (timedelta(days=800), "week"))
    time = next((word for longest, word in lengths if span <= longest), "month")
    dearest = sorted(broken["rows"], key=lambda row: -(row["cost_nanousd"] or 0))[: stacked.SERIES]
    names = [row[dimension] for row in dearest if row["cost_nanousd"]]
    given = {"order": None, "limit": "10000", "compare": None, "latency": None, "exact": None}
    whole = view.costs(group_by=time, **given)
    # Of nothing that has a price there is nothing to tell apart.
    only = {dimension: tuple(name or "" for name in names)}
    parts = view.costs(group_by=f"{time},{dimension}", **{**given, **only}) if names else {**whole, "rows": []}
    line = None if view.state.filters else limit_of(budgets, time)
    others = len(broken["rows"]) + (broken["other"]["groups"] if broken["other"] else 0) - len(names)
    drawn = spend.spend(
        {**parts, "group_by": [time, dimension], "totals": broken["totals"], "other": None},
        lines=[spend.Line(line[0], line[1])] if line else [],
        most=stacked.SERIES + 1,
        title=f"Spend by {time} and {dimension.replace('_', ' ')}",
        rest=_rest(time, whole["rows"], parts["rows"]),
        others=others,
    )
    stack = stacked.stack(time, dimension, names, whole["rows"], parts["rows"], line[1] if line else None)
    return drawn, stack, time


def _rest(time: str, whole: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is left of each stretch of time when the named values are taken away; nothing where nothing is."""
    counted = ("calls", "unpriced_calls", "estimated_calls")
    named: dict[str, list[Mapping[str, Any]]] = {}
    for row in parts:
        named.setdefault(row[time], []).append(row)
    out = []
    for row in whole:
        mine = named.get(row[time], ())
        left = {name: row[name] - sum(part[name] for part in mine) for name in counted}
        cost = (row["cost_nanousd"] or 0) - sum(part["cost_nanousd"] or 0 for part in mine)
        if left["calls"]:
            known = left["unpriced_calls"] < left["calls"]
            out.append({time: row[time], **left, "cost_nanousd": cost if known else None})
    return out


def limit_of(budgets: Sequence[Mapping[str, Any]], time: str) -> tuple[str, int] | None:
    """`(name, what one column may cost)` by a budget that holds for everything for so long; None without one."""
    for budget in budgets:
        whole = not budget["per"] and not budget["match"] and "limit_usd" in budget
        if budget.get("reach") == ORGANISATION:  # the columns are this project's part
            continue
        if whole and budget["period"] == time:
            return budget["name"], int(Decimal(budget["limit_usd"]) * 10**9)
    return None


def _moved(view: View, dimension: str, full: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What costs most more, and most less, than in the period before."""
    found = extremes(full, MOVED)
    if found is not None:
        return {"up": found[0], "down": found[1]}
    given = {"group_by": dimension, "compare": "previous", "limit": str(MOVED), "latency": None, "exact": None}
    up = view.costs(order="-change", **given)["rows"]
    down = view.costs(order="change", **given)["rows"]
    return {
        "up": [row for row in up if (row["change_nanousd"] or 0) > 0],
        "down": [row for row in down if (row["change_nanousd"] or 0) < 0],
    }


def _by_exhaustion(budget: Mapping[str, Any]) -> tuple[bool, str, float]:
    """The one that is gone first comes first; of those that last, the fullest."""
    gone = soonest(budget)
    return gone is None, gone or "", -fullest(budget)


def soonest(budget: Mapping[str, Any]) -> str | None:
    """When the first of a budget's scopes has nothing left; one that has nothing left comes before all."""
    if any(scope["state"] == "exceeded" for scope in budget["scopes"]):
        return "0"
    return min((scope["exhausted_at"] for scope in budget["scopes"] if scope["exhausted_at"]), default=None)


def fullest(budget: Mapping[str, Any]) -> float:
    return max((float(scope["utilization"]) for scope in budget["scopes"]), default=0.0)


def _main(budgets: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The budget that the tile tells of: of those for everything the longest, else the fullest."""
    everything = [one for one in budgets if not one["per"] and not one["match"] and one["scopes"]]
    for length in ("month", "week", "day", "total"):
        for one in everything:
            if one["period"] == length:
                return one
    with_scopes = [one for one in budgets if one["scopes"]]
    return max(with_scopes, key=fullest, default=None)


def tokens(totals: Mapping[str, Any]) -> list[tuple[str, int, int | None]]:
    """`(class, tokens, tokens it is a part of)`, without those that never occurred."""
    return [
        (name, totals[measure], totals[whole] if whole else None)
        for name, whole, measure in TOKENS
        if measure in totals and (totals[measure] or not whole)
    ]


def _of_sums(view: View, *dimensions: str) -> bool:
    """Whether a list that nobody asked for can be had without reading receipts: by the filters that there are."""
    asked = {*dimensions, *(one.name for one in view.state.filters)}
    return len(asked) == 1 or any(asked == set(pair) for pair in PAIRS)


def _agents(view: View) -> tuple[list[Mapping[str, Any]], int]:
    """The dearest lines of the tree of agents, in its order, and how many more there are."""
    lines = agents.found(view)["agents"]
    return tree.dearest(lines, AGENTS), max(0, len(lines) - AGENTS)


def quality(view: View) -> Response:
    """A part of the screen that is fetched once the rest stands: it looks at every score of the period."""
    found, lacking = _quality(view) if _of_sums(view, "model") else (None, None)
    return view.show("quality.html", quality=found, lacking=lacking)


def _quality(view: View) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Models that somebody has scored, the dearest first; and receipts whose scores are in none of these."""
    asked = view.asked(group_by=None, order=None, compare=None, latency=None, exact=None, limit="100")
    found = comparing.compare(view.site.store, asked, view.principal.project_id, view.now_ms)
    return [model for model in found["models"] if model["quality"]][:FEW], found["quality_archived"]


def _url(view: View) -> str:
    """Where programs send receipts: as this browser calls the ledger."""
    return str(view.request.base_url).rstrip("/")
