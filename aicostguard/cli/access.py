"""`aicg keys` and `aicg projects`, as click commands.

Owns their options and what they print. They work on the ledger's file: whoever may write it is its operator, and that
is where every other right comes from.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from datetime import datetime, timezone
from typing import Any, Callable, Sequence

import click
from rich.table import Table
from rich.text import Text

from aicostguard import ledger
from aicostguard.cli import VERBS, ask, options, table
from aicostguard.ledger import keys as ledger_keys
from aicostguard.ledger.access import audit, keyring, names, places, told
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.places import Project
from aicostguard.ledger.access.principal import PROJECT, REACHES, ROLES, roles
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.sqlite import SqliteStore

DB = click.option("--db", "path", type=click.Path(dir_okay=False), help=options.DB_HELP)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
IN_PROJECT = click.option("--project", "within", metavar="NAME", help="NAME or ORGANISATION/NAME. Default: the first.")


def operator() -> Actor:
    """Who works at the command line, as the audit log calls them."""
    return Actor(options.operator())


def project(connection: sqlite3.Connection, store: SqliteStore, name: str | None) -> Project:
    """The project that `--project` names, or the first."""
    if name is None:
        return places.project(connection, connection.execute("SELECT min(id) FROM projects").fetchone()[0])
    return places.project_named(connection, name, field="--project")


def say(as_json: bool, report: Any, text: str) -> None:
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else text)
    sys.stdout.flush()


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for people."""
    drawing = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        drawing.add_column(heading)
    for row in rows:
        drawing.add_row(*(Text(cell) for cell in row))
    return table.drawn(drawing)


def when(at_ms: int | None) -> str:
    return "" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M")


def told_once(as_json: bool, made: str, report: Any) -> None:
    """Print a key that was made, once; `report` says what else is known of it."""
    say(as_json, {**report, "key": made}, made + "\n")
    if sys.stdout.isatty():
        click.echo("Keep it now: the ledger holds only its hash.", err=True)


@click.group(short_help=VERBS["keys"])
def keys() -> None:
    """Create, list, limit, rotate and revoke the ledger's keys. A key is shown once, when it is made."""


def _limits(command: Any) -> Any:
    for option in (
        click.option("--max-bytes", metavar="N", help="Bytes of one body at most; none for the ledger's bound."),
        click.option("--per-minute", metavar="N", help="Requests a minute at most; none for no limit."),
        click.option("--expires", metavar="SPAN", help="Ends after 90d, 12h, …; never for none."),
    ):
        command = option(command)
    return command


def _read_limits(expires: str | None, per_minute: str | None, max_bytes: str | None) -> dict[str, int | None]:
    body: dict[str, Any] = {}
    if expires is not None:
        body["expires_in"] = None if expires == "never" else expires
    for name, given in (("per_minute", per_minute), ("max_bytes", max_bytes)):
        if given is not None:
            body[name] = None if given == "none" else int(given) if given.isascii() and given.isdigit() else given
    return told.read_limits(body, ledger.now_ms())


@keys.command("create", short_help="make a key and print it once")
@click.option("--name", default="", help="What it is for.")
@click.option("--role", "given", multiple=True, type=click.Choice(list(ROLES)), help="Repeatable. Default: ingest.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(list(ledger_keys.SCOPES)), help="A single scope.")
@click.option(
    "--reach", default=PROJECT, type=click.Choice(REACHES), show_default=True, help="What the roles hold for."
)
@_limits
@IN_PROJECT
@JSON
@DB
def create_key(
    name: str,
    given: tuple[str, ...],
    scopes: tuple[str, ...],
    reach: str,
    expires: str | None,
    per_minute: str | None,
    max_bytes: str | None,
    within: str | None,
    as_json: bool,
    path: str | None,
) -> int:
    """Make a key and print it, once.

    A program that only sends receipts needs no more than the role ingest. read asks for costs and receipts; admin may
    do both, and change budgets, keys and settings. --reach organisation holds for all projects of the organisation.
    """
    wanted = tuple(dict.fromkeys((*(scope for role in given for scope in ROLES[role]), *scopes))) or ("ingest",)
    values = _read_limits(expires, per_minute, max_bytes)
    name = names.label(name, "--name")
    with ask.opened(path, create=True) as store:
        store.default_project()

        def job(connection: sqlite3.Connection) -> Any:
            number = project(connection, store, within).id
            return keyring.add(
                connection, number, wanted, operator(), ledger.now_ms(), name=name, reach=reach, **values
            )

        made, key = store.change(job)
    told_once(as_json, made, keyring.told(key))
    return 0


@keys.command("list", short_help="which keys there are")
@IN_PROJECT
@JSON
@DB
def list_keys(within: str | None, as_json: bool, path: str | None) -> int:
    """Which keys there are, what they may do, when they were last used, and whether they still may."""
    with ask.opened(path) as store:
        store.default_project()
        found = store.look(lambda c: keyring.listed(c, project(c, store, within).id))
    if not found:
        say(as_json, [], "No keys yet: `aicg serve` makes the first, `aicg keys create` another.\n")
        return 0
    now_ms = ledger.now_ms()
    rows = []
    for key in found:
        state = told.state(key, now_ms)
        ends = key.revoked_ms if key.revoked_ms is not None else key.expires_ms
        if ends is not None:
            state += f" {when(ends)}" if state != "in force" else f" until {when(ends)}"
        may = " ".join(roles(key.scopes)) + ("" if key.reach == PROJECT else f" ({key.reach})")
        rows.append(
            (key.shown[:9] + "•" * 4, key.id, key.name, may, when(key.created_ms), when(key.last_used_ms), state)
        )
    report = [
        {**keyring.told(key), "state": told.state(key, now_ms), "last_used_ms": key.last_used_ms} for key in found
    ]
    say(as_json, report, columns(("key", "id", "name", "roles", "created", "last used", "state"), rows))
    return 0


def _one(path: str | None, within: str | None, key: str, job: Callable[[sqlite3.Connection, Any], Any]) -> Any:
    if key.startswith("aicg_") and len(key.rstrip("•")) < 9:
        raise click.BadParameter("give at least the first nine characters, aicg_ and four more", param_hint="KEY")
    with ask.opened(path) as store:
        store.default_project()
        return store.change(lambda c: job(c, keyring.found(c, project(c, store, within).id, key)))


@keys.command("set", short_help="name a key, or limit it")
@click.argument("key")
@click.option("--name", help="What it is for.")
@_limits
@IN_PROJECT
@JSON
@DB
def set_key(
    key: str,
    name: str | None,
    expires: str | None,
    per_minute: str | None,
    max_bytes: str | None,
    within: str | None,
    as_json: bool,
    path: str | None,
) -> int:
    """Change the name or the limits of KEY, given by its id or its first nine characters."""
    values: dict[str, Any] = dict(_read_limits(expires, per_minute, max_bytes))
    if name is not None:
        values["name"] = names.label(name, "--name")
    if not values:
        raise click.UsageError("give --name, --expires, --per-minute or --max-bytes")
    changed = _one(path, within, key, lambda c, found: keyring.change(c, found, operator(), ledger.now_ms(), **values))
    say(as_json, keyring.told(changed), f"changed {changed.shown[:9]}\n")
    return 0


@keys.command("rotate", short_help="replace a key")
@click.argument("key")
@click.option(
    "--grace", default="0s", show_default=True, metavar="SPAN", help="How long the old one goes on: 1d, 2h, …"
)
@IN_PROJECT
@JSON
@DB
def rotate_key(key: str, grace: str, within: str | None, as_json: bool, path: str | None) -> int:
    """Make a key that may what KEY may, print it once, and end KEY: at once, or after --grace."""
    grace_ms = names.span(grace, "--grace")
    now_ms = ledger.now_ms()
    made, new = _one(path, within, key, lambda c, found: keyring.rotate(c, found, grace_ms, operator(), now_ms))
    told_once(as_json, made, keyring.told(new))
    return 0


@keys.command("revoke", short_help="end a key")
@click.argument("key")
@IN_PROJECT
@JSON
@DB
def revoke_key(key: str, within: str | None, as_json: bool, path: str | None) -> int:
    """End KEY, given by its id or its first nine characters as `aicg keys list` shows them. It cannot be undone."""

    def job(connection: sqlite3.Connection, found: Any) -> Any:
        if found.revoked_ms is not None:
            raise LedgerError(f"{found.shown[:9]} was revoked already")
        return keyring.revoke(connection, found, operator(), ledger.now_ms())

    revoked = _one(path, within, key, job)
    say(as_json, keyring.told(revoked), f"revoked {revoked.shown}\n")
    return 0


@click.group(short_help=VERBS["projects"])
def projects() -> None:
    """Make, list, rename and archive projects and organisations; read the audit log. Nothing is deleted."""


@projects.command("list", short_help="which there are")
@JSON
@DB
def list_projects(as_json: bool, path: str | None) -> int:
    """Organisations and their projects."""
    with ask.opened(path) as store:
        store.default_project()
        found = store.look(places.projects)
        every = store.look(places.organisations)
    rows = [(item.organisation, item.name, when(item.created_ms), _archived(item.archived_ms)) for item in found]
    has = {item.organisation_id for item in found}
    rows += [
        (item.name, "", when(item.created_ms), _archived(item.archived_ms)) for item in every if item.id not in has
    ]
    heads = ("organisation", "project", "created", "state")
    say(as_json, [dict(zip(heads, row)) for row in rows], columns(heads, rows))
    return 0


def _archived(at_ms: int | None) -> str:
    return "in use" if at_ms is None else f"archived {when(at_ms)}"


@projects.command("create", short_help="make a project")
@click.argument("name")
@click.option("--organisation", "of", metavar="NAME", help="Default: the first. Made with the project if it is new.")
@JSON
@DB
def create_project(name: str, of: str | None, as_json: bool, path: str | None) -> int:
    """Make the project NAME, and its organisation if there is none of that name."""
    with ask.opened(path, create=True) as store:
        store.default_project()

        def job(connection: sqlite3.Connection) -> Project:
            every = places.organisations(connection)
            within = every[0] if of is None else next((one for one in every if one.name.lower() == of.lower()), None)
            if within is None:
                within = places.add_organisation(connection, of or "", operator(), ledger.now_ms())
            return places.add_project(connection, within.id, name, operator(), ledger.now_ms())

        made = store.change(job)
    say(as_json, _place(f"{made.organisation}/{made.name}"), f"made {made.organisation}/{made.name}\n")
    return 0


def _changing(
    path: str | None, name: str, organisation: bool, new_name: str | None = None, archived: bool | None = None
) -> str:
    """Change a place; returns how it is called now."""
    with ask.opened(path) as store:
        store.default_project()

        def job(connection: sqlite3.Connection) -> str:
            now_ms, by = ledger.now_ms(), operator()
            if organisation:
                number = places.organisation_named(connection, name, "NAME").id
                return places.change_organisation(connection, number, by, now_ms, name=new_name, archived=archived).name
            number = places.project_named(connection, name, field="NAME").id
            made = places.change_project(connection, number, by, now_ms, name=new_name, archived=archived)
            return f"{made.organisation}/{made.name}"

        return store.change(job)


def _place(called: str) -> dict[str, str | None]:
    """ORGANISATION or ORGANISATION/NAME, as JSON has it."""
    organisation, _, name = called.partition("/")
    return {"organisation": organisation, "project": name or None}


_ORGANISATION = click.option("--organisation", is_flag=True, help="NAME is an organisation, not a project.")


@projects.command("rename", short_help="give another name")
@click.argument("name")
@click.argument("new_name", metavar="NEW")
@_ORGANISATION
@JSON
@DB
def rename(name: str, new_name: str, organisation: bool, as_json: bool, path: str | None) -> int:
    """Call the project NAME (or ORGANISATION/NAME) NEW. Keys, costs and budgets stay with it."""
    called = _changing(path, name, organisation, new_name=new_name)
    say(as_json, _place(called), f"renamed to {called}\n")
    return 0


@projects.command("archive", short_help="take nothing in any more")
@click.argument("name")
@click.option("--undo", is_flag=True, help="Take it back.")
@_ORGANISATION
@JSON
@DB
def archive(name: str, undo: bool, organisation: bool, as_json: bool, path: str | None) -> int:
    """Archive the project NAME (or ORGANISATION/NAME): it can be read, takes nothing in, and can be taken back.

    Programs that still send to it keep their receipts, as with a key that is refused.
    """
    called = _changing(path, name, organisation, archived=not undo)
    say(as_json, {**_place(called), "archived": not undo}, f"{'taken back' if undo else 'archived'}: {called}\n")
    return 0


@projects.command("audit", short_help="who changed what")
@click.option(
    "--since", shell_complete=options.SPANS, default="all", show_default=True, help="24h, 7d, today, month, or a date."
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, audit.MOST), help="Entries at most.")
@JSON
@DB
def show_audit(since: str, limit: int, as_json: bool, path: str | None) -> int:
    """The audit log of the whole ledger, the newest first: who, what, when, from where, before and after."""
    since_ms, _, _ = told.read_audit({"since": since}, ledger.now_ms())
    with ask.opened(path) as store:
        found = store.look(lambda c: audit.lines(c, since_ms=since_ms, limit=limit))
    rows = [(when(line.at_ms), line.who, line.address, line.what, line.target, _change(line)) for line in found]
    report = [told.line_told(line) for line in found]
    text = columns(("at", "who", "from", "what", "of", "change"), rows) if rows else "Nothing was changed yet.\n"
    say(as_json, report, text)
    return 0


def _change(line: audit.Line) -> str:
    old, new = line.before or {}, line.after or {}
    both = [name for name in {**old, **new} if old.get(name) != new.get(name) and line.before and line.after]
    return ", ".join(f"{name}: {old.get(name)} → {new.get(name)}" for name in both)
