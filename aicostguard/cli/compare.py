"""The verbs that set models beside each other: `compare` and `models`, as click commands.

Owns their options and tables. What is compared is worked out by `ledger.comparing`.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Mapping

import click
from rich.table import Table
from rich.text import Text

from aicostguard import ledger
from aicostguard.cli import VERBS, ask, chosen, options, table
from aicostguard.ledger import comparing, query, sheet


def _answer(parameters: ask.Parameters, at: ask.Place) -> dict[str, Any]:
    if at.url is not None:
        return ask.get(at, "compare", parameters)
    with ask.opened(at.path) as store:
        return comparing.compare(store, parameters, chosen.of(store), ledger.now_ms())


def _common(command: Any) -> Any:
    for option in (
        click.option("--csv", "form", flag_value="csv", help="Print CSV."),
        click.option("--json", "form", flag_value="json", help="Print JSON, as GET /v1/compare gives it."),
        click.option("--limit", type=click.IntRange(1, query.MAX_LIMIT), help="Models at most."),
        options.of_period,
    ):
        command = option(command)
    return command


def _run(
    form: str | None, where: tuple[str, ...], place: tuple[Any, Any, Any], given: dict[str, Any], rich: Any
) -> int:
    path, url, key = place
    parameters = {name: [str(value)] for name, value in given.items() if value not in (None, "")}
    options.filtered(parameters, where, excludes=True)
    options.one_place(path, url)
    answer = _answer(parameters, ask.where(path, url, key))
    if form == "json":
        text = json.dumps(answer, indent=2) + "\n"
    else:
        text = sheet.rows(comparing.flat(answer)) if form == "csv" else rich(answer)
        if form == "csv":  # whose lines have no place for it
            sys.stderr.write(table.lacking(answer) + table.unjoined(answer))
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


@click.command(short_help=VERBS["compare"])
@_common
@click.option("--baseline", metavar="MODEL", help="What the same traffic would have cost on this model.")
@click.option("--score", metavar="NAME", help="Only scores of this name.")
@options.asks
def compare(
    form: str | None, where: tuple[str, ...], path: str | None, url: str | None, key: str | None, **given: Any
) -> int:
    """Models beside each other: cost, latency, quality, and what their traffic would cost on another.

    Quality is what POST /v1/scores was told; its interval holds the true mean with 95 % confidence.
    """
    return _run(form, where, (path, url, key), given, _compared)


@click.command(short_help=VERBS["models"])
@_common
@options.asks
def models(
    form: str | None, where: tuple[str, ...], path: str | None, url: str | None, key: str | None, **given: Any
) -> int:
    """Which models are in use, and what they cost: in all, a call and a million tokens."""
    return _run(form, where, (path, url, key), given, _listed)


def _drawn(headings: tuple[str, ...], rows: list[list[str]], answer: Mapping[str, Any]) -> str:
    if not rows:
        return f"No calls and no scores {table.span(answer)}. A longer period: --since all\n"
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if place else "left", no_wrap=bool(place), overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    more = f"({answer['more_models']} more models)\n" if answer["more_models"] else ""
    return table.drawn(drawn) + more + f"\n{table.span(answer)}, {answer['tz']}\n" + table.lacking(answer)


def _cost(row: Mapping[str, Any]) -> str:
    """What a model cost; some of the calls without a price: at least that."""
    return ("≥ " if row["unpriced_calls"] and row["cost_usd"] is not None else "") + _usd(row["cost_usd"])


def _usd(text: str | None) -> str:
    return "unknown" if text is None else ("-$" + text[1:] if text.startswith("-") else "$" + text)


def _million(row: Mapping[str, Any]) -> str:
    """Dollars a million tokens, to six decimals."""
    text = row["cost_per_token_usd"]
    if text is None:
        return "unknown"
    whole, _, part = text.partition(".")
    digits = part.ljust(15, "0")
    return f"${int(whole + digits[:6]):,}.{digits[6:12].rstrip('0').ljust(2, '0')}"


def _listed(answer: Mapping[str, Any]) -> str:
    headings = ("model", "calls", "unpriced", "cost", "a call", "1M tokens")
    rows = [
        [
            str(row["model"]),
            table.count(row["calls"]),
            table.count(row["unpriced_calls"]) if row["unpriced_calls"] else "",
            _cost(row),
            _usd(row["cost_per_call_usd"]),
            _million(row),
        ]
        for row in answer["models"]
    ]
    return _drawn(headings, rows, answer)


def _compared(answer: Mapping[str, Any]) -> str:
    baseline = answer["baseline"]
    headings: tuple[str, ...] = ("model", "calls", "cost", "a call", "1M tokens", "p50 ms", "p95 ms", "quality")
    if baseline:
        headings += (f"on {baseline['model']}", "saved")
    rows = []
    for row in answer["models"]:
        cells = [str(row["model"]), table.count(row["calls"]), _cost(row), _usd(row["cost_per_call_usd"])]
        cells += [_million(row), _ms(row, "latency_p50_ms"), _ms(row, "latency_p95_ms"), _quality(row["quality"])]
        if baseline:
            part = row["on_baseline"]
            cells += ["", ""] if part is None else [_usd(part["cost_there_usd"]), _usd(part["saved_usd"])]
        rows.append(cells)
    text = _drawn(headings, rows, answer) + table.unjoined(answer)
    if not baseline:
        return text
    text += f"on {baseline['model']} ({baseline['provider']}), {baseline['assumes']} assumed: "
    text += f"{_usd(baseline['cost_there_usd'])} instead of {_usd(baseline['cost_usd'])}\n"
    for why, number in baseline["left_out"].items():
        text += f"! {number:,} calls are left out of this: {why}\n"
    return text


def _ms(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    return "" if value is None else ("≈" if row["approximate"] else "") + f"{value:,.0f}"


def _quality(found: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for name, one in found.items():
        within = "" if one["low"] is None else f" ({one['low']:.3g} to {one['high']:.3g})"
        parts.append(f"{name} {one['mean']:.3g}{within}")
    return ", ".join(parts)
