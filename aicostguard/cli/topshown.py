"""How `aicg top` looks: plain text, or a screen that fits the terminal it is on.

Owns layout, and the keyboard while it is on. Rates are money by minute; what has no price is said beside it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import select
import sys
import time
from typing import Any, Callable, Iterator, Mapping

from rich.columns import Columns
from rich.console import ConsoleDimensions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from aicostguard.cli import bars, table

#: columns that a breakdown needs; a narrow terminal has them beneath each other
WIDE = 44
#: lines of a breakdown at least: a heading, two rows, how many more there are
LEAST = 4
#: rows of a breakdown when it is printed, not shown
PLAIN_ROWS = 10
_NOTHING = "No calls today. `aicg diagnose` says whether metering works.\n"


def plain(seen: Mapping[str, Any]) -> str:
    """One picture as text."""
    if not seen["today"]["calls"] and not seen["window"]["calls"]:
        return _head(seen) + "\n" + _NOTHING
    parts = [_head(seen), "\n"]
    for name, rows in seen["by"].items():
        parts += ["\n", table.drawn(_breakdown(seen, name, rows, PLAIN_ROWS))]
    if seen["budgets"]:
        parts += ["\n", bars.budgets(seen)]
    return "".join(parts)


def screen(seen: Mapping[str, Any] | None, trouble: str, size: ConsoleDimensions) -> RenderableType:
    """One picture that fits a terminal of this size: of what does not fit, the last breakdowns are left out."""
    last = Text(trouble or "q ends", style="bold red" if trouble else "dim", no_wrap=True, overflow="ellipsis")
    if seen is None:
        return last
    budgets = seen["budgets"][: max(0, size.height - 6) // 8]
    below = _budgets(seen, budgets) if budgets else []
    free = size.height - 2 - len(below)  # but for the first and the last line
    beside = max(1, min(len(seen["by"]), size.width // WIDE))
    stacked = max(1, min(-(-len(seen["by"]) // beside), free // LEAST))
    rows = max(1, free // stacked - 2)  # but for the heading, and how many more there are
    width = size.width // beside - 2
    shown = list(seen["by"].items())[: stacked * beside]
    tables = [_breakdown(seen, name, found, rows, width) for name, found in shown]
    head = Text(_head(seen), style="bold", no_wrap=True, overflow="ellipsis")
    return Group(head, Columns(tables, padding=(0, 2), width=width) if beside > 1 else Group(*tables), *below, last)


def _budgets(seen: Mapping[str, Any], budgets: list[Mapping[str, Any]]) -> list[Text]:
    lines = bars.budgets({"budgets": budgets, "alerts": seen["alerts"][:2]}).splitlines()
    shown = [Text.from_ansi(line) for line in ["", *lines]]
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
    return shown


def _head(seen: Mapping[str, Any]) -> str:
    window, today, minutes = seen["window"], seen["today"], seen["minutes"]
    moment = datetime.datetime.fromtimestamp(seen["at"] / 1000, datetime.timezone.utc).strftime("%H:%M:%S")
    said = [
        f"{moment} UTC",
        f"{rate(window, minutes) or '$0.00'}/min",
        f"{window['calls'] / minutes:,.1f} calls/min",
        f"{window['tokens'] / minutes:,.0f} tokens/min (last {minutes} min)",
        f"today {money(today)} in {today['calls']:,} calls",
    ]
    unpriced = f" | ! {today['unpriced_calls']:,} without a price" if today["unpriced_calls"] else ""
    return " | ".join(said) + unpriced


def _breakdown(
    seen: Mapping[str, Any], name: str, rows: list[Mapping[str, Any]], most: int, width: int | None = None
) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold", width=width)
    drawn.add_column(name, overflow="ellipsis", no_wrap=True, ratio=1 if width else None)
    for heading in ("$/min", "calls", "today"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in rows[:most]:
        window, today = row["window"], row["today"]
        calls = f"{window['calls']:,}" if window["calls"] else ""
        busy = "" if window["calls"] else "dim"
        drawn.add_row(Text(row["name"] or "-"), rate(window, seen["minutes"]), calls, money(today), style=busy)
    if more := max(0, len(rows) - most) + seen["more"][name]:
        drawn.add_row(Text(f"({more:,} more)"), "", "", "", style="dim")
    return drawn


def rate(sums: Mapping[str, Any], minutes: int) -> str:
    """Money by minute; empty where nothing was called."""
    if not sums["calls"]:
        return ""
    nano = sums["cost_nanousd"]
    return "unpriced" if nano is None else _short(nano / minutes / 1e9) + _mark(sums)


def money(sums: Mapping[str, Any]) -> str:
    """A sum for a glance; `aicg costs` has the exact one."""
    nano = sums["cost_nanousd"]
    return "unpriced" if nano is None else _short(nano / 1e9) + _mark(sums)


def _mark(sums: Mapping[str, Any]) -> str:
    return "+" if sums["unpriced_calls"] else ""


def _short(usd: float) -> str:
    if 0 < usd < 0.000001:
        return "<$0.000001"
    return f"${usd:,.2f}" if usd >= 10 or not usd else f"${usd:.4f}" if usd >= 0.001 else f"${usd:.6f}"


@contextlib.contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """While it is on, a function that waits so many seconds for a key; "" when none came."""
    if not sys.stdin.isatty():
        yield _nobody
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode("ascii", "replace") if ready else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _nobody(seconds: float) -> str:
    time.sleep(seconds)
    return ""
