"""Whatever is done in whatever order, sums are what receipts come to, here and archived, to the nano-dollar."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import ledger
from aicostguard.ledger import repricing
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.keeping import books, forgetting, parquet, restoring, retention
from aicostguard.ledger.keeping.books import ARCHIVE, Rule
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore, contents
from aicostguard.pricing import Price
from tests.ledger.support import NOW, envelope, receipt, take

_USERS = ("ann", "ben", "cy")
_PROCESSES = 3
#: what is compared: as it is called here, and in the sums
_MEASURED = {"cost": "cost_nanousd", "calls": "calls", "tokens": "input_tokens", "unpriced": "unpriced_calls"}
_EPOCH = "01PROPERTY{:016d}"
_SENT = st.tuples(
    st.just("send"),
    st.integers(0, _PROCESSES - 1),
    st.integers(0, 12),  # the first number: what was sent before is sent again, gaps are left and filled
    st.lists(st.tuples(st.sampled_from((*_USERS, None)), st.integers(0, 9), st.booleans()), min_size=1, max_size=5),
    st.integers(0, 8),
)
_ACTS = st.one_of(
    _SENT,
    _SENT,
    _SENT,
    st.tuples(st.just("reprice"), st.integers(1, 9), st.booleans()),
    st.tuples(st.just("retain"), st.integers(1, 6)),
    st.tuples(st.just("restore"), st.integers(0, 5)),
    st.tuples(st.just("forget"), st.sampled_from(_USERS)),
)


class _Run:
    """A ledger, and what has been accepted, as the acts' own words tell."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.taken: set[tuple[int, int]] = set()
        self.refused: set[tuple[int, int]] = set()
        self.now = NOW

    def send(self, process: int, first: int, receipts: list[tuple[str | None, int, bool]], days: int) -> None:
        bodies: list[Any] = []
        for user, tokens, priced in receipts:
            body = receipt(model="gpt-4o" if priced else "unheard-of", input_tokens=tokens, feature=f"f{tokens % 2}")
            bodies.append({**body, "user": user} if user else body)
        if first % 5 == 4:
            bodies[0] = {"provider": 7}
        said = take(
            self.store,
            envelope(bodies, name=_EPOCH.format(process), first=first, ago_ms=days * DAY_MS, service="web"),
        )
        numbers = [(process, first + place) for place in range(len(bodies))]
        refused = {numbers[item["index"]] for item in said["refused"]}
        new = {number for number in numbers if number not in self.taken and number not in refused}
        assert (said["accepted"], said["duplicate"]) == (len(new), len(numbers) - len(refused) - len(new))
        self.taken |= new

    def reprice(self, price: int, unpriced_only: bool) -> None:
        def priced(one: Any, at_ms: int) -> Price:
            return Price(price * one["input_tokens"], f"row{price}", None)

        scope = Scope(1, 0, 2 * NOW, unpriced_only=unpriced_only)
        repricing.reprice(self.store, scope, priced, "test", NOW, apply=True)

    def retain(self, days: int) -> None:
        retention.set_rule(self.store, None, Rule(days, ARCHIVE), NOW, Actor("test"))
        retention.run(self.store, NOW)

    def restore(self, which: int) -> None:
        there = self.store.look(lambda c: books.archives(c, "state = 'archived'"))
        if there:
            restoring.restore(self.store, [there[which % len(there)]], NOW, for_days=1 if which % 2 else 400)

    def forget(self, user: str) -> None:
        assert forgetting.forget(self.store, 1, user, Actor("test"), NOW).settled


def _of(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, Counter[tuple[str, int, str]]]:
    """Cost, calls, tokens and unpriced calls of rows by dimension, day and value."""
    found: dict[str, Counter[tuple[str, int, str]]] = {
        name: Counter() for name in ("cost", "calls", "tokens", "unpriced")
    }
    for row in rows:
        values = dict(zip(names, row))
        for dimension in ("user", "feature", "model", "provider", "service"):
            key = (dimension, values["at_ms"] - values["at_ms"] % DAY_MS, values[dimension] or "")
            found["cost"][key] += values["cost_nanousd"] or 0
            found["calls"][key] += 1
            found["tokens"][key] += values["input_tokens"] or 0
            found["unpriced"][key] += values["cost_nanousd"] is None
    return found


def _check(run: _Run) -> None:
    store = run.store
    names = store.look(books.columns).names
    rows = store.look(lambda c: c.execute("SELECT * FROM receipts").fetchall())
    here = {(row[1], row[2]) for row in rows}
    for item in store.look(lambda c: books.archives(c, "state = 'archived'")):
        path = os.path.join(retention.folder(store), item.file)
        parquet.check(path, item.sha256)
        rows += [row for page in parquet.read(path, names) for row in page]
    kept = Counter((row[1], row[2]) for row in rows)
    # each that was accepted lies in one place, and nothing else does
    assert kept == Counter({(_EPOCH.format(process), seq): 1 for process, seq in run.taken})
    assert here <= set(kept)

    def summed(connection: sqlite3.Connection) -> dict[str, Counter[tuple[str, int, str]]]:
        found: dict[str, Counter[tuple[str, int, str]]] = {}
        for name, column in _MEASURED.items():
            found[name] = Counter({row[:3]: row[3] for row in connection.execute(
                f"SELECT dimension, start_ms, value, {column} FROM daily "
                "WHERE dimension IN ('user', 'feature', 'model', 'provider', 'service')"
            )})  # fmt: skip
        return found

    sums, raw = store.look(summed), _of(names, rows)
    assert {name: +one for name, one in sums.items()} == {name: +one for name, one in raw.items()}
    assert store.look(lambda connection: contents.read(connection).sums_agree)


@pytest.mark.ids("E13")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(_ACTS, min_size=3, max_size=12))
def test_sums_are_what_receipts_come_to(tmp_path_factory: pytest.TempPathFactory, acts: list[Any]) -> None:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("keeping") / "ledger.db"))
    try:
        run = _Run(store)
        for name, *given_ in acts:
            getattr(run, name)(*given_)
            _check(run)
    finally:
        store.close()
