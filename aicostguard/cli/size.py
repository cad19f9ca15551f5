"""The verbs that keep a ledger small and let people be forgotten: retention, archive, forget, as click commands.

Owns their options and what they say. The work is done by `ledger.keeping`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Sequence

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, access, ask, options
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.keeping import books, compacting, forgetting, restoring
from aicostguard.ledger.keeping import retention as keeping
from aicostguard.ledger.keeping.books import ARCHIVE, DELETE, EVERY, Archive, Rule
from aicostguard.ledger.query import usd
from aicostguard.ledger.sqlite import SqliteStore

_DB = options.DB_AS_SERVED
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_PROJECT = click.option("--project", help="Name or number of a project. Default: every project without its own rule.")


@click.group(short_help=VERBS["retention"])
def retention() -> None:
    """How long single receipts stay in the ledger. By default all of them do, for good.

    Sums by hour and day stay in any case, and with them every answer that one dimension gives.
    """


@retention.command("set", short_help="set the rule")
@click.option("--days", required=True, type=click.IntRange(1, 36500), help="Receipts older than so many whole days go.")
@_PROJECT
@click.option("--delete", is_flag=True, help="Delete them, instead of archiving them as Parquet files first.")
@click.option(
    "--folder", type=click.Path(file_okay=False), help="Where archives lie, from now on. Move old ones there."
)
@_JSON
@_DB
def set_rule(days: int, project: str | None, delete: bool, folder: str | None, as_json: bool, path: str | None) -> int:
    """Set the rule. `aicg serve` does what it says every hour, `aicg retention run` at once."""
    with ask.opened(path) as store:
        keeping.set_rule(store, project, Rule(days, DELETE if delete else ARCHIVE), ledger.now_ms(), access.operator())
        if folder:
            store.remember(keeping.SETTING, os.path.abspath(folder))
        sys.stdout.write(_shown(store, as_json))
    return 0


@retention.command("clear", short_help="keep everything again")
@_PROJECT
@_JSON
@_DB
def clear(project: str | None, as_json: bool, path: str | None) -> int:
    """Take the rule away. What was archived stays archived; `aicg archive restore` brings it back."""
    with ask.opened(path) as store:
        keeping.set_rule(store, project, None, ledger.now_ms(), access.operator())
        sys.stdout.write(_shown(store, as_json))
    return 0


@retention.command("show", short_help="which rules there are")
@_JSON
@_DB
def show(as_json: bool, path: str | None) -> int:
    """Which rules there are."""
    with ask.opened(path) as store:
        sys.stdout.write(_shown(store, as_json))
    return 0


@retention.command("run", short_help="do now what the rules say")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--progress", is_flag=True, help="Say each day as it is done.")
@_JSON
@_DB
def run(dry_run: bool, progress: bool, as_json: bool, path: str | None) -> int:
    """Do now what the rules say, in small steps; the ledger may be served meanwhile.

    Killed at any time, the next run goes on where it was.
    """
    now_ms = ledger.now_ms()
    with ask.opened(path) as store:
        if dry_run:
            due = store.look(lambda connection: list(keeping.due(connection, now_ms)))
            return _dry(due, as_json)
        done = keeping.run(store, now_ms, say=_say if progress else lambda _: None)
    report = {**done._asdict(), "longest_s": round(done.longest_s, 4)}
    _out(
        as_json,
        report,
        f"{done.rows:,} receipts of {done.days} days, {done.files} files; longest step {done.longest_s * 1000:.0f} ms",
    )
    return 0


def _dry(due: Sequence[keeping.Due], as_json: bool) -> int:
    rows = [{**item._asdict(), "day": keeping.day(item.day_ms)} for item in due]
    if as_json:
        sys.stdout.write(json.dumps({"due": rows}, indent=2) + "\n")
        return 0
    for item in due:
        what = f"kept, budget {item.kept_for} counts them one by one" if item.kept_for else f"would {item.keep}"
        _say(
            f"{keeping.day(item.day_ms)}  project {item.project_id}  {item.rows:,} receipts  "
            f"${usd(item.cost_nanousd)}  {what}"
        )
    _say(f"{sum(item.rows for item in due if not item.kept_for):,} receipts are due; nothing was changed")
    return 0


def _shown(store: SqliteStore, as_json: bool) -> str:
    rules = store.look(books.rules)
    names = store.look(books.projects)
    if as_json:
        told = [
            {
                "project": None if number == EVERY else names.get(number, str(number)),
                "days": rule.days,
                "keep": rule.keep,
            }
            for number, rule in rules.items()
        ]
        return json.dumps({"folder": keeping.folder(store), "rules": told}, indent=2) + "\n"
    if not rules:
        return "All receipts stay: there is no rule. `aicg retention set --days 90` makes one.\n"
    lines = []
    for number, rule in rules.items():
        whose = "every project without its own rule" if number == EVERY else f"project {names.get(number, number)}"
        what = "deleted" if rule.keep == DELETE else f"archived in {keeping.folder(store)}"
        lines.append(f"{whose}: receipts older than {rule.days} days are {what}; sums stay\n")
    return "".join(lines)


@click.group(short_help=VERBS["archive"])
def archive() -> None:
    """Receipts that retention has put into files."""


@archive.command("list", short_help="which days are archived")
@_JSON
@_DB
def list_archives(as_json: bool, path: str | None) -> int:
    """Which days are archived, or were deleted by rule."""
    with ask.opened(path) as store:
        found = store.look(books.archives)
        where = keeping.folder(store)
    report = {"folder": where, "archives": [_told(item) for item in found]}
    lines = [
        f"{item.id:>5}  {keeping.day(item.day_ms)}  project {item.project_id}  {item.state:<9}  {item.rows:>10,} "
        f"receipts  ${usd(item.sums['cost_nanousd'])}  {item.file}"
        for item in found
    ]
    _out(
        as_json,
        report,
        "\n".join([where, *lines])
        if found
        else "Nothing is archived. `aicg retention set --days 90` puts older receipts into files.",
    )
    return 0


@archive.command("verify", short_help="is every file as it was written?")
@_JSON
@_DB
def verify(as_json: bool, path: str | None) -> int:
    """Read every file, and compare its SHA-256, its receipts and their sums with the ledger's record."""
    with ask.opened(path) as store:
        found = list(restoring.verify(store))
    broken = [item for item in found if item.problem]
    report = {"files": len(found), "problems": [item.problem for item in broken]}
    lines = [f"! {item.problem}" for item in broken] or ["all are as they were written"]
    number = f"{len(found):,} file" + ("" if len(found) == 1 else "s")
    _out(as_json, report, "\n".join([number, *lines]) if found else "Nothing is archived: there is no file to verify.")
    return 1 if broken else 0


@archive.command("restore", short_help="bring archived receipts back")
@click.argument("wanted", nargs=-1, metavar="[DAY | NUMBER]...")
@click.option("--all", "everything", is_flag=True, help="All that is archived.")
@click.option("--for", "for_days", type=click.IntRange(1, 36500), default=restoring.FOR_DAYS, show_default=True,
              help="Days for which retention leaves them alone.")  # fmt: skip
@click.option("--progress", is_flag=True, help="Say each day as it is done.")
@_JSON
@_DB
def restore(
    wanted: tuple[str, ...], everything: bool, for_days: int, progress: bool, as_json: bool, path: str | None
) -> int:
    """Bring receipts back, by day (2026-08-01) or by number as `aicg archive list` shows them; each exactly once.

    Sums do not change: they never lost them. Interrupted, run it again. The files are deleted once all is back.
    """
    if bool(wanted) == everything:
        raise click.UsageError("name days or numbers, or give --all")
    with ask.opened(path) as store:
        there = store.look(
            lambda connection: books.archives(connection, "state IN ('archived', 'restoring') AND file <> ''")
        )
        chosen = [item for item in there if everything or {keeping.day(item.day_ms), str(item.id)} & set(wanted)]
        for name in wanted:
            if not any(name in (keeping.day(item.day_ms), str(item.id)) for item in chosen):
                raise LedgerError(f"{name}: no such archive; `aicg archive list` shows which there are")
        rows = restoring.restore(
            store, chosen, ledger.now_ms(), for_days=for_days, say=_say if progress else lambda _: None
        )
    _out(as_json, {"restored": rows, "archives": len(chosen)}, f"{rows:,} receipts of {len(chosen)} archives are back")
    return 0


@click.command(short_help=VERBS["forget"])
@click.option("--user", metavar="NAME", help="The label `user` as it was sent.")
@click.option("--project", help="Name or number of a project. Default: the first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--history", is_flag=True, help="Show what was done before.")
@_JSON
@_DB
def forget(user: str | None, project: str | None, yes: bool, history: bool, as_json: bool, path: str | None) -> int:
    """Put a random pseudonym in place of a user's name: in receipts, sums, budgets, records and archives.

    It cannot be undone. The record says who did it, when and how much was changed, and never the name. What is sent
    under the name later is stored under it: do it again then. Backups are out of its reach.
    """
    if history == (user is not None):
        raise click.UsageError("give --user NAME, or --history")
    with ask.opened(path) as store:
        number = store.default_project() if project is None else store.look(lambda c: books.project(c, project))
        if user is None:
            acts = store.look(lambda connection: forgetting.acts(connection, number))
            _out(as_json, {"forgettings": acts}, "\n".join(map(_act, acts)) or "nobody was forgotten yet")
            return 0
        if not yes and sys.stdin.isatty():
            click.confirm("This cannot be undone. Forget this user?", abort=True, err=True)
        done = forgetting.forget(store, number, user, access.operator(), ledger.now_ms())
    lines = [
        f"forgotten: {done.receipts:,} receipts, {done.archived:,} archived, {done.others:,} other rows; "
        f"the pseudonym is {done.pseudonym}"
    ]
    if not done.settled:
        lines.append("! receipts of this user kept coming: end that, then do it again")
    lines += [
        f"! the same word still stands {times} times in {place}, and is no user there"
        for place, times in done.left.items()
    ]
    _out(as_json, done._asdict(), "\n".join(lines))
    return 0 if done.settled else 1


@click.command(short_help=VERBS["compact"])
@_JSON
@_DB
def compact(as_json: bool, path: str | None) -> int:
    """Give the free pages of the ledger's file back to the device.

    The first time it lays the file out anew, for which `aicg serve` has to be stopped, and which needs room for a
    second file. From then on it works in small steps while the ledger is served, and the server does it by itself.
    """
    with ask.opened(path) as store:
        place = store.path
        done = compacting.in_steps(store) if compacting.shrinks(store) else None
    if done is None:
        done = compacting.in_one_go(place)
    _out(as_json, done._asdict(), f"{place}: {done.before / 1e6:,.1f} MB before, {done.after / 1e6:,.1f} MB now")
    return 0


def _act(act: dict[str, Any]) -> str:
    return (
        f"{act['id']:>4}  {keeping.day(act['at_ms'])}  {act['who']}  {act['state']}  {act['receipts']:,} receipts, "
        f"{act['archived']:,} archived, {act['others']:,} other rows  {act['pseudonym']}"
    )


def _told(item: Archive) -> dict[str, Any]:
    return {**item._asdict(), "day": keeping.day(item.day_ms)}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _out(as_json: bool, report: dict[str, Any], text: str) -> None:
    _say(json.dumps(report, indent=2) if as_json else text)
