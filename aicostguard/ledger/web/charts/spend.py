"""Spend over time, stacked by what was asked for, with the lines that it is held against.

Owns how time becomes places on an axis: as the clock showed it in the zone of the query, whatever zone the reader's
browser is in.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime, timedelta, timezone
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from aicostguard.ledger.model import TIMES
from aicostguard.ledger.web import words
from aicostguard.ledger.web.charts import theme
from aicostguard.ledger.web.charts.chart import (
    Chart,
    Row,
    amount,
    dollars,
    go,
    haloed,
    label,
    made,
    money_axis,
    nominal,
    tips,
)

#: series of their own; what comes after is one together
MOST = 9
#: marks at most: then fewer series
MARKS = 12_000
#: marks a row that stands for several names
_REST = " rest"
_WORDS = {"hour": "hour", "day": "day", "week": "week", "month": "month"}
_FORMATS = {"hour": "%d %b", "day": "%d %b", "week": "%d %b", "month": "%b %Y"}


#: labels of weeks and months at most
_TICKS = 12
#: a label begins where its stretch of time does; the one at the very end, where nothing begins, is left out
_LABELS = {
    "labelAlign": "left",
    "labelPadding": 8,
    "labelOverlap": True,
    "labelSeparation": 8,
    "labelFlush": False,
    "labelBound": 2,
}


class Line(NamedTuple):
    """What spend is held against: an amount for each of the chart's stretches of time."""

    says: str
    nano: int


def spend(
    answer: Mapping[str, Any],
    *,
    lines: Sequence[Line] = (),
    most: int = MOST,
    title: str = "",
    click: bool = True,
    rest: Sequence[Row] = (),
    others: int = 0,
) -> Chart:
    """Of an answer to a query that groups by time, and by nothing else or up to two dimensions.

    `rest` are sums by time of `others` more names that the answer does not tell apart.
    """
    unit = next(name for name in answer["group_by"] if name in TIMES)
    by = [name for name in answer["group_by"] if name not in TIMES]
    rows = answer["rows"]
    title = title or f"Spend by {unit}" + (f", {' and '.join(by)}" if by else "")
    buckets = len({row[unit] for row in rows})
    found = Series(rows, by, min(most, max(1, MARKS // max(1, buckets))), others)
    values = _values([*rows, *({**row, _REST: True} for row in rest)], unit, by, found)
    heights: dict[int, float] = {}
    for row in values:
        heights[row["t"]] = heights.get(row["t"], 0.0) + row["c"]
    top = max([*heights.values(), *(dollars(line.nano) for line in lines), 0.0])
    says = _says(answer, found, unit)
    body: dict[str, Any] = {
        "layer": [_bars(unit, by, found, click, buckets), *(_line(line) for line in lines)],
        "encoding": {"x": _x(answer, unit, values), "y": amount("y0", axis=money_axis(top), title=None)},
    }
    body["encoding"]["y"]["scale"] = {"domainMin": 0, "nice": True}
    if any(dollars(line.nano) * 1.1 > top for line in lines):  # room for its name above the line
        body["encoding"]["y"]["scale"]["domainMax"] = top * 1.1
    return made(
        title, says, values, body, notes=_notes(answer, found), click=click and bool(by), brush=unit if click else ""
    )


class Series:
    """The dearest names one by one, and how many more there are."""

    def __init__(self, rows: Sequence[Row], by: Sequence[str], most: int, others: int = 0) -> None:
        sums: dict[str, tuple[int, int]] = {}
        for row in rows:
            name = label(row, by) if by else "all"
            cost, calls = sums.get(name, (0, 0))
            sums[name] = cost + (row["cost_nanousd"] or 0), calls + row["calls"]
        order = sorted(sums, key=lambda name: (*(-part for part in sums[name]), name))
        # Nobody needs "other (1)".
        cut = most if len(order) > most + 1 else len(order)
        self.names, self.more = order[:cut], len(order) - cut + others
        self.other = f"other ({self.more})"
        self.sums = sums
        self._ranks = {name: place for place, name in enumerate(self.names)}
        self.domain = [*self.names, *([self.other] if self.more else [])]
        self.colours = [
            *(theme.colours(self.names) if by else [theme.ACCENT]),
            *([theme.OTHER] if self.more else []),
        ]

    @property
    def last(self) -> tuple[int, str]:
        """The rank and the series of what is not told apart."""
        return len(self.names), self.other

    def place(self, name: str) -> tuple[int, str]:
        """The rank and the series of a name."""
        rank = self._ranks.get(name, len(self.names))
        return rank, name if rank < len(self.names) else self.other


def _values(rows: Sequence[Row], unit: str, by: Sequence[str], found: Series) -> list[dict[str, Any]]:
    sums: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        rank, name = found.last if row.get(_REST) else found.place(label(row, by) if by else "all")
        known = sums.setdefault(
            (row[unit], rank),
            {"name": name, "cost": None, "calls": 0, "unpriced": 0, "estimated": 0, "go": None},
        )
        if row["cost_nanousd"] is not None:
            known["cost"] = (known["cost"] or 0) + row["cost_nanousd"]
        known["calls"] += row["calls"]
        known["unpriced"] += row["unpriced_calls"]
        known["estimated"] += row["estimated_calls"]
        known["go"] = go(row, by) if by and rank < len(found.names) else None
    # Each stretch of time comes once for each of the series.
    stretches = {at: (*stretch(at, unit), said(at, unit)) for at in dict.fromkeys(at for at, _ in sums)}
    out = []
    for (at, rank), its in sums.items():
        start, end, when = stretches[at]
        out.append(
            {
                "t": start,
                "e": end,
                "s": its["name"],
                "k": rank,
                "c": dollars(its["cost"]),
                "when": when,
                "cost": words.exact(its["cost"]) + (" ≈" if its["estimated"] else ""),
                "calls": f"{its['calls']:,}" + (f", {its['unpriced']:,} without a price" if its["unpriced"] else ""),
                **({"go": its["go"]} if its["go"] else {}),
            }
        )
    return sorted(out, key=lambda row: (row["t"], row["k"]))


def _bars(unit: str, by: Sequence[str], found: Series, click: bool, buckets: int) -> dict[str, Any]:
    # Wide bars stand apart, narrow ones would be all gap.
    gap = -1 if buckets <= 120 else 0
    tip = {"when": unit.capitalize(), **({"s": " · ".join(by).capitalize()} if by else {})}
    layer: dict[str, Any] = {
        "transform": [
            {"stack": "c", "groupby": ["t"], "sort": [{"field": "k"}], "as": ["y0", "y1"]},
        ],
        "mark": {"type": "bar", "cursor": "pointer" if click and by else "default", "x2Offset": gap},
        "encoding": {
            "x2": {"field": "e"},
            "y2": {"field": "y1"},
            "color": nominal(
                "s",
                scale={"domain": found.domain, "range": found.colours},
                legend={} if by else None,
            ),
            "tooltip": tips(**tip, cost="Cost", calls="Calls"),
        },
    }
    if by:
        layer["params"] = [{"name": "legend", "select": {"type": "point", "fields": ["s"]}, "bind": "legend"}]
        layer["transform"].insert(0, {"filter": {"param": "legend"}})
    if click:
        brush = {"name": "brush", "select": {"type": "interval", "encodings": ["x"]}}
        layer["params"] = [*layer.get("params", ()), brush]
    return layer


def _line(line: Line) -> dict[str, Any]:
    data = {"values": [{"y": dollars(line.nano), "says": line.says, "cost": words.exact(line.nano)}]}
    place = {"y": amount("y"), "x": {"value": 0}}
    return {
        "data": data,
        "layer": [
            {
                "mark": {"type": "rule", "color": theme.LIMIT, "strokeDash": [5, 4], "strokeWidth": 1.5},
                "encoding": {**place, "x2": {"value": "width"}, "tooltip": tips(says="Line", cost="Amount")},
            },
            *haloed({**place, "text": nominal("says")}, align="left", dx=4, dy=-8, color=theme.LIMIT),
        ],
    }


def _x(answer: Mapping[str, Any], unit: str, values: Sequence[Row]) -> dict[str, Any]:
    first = min([wall(answer["since"]), *(row["t"] for row in values)])
    last = max([wall(answer["until"]), *(row["e"] for row in values)])
    within = unit == "hour" and last - first <= 2 * 86_400_000
    step = 3_600_000 if within else 86_400_000
    form = "%H:%M" if within else _FORMATS[unit]
    axis: dict[str, Any] = {"format": form, "grid": False, "tickMinStep": step, "title": None, **_LABELS}
    if unit in ("week", "month"):  # ticks of their own making would begin anywhere
        starts = sorted({row["t"] for row in values})
        axis["values"] = starts[:: -(-len(starts) // _TICKS)] if starts else []
    scale = {"type": "utc", "domain": [first, last], "nice": False}
    return {"field": "t", "type": "temporal", "scale": scale, "axis": axis}


def wall(text: str) -> int:
    """What the clock showed, as if it had been UTC: a time of the API with its offset, or a date."""
    return _ms(datetime.fromisoformat(text).replace(tzinfo=timezone.utc))


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def stretch(at: str, unit: str) -> tuple[int, int]:
    """Where a row's stretch of time begins and ends."""
    start = datetime.fromisoformat(f"{at}-01" if unit == "month" else at).replace(tzinfo=timezone.utc)
    days = {"day": 1, "week": 7, "month": monthrange(start.year, start.month)[1]}
    return _ms(start), _ms(start + (timedelta(hours=1) if unit == "hour" else timedelta(days=days[unit])))


def said(at: str, unit: str) -> str:
    start = datetime.fromisoformat(f"{at}-01" if unit == "month" else at)
    if unit == "hour":
        return f"{start:%a} {start.day} {start:%b %Y, %H:%M} ({start:%z})"
    if unit == "month":
        return f"{start:%B %Y}"
    return ("week of " if unit == "week" else "") + f"{start:%a} {start.day} {start:%b %Y}"


def _says(answer: Mapping[str, Any], found: Series, unit: str) -> str:
    totals = answer["totals"]
    whole = words.money(totals["cost_nanousd"])
    first = found.names[0] if found.names else ""
    most = f", most of it {first} ({words.money(found.sums[first][0])})" if len(found.names) > 1 else ""
    days = words.days(answer["since"], answer["until"])
    return f"{whole} {'from' if ' to ' in days else 'on'} {days} by {unit}{most}."


def _notes(answer: Mapping[str, Any], found: Series) -> Iterable[str]:
    if found.more:
        yield f"The {found.more:,} with less are drawn together as other."
    yield from left_out(answer)


def left_out(answer: Mapping[str, Any]) -> Iterable[str]:
    """What no drawing of an answer shows."""
    other, totals = answer["other"], answer["totals"]
    if other and other["calls"]:
        groups = f"{other['groups']:,} more groups" if other["groups"] else "Receipts that are archived"
        yield f"{groups} with {words.money(other['cost_nanousd'])} are not drawn."
    if totals["unpriced_calls"]:
        verb = "has" if totals["unpriced_calls"] == 1 else "have"
        yield f"{totals['unpriced_calls']:,} of {totals['calls']:,} calls {verb} no price and no height here."
