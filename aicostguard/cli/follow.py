"""The verbs that look at how receipts arrive: `deliveries` and `tail`.

Owns their options, exit codes, and the loop of `tail`. The numbers come from `ledger.deliveries` and
`ledger.query`; what they look like, from `shown`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from aicostguard.cli import VERBS, ask, completion, options, shown
from aicostguard.ledger import deliveries as books
from aicostguard.ledger.errors import Busy
from aicostguard.ledger.model import ASKED, OF_ENVELOPE

#: the exit code of `deliveries` when receipts are lost
LOST = 4
#: seconds between two looks for new receipts
EVERY = 0.5


@click.command(short_help=VERBS["deliveries"])
@click.option(
    "--since",
    default=books.DEFAULT_SINCE,
    shell_complete=options.SPANS,
    show_default=True,
    help="Heard since: 24h, 7d, today, all, a date.",
)
@click.option(
    "--by",
    "group_by",
    default=books.DEFAULT_BY,
    shell_complete=completion.names(books.GROUPS),
    show_default=True,
    help=f"Of {', '.join(books.GROUPS)}.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=options.OF_ENVELOPES,
    help="Only these; repeatable. NAME= for none.",
)
@click.option("--limit", type=click.IntRange(1, books.MAX_LIMIT), help=f"Rows at most. Default: {books.DEFAULT_LIMIT}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as GET /v1/deliveries gives it.")
@options.asks
def deliveries(
    as_json: bool, where: tuple[str, ...], path: str | None, url: str | None, key: str | None, **given: Any
) -> int:
    """Is everything here? What arrived of each host beside what its programs say they made.

    A receipt that is missing was dropped and its program said so (known), or may still come (waiting), or is lost.
    --by process names the gaps. Exit code 4 when receipts are known or found to be lost; those waited for are none.
    """
    parameters = {name: [str(value)] for name, value in given.items() if value not in (None, "")}
    options.filtered(parameters, where, OF_ENVELOPE)
    options.one_place(path, url)
    answer = ask.books(parameters, ask.where(path, url, key))
    sys.stdout.write(json.dumps(answer, indent=2) + "\n" if as_json else shown.books(answer))
    sys.stdout.flush()
    return LOST if answer["totals"]["lost"] or answer["totals"]["known_lost"] else 0


@click.command(short_help=VERBS["tail"])
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=options.OF_LABELS,
    help="Only these; repeatable. NAME= for none.",
)
@click.option("-n", "--last", default=10, show_default=True, type=click.IntRange(0, 1000), help="Show these first.")
@click.option("--tz", help="Zone of the times shown, e.g. Europe/Berlin. Default: UTC.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as GET /v1/receipts gives it.")
@options.asks
def tail(
    as_json: bool,
    where: tuple[str, ...],
    last: int,
    tz: str | None,
    path: str | None,
    url: str | None,
    key: str | None,
) -> int:
    """Show receipts as they come in, until Ctrl-C.

    In the order in which the ledger stored them: one that had to wait in a spool shows when it arrives.
    """
    parameters: dict[str, list[str]] = {"tz": [tz]} if tz else {}
    options.filtered(parameters, where)
    options.one_place(path, url)
    try:
        with ask.following(ask.where(path, url, key)) as asker:
            _follow(asker, parameters, last, shown.line_of_json if as_json else shown.line)
    except KeyboardInterrupt:  # how it is meant to end
        pass
    return 0


tail.epilog = f"--where takes {', '.join(ASKED)}."


def _follow(asker: ask.Asker, parameters: ask.Parameters, last: int, form: Any) -> None:
    # The cursor before the first receipts: one that comes in between is told of twice, not never.
    cursor = asker("arrivals", parameters)["cursor"]
    told = set()
    if last:
        answer = asker("receipts", {**parameters, "since": ["all"], "limit": [str(last)]})
        told = {(row["epoch"], row["seq"]) for row in answer["receipts"]}
        _print(reversed(answer["receipts"]), form)
        if not told and sys.stdout.isatty():
            sys.stderr.write("no receipts yet; waiting for some, Ctrl-C ends\n")
    away = False
    while True:
        try:
            answer = asker("arrivals", {**parameters, "after": [cursor]})
        except (ask.Unreachable, Busy) as error:
            if not away:
                away = True
                sys.stderr.write(f"aicg: {error}; trying on\n")
            time.sleep(2 * EVERY)
            continue
        away = False
        if answer["skipped"]:
            sys.stderr.write("aicg: some receipts were passed over: too many at once, or the ledger was restored\n")
        cursor = answer["cursor"]
        _print((row for row in answer["receipts"] if (row["epoch"], row["seq"]) not in told), form)
        if not answer["more"]:
            time.sleep(EVERY)


def _print(rows: Any, form: Any) -> None:
    for row in rows:
        sys.stdout.write(form(row))
    sys.stdout.flush()
