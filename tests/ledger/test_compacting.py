"""A file shrinks: once in one go, alone, and from then on in steps while it is served."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.cli import main
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import Busy, Corrupt
from aicostguard.ledger.keeping import compacting, keeper, retention
from aicostguard.ledger.keeping.books import DELETE, Rule
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.sqlite import SqliteStore, contents
from tests.ledger.support import NOW, envelope, epoch, receipt, serving, take, totals, wait_for


def emptied(path: Path, count: int = 3000) -> dict[str, Any]:
    """A ledger most of whose pages are free; its totals."""
    store = ledger.open_ledger(str(path))
    fill(store, count)
    found = totals(store)
    store.close()
    return found


def fill(store: SqliteStore, count: int) -> None:
    for _ in range(count // 500):
        bodies = [receipt(session=f"{'s' * 100}{n}", user="ada") for n in range(500)]
        take(store, envelope(bodies, name=epoch(), ago_ms=100 * DAY_MS))
    take(store, envelope([receipt(user="ada")] * 3, name=epoch()))
    retention.set_rule(store, None, Rule(90, DELETE), NOW, Actor("test"))
    retention.run(store, NOW)


@pytest.mark.ids("E13")
def test_a_file_is_laid_out_anew_and_holds_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    before = emptied(path)
    done = compacting.in_one_go(str(path))
    assert done.after < done.before / 3 and done.after == path.stat().st_size and not done.in_steps
    assert sorted(p.name for p in tmp_path.iterdir() if "part" in p.name or p.name.endswith("-wal")) == []
    assert path.stat().st_mode & 0o777 == 0o600
    store = ledger.open_ledger(str(path))
    assert totals(store) == before and compacting.shrinks(store)
    assert store.look(lambda connection: contents.read(connection).sums_agree)
    store.close()


@pytest.mark.ids("E13")
def test_from_then_on_it_shrinks_while_it_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    emptied(path, 500)
    compacting.in_one_go(str(path))
    monkeypatch.setattr(compacting, "KEPT", 8)
    monkeypatch.setattr(keeper, "FIRST_S", 0.0)
    store = ledger.open_ledger(str(path))
    try:
        for _ in range(6):
            bodies = [receipt(session=f"{'s' * 100}{n}") for n in range(500)]
            take(store, envelope(bodies, name=epoch(), ago_ms=100 * DAY_MS))
        whole = totals(store)

        def pages() -> int:
            return int(store.look(lambda c: c.execute("PRAGMA page_count").fetchone()[0]))

        before = pages()
        with serving(store):
            wait_for(lambda: pages() < before / 3, "the file to shrink")
            assert take(store, envelope([receipt()], name=epoch()))["accepted"] == 1
        assert totals(store)["calls"] == whole["calls"] + 1
        assert store.look(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"
    finally:
        store.close()


def test_it_is_refused_while_the_file_is_open(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    emptied(path, 500)
    store = ledger.open_ledger(str(path))
    with pytest.raises(Busy, match="stop `aicg serve` this once"):
        compacting.in_one_go(str(path))
    store.close()


def test_what_a_sink_writes_meanwhile_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    emptied(path, 500)
    real = os.truncate
    times = iter(range(1))

    def truncate(part: str, size: int) -> None:
        real(part, size)
        tried.append(part)

    tried: list[str] = []
    laid_out = compacting._laid_out

    def late(connection: sqlite3.Connection, part: str) -> bool:
        class Meanwhile:
            def execute(self, text: str, *given: Any) -> Any:
                answer = connection.execute(text, *given)
                if text.startswith("VACUUM") and next(times, None) is not None:
                    other = sqlite3.connect(path)
                    with other:
                        body = json.dumps(envelope([receipt(user="late")], name=epoch())).encode()
                        other.execute("INSERT INTO inbox (received_ms, envelope) VALUES (?, ?)", (NOW, body))
                    other.close()
                return answer

        return laid_out(Meanwhile(), part)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "truncate", truncate)
    monkeypatch.setattr(compacting, "_laid_out", late)
    compacting.in_one_go(str(path))
    assert len(tried) == 2
    store = ledger.open_ledger(str(path))
    assert totals(store, user="late")["calls"] == 1
    store.close()


def test_a_copy_that_is_not_the_same_is_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    emptied(path, 500)
    before = path.read_bytes()
    real = compacting._verified
    monkeypatch.setattr(compacting, "_verified", lambda part: real(part)._replace(last_at_ms=1))
    with pytest.raises(Corrupt, match="thrown away"):
        compacting.in_one_go(str(path))
    assert len(path.read_bytes()) == len(before)
    assert not list(tmp_path.glob("*.part*"))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.db"
    emptied(path, 500)
    assert main(["compact", "--db", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["in_steps"] is False
    assert main(["compact", "--db", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["in_steps"] is True
