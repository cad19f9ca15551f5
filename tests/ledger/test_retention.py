"""Retention: old receipts go to files that were proved first, or for good; sums stay, and nothing counts twice."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pyarrow")

import aicostguard
from aicostguard import ledger
from aicostguard.cli import main
from aicostguard.guard import stated
from aicostguard.ledger import comparing, period, query, repricing, views
from aicostguard.ledger.access import audit
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.errors import Busy, Corrupt, LedgerError, NotWritable, Refused
from aicostguard.ledger.keeping import books, keeper, pace, parquet, restoring, retention
from aicostguard.ledger.keeping.books import ARCHIVE, DELETE, Archive, Rule
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore, contents, copying, salvage, schema
from aicostguard.ledger.sqlite.sized import RETENTION
from aicostguard.pricing import Price
from tests.ledger.support import NOW, ROOT, costs, envelope, epoch, receipt, serving, take, totals, wait_for

OLD = 100 * DAY_MS


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    """Three old days and today; what came of one process has a gap and a refusal in it."""
    for number in range(3):
        old = [receipt(feature=f"f{n % 3}", user=f"u{n}", tags={"n": str(n)}) for n in range(20)]
        take(store, envelope(old, name=f"01OLD{number:021d}", first=0, ago_ms=OLD + number * DAY_MS, service="web"))
    holed = envelope(
        [receipt(feature="f0", partial=True), {"provider": 7}, receipt(model="unheard-of")], name="01HOLED" + "0" * 19
    )
    holed.update(seq=[0, 2, 5], at=[NOW - OLD] * 3)
    take(store, holed)
    take(store, envelope([receipt(feature="f0", user="u0")] * 4))
    return store


def rule(store: SqliteStore, days: int = 90, keep: str = ARCHIVE) -> None:
    retention.set_rule(store, None, Rule(days, keep), NOW, Actor("test"))


def archives(store: SqliteStore) -> list[Archive]:
    return store.look(books.archives)


def rows(store: SqliteStore) -> list[tuple[Any, ...]]:
    return store.look(
        lambda connection: connection.execute("SELECT * FROM receipts ORDER BY project_id, epoch, seq").fetchall()
    )


def agree(store: SqliteStore) -> bool:
    return store.look(lambda connection: contents.read(connection).sums_agree)


@pytest.mark.ids("E13")
def test_without_a_rule_everything_stays(filled: SqliteStore) -> None:
    before = rows(filled)
    assert retention.run(filled, NOW).rows == 0
    assert rows(filled) == before


@pytest.mark.ids("E13", "Z9")
def test_old_receipts_go_to_files_and_every_sum_stays(filled: SqliteStore) -> None:
    asked: list[dict[str, str]] = [
        {"group_by": "feature"},
        {"group_by": "user"},
        {"group_by": "user,model"},  # no sums are kept of the two together
        {"feature": "f0"},
    ]
    before, answers = rows(filled), [costs(filled, **one) for one in asked]
    rule(filled)
    done = retention.run(filled, NOW)
    assert (done.days, done.rows, done.files) == (3, 62, 3)
    assert len(rows(filled)) == 4 and agree(filled)
    after = [costs(filled, **one) for one in asked]
    assert after[:2] + after[3:] == answers[:2] + answers[3:]
    # what needs single receipts says what it lacks
    assert after[2]["archived"]["receipts"] == 62 and after[2]["totals"] == answers[2]["totals"]
    assert sum(row["calls"] for row in after[2]["rows"]) == 4
    assert (after[2]["other"]["groups"], after[2]["other"]["calls"]) == (0, 62)
    # with two filters not even the total is known
    pair = costs(filled, feature="f1", user="u1")
    assert pair["totals"]["calls"] == 0 and pair["archived"]["receipts"] == 62
    for item in archives(filled):
        path = Path(retention.folder(filled), item.file)
        assert item.state == "archived" and path.stat().st_mode & 0o777 == 0o600
        told = json.loads(Path(f"{path}.json").read_text())
        assert (told["rows"], told["sums"], told["sha256"]) == (item.rows, item.sums, item.sha256)
        assert told["day"] == retention.day(item.day_ms) and f"{told['day'][:7]}{os.sep}{told['day']}" in item.file
    names = parquet.names(str(path))
    kept = [
        row
        for item in archives(filled)
        for page in parquet.read(os.path.join(retention.folder(filled), item.file), names)
        for row in page
    ]
    assert sorted(kept) == sorted(row for row in before if row not in rows(filled))


def test_what_has_no_place_to_say_that_receipts_are_archived_is_refused(filled: SqliteStore) -> None:
    """Views are bare lists: what only receipts tell would be too little without a word."""
    rule(filled)
    assert retention.run(filled, NOW)
    ask = views.Asker(filled, filled.default_project(), NOW)
    zones = {"days": ["130"], "tz": ["Asia/Kolkata"]}
    for name, asked in (
        ("daily_spend_by_model", zones),
        ("cost_by_feature", zones),
        ("latency_percentiles", {"model": ["gpt-4o"], "hours": ["3000"]}),
    ):
        with pytest.raises(Refused, match=r"receipts of .* are archived") as refused:
            views.look(name, asked, ask)
        assert refused.value.status == 422
    # Whole days of UTC are in sums, which stay.
    assert sum(row["request_count"] for row in views.look("daily_spend_by_model", {"days": ["130"]}, ask)) == 66


def test_what_the_same_traffic_would_cost_says_what_it_lacks(filled: SqliteStore) -> None:
    asked = {"since": ["all"], "baseline": ["gpt-4o-mini"]}
    assert comparing.compare(filled, asked, filled.default_project(), NOW)["archived"] is None
    rule(filled)
    assert retention.run(filled, NOW)
    told = comparing.compare(filled, asked, filled.default_project(), NOW)
    assert (told["baseline"]["calls"], told["archived"]["receipts"]) == (4, 62)
    assert told["models"][0]["calls"] == 65, "sums stay"
    assert comparing.compare(filled, {"since": ["all"]}, filled.default_project(), NOW)["archived"] is None
    with serving(filled) as server:
        page = server.get("/models?since=all&baseline=gpt-4o-mini").raw.decode()
        assert (
            f"62 receipts of {told['archived']['days']} days are not in what the same traffic would have cost" in page
        )
        assert "archived as single receipts" not in server.get("/models?since=all").raw.decode()


def test_frames_say_which_receipts_are_archived(filled: SqliteStore) -> None:
    assert aicostguard.query(db=filled.path, since="all", group_by="feature,user").archived is None
    rule(filled)
    assert retention.run(filled, NOW)
    for what, asked in (("costs", {"group_by": "feature,user"}), ("receipts", {}), ("receipts", {"limit": 2})):
        archived = aicostguard.query(what, db=filled.path, since="all", **asked).archived  # type: ignore[arg-type]
        assert archived is not None and archived["receipts"] == 62
    assert aicostguard.query(db=filled.path, since="all", group_by="feature").archived is None


def test_a_reconciliation_says_which_receipts_are_archived(
    filled: SqliteStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule(filled)
    assert retention.run(filled, NOW)
    export = tmp_path / "export.csv"
    export.write_text(f"day,model,calls\n{period.day(NOW - OLD)},gpt-4o,21\n", encoding="utf-8")
    command = ["price", "reconcile", str(export), "--provider", "openai", "--db", filled.path]
    assert main([*command, "--check"]) == 1
    assert "receipts of" in (shown := capsys.readouterr().out) and "are archived and in no row" in shown
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["archived"]["days"] == 1


@pytest.mark.ids("E13")
def test_what_is_archived_and_sent_again_counts_once(filled: SqliteStore) -> None:
    rule(filled)
    retention.run(filled, NOW)
    before = totals(filled)
    again = envelope([receipt()] * 20, name=f"01OLD{1:021d}", first=0, ago_ms=OLD + DAY_MS)
    assert take(filled, again) == {"accepted": 0, "duplicate": 20, "refused": []}
    # of the process with holes: 0 and 5 came, 2 was refused and 1, 3, 4 never came
    holed = envelope([receipt()] * 7, name="01HOLED" + "0" * 19, first=0)
    assert take(filled, holed)["duplicate"] == 2
    assert totals(filled)["calls"] == before["calls"] + 5
    assert take(filled, holed)["accepted"] == 0 and agree(filled)


@pytest.mark.ids("E13")
def test_what_was_refused_and_came_in_the_end_is_known_once_archived(store: SqliteStore) -> None:
    name = epoch()
    take(store, envelope([{"provider": 7}], name=name, ago_ms=OLD))
    take(store, envelope([receipt()], name=name, ago_ms=OLD))
    # and the other way round: what was taken cannot be refused afterwards
    take(store, envelope([receipt()], name=name, first=2, ago_ms=OLD))
    rule(store)
    assert retention.run(store, NOW).rows == 2
    assert take(store, envelope([{"provider": 7}], name=name, first=2))["refused"]
    assert take(store, envelope([receipt()] * 2, name=name))["duplicate"] == 2
    assert totals(store)["calls"] == 2


@pytest.mark.ids("E13")
def test_a_bare_receipt_is_known_once_archived(store: SqliteStore) -> None:
    take(store, receipt(), received_ms=NOW - OLD, idempotency_key="k1")
    take(store, receipt(), received_ms=NOW - OLD)
    rule(store)
    assert retention.run(store, NOW).rows == 2
    assert take(store, receipt(), idempotency_key="k1") == {"accepted": 0, "duplicate": 1, "refused": []}


@pytest.mark.ids("E13")
def test_archived_receipts_come_back_exactly_once(filled: SqliteStore) -> None:
    before, whole = rows(filled), costs(filled, group_by="feature,user")
    rule(filled)
    retention.run(filled, NOW)
    files = [Path(retention.folder(filled), item.file) for item in archives(filled)]
    assert restoring.restore(filled, archives(filled), NOW) == 62
    assert rows(filled) == before and agree(filled)
    assert costs(filled, group_by="feature,user") == whole and whole["archived"] is None
    assert not any(path.exists() for path in files)
    # left alone for a while, then archived again
    assert retention.run(filled, NOW).rows == 0
    assert retention.run(filled, NOW + 31 * DAY_MS).rows == 62
    assert take(filled, envelope([receipt()] * 20, name=f"01OLD{1:021d}", first=0))["accepted"] == 0


@pytest.mark.ids("E13")
def test_rows_may_be_deleted_by_rule_instead(filled: SqliteStore) -> None:
    before = costs(filled, group_by="feature")
    rule(filled, keep=DELETE)
    assert retention.run(filled, NOW).rows == 62
    assert not os.path.exists(retention.folder(filled))
    assert costs(filled, group_by="feature") == before and agree(filled)
    assert {item.state for item in archives(filled)} == {"deleted"}
    assert sum(item.rows for item in archives(filled)) == 62
    assert take(filled, envelope([receipt()] * 20, name=f"01OLD{1:021d}", first=0))["accepted"] == 0
    assert query.receipts(filled, {"since": ["all"]}, 1, NOW)["archived"]["receipts"] == 62


@pytest.mark.ids("E13")
@pytest.mark.parametrize("keep", [ARCHIVE, DELETE])
@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_is_stopped_anywhere_is_finished_by_the_next(
    filled: SqliteStore, monkeypatch: pytest.MonkeyPatch, keep: str, seed: int
) -> None:
    monkeypatch.setattr(pace.Pace, "do", _dying(pace.Pace.do, seed))
    monkeypatch.setattr(pace, "LEAST", 7)
    monkeypatch.setattr(pace, "MOST", 7)
    whole = costs(filled, group_by="feature")
    rule(filled, keep=keep)
    for _ in range(200):
        try:
            retention.run(filled, NOW)
        except KeyboardInterrupt:
            # at any moment: nothing is lost, nothing doubled
            assert agree(filled)
            assert costs(filled, group_by="feature") == whole
        else:
            break
    monkeypatch.undo()
    assert len(rows(filled)) == 4
    assert files(filled) == {
        name for item in archives(filled) if item.file for name in (item.file, f"{item.file}.json")
    }
    if keep == ARCHIVE:
        assert sum(item.rows for item in archives(filled)) == 62
        assert restoring.restore(filled, archives(filled), NOW) == 62
        assert all(found.problem is None for found in restoring.verify(filled))
        assert len(rows(filled)) == 66 and agree(filled)


def files(store: SqliteStore) -> set[str]:
    """All files of the archive."""
    folder = Path(retention.folder(store))
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _dying(real: Any, seed: int) -> Any:
    """Every now and then: death, before or after what a step did."""
    chance = random.Random(seed)

    def do(self: pace.Pace, step: Any, *given: Any) -> Any:
        self.size = 7
        if chance.random() < 0.15:
            raise KeyboardInterrupt
        answer = real(self, step, *given)
        if chance.random() < 0.15:
            raise KeyboardInterrupt
        return answer

    return do


@pytest.mark.ids("E13")
@pytest.mark.parametrize("seed", range(4))
def test_a_restore_that_is_stopped_is_run_again(
    filled: SqliteStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    before = rows(filled)
    rule(filled)
    retention.run(filled, NOW)
    monkeypatch.setattr(pace.Pace, "do", _dying(pace.Pace.do, seed))
    for _ in range(200):
        left = [item for item in archives(filled) if item.state != "restored"]
        try:
            restoring.restore(filled, left, NOW)
        except KeyboardInterrupt:
            assert agree(filled)
        else:
            break
    monkeypatch.undo()
    restoring.restore(filled, [], NOW)
    assert rows(filled) == before and agree(filled) and files(filled) == set()


def test_a_file_that_does_not_hold_what_was_written_costs_no_receipt(
    filled: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule(filled)
    before = rows(filled)
    real = parquet.read

    def spoiled(*given: Any, **more: Any) -> Any:
        for page in real(*given, **more):
            yield [(*row[:4], row[4] + 1, *row[5:]) for row in page]

    monkeypatch.setattr(parquet, "read", spoiled)
    with pytest.raises(Corrupt, match="does not hold"):
        retention.run(filled, NOW)
    assert rows(filled) == before
    assert not list(Path(retention.folder(filled)).rglob("*.parquet*"))
    monkeypatch.undo()
    assert retention.run(filled, NOW).rows == 62


def test_a_changed_file_is_found_and_never_restored(filled: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    rule(filled)
    retention.run(filled, NOW)
    first, second, _ = archives(filled)
    path = Path(retention.folder(filled), first.file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    Path(retention.folder(filled), second.file).unlink()
    problems = [found.problem for found in restoring.verify(filled)]
    assert "not as it was written" in str(problems[0]) and "is not there" in str(problems[1]) and problems[2] is None
    with pytest.raises(Corrupt):
        restoring.restore(filled, [first], NOW)
    with pytest.raises(NotWritable):
        restoring.restore(filled, [second], NOW)
    assert len(rows(filled)) == 4
    assert main(["archive", "verify", "--db", filled.path]) == 1
    assert "not as it was written" in capsys.readouterr().out


@pytest.mark.ids("C8")
@pytest.mark.parametrize("statement", ["DELETE FROM receipts", "DELETE FROM receipts WHERE seq = 1"])
def test_the_file_itself_refuses_that_a_receipt_goes_unrecorded(filled: SqliteStore, statement: str) -> None:
    rule(filled)
    retention.run(filled, NOW)
    before = rows(filled)
    with pytest.raises(LedgerError, match="only by a recorded act"):
        filled.change(lambda connection: connection.execute(statement))
    assert rows(filled) == before


@pytest.mark.ids("C8")
def test_nothing_is_repriced_while_its_file_is_made(filled: SqliteStore) -> None:
    filled.change(lambda connection: books.begin(connection, 1, (NOW - OLD) // DAY_MS * DAY_MS, "writing", NOW))
    scope = Scope(1, 0, 2 * NOW)

    def price(asked: Any, at_ms: int) -> Price:
        return Price(9, "new", None)

    with pytest.raises(Busy, match="being archived"):
        repricing.reprice(filled, scope, price, "test", NOW, apply=True)
    rule(filled)
    retention.run(filled, NOW)
    assert repricing.reprice(filled, scope, price, "test", NOW, apply=True).changed == 0
    restoring.restore(filled, [item for item in archives(filled) if item.rows], NOW)
    assert repricing.reprice(filled, scope, price, "test", NOW, apply=True).changed == 1 and agree(filled)


def test_days_that_a_budget_counts_one_by_one_stay(filled: SqliteStore) -> None:
    desk = Desk(filled, lambda: NOW)
    desk.put(1, stated.budget({"name": "pair", "limit_usd": 1, "match": {"feature": "f0"}, "per": ["user"]}), "test")
    rule(filled)
    said: list[str] = []
    assert retention.run(filled, NOW, say=said.append).rows == 0
    assert len(said) == 3 and "budget pair counts" in said[0]
    desk.remove(1, "pair", "test")
    desk.put(-1, stated.budget({"name": "all", "limit_usd": 1, "match": {"feature": "f0"}, "per": ["user"]}), "test")
    assert retention.run(filled, NOW).rows == 0, "an organisation's budget counts them, too"
    desk.remove(-1, "all", "test")
    desk.put(1, stated.budget({"name": "one", "limit_usd": 1, "per": ["user"]}), "test")
    assert retention.run(filled, NOW).rows == 62


def test_a_project_has_a_rule_of_its_own(filled: SqliteStore) -> None:
    def second(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO projects (id, organisation_id, name, created_ms) VALUES (2, 1, 'shop', 0)")

    filled.change(second)
    from aicostguard.ledger import ingest
    from tests.ledger.support import price

    ingest.accept(filled, 2, envelope([receipt()], name=epoch(), ago_ms=OLD), NOW, price=price)
    rule(filled, days=1000)
    retention.set_rule(filled, "shop", Rule(90, ARCHIVE), NOW, Actor("test"))
    assert retention.run(filled, NOW).rows == 1
    assert [item.project_id for item in archives(filled)] == [2]
    with pytest.raises(LedgerError, match="no project"):
        retention.set_rule(filled, "nobody's", Rule(90, ARCHIVE), NOW, Actor("test"))
    # a resend to the one is none to the other
    assert totals(filled)["calls"] == 66


def test_two_runs_at_once_are_one(filled: SqliteStore) -> None:
    rule(filled)
    with pace.alone(filled.path), pytest.raises(Busy, match="under way"):
        retention.run(filled, NOW)


@pytest.mark.ids("E13")
def test_a_served_ledger_does_it_by_itself(filled: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rule(filled)
    monkeypatch.setattr(keeper, "FIRST_S", 0.0)
    with serving(filled):
        wait_for(
            lambda: all(item.state == "archived" for item in archives(filled)) and len(archives(filled)) == 3, "it"
        )
    assert len(rows(filled)) == 4


def test_a_backup_and_a_salvage_know_what_is_archived(filled: SqliteStore, tmp_path: Path) -> None:
    early, late = tmp_path / "early.db", tmp_path / "late.db"
    copying.backup(filled.path, str(early))
    rule(filled)
    retention.run(filled, NOW)
    assert copying.backup(filled.path, str(late)).contents.sums_agree
    # the older file has the rows still: none of them is taken again
    done = salvage.salvage(str(early), filled)
    assert (done.taken, done.known) == (0, 66) and len(rows(filled)) == 4


@pytest.mark.ids("E13")
def test_the_commands(filled: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--db", filled.path)

    def aicg(*arguments: str) -> Any:
        code = main(arguments)
        return SimpleNamespace(returncode=code, stdout=capsys.readouterr().out)

    assert "older than 90 days are archived in" in aicg("retention", "set", "--days", "90", *at).stdout
    dry = aicg("retention", "run", "--dry-run", *at).stdout
    assert "62 receipts are due; nothing was changed" in dry and len(rows(filled)) == 66
    due = json.loads(aicg("retention", "run", "--dry-run", "--json", *at).stdout)["due"]
    assert [item["rows"] for item in due] == [20, 20, 22]
    ran = aicg("retention", "run", "--progress", *at)
    assert ran.returncode == 0 and "62 receipts of 3 days, 3 files" in ran.stdout
    assert [f"{item['day']}: " in ran.stdout for item in due] == [True] * 3
    listed = json.loads(aicg("archive", "list", "--json", *at).stdout)["archives"]
    assert [item["state"] for item in listed] == ["archived"] * 3
    assert "3 files\nall are as they were written" in aicg("archive", "verify", *at).stdout
    shown = aicg("costs", "--since", "all", "--by", "feature,user", *at).stdout
    assert "Incomplete: up to 62 calls of 3 days" in shown
    assert "Incomplete" not in aicg("costs", "--since", "all", "--by", "feature", *at).stdout
    assert aicg("archive", "restore", "2001-01-01", *at).returncode == 1
    assert aicg("archive", "restore", *at).returncode == 2
    back = aicg("archive", "restore", listed[0]["day"], "--for", "5", *at)
    assert "20 receipts of 1 archives are back" in back.stdout
    (until,) = [item.until_ms for item in archives(filled) if item.state == "restored"]
    assert 4 * DAY_MS < until - NOW < 6 * DAY_MS
    assert "62 receipts" not in aicg("archive", "restore", "--all", "--progress", *at).stdout
    assert len(rows(filled)) == 66
    assert "there is no rule" in aicg("retention", "clear", *at).stdout


def test_without_pyarrow_the_rule_says_how_to_get_it(filled: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(LedgerError, match="aicostguard\\[archive\\]"):
        rule(filled)
    rule(filled, keep=DELETE)


def test_an_older_file_learns_of_retention(tmp_path: Path) -> None:
    made = ledger.open_ledger(str(tmp_path / "new.db"))
    take(made, envelope([receipt()] * 3, ago_ms=OLD))
    made.close()
    path = str(tmp_path / "old.db")
    old = sqlite3.connect(path, isolation_level=None)
    known = schema.MIGRATIONS.index(RETENTION)
    for step in schema.MIGRATIONS[:known]:
        for statement in step:
            old.execute(statement)
    old.execute("ATTACH ? AS new", (made.path,))
    for (table,) in old.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
        names = ", ".join(f'"{row[1]}"' for row in old.execute(f"PRAGMA main.table_info({table})"))
        old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    old.execute("DELETE FROM main.daily WHERE dimension LIKE '%,%'")  # sums of pairs came later
    old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    old.execute(f"PRAGMA user_version = {known}")
    old.close()
    store = ledger.open_ledger(path)
    rule(store)
    assert retention.run(store, NOW).rows == 3
    assert take(store, envelope([receipt()] * 3))["duplicate"] == 3
    assert agree(store)
    store.close()


def test_the_commands_of_the_docs(filled: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "retention.md").read_text(encoding="utf-8")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines() if line]
    assert len(commands) >= 7
    for line in commands:
        verb, *arguments = shlex.split(line, comments=True)
        assert verb == "aicg"
        if arguments == ["compact"]:
            filled.close()  # the first time it wants the file alone
        assert main([*arguments, "--db", filled.path]) == 0, (line, capsys.readouterr())
    assert "62 receipts of 3 archives are back" in capsys.readouterr().out


def test_who_set_a_rule_and_what_stood_there_is_in_the_audit_log(filled: SqliteStore) -> None:
    def set_to(rule: Rule | None) -> None:
        retention.set_rule(filled, None, rule, NOW, Actor("ada"))

    for one in (Rule(90, ARCHIVE), Rule(90, ARCHIVE), Rule(30, DELETE), None):
        set_to(one)
    told = filled.look(lambda connection: audit.lines(connection))
    first, second = ({"days": days, "keep": keep} for days, keep in ((90, ARCHIVE), (30, DELETE)))
    assert [(line.who, line.what, line.target, line.before, line.after) for line in reversed(told)] == [
        ("ada", "retention.created", "every project", None, first),
        ("ada", "retention.changed", "every project", first, second),
        ("ada", "retention.removed", "every project", second, None),
    ]
