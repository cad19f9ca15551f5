"""`aicg costs`, as a click command: what calls cost, grouped as one likes.

Owns its options. The work is done by `ledger.query`; what a table looks like, by `table`.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from aicostguard.cli import VERBS, ask, options, table
from aicostguard.ledger import query
from aicostguard.ledger.model import ASKED, TIMES


@click.command(short_help=VERBS["costs"])
@click.option(
    "--since",
    shell_complete=options.SPANS,
    default=query.DEFAULT_SINCE,
    show_default=True,
    help="24h, 7d, today, month, all, or a date.",
)
@click.option("--until", help="End of the period, excluded; same forms. Default: now.")
@click.option(
    "--by",
    "group_by",
    shell_complete=options.BY,
    default="model",
    show_default=True,
    help="Up to three, with commas; see below.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=options.OF_LABELS,
    help="Only these; NAME!=VALUE all but these. Repeatable.",
)
@click.option("--tz", help="Zone in which time is cut, e.g. Europe/Berlin. Default: UTC.")
@click.option("--order", help="cost, calls, tokens, change or a column; -cost for the largest first.")
@click.option(
    "--compare", type=click.Choice(["previous"]), help="Beside the period before, as far as this one has come."
)
@click.option("--latency", is_flag=True, help="Percentiles of latency, off by 1 % at most.")
@click.option("--exact", is_flag=True, help="Exact percentiles, from the receipts themselves.")
@click.option("--limit", type=click.IntRange(1, query.MAX_LIMIT), help=f"Rows at most. Default: {query.DEFAULT_LIMIT}.")
@click.option("--chart", type=click.Path(dir_okay=False), help="Draw it into this file, .svg or .png, as well.")
@click.option("--json", "form", flag_value="json", help="Print JSON, as GET /v1/costs gives it.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@options.asks
def costs(
    form: str | None,
    where: tuple[str, ...],
    path: str | None,
    url: str | None,
    key: str | None,
    chart: str | None,
    **given: Any,
) -> int:
    """What did the calls cost?

    Calls without a price or without usage are counted below the table: they are in no sum.
    """
    from aicostguard.cli import drawn

    ending = drawn.ending(chart)
    for name in ("latency", "exact"):
        given[name] = "1" if given[name] else None
    parameters = {name: [str(value)] for name, value in given.items() if value not in (None, "")}
    options.filtered(parameters, where, excludes=True)
    options.one_place(path, url)
    answer = ask.costs(parameters, path, url, key)
    if chart:
        drawn.write(answer.body, chart, ending)
    sys.stdout.write(table.FORMS[form or "table"](answer))
    if form == "csv":  # whose lines have no place for it
        sys.stderr.write(table.lacking(answer.body))
    sys.stdout.flush()
    return 0


costs.epilog = f"--by takes {', '.join((*TIMES, *ASKED))}."
