"""The verbs that need the extra `server`, as click commands.

Owns options, help and exit codes. The work is done by `ledger`; what a table looks like, by `table`.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Sequence

import click

from aicostguard import ledger
from aicostguard.cli import (
    CORE,
    VERBS,
    access,
    alerts,
    ask,
    budgets,
    compare,
    core,
    dashboard,
    follow,
    keep,
    options,
    people,
    price,
    size,
    table,
    top,
)
from aicostguard.ledger import query
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.model import DIMENSIONS, TIMES

_DB_HELP = options.DB_HELP


def run(arguments: Sequence[str]) -> int:
    """Run click without letting it end the process. Returns the exit code."""
    try:
        result = _group.main(list(arguments), prog_name="aicg", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        sys.stderr.write("aicg: stopped\n")
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Refused as error:
        # What the ledger refuses as 422 is a wrong option here.
        named = f"{error.field}: " if error.field else ""
        sys.stderr.write(f"aicg: {named}{error}\n")
        return 2 if error.status == 422 else 1
    except LedgerError as error:
        sys.stderr.write(f"aicg: {error}\n")
        return 1
    except BrokenPipeError:  # `aicg costs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        import aicostguard

        click.echo(f"aicg {getattr(aicostguard, '__version__', 'unknown')}")
        context.exit()


@click.group(
    help="AI Cost Guard: what your AI calls cost, to the nano-dollar.",
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 a budget is used up (budgets --check) or something fires "
    "(alerts check), 4 receipts are lost (deliveries).",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Its version.")
def _group() -> None:
    pass


@_group.command(short_help=VERBS["serve"])
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--db", "path", type=click.Path(dir_okay=False), help=_DB_HELP)
@click.option("--key-file", type=click.Path(dir_okay=False), help="The first key. Default: ledger.key beside the file.")
@click.option("--prices", metavar="FILE", type=click.Path(dir_okay=False), help="Own prices; remembered. See below.")
@click.option("--public-url", help="Where people find this ledger: alerts link there. Default: AICG_PUBLIC_URL.")
@click.option("--no-prices", is_flag=True, help="Forget the file that --prices named.")
@options.exposed
@click.option("--log-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="On stderr.")
@click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="warning",
    show_default=True,
    help="info: a line for each request, without its query.",
)
def serve(
    host: str,
    port: int,
    path: str | None,
    key_file: str | None,
    prices: str | None,
    public_url: str | None,
    no_prices: bool,
    log_format: str,
    log_level: str,
    **exposed: Any,
) -> int:
    """Run the ledger until Ctrl-C or SIGTERM.

    The first start makes a key and writes it to a file that only you can read. Programs send receipts with
    AICG_URL and AICG_KEY; `aicg costs` and GET /v1/costs tell what they cost. The API is described at /docs.
    Aliases, prices and discounts of your own lie in prices.json or prices.yaml beside the ledger's file, or where
    --prices says. Without --tls-cert it speaks plain http, which belongs on this machine or behind a proxy that ends
    TLS; docs/access.md says how.
    """
    from aicostguard.ledger import serve as server
    from aicostguard.ledger.access.exposed import Exposed

    if prices and no_prices:
        raise click.UsageError("--prices names a file and --no-prices forgets it; give one")
    own = "" if no_prices else prices
    return server.run(
        path or ledger.default_path(),
        host,
        port,
        key_file,
        own,
        log_format,
        log_level,
        public_url,
        Exposed(**exposed),
    )


@_group.command(short_help=VERBS["costs"])
@click.option("--since", default=query.DEFAULT_SINCE, show_default=True, help="24h, 7d, today, month, all, or a date.")
@click.option("--until", help="End of the period, excluded; same forms. Default: now.")
@click.option("--by", "group_by", default="model", show_default=True, help="Up to three, with commas; see below.")
@click.option("--where", multiple=True, metavar="NAME=VALUE", help="Only these; NAME!=VALUE all but these. Repeatable.")
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
    options.filtered(parameters, where, DIMENSIONS, excludes=True)
    options.one_place(path, url)
    answer = ask.costs(parameters, path, url, key)
    if chart:
        drawn.write(answer.body, chart, ending)
    sys.stdout.write(table.FORMS[form or "table"](answer))
    sys.stdout.flush()
    return 0


costs.epilog = f"--by takes {', '.join((*TIMES, *DIMENSIONS))}."


_group.add_command(dashboard.dashboard)
_group.add_command(compare.compare)
_group.add_command(compare.models)
_group.add_command(follow.deliveries)
_group.add_command(follow.tail)
_group.add_command(top.top)
_group.add_command(budgets.budgets)
_group.add_command(alerts.alerts)
_group.add_command(price.price)
_group.add_command(price.reprice)


_group.add_command(access.keys)
_group.add_command(access.projects)
_group.add_command(people.people)
_group.add_command(keep.backup)
_group.add_command(keep.restore)
_group.add_command(keep.salvage)
_group.add_command(size.retention)
_group.add_command(size.archive)
_group.add_command(size.forget)
_group.add_command(size.compact)


def _core(verb: str) -> click.Command:
    """A verb that needs no extra. Here for the list of verbs: `main` takes it, unless options stand first."""
    return click.Command(
        verb,
        short_help=VERBS[verb],
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        callback=lambda arguments: core(verb, arguments),
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )


for _verb in CORE:
    _group.add_command(_core(_verb))
