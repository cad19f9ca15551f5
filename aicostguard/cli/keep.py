"""The verbs that keep a ledger safe: backup, restore and salvage, as click commands.

Owns their options and what they say. The work is done by `ledger.sqlite`.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import Any

import click

from aicostguard.cli import VERBS, ask, options
from aicostguard.ledger.sqlite import copying
from aicostguard.ledger.sqlite import salvage as rescue
from aicostguard.ledger.sqlite.contents import Contents

_DB = options.DB_AS_SERVED
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(short_help=VERBS["backup"])
@click.argument("target", metavar="FILE", type=click.Path())
@_DB
@click.option("--force", is_flag=True, help="Replace FILE, once the new backup is verified.")
@_JSON
def backup(target: str, path: str | None, force: bool, as_json: bool) -> int:
    """Copy the ledger into FILE, while it is served and written to.

    FILE is one SQLite file that only you can read: the ledger as it was at the moment of the start, every table of it.
    It appears under its name once its integrity was checked and its rows and sums compared with the ledger's. If FILE
    is a folder, the name in it is ledger-YYYYMMDDTHHMMSSZ.db.
    """
    made = copying.backup(ask.present(path), target, replace=force, progress=_progress())
    _say(
        as_json,
        {"backup": made.path, "bytes": made.size, "seconds": round(made.seconds, 3), **made.contents.as_json()},
        [
            f"{made.path}: {_size(made.size)}, {_holds(made.contents)}; verified in {made.seconds:.1f} s",
            *_odd(made.contents),
        ],
    )
    return 0


@click.command(short_help=VERBS["restore"])
@click.argument("source", metavar="FILE", type=click.Path(dir_okay=False))
@_DB
@click.option("--force", is_flag=True, help="Do it although there is a ledger; that one is kept beside it.")
@_JSON
def restore(source: str, path: str | None, force: bool, as_json: bool) -> int:
    """Put the backup FILE in place as the ledger. Stop `aicg serve` first.

    FILE is verified before anything is touched, and stays as it is. A ledger that is there is put aside, never deleted.
    Keys made or revoked since the backup stay so. Agents send again what was not acknowledged; what was acknowledged
    since the backup is missing from it, and shows as a gap of its program.
    """
    path = ask.place(path)
    done = copying.restore(source, path, replace=force, progress=_progress())
    lines = [f"{path}: restored from {source}, {_holds(done.contents)}"]
    if done.migrated_from is not None:
        lines.append(f"  it was of schema version {done.migrated_from}, and was migrated to {done.contents.version}")
    if done.kept is not None:
        held = "which cannot be read" if done.before is None else f"with {_receipts(done.before.receipts)}"
        lines.append(f"  the ledger that was there, {held}, is kept: {done.kept}")
        lines.append(f"  what only that one has can be taken over: aicg salvage {done.kept}" + _db_option(path))
    report = {
        "restored": path,
        "from": source,
        "kept": done.kept,
        "receipts_before": None if done.before is None else done.before.receipts,
        "migrated_from": done.migrated_from,
        **done.contents.as_json(),
    }
    _say(as_json, report, lines + _odd(done.contents))
    return 0


@click.command(short_help=VERBS["salvage"])
@click.argument("source", metavar="FILE", type=click.Path(dir_okay=False))
@_DB
@_JSON
def salvage(source: str, path: str | None, as_json: bool) -> int:
    """Take over into the ledger what can be read of FILE: a damaged ledger, or one that a restore has put aside.

    Each receipt is taken once: those that the ledger has already are left alone, and running this again does no harm.
    FILE is never changed. The ledger (--db) is made if there is none, and may be served meanwhile.
    """
    with ask.opened(path, create=True) as store:
        done = rescue.salvage(source, store)
        into = store.path
    report = {"from": source, "into": into, **done._asdict()}
    lines = [f"{into}: {_receipts(done.taken)} taken over from {source}; {done.known:,} of it were there already"]
    if done.spoiled:
        lines.append(f"! {_receipts(done.spoiled)} could be read, but make no sense: left out")
    lines += [f"! some of {source} cannot be read: {said}" for said in done.damage]
    _say(as_json, report, lines)
    return 0


def _db_option(path: str) -> str:
    return "" if path == ask.place(None) else f" --db {path}"


def _say(as_json: bool, report: dict[str, Any], lines: list[str]) -> None:
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else "".join(line + "\n" for line in lines))
    sys.stdout.flush()


def _progress() -> copying.Progress | None:
    """A line on the terminal that counts up; nothing into a file or a pipe."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\rcopied {100 * done // max(1, total)} %{end}")
        sys.stderr.flush()

    return show


def _holds(found: Contents) -> str:
    if found.last_received_ms is None:
        return _receipts(found.receipts)
    last = datetime.fromtimestamp(found.last_received_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{_receipts(found.receipts)}, the last of {last}"


def _odd(found: Contents) -> list[str]:
    if found.sums_agree:
        return []
    return ["! its sums are not those of its receipts: report this, please"]


def _receipts(number: int) -> str:
    return f"{number:,} receipt" + ("" if number == 1 else "s")


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"
