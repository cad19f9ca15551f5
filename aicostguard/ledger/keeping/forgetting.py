"""A user is forgotten: a random pseudonym stands wherever the name stood, and nothing leads back.

Owns the act: its order, its record and what it says is left. The pseudonym is not derived from the name, and no hash of
the name is kept: whoever has the file could try names against it. So receipts that come later under the name are stored
under it; the act is simply done again. If this is incomplete, a person is told that they are forgotten and are not.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from functools import partial
from typing import Any, Callable, Iterator, NamedTuple, Sequence

from aicostguard import ledger
from aicostguard.ledger.access import audit
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import Busy, Refused
from aicostguard.ledger.keeping import books, leftover, parquet, places
from aicostguard.ledger.keeping.books import Archive
from aicostguard.ledger.keeping.naming import Naming
from aicostguard.ledger.keeping.pace import Pace, alone
from aicostguard.ledger.keeping.parquet import Columns, Values
from aicostguard.ledger.keeping.retention import day, folder
from aicostguard.ledger.sqlite import SqliteStore, file

#: the act looks again so often while receipts of the user keep coming
PASSES = 5
#: longest name that is asked for; as labels are
LONGEST = 256
_PAGE = 500
#: pages of 4 KB that one step overwrites
_SCRUB = 64
SCRUBBED = "free_pages_overwritten"


class Report(NamedTuple):
    """What an act changed. `left` is where the same word still stands and is no user: `table.column` or a file → times.

    `settled` is false when receipts of the user kept coming: do it again once they stop.
    """

    number: int
    pseudonym: str
    receipts: int
    archived: int
    others: int
    settled: bool
    left: dict[str, int]


def forget(
    store: SqliteStore,
    project_id: int,
    user: str,
    actor: Actor,
    now_ms: int,
    *,
    begun: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Do it. Raises `Refused` for no name, `Busy` while another act of keeping is under way, `LedgerError`."""
    if not user or len(user) > LONGEST:
        raise Refused(422, f"must be 1 to {LONGEST} characters, the label `user` as it was sent", "user")
    naming = Naming(user, f"forgotten-{secrets.token_hex(8)}")
    pace = Pace(store, stop)
    with alone(store.path):
        leftover.clear(store, folder(store))
        number = pace.do(_begin, project_id, naming.pseudonym, actor, now_ms)
        begun(number)
        settled = False
        for _ in range(PASSES):
            ledger.drain(store)
            mark = store.look(lambda connection: connection.execute("SELECT max(id) FROM arrivals").fetchone()[0]) or 0
            _receipts(pace, number, project_id, naming)
            _archives(pace, number, project_id, naming, now_ms)
            pace.do(places.scopes, number, project_id, naming)
            for at in store.look(lambda connection: list(places.texts(connection))):
                _in_steps(
                    pace,
                    places.rewrite,
                    number,
                    at,
                    naming,
                    store.look(partial(places.mentioning, project_id=project_id, at=at, naming=naming)),
                )
            settled = pace.do(places.rest, project_id, naming, mark)
            if settled:
                break
        _scrub(pace)
        record = pace.do(_end, number, project_id, actor, ledger.now_ms())
        _empty_wal(store.path)
        return Report(number, naming.pseudonym, *record, settled, _left(store, project_id, naming))


def acts(connection: sqlite3.Connection, project_id: int) -> list[dict[str, Any]]:
    """The acts there were, the latest first."""
    names = ("id", "at_ms", "who", "pseudonym", "state", "receipts", "archived", "others", "ended_ms")
    found = connection.execute(
        f"SELECT {', '.join(names)} FROM forgettings WHERE project_id = ? ORDER BY id DESC LIMIT 1000", (project_id,)
    )
    return [dict(zip(names, row)) for row in found]


def _begin(connection: sqlite3.Connection, project_id: int, pseudonym: str, actor: Actor, now_ms: int) -> int:
    # One that was stopped is not gone on with: the name it was for is in nobody's memory.
    connection.execute("UPDATE forgettings SET state = 'stopped', ended_ms = ? WHERE state = 'open'", (now_ms,))
    made = connection.execute(
        "INSERT INTO forgettings (project_id, at_ms, who, pseudonym, state, receipts, archived, others) "
        "VALUES (?, ?, ?, ?, 'open', 0, 0, 0)",
        (project_id, now_ms, actor.who, pseudonym),
    )
    return int(made.lastrowid or 0)


def _end(
    connection: sqlite3.Connection, number: int, project_id: int, actor: Actor, now_ms: int
) -> tuple[int, int, int]:
    connection.execute("UPDATE forgettings SET state = 'done', ended_ms = ? WHERE id = ?", (now_ms, number))
    receipts, archived, others = connection.execute(
        "SELECT receipts, archived, others FROM forgettings WHERE id = ?", (number,)
    ).fetchone()
    after = {"receipts": receipts, "archived": archived, "others": others}
    audit.note(connection, now_ms, actor, "user forgotten", f"forgetting {number}", project_id=project_id, after=after)
    return receipts, archived, others


def _receipts(pace: Pace, number: int, project_id: int, naming: Naming) -> None:
    after: places.Place = ("", -1)
    while True:
        pace.look()
        found = pace.store.look(partial(places.found, project_id=project_id, naming=naming, after=after, limit=_PAGE))
        if not found:
            return
        _in_steps(pace, places.receipts, number, project_id, naming, found)
        after = found[-1]


def _in_steps(pace: Pace, step: Callable[..., int], *given: Any) -> None:
    """Run a step for all of a sequence, the last of `given`, some at a time."""
    *given_first, rest = given
    while rest:
        # A row here costs several statements, and as many of its sums.
        size = max(1, pace.size // 4)
        chunk, rest = rest[:size], rest[size:]
        pace.do(step, *given_first, chunk)


def _archives(pace: Pace, number: int, project_id: int, naming: Naming, now_ms: int) -> None:
    """Write anew the files that name the user."""
    wanted = "project_id = ? AND file <> '' AND state NOT IN ('restored', 'writing')"
    for item in pace.store.look(partial(books.archives, where=wanted, values=(project_id,))):
        if item.state != "archived":
            raise Busy(f"the archive of {day(item.day_ms)} is half-way ({item.state}): finish it first, then forget")
        path = os.path.join(folder(pace.store), item.file)
        parquet.check(path, item.sha256)
        if any(
            naming.name == user or _named(naming, tags, user)
            for page in parquet.read(path, ("user", "tags"))
            for user, tags in page
        ):
            _rewrite(pace, number, item, naming, now_ms)


def _named(naming: Naming, tags: str | None, user: str | None) -> bool:
    return naming.cell(tags, user == naming.name) != tags


def _rewrite(pace: Pace, number: int, item: Archive, naming: Naming, now_ms: int) -> None:
    path = os.path.join(folder(pace.store), item.file)
    names = parquet.names(path)
    texts = pace.store.look(books.columns).integers
    columns = Columns(names, frozenset(name for name in names if name in texts))
    user, tags = names.index("user"), names.index("tags")
    mine: list[Values] = []
    count = 0

    def pages() -> Iterator[list[Values]]:
        nonlocal count
        for page in parquet.read(path, names):
            out = []
            for row in page:
                own = row[user] == naming.name
                new = list(row)
                new[tags] = naming.cell(row[tags], own)
                if own:
                    new[user] = naming.pseudonym
                    mine.append(row)
                count += tuple(new) != row
                out.append(tuple(new))
            yield out

    date = day(item.day_ms)
    name = os.path.join(os.path.dirname(item.file), f"{date}-{item.id}-{secrets.token_hex(3)}.parquet")
    about = {"project_id": item.project_id, "day": date, "archive": item.id}
    pace.do(leftover.note, name)
    made = parquet.write(folder(pace.store), name, columns, pages(), about)

    def swap(connection: sqlite3.Connection) -> None:
        books.written(connection, item.id, made, "archived", now_ms)
        sums = parquet.summed(names, mine)
        if mine:
            places.move(connection, item.project_id, naming, item.day_ms, list(sums.values()))
        connection.execute("UPDATE forgettings SET archived = archived + ? WHERE id = ?", (count, number))
        leftover.note(connection, item.file)

    pace.do(swap)
    leftover.clear(pace.store, folder(pace.store))


def _scrub(pace: Pace) -> None:
    """Overwrite the free pages, once in the life of a file: what is freed later is overwritten as it is freed."""
    if pace.store.setting(SCRUBBED):
        return
    pace.do(_scrap)
    while pace.do(_fill):
        pass
    while not pace.do(_unfill):
        pass
    pace.store.remember(SCRUBBED, "yes")


def _scrap(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS scrap (zeros BLOB NOT NULL) STRICT")


def _fill(connection: sqlite3.Connection) -> bool:
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    for _ in range(min(free, _SCRUB)):
        connection.execute("INSERT INTO scrap VALUES (zeroblob(?))", (size - 100,))
    return bool(free)


def _unfill(connection: sqlite3.Connection) -> bool:
    connection.execute("DELETE FROM scrap WHERE rowid IN (SELECT rowid FROM scrap LIMIT ?)", (_SCRUB,))
    if connection.execute("SELECT 1 FROM scrap LIMIT 1").fetchone():
        return False
    connection.execute("DROP TABLE scrap")
    return True


def _empty_wal(path: str) -> None:
    """Copy the WAL into the file and cut it: old versions of pages stand in it."""
    connection = file.connect(path, write=True)
    try:
        for _ in range(5):
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return
    finally:
        connection.close()


def _left(store: SqliteStore, project_id: int, naming: Naming) -> dict[str, int]:
    """Where the same bytes still stand: texts of tables by column, and the file and its WAL as a whole."""
    left: dict[str, int] = {}
    for at in [*store.look(lambda connection: list(places.texts(connection))), _RECEIPTS]:
        for column in at.columns:
            times = len(
                store.look(
                    partial(places.mentioning, project_id=project_id, at=at._replace(columns=(column,)), naming=naming)
                )
            )
            if times:
                left[f"{at.table}.{column}"] = times
    for end in ("", "-wal"):
        times = _times(store.path + end, [form.encode() for form in naming.forms()])
        if times:
            left[os.path.basename(store.path) + end] = times
    return left


_RECEIPTS = places.Texts(
    "receipts",
    ("project_id", "epoch", "seq"),
    ("user", "tags", "feature", "session", "request", "team", "agent", "parent_agent", "project"),
    True,
)


def _times(path: str, wanted: Sequence[bytes]) -> int:
    """How often any of these stands in a file's bytes."""
    overlap = max(map(len, wanted)) - 1
    times, tail = 0, b""
    try:
        with open(path, "rb") as data:
            while piece := data.read(1 << 20):
                window = tail + piece
                times += sum(window.count(one) for one in wanted)
                tail = window[len(window) - overlap :] if overlap else b""
    except FileNotFoundError:
        pass
    return times
