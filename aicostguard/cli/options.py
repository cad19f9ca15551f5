"""Options that several verbs share.

Owns their names, help and refusals, so that `--db`, `--url`, `--key` and `--where` mean the same everywhere.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable, Sequence, TypeVar

import click

from aicostguard.cli import chosen, completion
from aicostguard.ledger import query
from aicostguard.ledger.model import ASKED, DIMENSIONS, OF_ENVELOPE, TIMES, known

F = TypeVar("F", bound=Callable[..., Any])

#: what the tab key offers for `--by`, `--where` and `--since`
BY = completion.names((*TIMES, *DIMENSIONS), many=True)
OF_LABELS = completion.names(DIMENSIONS, ending="=")
OF_ENVELOPES = completion.names(OF_ENVELOPE, ending="=")
SPANS = completion.names(("24h", "7d", "30d", "today", "month", "all"))

DB_AS_SERVED = click.option(
    "--db", "path", type=click.Path(dir_okay=False), help="The ledger's file. Default: as for `aicg serve`."
)
DB_HELP = "The ledger's file. Default: ledger.db in AICG_DATA_DIR, or where your data lives."


def asks(command: F) -> F:
    """`--project`, `--db`, `--url` and `--key`: which ledger is asked, and of what."""
    for option in (
        click.option("--key", help="Key for --url. Default: AICG_KEY, which keeps it out of the shell's history."),
        click.option("--url", help="Ask a running ledger instead of the file. Default: AICG_URL, if it is set."),
        click.option("--db", "path", type=click.Path(dir_okay=False), help=DB_HELP),
        chosen.option,
    ):
        command = option(command)
    return command


def of_period(command: F) -> F:
    """`--since`, `--until`, `--tz` and `--where`: which calls are meant."""
    return _since(_until(_zone(_where(command))))


def of_utc(command: F) -> F:
    """The same, of what knows no zone but UTC."""
    return _since(_until(_where(command)))


_where = click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=OF_LABELS,
    help="Only these; NAME!=VALUE all but these.",
)
_zone = click.option("--tz", help="Zone of the period, e.g. Europe/Berlin. Default: UTC.")
_until = click.option("--until", help="End of the period, excluded.")
_since = click.option(
    "--since",
    shell_complete=SPANS,
    default=query.DEFAULT_SINCE,
    show_default=True,
    help="24h, 7d, month, all, or a date.",
)


def operator() -> str:
    """Who works at the command line, as the audit log calls them."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"command line ({user})"


def exposed(command: F) -> F:
    """How `aicg serve` stands in the network, and who may come in."""
    file = click.Path(dir_okay=False)
    for option in (
        click.option("--per-minute", type=click.IntRange(1), help="Requests of a key, if it has no limit of its own."),
        click.option("--oidc", metavar="FILE", type=file, help="People log in through this OpenID Connect provider."),
        click.option("--allow-host", multiple=True, metavar="NAME", help="A name to be asked by, beside 127.0.0.1."),
        click.option("--forwarded-allow", metavar="ADDRESSES", help="Proxies whose X-Forwarded-For and -Proto count."),
        click.option("--tls-key", metavar="FILE", type=file, help="Its private key, PEM."),
        click.option("--tls-cert", metavar="FILE", type=file, help="Speak https, with this certificate chain, PEM."),
    ):
        command = option(command)
    return command


def one_place(path: str | None, url: str | None) -> None:
    if path and url:
        raise click.UsageError("--db and --url are two places to ask; give one")


def filtered(
    parameters: dict[str, list[str]], where: Sequence[str], names: Iterable[str] = ASKED, *, excludes: bool = False
) -> None:
    """Add the filters of `--where NAME=VALUE`, and NAME!=VALUE if it `excludes`, to the parameters of a question."""
    for item in where:
        name, equals, value = item.partition("=")
        meant = name.removesuffix("!") if excludes else name
        if not equals or not (meant in names or (names is ASKED and known(meant))):
            form = "NAME=VALUE or NAME!=VALUE" if excludes else "NAME=VALUE"
            raise click.BadParameter(f"{item!r}: use {form} with one of {', '.join(names)}", param_hint="--where")
        parameters.setdefault(name, []).append(value)
