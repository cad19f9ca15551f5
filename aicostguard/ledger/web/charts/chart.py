"""A chart: its drawing, what it is called, and what it says to who does not see it.

Owns what all drawings have in common: their frame, how a name of the data becomes a label, and how a drawing is
written into a page.
"""

from __future__ import annotations

import json
from math import ceil, floor, log10
from typing import Any, Iterable, Mapping, NamedTuple, Sequence
from urllib.parse import urlencode

from aicostguard.ledger.model import OTHER

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
#: what stands for receipts that do not say it
NONE = "(none)"

Row = Mapping[str, Any]


class Chart(NamedTuple):
    """`notes` say what the drawing leaves out. Without a `spec` there is nothing to draw, and `notes` say why."""

    title: str
    description: str
    spec: dict[str, Any] | None
    notes: tuple[str, ...] = ()

    def json(self) -> str:
        """The drawing as it may stand inside a `script` element."""
        text = json.dumps(self.spec, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def made(
    title: str,
    says: str,
    values: Sequence[Row],
    body: Mapping[str, Any],
    *,
    notes: Iterable[str] = (),
    click: bool = False,
    brush: str = "",
) -> Chart:
    """A chart of `values`; one without values says that there is nothing.

    With `click` a mark leads to the filter that its datum names in `go`; `brush` is the unit of time to which a
    stretch that somebody drags over is widened.
    """
    notes = tuple(note for note in notes if note)
    if not values:
        return Chart(title, f"{title}: nothing to draw.", None, notes or ("Nothing in this period.",))
    spec = {
        "$schema": SCHEMA,
        "description": f"{title}. {says}",
        "width": "container",
        "height": 280,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": list(values)},
        **body,
        "usermeta": {"click": click, "brush": brush},
    }
    return Chart(title, says, spec, notes)


def label(row: Row, dimensions: Sequence[str]) -> str:
    """What a row is called. A name that reads as if it were none of the data's is quoted."""
    return " · ".join(_quoted(row[name]) for name in dimensions)


def _quoted(value: object) -> str:
    if value is None or value == "":
        return NONE
    text = "".join(char if char.isprintable() else "�" for char in str(value))
    return f"“{text}”" if text.startswith(("(", "other ")) else text


def go(row: Row, dimensions: Sequence[str]) -> str:
    """The filter that a row is, as it stands in an address; empty for what is no value: no filter finds it."""
    if any(row[name] == OTHER for name in dimensions):
        return ""
    return urlencode([(name, row[name] or "") for name in dimensions])


def nominal(field: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "nominal", **more}


def amount(field: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", **more}


def tips(**titles: str) -> list[dict[str, Any]]:
    """What a tooltip says: field → title, all of it text already."""
    return [nominal(field, title=title) for field, title in titles.items()]


def dollars(nano: int | None) -> float:
    """For the length of a mark, and nothing else."""
    return (nano or 0) / 1e9


def _short(value: str) -> str:
    """10k, 10M; and 10B as the tables beside it have it, where the format's own letter is that of a giga."""
    return f"replace(format({value}, '~s'), 'G', 'B')"


def money_axis(most: float, **more: Any) -> dict[str, Any]:
    """An axis of dollars up to `most`, as people read them."""
    size = "abs(datum.value)"
    form = ",~f" if most >= 10 else ",.2f" if most >= 0.5 else ".3~r"
    says = _short(size) if most >= 10_000 else f"format({size}, '{form}')"
    return {"labelExpr": f"(datum.value < 0 ? '-$' : '$') + {says}", "title": None, "tickCount": 5, **more}


def count_axis(most: float) -> dict[str, Any]:
    """An axis of a number of things up to `most`."""
    says = _short("datum.value") if most >= 10_000 else "format(datum.value, ',.0f')"
    return {"labelExpr": says, "title": None, "tickCount": 5}


def decades(low: float, high: float, most: int = 8) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2 and 5 of each power of ten, or fewer where these would be too many."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        near = [tick for tick in ticks if low * 0.5 <= tick <= high * 2]
        if len(near) <= most:
            break
    return near


def haloed(encoding: Mapping[str, Any], **mark: Any) -> list[dict[str, Any]]:
    """A text that stays readable on whatever lies below it."""
    below = {name: value for name, value in mark.items() if name not in ("color", "style")}
    return [
        {"mark": {"type": "text", **below, "style": "halo", "color": None}, "encoding": encoding},
        {"mark": {"type": "text", **mark}, "encoding": encoding},
    ]


def several(count: int, one: str, many: str) -> str:
    """A note on how many were left out; empty for none."""
    return "" if count <= 0 else f"1 {one}." if count == 1 else f"{count:,} {many}."


def clipped(text: object, most: int = 40) -> str:
    """A name inside a sentence."""
    shown = str(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
