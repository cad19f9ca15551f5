"""Whatever happens to a ledger, in whatever order: every sum is what the receipts say, to the nano-dollar.

A machine of random acts runs beside a model that is a list of receipts and nothing else: taking in, sending again,
pricing again, archiving, deleting by rule, restoring, forgetting, tallying. After each act every cell of the sums is
compared with the model, and a question or two, in a zone of its own, around the days on which clocks change. A second
machine has room for one name a day of each dimension: what has none stands under `(other)`, and nothing is lost.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

pytest.importorskip("pyarrow")

from aicostguard import ledger
from aicostguard.ledger import query, repricing, spread
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.keeping import books, forgetting, keeper, pace, restoring, retention
from aicostguard.ledger.keeping.books import ARCHIVE, DELETE, Rule
from aicostguard.ledger.model import (
    DAY_MS,
    DIMENSIONS,
    HOUR_MS,
    JOINT,
    MEASURES,
    MOST_NAMES,
    OTHER,
    PAIRS,
    SPARSE,
    TIMES,
    Query,
)
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore, room, tallies
from tests.ledger.support import epoch, take
from tests.ledger.test_queries import cached, dearer, measured, value

#: within 45 days of it clocks change in Europe, in America and on Lord Howe
_FIRST = int(datetime.fromisoformat("2026-03-01T00:00:00+00:00").timestamp() * 1000)
#: days of which the acts tell: one on which Berlin's clocks change, its neighbours, and others
_DAYS = st.sampled_from([6, 7, 8, 27, 28, 29, 34, 44])
_NOW = _FIRST + 46 * DAY_MS
_FEW = st.sampled_from(["a", "b", "c", "d"])
_RECEIPTS = st.fixed_dictionaries(
    {"provider": st.sampled_from(["openai", "anthropic"]), "model": st.sampled_from(["gpt-4o", "o3", "unheard-of"])},
    optional={
        "input_tokens": st.integers(0, 10**6),
        "output_tokens": st.integers(0, 10**6),
        "cache_read_input_tokens": st.integers(1, 10**6),
        "latency_ms": st.integers(0, 10**6),
        "ttft_ms": st.integers(0, 10**6),
        **dict.fromkeys(("feature", "team", "user", "user", "session", "agent"), _FEW),
        **dict.fromkeys(("estimated", "usage_missing", "partial"), st.just(True)),
    },
)
_SENT = st.lists(st.tuples(_RECEIPTS, st.integers(0, DAY_MS - 1)), min_size=1, max_size=6)
_ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])

Key = tuple[str, int]


class _Ledger(RuleBasedStateMachine):
    #: names that a day has room for; None: as by default
    room: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="aicg-test-")
        self._patches = [
            mock.patch.object(tallies, "LEAST", 1),
            mock.patch.object(pace, "REST", 0),
            mock.patch.object(ledger, "now_ms", return_value=_NOW),
        ]
        for patch in self._patches:
            patch.start()
        self.store: SqliteStore = ledger.open_ledger(str(Path(self._folder.name) / "ledger.db"))
        if self.room is not None:
            most = [(name, self.room) for name in MOST_NAMES]
            self.store.change(lambda connection: connection.executemany("INSERT INTO bounds VALUES (0, ?, ?)", most))
        #: what was ever taken in, as it is now; those that are no rows any more, and why
        self.model: dict[Key, dict[str, Any]] = {}
        self.gone: dict[Key, str] = {}
        self.bodies: list[dict[str, Any]] = []
        #: days that were brought back: for a while, retention leaves them alone
        self.back: set[int] = set()

    def teardown(self) -> None:
        self.store.close()
        for patch in reversed(self._patches):
            patch.stop()
        self._folder.cleanup()

    # Acts.

    @initialize(sent=_SENT, day=_DAYS)
    def begin(self, sent: Any, day: int) -> None:
        self.send(sent, day)

    @rule(sent=_SENT, day=_DAYS)
    def send(self, sent: Any, day: int) -> None:
        body: dict[str, Any] = {"schema": 1, "agent": "0.1.0", "epoch": epoch(), "sent_at": _NOW, "counters": {}}
        body |= {"service": "shop", "environment": "e%d" % (day % 2), "host": "h%d" % (day % 3)}
        body["seq"] = list(range(len(sent)))
        body["at"] = [_FIRST + day * DAY_MS + at for _, at in sent]
        body["receipts"] = [item for item, _ in sent]
        self.bodies.append(body)
        self._take(body)

    @rule(which=st.integers(0, 99), first=st.integers(0, 3))
    def send_again(self, which: int, first: int) -> None:
        body = self.bodies[which % len(self.bodies)]
        self._take({**body, **{name: body[name][first:] for name in ("seq", "at", "receipts")}})

    def _take(self, body: dict[str, Any]) -> None:
        take(self.store, body, received_ms=_NOW, price=cached)
        self.store.fold()
        for seq, at_ms, receipt in zip(body["seq"], body["at"], body["receipts"]):
            if (body["epoch"], seq) in self.model:
                continue
            cost = cached(receipt, at_ms).cost_nanousd
            row = {**receipt, "at_ms": at_ms, "cost_nanousd": cost, "clock_adjusted": False}
            row |= {name: body[name] for name in ("service", "environment", "host")}
            self.model[body["epoch"], seq] = row
            self._save(row, cached)

    def _save(self, row: dict[str, Any], price: Any) -> None:
        row.pop("cache_savings_nanousd", None)
        if row["cost_nanousd"] is not None and "cache_read_input_tokens" in row:
            plain = {name: amount for name, amount in row.items() if name != "cache_read_input_tokens"}
            row["cache_savings_nanousd"] = price(plain, row["at_ms"]).cost_nanousd - row["cost_nanousd"]

    @rule(unpriced=st.booleans(), day=_DAYS)
    def price_again(self, unpriced: bool, day: int) -> None:
        scope = Scope(self.store.default_project(), _FIRST, _FIRST + day * DAY_MS, unpriced_only=unpriced)
        repricing.reprice(self.store, scope, dearer, "test", _NOW, apply=True)
        for key, row in self.model.items():
            if key in self.gone or row["at_ms"] >= scope.until_ms or (unpriced and row["cost_nanousd"] is not None):
                continue
            cost = dearer(row, row["at_ms"])
            if cost.cost_nanousd is not None and (cost.cost_nanousd, cost.row) != (row["cost_nanousd"], row.get("row")):
                row.update(cost_nanousd=cost.cost_nanousd, row=cost.row)
                self._save(row, dearer)

    @rule(keep=st.sampled_from([ARCHIVE, ARCHIVE, DELETE]), day=_DAYS)
    def retain(self, keep: str, day: int) -> None:
        retention.set_rule(self.store, None, Rule((_NOW - _FIRST) // DAY_MS - day, keep), _NOW, Actor("test"))
        retention.run(self.store, _NOW)
        retention.set_rule(self.store, None, None, _NOW, Actor("test"))
        for key, row in self.model.items():
            kept = row["at_ms"] - row["at_ms"] % DAY_MS in self.back
            if row["at_ms"] < _FIRST + day * DAY_MS and key not in self.gone and not kept:
                self.gone[key] = keep

    @precondition(lambda self: ARCHIVE in self.gone.values())
    @rule()
    def restore(self) -> None:
        every = self.store.look(lambda connection: books.archives(connection, "state = 'archived'"))
        restoring.restore(self.store, every, _NOW)
        self.back |= {item.day_ms for item in every}
        self.gone = {key: kept for key, kept in self.gone.items() if kept == DELETE}

    @rule(name=_FEW)
    def forget(self, name: str) -> None:
        done = forgetting.forget(self.store, self.store.default_project(), name, Actor("test"), _NOW)
        assert done.settled
        for row in self.model.values():
            if row.get("user") == name:
                row["user"] = done.pseudonym

    @rule()
    def tally(self) -> None:
        keeper.tally(self.store, _NOW)

    # What must hold.

    @invariant()
    def every_sum_is_what_the_receipts_say(self) -> None:
        wanted: dict[tuple[str, str, int, str], list[dict[str, Any]]] = defaultdict(list)
        full, own = self._names()
        for row in self.model.values():
            for table, name, start, text in _cells(row):
                day = (name, start - start % DAY_MS)
                if day in full and text and text not in own[day]:
                    text = room.other_of(name)
                wanted[table, name, start, text].append(row)
        names = ", ".join(MEASURES)
        found = {}
        for table in ("hourly", "daily"):
            rows = self.store.look(
                lambda connection, table=table: connection.execute(
                    f"SELECT dimension, start_ms, value, {names} FROM {table}"
                ).fetchall()
            )
            found.update({(table, *row[:3]): dict(zip(MEASURES, row[3:])) for row in rows})
        assert found == {cell: measured(rows) for cell, rows in wanted.items()}
        for table in ("hourly", "daily"):
            rows = self.store.look(
                lambda connection, table=table: connection.execute(
                    f"SELECT dimension, start_ms, value, latency_ms, ttft_ms FROM {table}_spreads"
                ).fetchall()
            )
            for *cell, latency, first in rows:
                amounts = found[(table, *cell)] if (table, *cell) in found else measured(wanted[(table, *cell)])
                counts = (amounts["timed_calls"], amounts["first_token_calls"])
                assert tuple(map(_count, (latency, first))) == counts, cell

    def _names(self) -> tuple[set[tuple[str, int]], dict[tuple[str, int], set[str]]]:
        """The days that are full, and the names that days have sums of: at most as many as there is room for."""
        own: dict[tuple[str, int], set[str]] = defaultdict(set)
        rows = self.store.look(
            lambda connection: connection.execute("SELECT dimension, start_ms, value FROM daily").fetchall()
        )
        for name, start, text in rows:
            if text not in ("", room.other_of(name)):
                own[name, start].add(text)
        held = self.store.look(
            lambda connection: connection.execute(
                "SELECT dimension, start_ms, names, full_ms IS NOT NULL FROM named_days"
            ).fetchall()
        )
        assert {(name, start): count for name, start, count, _ in held if count} == {
            day: len(texts) for day, texts in own.items()
        }
        assert self.room is None or all(len(texts) <= self.room for texts in own.values())
        return {(name, start) for name, start, _, full in held if full}, own

    @rule(
        name=st.sampled_from([*DIMENSIONS]),
        time=st.sampled_from([*TIMES, ""]),
        zone=_ZONES,
        days=st.tuples(_DAYS, _DAYS),
    )
    def ask(self, name: str, time: str, zone: str, days: tuple[int, int]) -> None:
        tz = query.period.zone(zone)
        since, until = (_FIRST + day * DAY_MS for day in (min(days), max(days) + 1))
        group_by = tuple(part for part in (name, time) if part)
        offsets = query.period.offsets(since, until, tz)
        asked = Query(self.store.default_project(), since, until, group_by, {}, zone, offsets, limit=10_000)
        chosen = {key: row for key, row in self.model.items() if since <= row["at_ms"] < until}
        found = self.store.costs(asked)
        assert found.totals == measured([*chosen.values()])
        if not self.gone and group_by:
            assert found.totals == {measure: sum(amounts[measure] for _, amounts in found.rows) for measure in MEASURES}
        found = self.store.costs(asked._replace(named=True))
        assert found.totals == measured([*chosen.values()])
        if not self.gone:
            wanted: dict[Any, list[dict[str, Any]]] = defaultdict(list)
            for row in chosen.values():
                wanted[tuple(value(row, part, tz) or "" for part in group_by)].append(row)
            assert found.groups == len(wanted)
            assert sorted(amounts["calls"] for _, amounts in found.rows) == sorted(map(len, wanted.values()))
            assert sorted(amounts["cost_nanousd"] for _, amounts in found.rows) == sorted(
                measured(rows)["cost_nanousd"] for rows in wanted.values()
            )

    @precondition(lambda self: not self.gone)
    @rule(
        name=st.sampled_from(["user", "feature", "team", "agent", "model"]),
        which=st.sampled_from(["a", "b", "c", "d", "o3", ""]),
        without=st.booleans(),
        group_by=st.sampled_from(["", "day", "model", "feature", "user"]),
        days=st.tuples(_DAYS, _DAYS),
        latency=st.sampled_from(["", "approximate", "exact"]),
    )
    def ask_for_a_name(
        self, name: str, which: str, without: bool, group_by: str, days: tuple[int, int], latency: str
    ) -> None:
        since, until = (_FIRST + day * DAY_MS for day in (min(days), max(days) + 1))
        chosen = {"excluded": {name: (which,)}} if without else {"filters": {name: (which,)}}
        groups = (group_by,) if group_by else ()
        asked = Query(self.store.default_project(), since, until, groups, limit=10_000, latency=latency)
        found = self.store.costs(asked._replace(**chosen))
        rows = [row for row in self.model.values() if since <= row["at_ms"] < until]
        rows = [row for row in rows if (row.get(name, "") == which) != without]
        assert found.totals == measured(rows)
        if groups:
            for measure in MEASURES:
                assert sum(amounts[measure] for _, amounts in found.rows) == found.totals[measure]
        if latency:
            times = [row["latency_ms"] for row in rows if "latency_ms" in row]
            assert (found.latency[-1]["latency_p50_ms"] is None) == (not times)

    @rule(
        days=st.tuples(_DAYS, _DAYS),
        limit=st.integers(1, 4),
        order=st.sampled_from(["cost_nanousd", "calls", "input_tokens", "change"]),
        descending=st.booleans(),
        excluded=st.sampled_from([{}, {"user": ("",)}, {"user": ("a", "nobody")}]),
        compares=st.booleans(),
    )
    def ask_for_the_first_users(
        self, days: Any, limit: int, order: str, descending: bool, excluded: Any, compares: bool
    ) -> None:
        since, until = (_FIRST + day * DAY_MS for day in (min(days), max(days) + 1))
        before = (2 * since - until, since) if compares or order == "change" else None
        asked = Query(self.store.default_project(), since, until, ("user",), {}, limit=limit, excluded=excluded)
        asked = asked._replace(order=order, descending=descending, before=before)
        found = self.store.costs(asked)
        raw = set(self.store.look(lambda connection: room.seen(connection, asked))[0].unsummed)
        full, own = self._names()
        users: dict[str, list[dict[str, Any]]] = defaultdict(list)
        earlier: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for key, row in self.model.items():
            user, day = row.get("user", ""), row["at_ms"] - row["at_ms"] % DAY_MS
            if user in excluded.get("user", ()) or (day in raw and key in self.gone):
                continue
            if user and ("user", day) in full and day not in raw and user not in own["user", day]:
                user = OTHER
            if since <= row["at_ms"] < until:
                users[user].append(row)
            elif before is not None and before[0] <= row["at_ms"] < before[1]:
                earlier[user].append(row)
        now = {name: measured(users.get(name, [])) for name in {*users, *earlier}}
        then = {name: measured(earlier.get(name, [])) for name in now}

        def place(name: str) -> Any:
            key = now[name]["cost_nanousd"] - then[name]["cost_nanousd"] if order == "change" else now[name][order]
            return (-key if descending else key, -now[name]["cost_nanousd"], name)

        # Whole days alone are asked for: of what cuts a day, archives would lack a part.
        assert [(name, sums) for (name,), sums in found.rows] == [
            (name, now[name]) for name in sorted(now, key=place)[:limit]
        ]
        assert found.groups == len(now)


def _cells(row: dict[str, Any]) -> Iterator[tuple[str, str, int, str]]:
    day, hour = (row["at_ms"] - row["at_ms"] % span for span in (DAY_MS, HOUR_MS))
    for name, dimension in DIMENSIONS.items():
        if dimension.hourly:
            yield "hourly", name, hour, row.get(name, "")
        if dimension.daily:
            yield "daily", name, day, row.get(name, "")
    for one, other in PAIRS:
        name, value = f"{one},{other}", row.get(one, "") + JOINT + row.get(other, "")
        if name not in SPARSE:
            yield "daily", name, day, value
        elif value != JOINT:
            yield from (("hourly", name, hour, value), ("daily", name, day, value))


def _count(times: bytes) -> int:
    """How many values a spread is of."""
    return spread._HEAD.unpack_from(times)[1] if times else 0


class _Full(_Ledger):
    room = 1


_Full.TestCase.settings = _Ledger.TestCase.settings = settings(
    max_examples=25, stateful_step_count=14, deadline=None, suppress_health_check=[*HealthCheck]
)
test_sums_are_right_whatever_happens = pytest.mark.ids("X6", "E13")(_Ledger.TestCase)
test_sums_are_right_whatever_happens_on_days_that_are_full = pytest.mark.ids("X6", "E13")(_Full.TestCase)
