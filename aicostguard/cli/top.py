"""The verb `top`: what costs money right now, again and again, until `q` or Ctrl-C.

Owns the loop and what is asked for a picture; how it looks, `topshown` says. Where nobody looks (a pipe, a file,
`--once`), one picture is printed as plain text, or as JSON.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from typing import Any, Callable, Mapping

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, ask, budgets, completion, options, topshown
from aicostguard.ledger.errors import Busy
from aicostguard.ledger.model import DIMENSIONS, OTHER

#: what is shown side by side, unless --by says something else
DEFAULT_BY = "feature,model,agent"
#: dimensions at most, and rows asked of each
MOST, ROWS = 4, 40
#: budgets' alerts that are shown
ALERTS = 5


@click.command(short_help=VERBS["top"])
@click.option(
    "--by",
    "group_by",
    shell_complete=completion.names(DIMENSIONS, many=True),
    default=DEFAULT_BY,
    show_default=True,
    help=f"Up to {MOST}, with commas; see below.",
)
@click.option("--minutes", default=10, show_default=True, type=click.IntRange(1, 1440), help="What a rate is of.")
@click.option(
    "--every", default=2.0, show_default=True, type=click.FloatRange(0.5, 3600), help="Seconds between looks."
)
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=options.OF_LABELS,
    help="Only these; NAME!=VALUE all but these. Repeatable.",
)
@click.option("--tz", help="Zone in which today begins, e.g. Europe/Berlin. Default: UTC.")
@click.option("--once", is_flag=True, help="Print one picture and end; so does a pipe.")
@click.option("--json", "as_json", is_flag=True, help="Print one picture as JSON and end.")
@options.asks
def top(
    group_by: str,
    minutes: int,
    every: float,
    where: tuple[str, ...],
    tz: str | None,
    once: bool,
    as_json: bool,
    path: str | None,
    url: str | None,
    key: str | None,
) -> int:
    """What costs money right now: spend by minute and today, budgets, and what they have stopped.

    Ends with q or Ctrl-C. A call without a price is counted beside the money, never as nothing.
    """
    names = tuple(dict.fromkeys(group_by.split(",")))
    unknown = [name for name in names if name not in DIMENSIONS]
    if unknown or len(names) > MOST:
        raise click.BadParameter(f"{group_by!r}: up to {MOST} of {', '.join(DIMENSIONS)}", param_hint="--by")
    parameters: dict[str, list[str]] = {"tz": [tz]} if tz else {}
    options.filtered(parameters, where, excludes=True)
    options.one_place(path, url)
    at = budgets.Ledger((path, url, key))
    try:
        with ask.following(ask.where(path, url, key)) as asker:

            def look() -> dict[str, Any]:
                return picture(asker, at, parameters, names, minutes)

            if as_json:
                sys.stdout.write(json.dumps(look(), indent=2) + "\n")
            elif once or not sys.stdout.isatty():
                sys.stdout.write(topshown.plain(look()))
            else:
                _live(look, every)
    except KeyboardInterrupt:  # how it is meant to end
        pass
    sys.stdout.flush()
    return 0


top.epilog = f"--by takes {', '.join(DIMENSIONS)}."


def picture(
    asker: ask.Asker, at: budgets.Ledger, parameters: ask.Parameters, names: tuple[str, ...], minutes: int
) -> dict[str, Any]:
    """One look: `{at, minutes, today, window, by: {dimension: rows}, more, budgets, alerts}`; rates are a minute's.

    A row has `name` (None: calls that do not say), and `window` and `today` with `calls`, `cost_nanousd` (None: not
    one call has a price), `unpriced_calls` and `tokens`. The dearest of the window come first; `more` says by
    dimension how many names of today are in no row.
    """
    now_ms = ledger.now_ms()
    began = datetime.datetime.fromtimestamp(now_ms / 1000 - 60 * minutes, datetime.timezone.utc)
    periods = {"window": began.strftime("%Y-%m-%dT%H:%M:%SZ"), "today": "today"}
    totals: dict[str, Any] = {}
    by: dict[str, list[dict[str, Any]]] = {}
    more: dict[str, int] = {}
    for name in names:
        rows: dict[str | None, dict[str, Any]] = {}
        cut: dict[str, int] = {}
        for when, since in periods.items():
            asked = {**parameters, "since": [since], "group_by": [name], "limit": [str(ROWS)]}
            answer = asker("costs", asked)
            totals[when], cut[when] = _sums(answer["totals"]), (answer["other"] or {"groups": 0})["groups"]
            for row in answer["rows"]:
                rows.setdefault(row[name], {"name": row[name]})[when] = _sums(row)
        for when, since in periods.items():
            # Who is among the dearest of one period may have been cut off in the other: that is not nothing.
            lacking = [value or "" for value, row in rows.items() if when not in row and value != OTHER]
            if cut[when] and lacking:
                asked = {**parameters, "since": [since], "group_by": [name], "limit": [str(len(lacking))]}
                for row in asker("costs", {**asked, name: lacking})["rows"]:
                    rows[row[name]][when] = _sums(row)
        nothing = {"calls": 0, "cost_nanousd": 0, "unpriced_calls": 0, "tokens": 0}
        found = [{"window": nothing, "today": nothing, **row} for row in rows.values()]
        by[name] = sorted(found, key=_rank)
        here = sum(1 for row in found if row["today"]["calls"])
        more[name] = max(0, ROWS + cut["today"] - here) if cut["today"] else 0
    alerts = at.alerts(ALERTS)["alerts"]
    every = at.every()["budgets"]
    return {"at": now_ms, "minutes": minutes, **totals, "by": by, "more": more, "budgets": every, "alerts": alerts}


def _sums(row: Mapping[str, Any]) -> dict[str, Any]:
    tokens = row["input_tokens"] + row["output_tokens"]
    return {**{name: row[name] for name in ("calls", "cost_nanousd", "unpriced_calls")}, "tokens": tokens}


def _rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    window, today = row["window"], row["today"]
    return (-(window["cost_nanousd"] or 0), -window["calls"], -(today["cost_nanousd"] or 0), row["name"] or "")


def _live(look: Callable[[], dict[str, Any]], every: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with topshown.keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        last: dict[str, Any] | None = None
        while True:
            trouble = ""
            try:
                last = look()
            except (ask.Unreachable, Busy) as error:
                trouble = f"{error}; trying on"
            if last is not None or trouble:
                live.update(topshown.screen(last, trouble, console.size), refresh=True)
            until = time.monotonic() + every
            while (left := until - time.monotonic()) > 0:
                if pressed(left) in ("q", "Q", "\x1b"):
                    return
