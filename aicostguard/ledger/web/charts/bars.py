"""Bars beside names: where the money went, what moved, of what classes the tokens were.

Owns how a long list becomes a drawing: the first so many, the rest together as a bar of its own where that makes sense.
"""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from aicostguard.ledger.amounts import less
from aicostguard.ledger.model import MEASURES
from aicostguard.ledger.web import words
from aicostguard.ledger.web.charts import theme
from aicostguard.ledger.web.charts.chart import (
    Chart,
    Row,
    amount,
    count_axis,
    dollars,
    go,
    label,
    made,
    money_axis,
    nominal,
    several,
    tips,
)
from aicostguard.ledger.web.charts.spend import left_out

#: bars of their own
MOST = 12
#: pixels of a bar with its gap
STEP = 26
#: so many times the longest of the others, the bar of what is summed up may be long
_LONGER = 3
#: class of tokens → colour, and how many there are of a row; together they are all tokens, each once
CLASSES: Mapping[str, tuple[str, Any]] = {
    "input": (
        theme.PALETTE[0],
        lambda row: row["input_tokens"] - row["cache_read_input_tokens"] - row["cache_creation_input_tokens"],
    ),
    "written to a cache": (theme.PALETTE[5], lambda row: row["cache_creation_input_tokens"]),
    "read from a cache": (theme.PALETTE[2], lambda row: row["cache_read_input_tokens"]),
    "output": (theme.PALETTE[1], lambda row: row["output_tokens"] - row["reasoning_output_tokens"]),
    "reasoning": (theme.PALETTE[3], lambda row: row["reasoning_output_tokens"]),
}


def breakdown(answer: Mapping[str, Any], *, most: int = MOST, title: str = "") -> Chart:
    """What each group cost. The rest, and what a limit cut off, is one bar."""
    by = answer["group_by"]
    values = [_bar(row, by, place) for place, row in enumerate(_first(answer["rows"], most))]
    rest = _rest(answer, most)
    if rest is not None:
        values.append({**_figures(rest), "n": f"other ({rest['groups']:,})", "k": len(values), "o": 1})
    # Ten thousand small ones together would leave nothing to see of the largest.
    top = max((row["c"] for row in values if not row["o"]), default=0.0) * _LONGER
    cut = bool(top) and values[-1]["c"] > top
    if cut:
        values[-1]["c"] = top
    top = max((row["c"] for row in values), default=0.0)
    body = {
        "height": {"step": STEP},
        "encoding": {"y": names(values)},
        "layer": [
            {
                "mark": {"type": "bar", "cursor": "pointer", "height": {"band": 0.72}},
                "encoding": {
                    "x": amount("c", axis=None, scale={"domain": [0, top or 1], "nice": False}),
                    "color": {
                        "condition": {"test": "datum.o === 1", "value": theme.OTHER},
                        "value": theme.ACCENT,
                    },
                    "tooltip": tips(n=" · ".join(by).capitalize(), cost="Cost", share="Share", calls="Calls"),
                },
            },
            *_amounts(top),
        ],
    }
    says = _says(answer, values)
    notes = ["The bar of other is cut: it would be longer." if cut else "", *_unpriced(answer)]
    return made(title or f"Spend by {' and '.join(by)}", says, values, body, notes=notes, click=True)


def names(values: Sequence[Row]) -> dict[str, Any]:
    """The axis of names, in the order in which they come."""
    order = list(dict.fromkeys(row["n"] for row in values))
    return nominal("n", title=None, sort=order, axis={"grid": False})


def _text(field: str, **more: Any) -> dict[str, Any]:
    return {
        "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 12, **more},
        "encoding": {"x": amount("c"), "text": nominal(field)},
    }


def _amounts(top: float) -> list[dict[str, Any]]:
    """What a bar says: behind it, or inside one that leaves no room."""
    inside = f"datum.c > {0.6 * top}"
    return [
        {**_text("shown"), "transform": [{"filter": f"!({inside})"}]},
        {**_text("shown", align="right", dx=-6, color="#ffffff"), "transform": [{"filter": inside}]},
    ]


def _first(rows: Sequence[Row], most: int) -> Sequence[Row]:
    return rows if len(rows) <= most + 1 else rows[:most]


def _rest(answer: Mapping[str, Any], most: int) -> dict[str, Any] | None:
    """What is not drawn by name: how many groups, and what they are together."""
    rows, first = answer["rows"], _first(answer["rows"], most)
    groups = len(rows) - len(first) + (answer["other"] or {"groups": 0})["groups"]
    if not groups:
        return None
    whole = {name: answer["totals"][name] or 0 for name in MEASURES}
    sums = less(whole, [{name: row[name] or 0 for name in MEASURES} for row in first])
    known = sums["unpriced_calls"] < sums["calls"] or not sums["calls"]
    share = sums["cost_nanousd"] / whole["cost_nanousd"] if whole["cost_nanousd"] else None
    return {**sums, "cost_nanousd": sums["cost_nanousd"] if known else None, "groups": groups, "share": share}


def _bar(row: Row, by: Sequence[str], place: int) -> dict[str, Any]:
    return {**_figures(row), "n": label(row, by), "k": place, "o": 0, "go": go(row, by)}


def _figures(row: Row) -> dict[str, Any]:
    cost = row["cost_nanousd"]
    near = "≈ " if row["estimated_calls"] else ""
    return {
        "c": dollars(cost),
        "shown": "no price" if cost is None else near + words.money(cost),
        "cost": near + words.exact(cost),
        "share": words.share(row.get("share")),
        "calls": f"{row['calls']:,}"
        + (f", {row['unpriced_calls']:,} without a price" if row["unpriced_calls"] else ""),
    }


def _says(answer: Mapping[str, Any], values: Sequence[Row]) -> str:
    whole = words.money(answer["totals"]["cost_nanousd"])
    first = ", ".join(f"{row['n']} {row['shown']}" for row in values[:3])
    return f"{whole} in all: {first}{' …' if len(values) > 3 else '.'}"


def _unpriced(answer: Mapping[str, Any]) -> Iterable[str]:
    return (note for note in left_out(answer) if "price" in note)


def moved(answer: Mapping[str, Any], *, most: int = 8, title: str = "") -> Chart:
    """What grew and what shrank since the period before; the largest changes of either kind first."""
    by = answer["group_by"]
    known = [row for row in answer["rows"] if row["change_nanousd"]]
    order = sorted(known, key=lambda row: (-abs(row["change_nanousd"]), label(row, by)))[:most]
    order.sort(key=lambda row: -row["change_nanousd"])
    values: list[dict[str, Any]] = []
    for place, row in enumerate(order):
        change = row["change_nanousd"]
        share = "new" if not row["before"]["cost_nanousd"] else words.change(row["ratio"])
        values.append(
            {
                "n": label(row, by),
                "k": place,
                "c": dollars(change),
                "up": int(change > 0),
                "shown": f"{words.signed(change)} ({share})",
                "now": words.exact(row["cost_nanousd"]),
                "before": words.exact(row["before"]["cost_nanousd"]),
                "change": ("+" if change > 0 else "") + words.exact(change),
                "go": go(row, by),
            }
        )
    sizes = [row["c"] for row in values]
    low, high = min([0.0, *sizes]), max([0.0, *sizes])
    # Room for the text beside the longest bar, on the side where it ends.
    room = 0.42 * (high - low or 1)
    body = {
        "height": {"step": STEP},
        "encoding": {"y": names(values)},
        "layer": [
            {
                "mark": {"type": "bar", "cursor": "pointer", "height": {"band": 0.72}},
                "encoding": {
                    "x": amount(
                        "c",
                        axis=money_axis(max(-low, high), tickCount=4),
                        scale={"domain": [low - (room if low else 0), high + (room if high else 0)], "nice": False},
                    ),
                    "color": {"condition": {"test": "datum.up === 1", "value": theme.UP}, "value": theme.DOWN},
                    "tooltip": tips(n=" · ".join(by).capitalize(), now="Now", before="Before", change="Change"),
                },
            },
            {**_text("shown"), "transform": [{"filter": "datum.up === 1"}]},
            {**_text("shown", align="right", dx=-5), "transform": [{"filter": "datum.up === 0"}]},
        ],
    }
    more = len(known) - len(values)
    notes = [several(more, "smaller change is not drawn", "smaller changes are not drawn"), *_unpriced(answer)]
    says = ", ".join(f"{row['n']} {row['shown']}" for row in values[:5]) + "."
    empty = () if values else ("Nothing has changed since the period before.",)
    title = title or f"What moved, by {' and '.join(by)}"
    return made(title, says, values, body, notes=notes if values else empty, click=True)


def tokens(answer: Mapping[str, Any], *, most: int = MOST, title: str = "") -> Chart:
    """Of what classes each group's tokens were. Those of audio and images are in the input or output they belong to."""
    by = answer["group_by"]
    told = [row for row in answer["rows"] if row["input_tokens"] + row["output_tokens"]]
    told.sort(key=lambda row: -(row["input_tokens"] + row["output_tokens"]))
    values = []
    for place, row in enumerate(told[:most]):
        whole = row["input_tokens"] + row["output_tokens"]
        for rank, (name, (_, count)) in enumerate(CLASSES.items()):
            number = count(row)
            if number > 0:
                values.append(
                    {
                        "n": label(row, by),
                        "k": place,
                        "s": name,
                        "r": rank,
                        "c": number,
                        "tokens": f"{number:,}",
                        "share": words.share(number / whole),
                        "go": go(row, by),
                    }
                )
    present = [name for name in CLASSES if any(row["s"] == name for row in values)]
    longest = max((row["input_tokens"] + row["output_tokens"] for row in told[:1]), default=0)
    body = {
        "height": {"step": STEP},
        "params": [{"name": "legend", "select": {"type": "point", "fields": ["s"]}, "bind": "legend"}],
        "transform": [{"filter": {"param": "legend"}}],
        "mark": {"type": "bar", "cursor": "pointer", "height": {"band": 0.72}},
        "encoding": {
            "y": names(values),
            "x": amount("c", axis=count_axis(longest)),
            "color": nominal(
                "s", scale={"domain": present, "range": [CLASSES[name][0] for name in present]}, legend={}
            ),
            "order": amount("r"),
            "tooltip": tips(n=" · ".join(by).capitalize(), s="Class", tokens="Tokens", share="Share"),
        },
    }
    whole = answer["totals"]["input_tokens"] + answer["totals"]["output_tokens"]
    read = answer["totals"]["cache_read_input_tokens"]
    says = f"{whole:,} tokens in all, {read:,} of them read from a cache."
    notes = [several(len(told) - most, "with fewer tokens is not drawn", "with fewer tokens are not drawn")]
    return made(title or f"Token classes by {' and '.join(by)}", says, values, body, notes=notes, click=True)
