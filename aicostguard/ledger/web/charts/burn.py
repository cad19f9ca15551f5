"""How a budget is used up: what was spent so far, where that leads at the present rate, and when nothing is left.

Owns also the small line beside a figure, which is written as SVG at once: a page has a hundred of them.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple, Sequence

from markupsafe import Markup

from aicostguard.ledger.model import TIMES
from aicostguard.ledger.web import words
from aicostguard.ledger.web.charts import theme
from aicostguard.ledger.web.charts.chart import Chart, amount, count_axis, dollars, made, money_axis, nominal, tips
from aicostguard.ledger.web.charts.spend import left_out, said, stretch, wall

MOST = 2_000


class Unit(NamedTuple):
    """What a budget counts: out of a row of an answer, as a height, and as text for the eye and exactly."""

    of: Callable[[Mapping[str, Any]], int]
    height: Callable[[int], float]
    shown: Callable[[int], str]
    exact: Callable[[int], str]
    axis: Callable[[float], dict[str, Any]]


def _counted(of: Callable[[Mapping[str, Any]], int], name: str) -> Unit:
    return Unit(of, float, lambda n: f"{words.short(n)} {name}", lambda n: f"{n:,} {name}", count_axis)


#: the unit of a budget's limit → how it is drawn; money in nano-dollars
UNITS: Mapping[str, Unit] = {
    "usd": Unit(lambda row: row["cost_nanousd"] or 0, dollars, words.money, words.exact, money_axis),
    "tokens": _counted(lambda row: row["input_tokens"] + row["output_tokens"], "tokens"),
    "requests": _counted(lambda row: row["calls"], "requests"),
}


class Limit(NamedTuple):
    """Of a budget: what it allows, at which shares it warns, what it spends in an hour now, and of which unit."""

    most: int
    alert_at: Sequence[float] = ()
    rate: int = 0
    unit: Unit = UNITS["usd"]


def burn(answer: Mapping[str, Any], limit: Limit, *, now: str, title: str = "") -> Chart:
    """Of an answer by `hour` or `day` over the budget's period, with its filters; `now` as the API tells times."""
    unit = next(name for name in answer["group_by"] if name in TIMES)
    start, end, present = wall(answer["since"]), wall(answer["until"]), wall(now)
    height, shown = limit.unit.height, limit.unit.shown
    spent, values = 0, []
    if answer["rows"]:
        values.append(_point(start, 0, "The beginning", limit))
    for row in sorted(answer["rows"], key=lambda row: str(row[unit])):
        spent += limit.unit.of(row)
        at = min(stretch(row[unit], unit)[1], max(present, start))
        values.append(_point(at, spent, said(row[unit], unit), limit))
    values = values[-MOST:]
    ahead = _ahead(limit, spent, max(present, values[-1]["t"] if values else start), end)
    top = max([height(limit.most), *(row["c"] for row in [*values, *ahead])])
    lines = [{"y": height(limit.most), "says": f"limit {shown(limit.most)}", "o": 1}]
    lines += [
        {"y": height(round(limit.most * share)), "says": f"{words.share(share)}", "o": 0.45} for share in limit.alert_at
    ]
    x = {
        "field": "t",
        "type": "temporal",
        "scale": {"type": "utc", "nice": False},
        "axis": {"grid": False, "title": None, "labelOverlap": True, "format": _format(end - start)},
    }
    y = amount("c", title=None, axis=limit.unit.axis(top), scale={"domain": [0, top * 1.08 or 1], "nice": False})
    colour = theme.LIMIT if spent >= limit.most else theme.ACCENT
    # The whole period is drawn: by marks that nobody sees, for a browser that interprets expressions takes no domain.
    whole = [{"t": at, "c": 0.0} for at in (start, max(end, start + 1))]
    body = {
        "height": 220,
        "layer": [
            {
                "mark": {"type": "area", "interpolate": "step-after", "opacity": 0.16, "color": colour},
                "encoding": {"x": x, "y": y},
            },
            {
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "color": colour},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": {"values": ahead},
                "mark": {"type": "line", "strokeDash": [3, 4], "strokeWidth": 1.5, "color": theme.OTHER},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": {"values": lines},
                "mark": {"type": "rule", "color": theme.LIMIT, "strokeDash": [5, 4]},
                "encoding": {"y": amount("y"), "opacity": {"field": "o", "type": "quantitative", "scale": None}},
            },
            {
                "data": {"values": lines},
                "mark": {"type": "text", "align": "left", "dx": 4, "dy": -6, "color": theme.LIMIT, "fontSize": 11},
                "encoding": {"x": {"value": 0}, "y": amount("y"), "text": nominal("says")},
            },
            {
                "mark": {"type": "point", "size": 60, "opacity": 0, "filled": True},
                "encoding": {
                    "x": x,
                    "y": y,
                    "tooltip": tips(when="Up to", spent="Spent", left="Left", used="Used"),
                },
            },
            {"data": {"values": whole}, "mark": {"type": "point", "opacity": 0}, "encoding": {"x": x, "y": y}},
        ],
    }
    says = f"{shown(spent)} of {shown(limit.most)} spent" + (
        f"; at {shown(limit.rate)} an hour the line leads on." if limit.rate else "."
    )
    notes = [note for note in left_out(answer) if values]
    return made(title or "Burn of the budget", says, values, body, notes=notes)


def _point(at: int, spent: int, when: str, limit: Limit) -> dict[str, Any]:
    return {
        "t": at,
        "c": limit.unit.height(spent),
        "when": when,
        "spent": limit.unit.exact(spent),
        "left": limit.unit.exact(max(0, limit.most - spent)),
        "used": words.share(spent / limit.most if limit.most else None),
    }


def _ahead(limit: Limit, spent: int, at: int, end: int) -> list[dict[str, Any]]:
    """From now on at the present rate, until nothing is left or the period ends."""
    if limit.rate <= 0 or spent >= limit.most or at >= end:
        return []
    hours = min((limit.most - spent) / limit.rate, (end - at) / 3_600_000)
    return [
        {"t": at, "c": limit.unit.height(spent)},
        {"t": at + round(hours * 3_600_000), "c": limit.unit.height(round(spent + hours * limit.rate))},
    ]


def _format(length: int) -> str:
    return "%H:%M" if length <= 2 * 86_400_000 else "%d %b" if length <= 120 * 86_400_000 else "%b %Y"


def spark(nanos: Sequence[int | None], *, width: int = 96, height: int = 24, says: str = "") -> Markup:
    """A line without axes. What is not known breaks it."""
    known = [nano for nano in nanos if nano is not None]
    if len(known) < 2:
        return Markup("")
    low, high = min([0, *known]), max([0, *known])
    step = (width - 4) / max(1, len(nanos) - 1)
    path, pen = [], "M"
    for place, nano in enumerate(nanos):
        if nano is None:
            pen = "M"
            continue
        up = (nano - low) / (high - low) if high > low else 0.0
        path.append(f"{pen}{2 + place * step:.1f} {height - 2 - up * (height - 4):.1f}")
        pen = "L"
    told = says or f"from {words.money(known[0])} to {words.money(known[-1])}, at most {words.money(high)}"
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">'
        '<path d="{}" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round"/></svg>'
    ).format(told, width, height, width, height, "".join(path))
