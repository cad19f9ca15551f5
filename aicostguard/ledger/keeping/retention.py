"""Old rows go by rule: to a file that was proved first, or for good; sums stay.

Owns which days are due and the order of steps: record, file, proof, rows, record. Whatever is killed, the next run
goes on with it: a file that was not finished is written anew, rows that were being removed are removed to the end. If
this is wrong, a receipt is in two places or in none.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections import defaultdict
from datetime import datetime, timezone
from functools import partial
from typing import Callable, Iterator, NamedTuple

from aicostguard.ledger.access import audit
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.budgets import book, counted, rule
from aicostguard.ledger.keeping import books, leftover, parquet
from aicostguard.ledger.keeping.books import ARCHIVE, EVERY, Archive, Rule
from aicostguard.ledger.keeping.pace import Pace, alone
from aicostguard.ledger.keeping.parquet import Columns, Values, Written
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.sqlite import SqliteStore, arrived

#: where files are, unless the ledger was told another folder
SETTING = "archive_folder"
#: rows read at once for a file
PAGE = 2_000
#: called with a sentence for each thing done
Say = Callable[[str], None]


class Due(NamedTuple):
    """A day whose rows go. `kept_for` names a budget that still counts them one by one: then they stay."""

    project_id: int
    day_ms: int
    rows: int
    cost_nanousd: int
    keep: str
    kept_for: str | None


class Report(NamedTuple):
    """What a run did."""

    days: int
    rows: int
    files: int
    steps: int
    longest_s: float


def folder(store: SqliteStore) -> str:
    """Where archives lie."""
    return store.setting(SETTING) or os.path.realpath(store.path) + "-archive"


def day(day_ms: int) -> str:
    return datetime.fromtimestamp(day_ms / 1000, timezone.utc).date().isoformat()


def due(connection: sqlite3.Connection, now_ms: int) -> Iterator[Due]:
    """The days that the rules want gone, project by project, the oldest first."""
    rules = books.rules(connection)
    for project_id in books.projects(connection):
        wanted = rules.get(project_id) or rules.get(EVERY)
        if wanted is None:
            continue
        restored = {
            item.day_ms
            for item in books.archives(
                connection, "project_id = ? AND (until_ms > ? OR state = 'restoring')", (project_id, now_ms)
            )
        }
        before = now_ms - now_ms % DAY_MS - wanted.days * DAY_MS
        for day_ms in books.days(connection, project_id, before):
            if day_ms not in restored:
                rows, cost = books.held(connection, project_id, day_ms)
                yield Due(project_id, day_ms, rows, cost, wanted.keep, _needed(connection, project_id, day_ms, now_ms))


def _needed(connection: sqlite3.Connection, project_id: int, day_ms: int, now_ms: int) -> str | None:
    """The budget that may have to count this day's rows again, one by one, within its present period."""
    for kept in book.over(connection, project_id):
        # A session that nobody has heard of for so long is over; what counts by one label counts from sums.
        if kept.budget.period in ("call", "session") or not counted.needs(connection, kept, project_id, day_ms):
            continue
        if rule.start(kept.budget, now_ms) < day_ms + DAY_MS:
            return kept.name
    return None


def run(
    store: SqliteStore, now_ms: int, *, say: Say = lambda _: None, stop: Callable[[], bool] = lambda: False
) -> Report:
    """Finish what was begun, then do what is due. Raises `Busy` when another process is at it, and `Stopped`."""
    pace = Pace(store, stop)
    days = rows = files = 0
    with alone(store.path):
        leftover.clear(store, folder(store))
        for item in store.look(lambda connection: books.archives(connection, "state IN ('writing', 'removing')")):
            rows += _go_on(pace, item, now_ms, say)
        for wanted in store.look(lambda connection: list(due(connection, now_ms))):
            pace.look()
            if wanted.kept_for is None:
                days, files = days + 1, files + (wanted.keep == ARCHIVE)
                rows += _away(pace, wanted, now_ms, say)
            else:
                say(f"{day(wanted.day_ms)}: kept, budget {wanted.kept_for} counts these receipts one by one")
    return Report(days, rows, files, pace.steps, pace.longest_s)


def _go_on(pace: Pace, item: Archive, now_ms: int, say: Say) -> int:
    """Finish what an earlier run began."""
    if item.state == "writing":
        pace.do(books.discard, item.id)
        return 0
    say(f"{day(item.day_ms)}: going on where an earlier run was stopped")
    return _remove(pace, item, now_ms) if item.file else _delete(pace, item, now_ms)


def _away(pace: Pace, wanted: Due, now_ms: int, say: Say) -> int:
    project_id, day_ms = wanted.project_id, wanted.day_ms
    if wanted.keep != ARCHIVE:
        number = pace.do(books.begin, project_id, day_ms, "removing", now_ms)
        rows = _delete(pace, _archive(pace.store, number), now_ms)
        say(f"{day(day_ms)}: {rows:,} receipts deleted; their sums stay")
        return rows
    parquet.need()
    number, name = pace.do(_begin, project_id, day_ms, now_ms)
    columns = pace.store.look(books.columns)
    date = day(day_ms)
    about = {"project_id": project_id, "day": date, "archive": number}
    found = parquet.write(folder(pace.store), name, columns, _pages(pace, columns, project_id, day_ms), about)
    pace.do(_written, number, found, now_ms)
    rows = _remove(pace, _archive(pace.store, number), now_ms)
    say(f"{date}: {rows:,} receipts in {name} ({found.bytes:,} bytes)")
    return rows


def _begin(connection: sqlite3.Connection, project_id: int, day_ms: int, now_ms: int) -> tuple[int, str]:
    number, date = books.begin(connection, project_id, day_ms, "writing", now_ms), day(day_ms)
    name = os.path.join(f"project-{project_id}", date[:7], f"{date}-{number}-{secrets.token_hex(3)}.parquet")
    leftover.note(connection, name)
    return number, name


def _written(connection: sqlite3.Connection, number: int, found: Written, now_ms: int) -> None:
    books.written(connection, number, found, "removing", now_ms)
    leftover.note(connection, None)


def _archive(store: SqliteStore, number: int) -> Archive:
    return store.look(lambda connection: books.archives(connection, "id = ?", (number,)))[0]


def _pages(pace: Pace, columns: Columns, project_id: int, day_ms: int) -> Iterator[list[Values]]:
    """A day's rows. Nothing holds them still but the record: none of them is repriced, and what comes late stays."""
    places = tuple(map(columns.names.index, ("at_ms", "epoch", "seq")))
    after: Values = (day_ms - 1, "", 0)
    while True:
        pace.look()
        rows = pace.store.look(
            partial(books.page, names=columns.names, project_id=project_id, day_ms=day_ms, after=after, limit=PAGE)
        )
        if not rows:
            return
        yield rows
        after = tuple(rows[-1][place] for place in places)


def _remove(pace: Pace, item: Archive, now_ms: int) -> int:
    """Take out the rows that stand in the file, and only those."""
    path = os.path.join(folder(pace.store), item.file)
    parquet.check(path, item.sha256)
    went = 0
    for rows in parquet.read(path, ("epoch", "seq")):
        seqs: defaultdict[str, list[int]] = defaultdict(list)
        for epoch, seq in rows:
            seqs[epoch].append(seq)
        runs = [(epoch, run) for epoch, found in seqs.items() for run in arrived.runs(sorted(found))]
        went += _take_out(pace, item, runs)
    pace.do(books.finish, item.id, "archived", now_ms)
    return went


def _take_out(pace: Pace, item: Archive, runs: list[tuple[str, arrived.Run]]) -> int:
    went = 0
    while runs:
        chosen, room = [], pace.size
        while runs and room > 0:
            epoch, (first, last) = runs.pop()
            if last - first >= room:  # a step takes what fits, the rest is for the next
                runs.append((epoch, (first + room, last)))
                last = first + room - 1
            chosen.append((epoch, first, last))
            room -= last - first + 1
        went += pace.do(books.take_out_all, item, chosen)
    return went


def _delete(pace: Pace, item: Archive, now_ms: int) -> int:
    """Take out all rows of the day, as they stand."""
    went = 0

    def step(connection: sqlite3.Connection) -> int:
        seqs: defaultdict[str, list[int]] = defaultdict(list)
        start = (item.day_ms - 1, "", 0)
        for epoch, seq in books.page(connection, ("epoch", "seq"), item.project_id, item.day_ms, start, pace.size):
            seqs[epoch].append(seq)
        runs = [(epoch, *run) for epoch, found in seqs.items() for run in arrived.runs(sorted(found))]
        return books.take_out_all(connection, item, runs)

    while count := pace.do(step):
        went += count
    pace.do(books.finish, item.id, "deleted", now_ms)
    return went


def set_rule(store: SqliteStore, project: str | int | None, rule: Rule | None, now_ms: int, actor: Actor) -> None:
    """Set or take away (None) the rule of a project (its name, or its number), or of all without one; the audit log
    says who did.

    Raises `Refused`; `LedgerError`.
    """
    if rule is not None and rule.keep == ARCHIVE:
        parquet.need()

    def put(connection: sqlite3.Connection) -> None:
        number = books.project(connection, project) if isinstance(project, str) else project or EVERY
        old = books.rules(connection).get(number)
        if old != rule:
            books.set_rule(connection, number, rule, now_ms)
            audit.note(
                connection,
                now_ms,
                actor,
                "retention.removed" if rule is None else "retention.changed" if old else "retention.created",
                books.projects(connection)[number] if number else "every project",
                project_id=number or None,
                before=old and old._asdict(),
                after=rule and rule._asdict(),
            )

    store.change(put)
