"""Models beside each other: how fast they answer, and how good they are for what they cost.

Owns the drawing of intervals. A point without one is drawn as a point alone; a model that lacks one of the two figures
is named, not drawn at zero.
"""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple

from aicostguard.ledger.web import words
from aicostguard.ledger.web.charts import theme
from aicostguard.ledger.web.charts.bars import names
from aicostguard.ledger.web.charts.chart import (
    Chart,
    amount,
    clipped,
    decades,
    go,
    haloed,
    label,
    made,
    money_axis,
    nominal,
    several,
    tips,
)

MOST = 15
STEP = 30
#: percentile → colour: the tail is the one to look at
PERCENTILES = {"p50": theme.PALETTE[0], "p95": theme.PALETTE[1], "p99": theme.PALETTE[3]}
#: beyond that, lengths are drawn by their logarithm
_WIDE = 40
_DURATION = "datum.value >= 1000 ? format(datum.value / 1000, '~g') + ' s' : format(datum.value, '~g') + ' ms'"
MEASURED = {"latency": ("Latency", "timed_calls"), "ttft": ("Time to first token", "first_token_calls")}


class Price(NamedTuple):
    """What quality is held against: how it is called, the key of a model's row, and by what it is multiplied."""

    says: str
    key: str
    times: int


PRICES: Mapping[str, Price] = {
    "call": Price("Cost of a call", "cost_per_call_usd", 1),
    "token": Price("Cost of a million tokens", "cost_per_token_usd", 1_000_000),
}


def latency(answer: Mapping[str, Any], *, of: str = "latency", most: int = MOST, title: str = "") -> Chart:
    """The percentiles of an answer that was asked with `latency=1` or `exact=1`."""
    by = answer["group_by"]
    named, counted = MEASURED[of]
    told = [row for row in answer["rows"] if row[f"{of}_p50_ms"] is not None]
    told.sort(key=lambda row: -row["calls"])
    values, spans = [], []
    for place, row in enumerate(told[:most]):
        times = {name: row[f"{of}_{name}_ms"] for name in PERCENTILES}
        common = {"n": label(row, by), "k": place, "go": go(row, by), "calls": f"{row[counted]:,}"}
        spans.append({**common, "low": max(times["p50"], 0.1), "high": max(times["p99"], 0.1)})
        near = "≈ " if row["approximate"] else ""
        values += [
            {**common, "p": name, "ms": max(ms, 0.1), "time": f"{near}{ms:,.1f} ms ({words.milliseconds(ms)})"}
            for name, ms in times.items()
        ]
    sizes = [row["ms"] for row in values] or [1]
    wide = max(sizes) / min(sizes) > _WIDE
    scale = {"type": "log", "nice": True} if wide else {"type": "linear", "domainMin": 0, "nice": True}
    axis: dict[str, Any] = {"labelExpr": _DURATION, "title": None, "tickCount": 6}
    if wide:
        axis["values"] = decades(min(sizes), max(sizes))
    body = {
        "height": {"step": STEP},
        "encoding": {"y": names(values)},
        "layer": [
            {
                "data": {"values": spans},
                "mark": {"type": "rule", "strokeWidth": 4, "strokeCap": "round", "opacity": 0.35, "color": theme.OTHER},
                "encoding": {"x": amount("low"), "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 95, "opacity": 1, "cursor": "pointer"},
                "encoding": {
                    "x": amount("ms", scale=scale, axis=axis),
                    "color": nominal("p", scale={"domain": list(PERCENTILES), "range": list(PERCENTILES.values())}),
                    "tooltip": tips(n=" · ".join(by).capitalize(), p="Percentile", time=named, calls="Calls"),
                },
            },
        ],
    }
    notes = [
        several(len(told) - most, "with fewer calls is not drawn", "with fewer calls are not drawn"),
        several(len(answer["rows"]) - len(told), "tells no such time", "tell no such time"),
        "Lengths are drawn by their logarithm." if wide else "",
    ]
    says = "; ".join(
        f"{label(row, by)} p50 {words.milliseconds(row[f'{of}_p50_ms'])}, p99 {words.milliseconds(row[f'{of}_p99_ms'])}"
        for row in told[:5]
    )
    title = title or f"{named} by {' and '.join(by)}"
    none = ("No call here tells this time.",)
    return made(title, f"{says}.", values, body, notes=notes if values else none, click=True)


def quality(answer: Mapping[str, Any], score: str = "", *, per: str = "call", most: int = 40, title: str = "") -> Chart:
    """Of `GET /v1/compare`: a point for each model, with the interval in which its true mean of `score` lies."""
    score = score or next(iter(scores(answer)), "")
    price = PRICES[per]
    values, missing = [], []
    for model in answer["models"]:
        found, cost = model["quality"].get(score), model[price.key]
        if found is None or cost is None:
            if found is not None or model["calls"]:
                missing.append(model["model"])
            continue
        amount_usd = float(cost) * price.times
        row = {
            "n": label(model, ["model"]),
            "go": go(model, ["model"]),
            "c": amount_usd,
            "q": found["mean"],
            "cost": f"${cost}" + ("" if price.times == 1 else " a token"),
            "mean": f"{found['mean']:.4g}",
            "scores": f"{found['scores']:,}",
            "range": "one score has none",
        }
        if found["low"] is not None:
            row.update(low=found["low"], high=found["high"], range=f"{found['low']:.4g} to {found['high']:.4g}")
        values.append(row)
    values = values[:most]
    costs = [row["c"] for row in values]
    wide = bool(costs) and min(costs) > 0 and max(costs) / min(costs) > _WIDE
    axis = money_axis(max(costs, default=0.0), title=price.says)
    if wide:
        axis["values"] = decades(min(costs), max(costs))
    for row in values:
        row["right"] = int(_along(row["c"], costs, wide) > 0.6)
    models = [row["n"] for row in values]
    scale = {"type": "log", "nice": True} if wide else {"zero": True, "nice": True}
    colour = nominal("n", scale={"domain": models, "range": theme.colours(models)}, legend=None)
    x = amount("c", scale=scale, axis=axis)
    y = {"title": score, "scale": {"zero": False, "nice": True, "padding": 12}}
    body = {
        "height": 320,
        "encoding": {"x": x, "color": colour},
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55},
                "encoding": {"y": amount("low", **y), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1, "cursor": "pointer"},
                "encoding": {
                    "y": amount("q", **y),
                    "tooltip": tips(
                        n="Model", mean=score or "Score", range="95 % within", scores="Scores", cost=price.says
                    ),
                },
            },
            *(
                {**layer, "transform": [{"filter": f"datum.right === {right}"}]}
                for right, place in enumerate(({"align": "left", "dx": 9}, {"align": "right", "dx": -9}))
                for layer in haloed(
                    {"y": amount("q", **y), "text": nominal("n"), "color": None},
                    **place,
                    dy=-8,
                    limit=150,
                    style="quiet",
                )
            ),
        ],
    }
    notes = [
        f"Without a score or a price, and so not drawn: {_listed(missing)}." if missing and values else "",
        "Costs are drawn by their logarithm." if wide else "",
    ]
    best = max(values, key=lambda row: row["q"], default=None)
    says = f"Highest {score}: {best['n']} ({best['mean']} at {best['cost']})." if best else ""
    none = ("No model has both a score and a price here: post scores to /v1/scores.",)
    return made(title or "Quality against cost", says, values, body, notes=notes if values else none, click=True)


def _along(cost: float, costs: list[float], wide: bool) -> float:
    """How far to the right a point lies: names of those at the right are written to their left."""
    low, high = (min(costs), max(costs)) if wide else (0.0, max(costs))
    if wide:
        return math.log(cost / low) / math.log(high / low)
    return cost / high if high else 0.0


def _listed(names: list[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(clipped(name) for name in names[:most]) + (f" and {more:,} more" if more > 0 else "")


def scores(answer: Mapping[str, Any]) -> list[str]:
    """The names of the scores of a comparison."""
    return sorted({name for model in answer["models"] for name in model["quality"]})
