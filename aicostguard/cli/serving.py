"""`aicg serve`, as a click command: run the ledger.

Owns its options. The server itself is `ledger.serve`, loaded only when it is to run.
"""

from __future__ import annotations

from typing import Any

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, options


@click.command(short_help=VERBS["serve"])
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--db", "path", type=click.Path(dir_okay=False), help=options.DB_HELP)
@click.option("--key-file", type=click.Path(dir_okay=False), help="The first key. Default: ledger.key beside the file.")
@click.option("--prices", metavar="FILE", type=click.Path(dir_okay=False), help="Own prices; remembered. See below.")
@click.option("--public-url", help="Where people find this ledger: alerts link there. Default: AICG_PUBLIC_URL.")
@click.option("--otlp", metavar="URL", help="Send metrics to this OpenTelemetry collector. Default: AICG_OTLP_URL.")
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
    otlp: str | None,
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
        otlp,
    )
