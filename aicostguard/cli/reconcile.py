"""`aicg price reconcile`, as a click command: a provider's own export beside the ledger, by day and model.

Owns its options and what is shown. Exports are read by `ledger.reconciling`; ours is the answer of `aicg costs`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Mapping

import click
from rich.table import Table

from aicostguard.cli import ask, options, table
from aicostguard.ledger import query, reconciling
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.reconciling import COUNTS, Row

_SAYS = {"agrees": "", "differs": "differs", "only theirs": "not in the ledger", "only ours": "not in the export"}


@click.command(short_help="a provider's usage and cost export, beside ours")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(exists=True, dir_okay=False))
@click.option("--provider", help="Whose a CSV is, if it has no such column: openai, mistral, …")
@click.option(
    "--tolerance", type=click.FloatRange(0), default=0.0, show_default=True, help="Percent by which rows may differ."
)
@click.option("--check", is_flag=True, help="Exit with 1 unless every row agrees.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.asks
def reconcile(
    files: tuple[str, ...],
    provider: str | None,
    tolerance: float,
    check: bool,
    as_json: bool,
    path: str | None,
    url: str | None,
    key: str | None,
) -> int:
    """Does the ledger have what the provider will bill?

    FILE is what a usage or cost endpoint of OpenAI or Anthropic answered, all its pages, by model and day; or a CSV
    with the columns day, model and some of provider, calls, input_tokens, output_tokens, cost_usd. Nothing is fetched
    and no key of a provider is needed here. Days are UTC; the last ones of an export may still grow.
    """
    options.one_place(path, url)
    export = reconciling.read({name: _text(name) for name in files}, provider)
    since, until = reconciling.days(export.lines)
    ours: dict[tuple[str, str, str], Mapping[str, int | None]] = {}
    unpriced = 0
    archived: Mapping[str, Any] | None = None
    for name in sorted({line.provider for line in export.lines}):
        asked = {"since": [since], "until": [until], "group_by": ["day,model"], "provider": [name]}
        body = ask.costs({**asked, "limit": [str(query.MAX_LIMIT)]}, path, url, key).body
        if body["other"] and body["other"]["groups"]:  # of no group is what is archived
            raise Refused(422, f"{since} to {until} are more days and models than can be compared at once; give less")
        archived = body["archived"] or archived  # of all providers' receipts, whoever is asked about
        for row in body["rows"]:
            ours[name, row["day"], row["model"]] = row
            unpriced += row["unpriced_calls"]
    rows = reconciling.beside(reconciling.summed(export.lines), ours)
    told = [_told(row, tolerance) for row in rows]
    report: dict[str, Any] = {
        "since": since,
        "until": until,
        "tolerance_percent": tolerance,
        "rows": told,
        "agree": sum(row["says"] == "agrees" for row in told),
        "unpriced_calls": unpriced,
        "more_pages": export.more,
        "archived": archived,
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else _shown(report))
    sys.stdout.flush()
    return 1 if check and (export.more or archived or report["agree"] < len(told)) else 0


def _text(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Refused(422, "is not UTF-8 text", name) from None


def _told(row: Row, tolerance: float) -> dict[str, Any]:
    says = "only ours" if row.theirs is None else "only theirs" if row.ours is None else ""
    told: dict[str, Any] = {"provider": row.provider, "day": row.day, "model": row.model}
    for name in (*COUNTS, "cost_nanousd"):
        told["theirs_" + name] = None if row.theirs is None else row.theirs.get(name)
        told["ours_" + name] = None if row.ours is None else row.ours.get(name)
        told["difference_" + name] = row.difference(name)
    told["says"] = says or ("agrees" if row.agrees(tolerance) else "differs")
    return told


def _shown(report: Mapping[str, Any]) -> str:
    drawing = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("day", "model", ">calls", ">input", ">output", ">theirs $", ">ours $", ">difference $", ""):
        right = heading.startswith(">")
        drawing.add_column(heading.lstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in report["rows"]:
        counts = [_count(row, name) for name in COUNTS]
        money = [_dollars(row[side + "_cost_nanousd"]) for side in ("theirs", "ours", "difference")]
        drawing.add_row(row["day"], row["model"], *counts, *money, _SAYS[row["says"]])
    out = table.drawn(drawing)
    out += f"\n{report['agree']:,} of {len(report['rows']):,} rows agree. Counts are ours less theirs; = is none.\n"
    if report["unpriced_calls"]:
        out += f"! calls of ours without a price, which are in no amount: {report['unpriced_calls']:,}\n"
    if report["more_pages"]:
        out += "! the export has more pages than were given\n"
    if gone := report["archived"]:
        out += f"! up to {gone['receipts']:,} receipts of {gone['first_day']} to {gone['last_day']} are archived "
        out += "and in no row: `aicg archive restore` brings them back\n"
    return out


def _count(row: Mapping[str, Any], name: str) -> str:
    apart = row["difference_" + name]
    return "–" if apart is None else "=" if not apart else f"{apart:+,}"


def _dollars(nano: int | None) -> str:
    if nano is None:
        return "–"
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    decimals = f"{nano % 10**9:09d}".rstrip("0")
    return f"{sign}{nano // 10**9:,}.{decimals:<02s}"
