"""Models beside each other: what they cost, how fast and good they are, and what the same traffic would cost elsewhere.

Owns the comparison, the what-if and the question whether a call of a feature has become dearer. Money is exact; means
of quality and of cost per call come with the interval in which the true one lies with 95 % confidence (Student's t, for
a difference Welch's), or without one where two numbers are too few. What has no price on either side is counted and
named, and is in no saving.
"""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple, Sequence

from aicostguard import pricing
from aicostguard.ledger import query
from aicostguard.ledger.amounts import rounded, usd
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DAY_MS, Query
from aicostguard.ledger.scores import Quality, student
from aicostguard.ledger.sqlite import SqliteStore, scored
from aicostguard.ledger.sqlite.scored import Side
from aicostguard.pricing import PriceBook

#: parameter → what it means, beside those of a cost query that choose receipts
PARAMETERS: Mapping[str, str] = {
    **{name: query.PARAMETERS[name] for name in ("since", "until", "tz", "limit", "exact")},
    "score": "Only scores of this name.",
    "baseline": "What the same traffic would have cost on this model: MODEL, or PROVIDER/MODEL where several have it.",
}
#: receipts that one what-if prices again: more would keep a request for too long
MOST_PRICED = 300_000
#: what belongs to a provider and means nothing, or something else, at another
_OF_PROVIDER = ("service_tier", "region", "reported_cost_nanousd")

Parameters = Mapping[str, Sequence[str]]


def compare(store: SqliteStore, parameters: Parameters, project_id: int, now_ms: int) -> dict[str, Any]:
    """What `GET /v1/compare` says: `{since, until, tz, models: [...], baseline, archived, quality_archived}`.

    Raises `Refused` (422).
    """
    for name in parameters:
        if name in ("group_by", "order", "compare", "latency"):
            raise Refused(422, "does not apply to a comparison, which is by model", name)
    own = {name: list(parameters.get(name, ())) for name in ("score", "baseline")}
    for name, given in own.items():
        if len(given) > 1:
            raise Refused(422, "may be given once", name)
    rest = {name: value for name, value in parameters.items() if name not in own}
    asked = query.parse({**rest, "group_by": ["model"], "latency": ["1"]}, project_id, now_ms)
    answer = query.run(store, asked)
    score = own["score"][0] if own["score"] else ""
    found = store.look(lambda connection: scored.qualities(connection, _within(asked), score))
    saved = whatif(store, _within(asked), own["baseline"][0]) if own["baseline"] and own["baseline"][0] else None
    rows = {row["model"]: row for row in answer["rows"]}
    # A model may have been scored by runs alone: it is compared, too. One that the limit cut off is none of those.
    called = set(rows) if answer["other"] is None else _called(store, asked)
    names = [*rows, *sorted({model for model, _ in found} - called)]
    return {
        "since": answer["since"],
        "until": answer["until"],
        "tz": answer["tz"],
        "models": [_model(name, rows.get(name), found, saved) for name in names],
        "more_models": answer["other"]["groups"] if answer["other"] else 0,
        "baseline": None if saved is None else _told(saved),
        # What the same traffic would cost elsewhere, only its receipts tell.
        "archived": answer["archived"] if saved is None else query.archived(store, _within(asked), raw=True),
        "quality_archived": _unjoined(store, asked, score),
    }


def _unjoined(store: SqliteStore, asked: Query, score: str) -> dict[str, Any] | None:
    """Receipts by which scores of the period would be joined to models, and which are no longer here."""
    known = store.look(lambda connection: scored.of_receipts(connection, asked.project_id, score))
    return query.archived(store, _within(asked), raw=True) if known else None


def _called(store: SqliteStore, asked: Query) -> set[str]:
    """All models that served a call."""
    every = _within(asked)._replace(limit=query.MAX_LIMIT, latency="")
    return {values[0] for values, _ in store.costs(every).rows}


def _within(asked: Query) -> Query:
    return asked._replace(since_ms=min(asked.since_ms, asked.until_ms))


def _model(
    name: str, row: Mapping[str, Any] | None, found: Mapping[tuple[str, str], Quality], saved: WhatIf | None
) -> dict[str, Any]:
    qualities = {score: one for (model, score), one in found.items() if model == name}
    first = next(iter(qualities.values()), None)
    tokens = row["input_tokens"] + row["output_tokens"] if row else 0
    cost = row["cost_nanousd"] if row else None
    told = {
        "model": name,
        **{key: row[key] if row else 0 for key in ("calls", "unpriced_calls", "estimated_calls")},
        "tokens": tokens,
        "cost_usd": row["cost_usd"] if row else None,
        "cost_nanousd": cost,
        "cost_per_call_usd": row["cost_per_call_usd"] if row else None,
        # Of priced and unpriced calls' tokens together a quotient would be too low: then it is unknown.
        "cost_per_token_usd": _per_token(cost, tokens) if row and not row["unpriced_calls"] else None,
        **{key: row[key] if row else None for key in ("latency_avg_ms", "latency_p50_ms", "latency_p95_ms")},
        "approximate": row["approximate"] if row else False,
        "avg_quality": first.mean if first and len(qualities) == 1 else None,
        "quality": {score: one._asdict() for score, one in qualities.items()},
    }
    if saved is not None:
        part = saved.models.get(name)
        told["on_baseline"] = None if part is None else _part(part)
    return told


def _per_token(cost: int | None, tokens: int) -> str | None:
    """Dollars a token as a decimal to the femto-dollar; None where there is nothing to divide by."""
    if cost is None or not tokens:
        return None
    femto = rounded(cost * 10**6, tokens)
    whole, part = divmod(femto, 10**15)
    return f"{whole}.{part:015d}".rstrip("0").rstrip(".")


class Part(NamedTuple):
    """Some traffic priced again. `actual` and `there` are of the calls that have a price on both sides."""

    calls: int
    actual_nanousd: int
    there_nanousd: int
    #: calls that cannot be compared, by why
    left_out: dict[str, int]


class WhatIf(NamedTuple):
    """The same traffic on another model, in all and by the model that did serve it."""

    provider: str
    model: str
    whole: Part
    models: dict[str, Part]


def whatif(store: SqliteStore, asked: Query, name: str) -> WhatIf:
    """What the query's receipts would cost on a model, the same tokens assumed. Raises `Refused` (422)."""
    book = store.book or pricing.default_book()
    provider, model = _named(book, name)
    calls = store.costs(asked._replace(group_by=(), before=None, latency="")).totals["calls"]
    if calls > MOST_PRICED:
        raise Refused(
            422,
            f"would price {calls} receipts again, more than {MOST_PRICED}: take a shorter period, or filters",
            "baseline",
        )

    def price(connection: Any) -> dict[str, Part]:
        models: dict[str, Part] = {}
        for page in scored.traffic(connection, asked):
            for receipt, at_ms, cost in page:
                was = models.get(receipt["model"], Part(0, 0, 0, {}))
                models[receipt["model"]] = _added(was, cost, _there(book, receipt, at_ms, provider, model))
        return models

    models = store.look(price)
    left_out: dict[str, int] = {}
    for part in models.values():
        for why, number in part.left_out.items():
            left_out[why] = left_out.get(why, 0) + number
    counted = [sum(column) for column in zip(*(part[:3] for part in models.values()))] or [0, 0, 0]
    return WhatIf(provider, model, Part(counted[0], counted[1], counted[2], left_out), models)


def _named(book: PriceBook, name: str) -> tuple[str, str]:
    provider, slash, model = name.partition("/")
    if slash and book.find(provider, model) is not None:
        return provider, model
    owner = book.owner(name)
    if owner is None:
        raise Refused(
            422,
            f"{name[:80]!a} has no price, or several providers have it: use PROVIDER/MODEL of the price table",
            "baseline",
        )
    return owner, name


def _there(book: PriceBook, receipt: Mapping[str, Any], at_ms: int, provider: str, model: str) -> pricing.Price:
    moved = {**receipt, "provider": provider, "model": model}
    if receipt["provider"] != provider:
        for key in _OF_PROVIDER:
            moved.pop(key, None)
    return book.cost(moved, at_ms)


def _added(part: Part, cost: int | None, there: pricing.Price) -> Part:
    if cost is None or there.cost_nanousd is None:
        why = "no price today" if cost is None else there.reason or "no price there"
        return part._replace(left_out={**part.left_out, why: part.left_out.get(why, 0) + 1})
    return Part(part.calls + 1, part.actual_nanousd + cost, part.there_nanousd + there.cost_nanousd, part.left_out)


def _told(found: WhatIf) -> dict[str, Any]:
    return {"provider": found.provider, "model": found.model, "assumes": "the same tokens", **_part(found.whole)}


def _part(part: Part) -> dict[str, Any]:
    saved = part.there_nanousd - part.actual_nanousd
    return {
        "calls": part.calls,
        "cost_usd": usd(part.actual_nanousd),
        "cost_there_usd": usd(part.there_nanousd),
        "saved_nanousd": saved,
        "saved_usd": usd(saved),
        "calls_left_out": sum(part.left_out.values()),
        "left_out": dict(sorted(part.left_out.items())),
    }


def flat(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models of a comparison as plain rows, each score's mean and interval in columns of its own."""
    rows = []
    for told in answer["models"]:
        row = {name: value for name, value in told.items() if name not in ("quality", "on_baseline")}
        for score, one in told["quality"].items():
            row.update({f"{score}_{name}": one[name] for name in ("mean", "low", "high", "scores")})
        if told.get("on_baseline"):
            row.update(
                {name: told["on_baseline"][name] for name in ("cost_there_usd", "saved_nanousd", "calls_left_out")}
            )
        rows.append(row)
    return rows


class Change(NamedTuple):
    """What a priced call of a feature costs before and after a moment, in nano-dollars.

    `low` and `high` bound the difference with 95 % confidence; None where a side has fewer than two calls. `sure` says
    that it is above or below nothing. `models` and `releases` are what served most calls, before and after.
    """

    feature: str | None
    calls_before: int
    calls_after: int
    before_nanousd: int
    after_nanousd: int
    low_nanousd: int | None
    high_nanousd: int | None
    sure: bool
    models: tuple[str, str]
    releases: tuple[str, str]

    @property
    def ratio(self) -> float | None:
        return self.after_nanousd / self.before_nanousd if self.before_nanousd else None


def changes(
    store: SqliteStore,
    project_id: int,
    moment_ms: int,
    *,
    window_ms: int = 7 * DAY_MS,
    filters: Mapping[str, tuple[str, ...]] = {},
    min_calls: int = 1,
) -> list[Change]:
    """What a call of each feature costs within a window after a moment and before it; the largest growth first.

    The moment is when a release went out or a model was changed. Features with fewer priced calls on either side than
    `min_calls` are left out. Reads the receipts of both windows.
    """
    asked = Query(project_id, moment_ms - window_ms, moment_ms + window_ms, filters=filters)
    found: dict[str, tuple[list[Side], list[Side]]] = {}
    for side in store.look(lambda connection: scored.sides(connection, asked, moment_ms)):
        found.setdefault(side.feature, ([], []))[side.after].append(side)
    made = [_change(feature, *both) for feature, both in found.items() if all(both)]
    kept = [one for one in made if min(one.calls_before, one.calls_after) >= max(1, min_calls)]
    return sorted(kept, key=lambda one: (one.before_nanousd - one.after_nanousd, one.feature or ""))


def _change(feature: str, before: Sequence[Side], after: Sequence[Side]) -> Change:
    sides = [_mean(before), _mean(after)]
    (n, was, v), (m, now, w) = sides
    low = high = None
    if n > 1 and m > 1:
        error = v / n + w / m
        freedom = error**2 / ((v / n) ** 2 / (n - 1) + (w / m) ** 2 / (m - 1)) if error else math.inf
        half = student(freedom) * math.sqrt(error) if error else 0.0
        low, high = (round((now - was + sign * half) * 10**9) for sign in (-1, 1))
    costs = [rounded(sum(one.cost_nanousd for one in part), sum(one.calls for one in part)) for part in (before, after)]
    sure = low is not None and high is not None and (low > 0 or high < 0)
    models, releases = ((_most(before, name), _most(after, name)) for name in ("model", "release"))
    return Change(feature or None, n, m, costs[0], costs[1], low, high, sure, models, releases)


def _mean(part: Sequence[Side]) -> tuple[int, float, float]:
    """How many calls, their mean cost in dollars, and its variance."""
    calls = sum(one.calls for one in part)
    mean = sum(one.cost_nanousd for one in part) / 1e9 / calls
    squares = sum(one.squares for one in part)
    # Of equal costs rounding leaves a trace of nothing: that is no variance.
    variance = squares - calls * mean * mean
    return calls, mean, variance / (calls - 1) if calls > 1 and variance > 1e-12 * squares else 0.0


def _most(part: Sequence[Side], name: str) -> str:
    counts: dict[str, int] = {}
    for one in part:
        value = getattr(one, name)
        counts[value] = counts.get(value, 0) + one.calls
    return max(sorted(counts), key=counts.__getitem__)
