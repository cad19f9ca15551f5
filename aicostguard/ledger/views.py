"""Questions with a name: each the same query path with its parameters set, in the shape it is known by.

Owns these shapes. Money in them is a number of dollars, rounded as each says, because that is what their readers
expect; the exact amounts are in `query`. Null where not one call of a row has a price.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from aicostguard.ledger import comparing, period, query
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DAY_MS, HOUR_MS
from aicostguard.ledger.query import Parameters
from aicostguard.ledger.sqlite import SqliteStore

_MOST = str(query.MAX_LIMIT)
_ALL = 2**31


class Asker:
    """Asks the query path for one project at one moment."""

    def __init__(self, store: SqliteStore, project_id: int, now_ms: int) -> None:
        self._store, self._project_id, self.now_ms = store, project_id, now_ms

    def __call__(self, **parameters: str | Sequence[str]) -> dict[str, Any]:
        given = {name: [value] if isinstance(value, str) else value for name, value in parameters.items()}
        return _whole(query.run(self._store, query.parse(given, self._project_id, self.now_ms)))

    def every(self, **parameters: str) -> list[dict[str, Any]]:
        """The rows of an answer, all of them: of each day and model there may be more than one page of rows holds."""
        asked = query.parse({name: [value] for name, value in parameters.items()}, self._project_id, self.now_ms)
        rows: list[dict[str, Any]] = _whole(query.run(self._store, asked._replace(limit=_ALL)))["rows"]
        return rows

    def compare(self, **parameters: str) -> dict[str, Any]:
        """Models beside each other."""
        given = {name: [value] for name, value in parameters.items()}
        return _whole(comparing.compare(self._store, given, self._project_id, self.now_ms))

    def iso(self, at_ms: int) -> str:
        """A moment as `since` takes it."""
        return datetime.fromtimestamp(at_ms / 1000, timezone.utc).isoformat()


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, if nothing of it is archived: these shapes have no place to say so. Raises `Refused` (422)."""
    gone = answer["archived"] or answer.get("quality_archived")
    if gone:
        raise Refused(
            422,
            f"up to {gone['receipts']} receipts of {gone['first_day']} to {gone['last_day']} are archived, and only "
            "they tell this: ask for a shorter time, or for UTC, or bring them back (aicg archive restore); GET "
            "/v1/costs answers without them, and says so",
        )
    return answer


def dollars(row: Mapping[str, Any], digits: int, per: int = 1) -> float | None:
    """A row's cost, as a number for people."""
    return None if row["cost_nanousd"] is None else round(row["cost_nanousd"] / 10**9 / per, digits)


def costs_today(ask: Asker) -> dict[str, Any]:
    """The UTC day so far, by model: `{date, total_usd, models: [{model, calls, cost, avg_latency_ms}]}`."""
    answer = ask(since="today", group_by="model", limit=_MOST)
    return {
        "date": "today",
        "total_usd": dollars(answer["totals"], 2),
        "models": [
            {
                "model": row["model"],
                "calls": row["calls"],
                "cost": dollars(row, 4),
                "avg_latency_ms": row["latency_avg_ms"],
            }
            for row in answer["rows"]
        ],
    }


def feature_costs(ask: Asker, days: int) -> list[dict[str, Any]]:
    """The last days to the moment, by feature: `[{feature, calls, cost}]`, the dearest first."""
    since = ask.iso(ask.now_ms - days * DAY_MS)
    answer = ask(since=since, group_by="feature", limit=_MOST)
    return [{"feature": row["feature"], "calls": row["calls"], "cost": dollars(row, 4)} for row in answer["rows"]]


def daily_spend_by_model(ask: Asker, days: int, tz: str) -> list[dict[str, Any]]:
    """`[{date, model, total_cost, total_tokens, request_count}]`, the latest day first, the dearest model first."""
    return [
        {
            "date": row["day"],
            "model": row["model"],
            "total_cost": dollars(row, 9),
            "total_tokens": row["input_tokens"] + row["output_tokens"],
            "request_count": row["calls"],
        }
        for row in ask.every(since=f"{days}d", group_by="day,model", order="-day", tz=tz)
    ]


def cost_per_user(ask: Asker, days: int, tz: str) -> list[dict[str, Any]]:
    """`[{user_id, total_cost, requests, avg_cost_per_request}]`, the twenty dearest."""
    answer = ask(since=f"{days}d", group_by="user", tz=tz, limit="20")
    return [
        {
            "user_id": row["user"],
            "total_cost": dollars(row, 9),
            "requests": row["calls"],
            "avg_cost_per_request": None if row["cost_per_call_usd"] is None else float(row["cost_per_call_usd"]),
        }
        for row in answer["rows"]
    ]


def cost_by_feature(ask: Asker, days: int, tz: str) -> list[dict[str, Any]]:
    """`[{feature, total_cost, daily_avg}]`: the average is over the days on which the feature was used."""
    used: dict[str | None, set[str]] = {}
    for row in ask.every(since=f"{days}d", group_by="day,feature", tz=tz):
        used.setdefault(row["feature"], set()).add(row["day"])
    return [
        {
            "feature": row["feature"],
            "total_cost": dollars(row, 9),
            "daily_avg": dollars(row, 9, max(1, len(used.get(row["feature"], ())))),
        }
        for row in ask(since=f"{days}d", group_by="feature", tz=tz, limit=_MOST)["rows"]
    ]


def day(ask: Asker, date: str) -> tuple[str, str]:
    """Where a UTC day begins and ends. Raises `Refused` (422)."""
    if date not in ("today", "yesterday") and not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        raise Refused(422, f"{date[:64]!a} is not today, yesterday or a date like 2026-03-12", "date")
    since_ms = period.start(date, ask.now_ms, period.zone("UTC"), "date")
    return ask.iso(since_ms), ask.iso(since_ms + DAY_MS)


def daily_cost_by_model(ask: Asker, date: str) -> list[dict[str, Any]]:
    """One UTC day: `[{model, calls, total_in, total_out, total_cost}]`."""
    since, until = day(ask, date)
    return [
        {
            "model": row["model"],
            "calls": row["calls"],
            "total_in": row["input_tokens"],
            "total_out": row["output_tokens"],
            "total_cost": dollars(row, 9),
        }
        for row in ask(since=since, until=until, group_by="model", limit=_MOST)["rows"]
    ]


def features(ask: Asker, days: int) -> list[dict[str, Any]]:
    """The last days to the moment: `[{feature, calls, total_cost, avg_latency}]`."""
    since = ask.iso(ask.now_ms - days * DAY_MS)
    return [
        {
            "feature": row["feature"],
            "calls": row["calls"],
            "total_cost": dollars(row, 9),
            "avg_latency": row["latency_avg_ms"],
        }
        for row in ask(since=since, group_by="feature", limit=_MOST)["rows"]
    ]


def latency_percentiles(ask: Asker, model: str, hours: int) -> dict[str, int] | None:
    """Exact, of the last hours to the moment: `{p50, p95, p99, count}`; None without calls that tell a latency."""
    since = ask.iso(ask.now_ms - hours * HOUR_MS)
    totals = ask(since=since, model=model, exact="1")["totals"]
    if not totals["timed_calls"]:
        return None
    # Half a millisecond goes to the even one, as where these figures come from.
    return {
        **{name: round(totals[f"latency_{name}_ms"]) for name in ("p50", "p95", "p99")},
        "count": totals["timed_calls"],
    }


def spent_today(ask: Asker, limit: float) -> dict[str, Any]:
    """The UTC day so far: `{spent, limit, exceeded, unpriced_calls}`."""
    totals = ask(since="today")["totals"]
    spent = dollars(totals, 9) or 0.0
    return {"spent": spent, "limit": limit, "exceeded": spent > limit, "unpriced_calls": totals["unpriced_calls"]}


def compare_models(ask: Asker, days: int) -> list[dict[str, Any]]:
    """`[{model, avg_quality, cost_per_token}]`; null where there is no score, no token or no price."""
    answer = ask.compare(since=f"{days}d", limit=_MOST)
    return [
        {
            "model": row["model"],
            "avg_quality": row["avg_quality"],
            "cost_per_token": None if row["cost_per_token_usd"] is None else float(row["cost_per_token_usd"]),
        }
        for row in answer["models"]
    ]


class View(NamedTuple):
    """A question with a name: what makes its answer, and its parameters with their defaults."""

    make: Callable[..., Any]
    parameters: Mapping[str, Any]


VIEWS: Mapping[str, View] = {
    "daily_spend_by_model": View(daily_spend_by_model, {"days": 30, "tz": "UTC"}),
    "cost_per_user": View(cost_per_user, {"days": 30, "tz": "UTC"}),
    "cost_by_feature": View(cost_by_feature, {"days": 30, "tz": "UTC"}),
    "daily_cost_by_model": View(daily_cost_by_model, {"date": "today"}),
    "features": View(features, {"days": 7}),
    "latency_percentiles": View(latency_percentiles, {"model": None, "hours": 24}),
    "spent_today": View(spent_today, {"limit": 50.0}),
    "compare_models": View(compare_models, {"days": 30}),
    "costs_today": View(costs_today, {}),
    "feature_costs": View(feature_costs, {"days": 7}),
}
#: days and hours that may be asked for
_LONGEST = {"days": 400, "hours": 9_600}


def look(name: str, parameters: Parameters, ask: Asker) -> Any:
    """The answer of a view. Raises `Refused`: 404 for no such view, 422 naming the parameter."""
    view = VIEWS.get(name)
    if view is None:
        raise Refused(404, f"there is no view {name[:64]!a}; there are {', '.join(VIEWS)}", "name")
    for given in parameters:
        if given not in view.parameters:
            known = ", ".join(view.parameters) or "none"
            raise Refused(422, f"is not a parameter of this view; known: {known}", ascii(given[:64])[1:-1])
    return view.make(ask, **{key: _value(key, default, parameters) for key, default in view.parameters.items()})


def _value(name: str, default: Any, parameters: Parameters) -> Any:
    given = parameters.get(name) or ()
    if len(given) > 1:
        raise Refused(422, "may be given once", name)
    if not given or not given[0]:
        if default is None:
            raise Refused(422, "is required", name)
        return default
    text = given[0]
    if name in _LONGEST:
        most = _LONGEST[name]
        if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= most):
            raise Refused(422, f"must be an integer from 1 to {most}", name)
        return int(text)
    if isinstance(default, float):
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < 10**12:
            raise Refused(422, "must be an amount in dollars, 0 or more", name)
        return number
    return text
