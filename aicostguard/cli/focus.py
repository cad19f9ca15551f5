"""The verb `focus`: what calls cost as a file of FOCUS 1.2, as a click command.

Owns its options. Columns and rows are `ledger.focus`'.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, ask, chosen, completion, options
from aicostguard.ledger import focus as form
from aicostguard.ledger import sheet
from aicostguard.ledger.model import DIMENSIONS


def _answer(parameters: ask.Parameters, at: ask.Place) -> dict[str, Any]:
    if at.url is not None:
        return ask.get(at, "focus", parameters)
    with ask.opened(at.path) as store:
        return form.export(store, parameters, chosen.of(store), ledger.now_ms())


@click.command(short_help=VERBS["focus"])
@options.of_utc
@click.option(
    "--tags",
    metavar="NAMES",
    default=form.TAGS,
    show_default=True,
    shell_complete=completion.names(DIMENSIONS, many=True),
    help="Labels in the column Tags, separated by commas; each set of them is a row. '' for none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as GET /v1/focus gives it. Default: CSV.")
@options.asks
def focus(
    as_json: bool,
    where: tuple[str, ...],
    tags: str,
    path: str | None,
    url: str | None,
    key: str | None,
    **given: Any,
) -> int:
    """What calls cost as FOCUS 1.2 has it, for the tools that read bills: `aicg focus --since month > focus.csv`.

    A row is a UTC day, provider, model, operation, tier and region, and a set of tags. Calls without a price stand in
    it with no cost, and are counted in x_UnpricedCalls.
    """
    parameters = {name: [str(value)] for name, value in given.items() if value not in (None, "")}
    parameters["tags"] = [tags]
    options.filtered(parameters, where, excludes=True)
    options.one_place(path, url)
    answer = _answer(parameters, ask.where(path, url, key))
    text = json.dumps(answer, indent=2) + "\n" if as_json else sheet.rows(answer["rows"], form.COLUMNS)
    sys.stdout.write(text)
    sys.stdout.flush()
    if answer["unpriced_calls"]:
        count = f"{answer['unpriced_calls']:,}"
        sys.stderr.write(f"aicg: {count} calls have no price: they stand with no cost, counted in x_UnpricedCalls\n")
    return 0
