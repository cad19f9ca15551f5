"""The verbs about prices: `price explain`, `update`, `reported` and `reconcile` (its own module), and `reprice`.

Owns their options and what they say. Money is shown to the nano-dollar: an explanation that rounds explains nothing.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.table import Table

from aicostguard import ledger, pricing
from aicostguard.cli import VERBS, ask, chosen, options, table
from aicostguard.cli.reconcile import reconcile
from aicostguard.ledger import period, prices, query, refresh, repricing
from aicostguard.ledger.model import DIMENSIONS, Query
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.pricing import Price, PriceBook, pricefile
from aicostguard.pricing.registry import ModelPricing
from aicostguard.receipt import FIELDS, OPERATIONS

#: short names of `--tokens` → keys of a receipt; those work as well
_COUNTS = {
    "in": "input_tokens",
    "out": "output_tokens",
    "cached": "cache_read_input_tokens",
    "written": "cache_creation_input_tokens",
    "written_1h": "cache_creation_1h_input_tokens",
    "reasoning": "reasoning_output_tokens",
    "audio_in": "input_audio_tokens",
    "audio_out": "output_audio_tokens",
    "image_in": "input_image_tokens",
    "image_out": "output_image_tokens",
    "video_in": "input_video_tokens",
    "searches": "web_searches",
    "tools": "tool_calls_billed",
    "requests": "requests_billed",
}
_INTEGERS = {name for name, field in FIELDS.items() if field.kind == "int"}
_DB = click.option("--db", "path", type=click.Path(dir_okay=False), help=options.DB_HELP)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SINCE = click.option(
    "--since",
    shell_complete=options.SPANS,
    default="all",
    show_default=True,
    help="24h, 7d, today, month, all, or a date.",
)
_UNTIL = click.option("--until", default="now", show_default=True, help="End of the period, excluded; same forms.")
_WHERE = click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=options.OF_LABELS,
    help="Only these; repeatable. NAME= for none.",
)


@click.group(short_help=VERBS["price"])
def price() -> None:
    """What a call costs and why; newer prices; what providers themselves say."""


@price.command(short_help="what a call would cost, term by term")
@click.argument("model")
@click.option("--tokens", "counts", default="", metavar="in=N,out=N,…", help="Counts; see below.")
@click.option("--provider", help="Who bills it. Default: the model's maker.")
@click.option("--tier", help="The service tier that served it: flex, priority, …")
@click.option("--operation", type=click.Choice(OPERATIONS), help="batch halves most prices.")
@click.option("--region", help="Where it was served, as receipts have it: us, eu, europe-west1, …")
@click.option("--at", "day", help="When: a date or a moment. Default: now.")
@click.option(
    "--prices", "own", metavar="FILE", help="Own terms instead of the ledger's; or aegis-2026-03, which ships."
)
@_DB
@_JSON
def explain(
    model: str,
    counts: str,
    provider: str | None,
    tier: str | None,
    operation: str | None,
    region: str | None,
    day: str | None,
    own: str | None,
    path: str | None,
    as_json: bool,
) -> int:
    """What would a call of MODEL cost, and by which price row?

    Exit code 1 when it has no price; the reason is said.
    """
    usage: dict[str, Any] = _counted(counts)
    enums = {"service_tier": tier, "operation": operation, "region": region}
    for name, value in enums.items():
        if value is not None:
            if not FIELDS[name].fits(value):
                raise click.BadParameter(f"must be {FIELDS[name].expects}", param_hint=f"--{name.rpartition('_')[2]}")
            usage[name] = value
    at_ms = ledger.now_ms() if day is None else _moment(day, "--at")
    book = _book(path, own)
    registry = ModelPricing(book)
    host, name = registry.resolve(model, provider)
    found = registry.price(model, usage, provider=provider, at_ms=at_ms)
    report = {
        "provider": host,
        "model": name,
        "at": _iso(at_ms),
        "cost_nanousd": found.cost_nanousd,
        "cost_usd": None if found.cost_nanousd is None else _dollars(found.cost_nanousd),
        "row": found.row,
        "reason": found.reason,
        "terms": [
            {"term": term, "units": units, "rate": rate, "nanousd": nano} for term, units, rate, nano in found.parts
        ],
        "source": book.source,
        "own_terms": book.own.source if book.own is not None else None,
    }
    _out(json.dumps(report, indent=2) + "\n" if as_json else _explained(report, found))
    return 0 if found.cost_nanousd is not None else 1


explain.epilog = f"Counts: {', '.join(_COUNTS)}, or any count of a receipt. cached, written, … are parts of in."


@price.command(short_help="a newer price table, from genai-prices, a file or a URL")
@click.option("--from", "place", metavar="PLACE", help="A compiled table: a file or a URL. Default: genai-prices.")
@click.option("--older", is_flag=True, help="Take a table that is older than the one in force.")
@_DB
@_JSON
def update(place: str | None, older: bool, path: str | None, as_json: bool) -> int:
    """Refresh the ledger's price table.

    Without --from it is compiled from the installed genai-prices, offline: `pip install -U genai-prices` first. Every
    row is checked before the table is put in place, the one before it is kept beside it. Stored costs stay as they
    are (`aicg reprice`); a running `aicg serve` takes the new table at its next start.
    """
    path = ask.place(path)
    if place is None:
        text, place = refresh.from_source(_iso(ledger.now_ms())[:10]), "genai-prices"
    else:
        text = refresh.fetch(place)
    done = refresh.install(path, text, place, older=older)
    if done.replaced:
        said = f"{done.now} is in force for {path}, instead of {done.before}: {done.models:,} models, "
        said += f"{done.new:,} new, {done.gone:,} gone, {done.moved:,} with other prices\n"
    else:
        said = f"{done.now} is what is in force already\n"
    _out(json.dumps(done._asdict(), indent=2) + "\n" if as_json else said)
    return 0


@price.command(short_help="what providers say calls cost, beside ours")
@_SINCE
@_UNTIL
@_WHERE
@chosen.option
@_DB
@_JSON
def reported(since: str, until: str, where: tuple[str, ...], path: str | None, as_json: bool) -> int:
    """What did providers themselves say (OpenRouter, xAI, Perplexity), and how far is it from ours?

    Only calls are compared that have both figures; what was said of those without a price of ours stands below.
    """
    with ask.opened(path) as store:
        scope = _scope(chosen.of(store), since, until, where)
        found, archived = store.reported(scope), _archived(store, scope)
    names = ("provider", "model", "calls", "unpriced_calls", "reported_nanousd", "ours_nanousd", "calls_that_differ",
             "reported_unpriced_nanousd")  # fmt: skip
    rows: list[dict[str, Any]] = [dict(zip(names, row)) for row in found]
    for row in rows:
        apart = row.pop("reported_unpriced_nanousd")
        row["difference_nanousd"] = row["ours_nanousd"] - row["reported_nanousd"]
        row["reported_unpriced_nanousd"] = apart
    if as_json:
        _out(json.dumps({"rows": rows, "archived": archived}, indent=2) + "\n")
    elif not rows:
        _out("No call of this period came with a cost of its provider's.\n" + table.lacking({"archived": archived}))
    else:
        drawing = _table("provider", "model", ">calls", ">unpriced", ">reported", ">ours", ">difference", ">differ")
        for row in rows:
            amounts = (_dollars(row[name]) for name in ("reported_nanousd", "ours_nanousd", "difference_nanousd"))
            drawing.add_row(
                row["provider"], row["model"], f"{row['calls']:,}", f"{row['unpriced_calls']:,}", *amounts,
                f"{row['calls_that_differ']:,}",
            )  # fmt: skip
        _out(table.drawn(drawing) + _apart(rows) + table.lacking({"archived": archived}))
    return 0


def _apart(rows: list[dict[str, Any]]) -> str:
    """What providers said of calls that have no price here, which are in no column; empty for none."""
    calls, said = (sum(row[name] for row in rows) for name in ("unpriced_calls", "reported_unpriced_nanousd"))
    of = f"{calls:,} call{'' if calls == 1 else 's'}"
    return (
        f"\n! {of} without a price of ours are in no column; of them was reported: ${_dollars(said)}\n" if calls else ""
    )


price.add_command(reconcile)


@click.command(short_help=VERBS["reprice"])
@_SINCE
@_UNTIL
@_WHERE
@click.option("--all", "everything", is_flag=True, help="Priced receipts, too, not only those without a price.")
@click.option("--apply", is_flag=True, help="Do it. Without it, say what would change.")
@click.option("--history", is_flag=True, help="Which acts of repricing there were.")
@chosen.option
@_DB
@_JSON
def reprice(
    since: str,
    until: str,
    where: tuple[str, ...],
    everything: bool,
    apply: bool,
    history: bool,
    path: str | None,
    as_json: bool,
) -> int:
    """Price stored receipts again, by the ledger's present prices for the time of each call.

    By default only receipts without a price are looked at, and nothing is changed until --apply is given. With it,
    costs and sums change together, and what each receipt cost before is kept. A receipt that had a price and would have
    none now keeps it.
    """
    with ask.opened(path) as store:
        project = chosen.of(store)
        if history:
            acts = store.repricings(project)
            _out(json.dumps({"repricings": acts}, indent=2) + "\n" if as_json else _acts(acts))
            return 0
        scope = _scope(project, since, until, where)._replace(unpriced_only=not everything)
        book = prices.book(store.path, store.setting(prices.SETTING))
        source = book.source + (f" + {book.own.source}" if book.own is not None else "")
        done = repricing.reprice(store, scope, book.price, source, ledger.now_ms(), apply=apply)
        archived = _archived(store, scope)
    if as_json:
        names = ("provider", "model", "calls", "before_nanousd", "after_nanousd")
        models = [dict(zip(names, row)) for row in done.models]
        told = {**done._asdict(), "models": models, "applied": apply, "source": source, "archived": archived}
        _out(json.dumps(told, indent=2) + "\n")
    else:
        _out(_repriced(done, source, apply) + _kept(archived))
    return 0


def _archived(store: SqliteStore, scope: repricing.Scope) -> dict[str, Any] | None:
    """Which receipts of a scope are archived: only those that are here are looked at."""
    asked = Query(scope.project_id, scope.since_ms, scope.until_ms, filters=scope.filters)
    return query.archived(store, asked, raw=True)


def _kept(archived: dict[str, Any] | None) -> str:
    if not archived:
        return ""
    number, days = archived["receipts"], f"{archived['first_day']} to {archived['last_day']}"
    return (
        f"! {number:,} receipt{'' if number == 1 else 's'} of {days} are archived: not looked at, they keep "
        "their cost; `aicg archive restore` brings them back\n"
    )


def _counted(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        short, equals, value = part.strip().partition("=")
        name = _COUNTS.get(short, short)
        if not equals or name not in _INTEGERS or not (value.isascii() and value.isdigit()):
            known = ", ".join(_COUNTS)
            raise click.BadParameter(f"{part!r}: use NAME=NUMBER with one of {known}", param_hint="--tokens")
        if not FIELDS[name].fits(int(value[:20])):
            raise click.BadParameter(f"{part!r}: must be {FIELDS[name].expects}", param_hint="--tokens")
        counts[name] = int(value)
    return counts


def _book(path: str | None, own: str | None) -> PriceBook:
    if own is not None:
        shipped = os.path.join(os.path.dirname(pricefile.__file__), "data", "history", own + ".json")
        terms = prices.read_own(shipped if own.isidentifier() or os.path.exists(shipped) else own)
        return pricing.default_book().with_own(terms)
    place = ask.place(path)
    if not os.path.exists(place):
        return prices.book(place, None)
    with ask.opened(path) as store:
        return prices.book(place, store.setting(prices.SETTING))


def _moment(text: str, option: str) -> int:
    return period.start(text, ledger.now_ms(), ZoneInfo("UTC"), option)


def _scope(project: int, since: str, until: str, where: tuple[str, ...]) -> repricing.Scope:
    filters: dict[str, list[str]] = {}
    options.filtered(filters, where, DIMENSIONS)
    start, end = _moment(since, "--since"), _moment(until, "--until")
    if start > end:
        raise click.UsageError("--since must not be later than --until")
    return repricing.Scope(project, start, end, {name: tuple(values) for name, values in filters.items()})


def _explained(report: dict[str, Any], found: Price) -> str:
    if found.cost_nanousd is None:
        return _unpriced(report)
    rows = _table("term", ">units", "rate", ">nano-dollars")
    for term, units, rate, nano in found.parts:
        rows.add_row(term, f"{units:,}", rate, f"{nano:,}")
    rows.add_section()
    rows.add_row("cost", "", f"${report['cost_usd']}", f"{found.cost_nanousd:,}", style="bold")
    own = f", own terms from {report['own_terms']}" if report["own_terms"] else ""
    return table.drawn(rows) + f"\nrow     {found.row}\nat      {report['at']}\nsource  {report['source']}{own}\n"


def _repriced(done: repricing.Report, source: str, applied: bool) -> str:
    out = ""
    if done.models:
        rows = _table("provider", "model", ">calls", ">before", ">after")
        for provider, model, calls, before, after in done.models:
            rows.add_row(provider, model, f"{calls:,}", _dollars(before), _dollars(after))
        out = table.drawn(rows) + "\n"
    out += f"{done.seen:,} receipt{'' if done.seen == 1 else 's'} looked at, by {source}\n"
    verb = f"changed, recorded as act {done.number}" if applied else "would change; --apply does it"
    out += f"{done.changed:,} {verb}: ${_dollars(done.before_nanousd)} before, ${_dollars(done.after_nanousd)} after\n"
    if done.still_unpriced:
        out += f"! {done.still_unpriced:,} have no price now either\n"
    if done.kept:
        out += f"! {done.kept:,} have a price that is not in the book any more: they keep it\n"
    return out


def _acts(acts: list[dict[str, Any]]) -> str:
    if not acts:
        return "No stored cost was ever changed.\n"
    rows = _table(">act", "when", ">changed", ">before", ">after", "prices")
    for act in acts:
        rows.add_row(
            str(act["id"]), _iso(act["at_ms"]), f"{act['changed']:,}", _dollars(act["before_nanousd"]),
            _dollars(act["after_nanousd"]), act["source"],
        )  # fmt: skip
    return table.drawn(rows)


def _table(*headings: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        right = heading.startswith(">")
        made.add_column(heading.lstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=right)
    return made


def _unpriced(report: dict[str, Any]) -> str:
    at = f" at {report['provider']}" if report["provider"] else ""
    return (
        f"{report['model']}{at} is unpriced: {report['reason']}. --provider says whose it is; a price of your own goes "
        "into prices.json beside the ledger's file\n"
    )


def _dollars(nano: int) -> str:
    """Exact, at least two decimals."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    decimals = f"{nano % 10**9:09d}".rstrip("0")
    return f"{sign}{nano // 10**9:,}.{decimals:<02s}"


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
