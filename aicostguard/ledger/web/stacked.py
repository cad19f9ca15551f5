"""Spend over time as stacked bars, drawn into the page itself: there before a script has drawn a better one.

Owns where each rectangle stands. Pure: from rows of the query path to places on a drawing of `WIDTH` by `HEIGHT`. Sums
are integers; only places are rounded.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

WIDTH, HEIGHT = 960.0, 200.0
#: series with a colour of their own; what is beyond them is one more
SERIES = 7


class Block(NamedTuple):
    """One rectangle: of which series (0 is the rest), where, and what it stands for."""

    series: int
    name: str | None
    nano: int
    y: float
    height: float


class Column(NamedTuple):
    label: str
    nano: int
    calls: int
    x: float
    width: float
    blocks: list[Block]


class Stack(NamedTuple):
    """The drawing; `line` is where a budget's limit stands, `top` the amount at the upper edge."""

    columns: list[Column]
    names: list[str | None]
    has_rest: bool
    top: int
    line: float | None
    #: every so many columns have their label
    every: int


def stack(
    time: str,
    dimension: str,
    names: Sequence[str | None],
    whole: Sequence[Mapping[str, Any]],
    parts: Sequence[Mapping[str, Any]],
    limit: int | None = None,
) -> Stack:
    """From the sums of each `time` (`whole`) and of each time and named value (`parts`)."""
    of: dict[tuple[str, str | None], int] = {(row[time], row[dimension]): row["cost_nanousd"] or 0 for row in parts}
    tallest = max((row["cost_nanousd"] or 0 for row in whole), default=0)
    top = nice(max(tallest, limit or 0 if limit is not None and limit <= 3 * tallest else 0))
    step = WIDTH / max(1, len(whole))
    columns = []
    has_rest = False
    for place, row in enumerate(whole):
        blocks: list[Block] = []
        at, left = HEIGHT, row["cost_nanousd"] or 0
        for number, name in enumerate(names, 1):
            nano = of.get((row[time], name), 0)
            left -= nano
            at = _put(blocks, number, name, nano, at, top)
        if left > 0:
            has_rest = True
            _put(blocks, 0, None, left, at, top)
        width = max(1.0, step - min(3.0, step * 0.2))
        columns.append(
            Column(row[time], row["cost_nanousd"] or 0, row["calls"], round(place * step, 2), round(width, 2), blocks)
        )
    line = round(HEIGHT - HEIGHT * limit / top, 2) if limit is not None and top and limit <= top else None
    return Stack(columns, list(names), has_rest, top, line, max(1, -(-len(columns) // 8)))


def _put(blocks: list[Block], series: int, name: str | None, nano: int, at: float, top: int) -> float:
    if nano <= 0 or not top:
        return at
    height = HEIGHT * nano / top
    blocks.append(Block(series, name, nano, round(at - height, 2), round(height, 2)))
    return at - height


def nice(amount: int) -> int:
    """The next amount that reads well: 1, 2, 2.5 or 5 times a power of ten."""
    if amount <= 0:
        return 0
    power = int(10 ** (len(str(amount)) - 1))
    return next(power * step // 10 for step in (10, 20, 25, 50, 100) if power * step // 10 >= amount)
