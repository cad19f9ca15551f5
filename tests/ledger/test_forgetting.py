"""Forgetting: a name is nowhere any more, not in a byte of the file, and every sum is what it was."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from aicostguard import ledger
from aicostguard.cli import main
from aicostguard.guard import stated
from aicostguard.ledger import ingest, repricing
from aicostguard.ledger.access import places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.errors import Busy, LedgerError, Refused
from aicostguard.ledger.keeping import books, forgetting, pace, restoring, retention
from aicostguard.ledger.keeping.books import ARCHIVE, DELETE, Rule
from aicostguard.ledger.keeping.naming import Naming
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore, contents
from aicostguard.pricing import Price
from tests.ledger.support import KEY, NOW, costs, envelope, epoch, price, receipt, serving, take, totals, wait_for

#: with a letter that JSON may write otherwise
NAME = "zoë quill@example.com"
OLD = 100 * DAY_MS
ME = Actor("test")


def forget(store: SqliteStore, name: str = NAME) -> forgetting.Report:
    return forgetting.forget(store, store.default_project(), name, ME, NOW)


def remains(folder: Path, name: str = NAME) -> list[str]:
    """Files in which the name stands, in any form."""
    forms = [form.encode() for form in Naming(name, "").forms()]
    return [
        path.name for path in folder.rglob("*") if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]


def agree(store: SqliteStore) -> bool:
    """Do the sums of users equal the receipts, user by user?"""
    raw = """SELECT COALESCE(user, ''), SUM(COALESCE(cost_nanousd, 0)), COUNT(*) FROM receipts GROUP BY 1 ORDER BY 1"""
    summed = """SELECT value, SUM(cost_nanousd), SUM(calls) FROM daily WHERE dimension = 'user' GROUP BY 1 ORDER BY 1"""

    def read(connection: sqlite3.Connection) -> bool:
        whole = contents.read(connection).sums_agree
        return whole and connection.execute(raw).fetchall() == connection.execute(summed).fetchall()

    return store.look(read)


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    for number in range(30):
        mine = receipt(user=NAME, feature=f"f{number % 3}", session="s1", tags={"customer": NAME, "k": "v"})
        yours = receipt(user=f"u{number}", tags={"user": NAME}, feature="f1")
        take(store, envelope([mine, yours, receipt(feature="f2")], name=epoch(), ago_ms=number % 4 * DAY_MS))
    return store


@pytest.mark.ids("E13")
def test_the_name_is_nowhere_and_every_sum_stays(filled: SqliteStore, tmp_path: Path) -> None:
    before, users = costs(filled, group_by="feature"), costs(filled, user=NAME)["totals"]
    assert remains(tmp_path)
    done = forget(filled)
    assert (done.receipts, done.settled, done.left) == (60, True, {})
    assert remains(tmp_path) == []
    assert costs(filled, group_by="feature") == before
    assert costs(filled, user=done.pseudonym)["totals"] == users
    assert totals(filled, user=NAME)["calls"] == 0 and agree(filled)
    (row,) = filled.look(
        lambda c: c.execute("SELECT tags FROM receipts WHERE user = ? LIMIT 1", (done.pseudonym,)).fetchall()
    )
    assert json.loads(row[0]) == {"customer": done.pseudonym, "k": "v"}


def test_nothing_else_changes(filled: SqliteStore) -> None:
    take(filled, envelope([receipt(user="u1", feature=NAME, tags={"customer": NAME})], name=epoch()))
    names = "epoch, seq, at_ms, cost_nanousd, feature, session, input_tokens"
    query = f"SELECT {names} FROM receipts ORDER BY 1, 2"
    before = filled.look(lambda c: c.execute(query).fetchall())
    done = forget(filled)
    assert filled.look(lambda c: c.execute(query).fetchall()) == before
    # what reads the same and is no user stays, and is told
    assert done.left["receipts.feature"] == 1 and done.left["receipts.tags"] == 1


def test_it_is_recorded_without_the_name_and_done_again_finds_nothing(filled: SqliteStore) -> None:
    first, second = forget(filled), forget(filled)
    assert first.pseudonym != second.pseudonym and (second.receipts, second.archived, second.others) == (0, 0, 0)
    acts = filled.look(lambda connection: forgetting.acts(connection, 1))
    assert [(act["state"], act["who"], act["receipts"]) for act in acts] == [("done", "test", 0), ("done", "test", 60)]
    lines = filled.look(
        lambda c: c.execute("SELECT who, what, after FROM audit WHERE what = 'user forgotten'").fetchall()
    )
    assert len(lines) == 2 and json.loads(lines[0][2])["receipts"] == 60


def test_budgets_keep_what_stands_in_them(filled: SqliteStore, tmp_path: Path) -> None:
    desk = Desk(filled, lambda: NOW)
    desk.put(
        1, stated.budget({"name": "each", "limit_usd": 0.000001, "per": ["team", "user"], "alert_at": [0.1]}), NAME[:3]
    )
    desk.put(1, stated.budget({"name": "hers", "limit_usd": 9, "match": {"user": NAME}}), "test")
    desk.catch_up()

    def standing() -> list[Any]:
        return filled.look(
            lambda c: c.execute("SELECT budget_id, spent, calls FROM budget_counters ORDER BY 1, 2").fetchall()
        )

    before = standing()
    assert before
    done = forget(filled)
    assert done.others > 3 and done.left == {} and remains(tmp_path) == []
    assert standing() == before
    take(filled, envelope([receipt(user=done.pseudonym)], name=epoch()))
    desk.catch_up()
    assert sum(row[1] for row in standing()) == sum(row[1] for row in before) + 2 * 330


def test_a_budget_of_the_organisation_keeps_what_other_projects_have_of_the_name(filled: SqliteStore) -> None:
    shop = filled.change(lambda c: places.add_project(c, 1, "shop", ME, NOW)).id
    desk = Desk(filled, lambda: NOW)
    desk.put(-1, stated.budget({"name": "each", "limit_usd": "0.0000001", "per": ["user"], "alert_at": [1]}), "test")
    desk.put(shop, stated.budget({"name": "other", "limit_usd": "0.0000001", "per": ["user"], "alert_at": [1]}), "test")
    ingest.accept(filled, shop, envelope([receipt(user=NAME)] * 2, name=epoch()), NOW, price=price)

    def standing() -> dict[str, int]:
        desk.catch_up()
        rows = filled.look(
            lambda c: c.execute(
                "SELECT scope, spent FROM budget_counters JOIN budgets ON budgets.id = budget_id WHERE name = 'each'"
            ).fetchall()
        )
        return {json.loads(scope)[0]: spent for scope, spent in rows}

    before = standing()
    done = forget(filled)
    after = standing()
    assert after[NAME] == 2 * 330, "what the other project has of it, whose own act it is to forget"
    assert after[done.pseudonym] == before[NAME] - 2 * 330
    assert sum(after.values()) == sum(before.values())
    told = filled.look(lambda c: c.execute("SELECT budget, scope FROM budget_alerts ORDER BY 1, 2").fetchall())
    assert ("each", json.dumps([done.pseudonym])) in told
    assert [json.loads(scope)[0] for budget, scope in told if budget == "other"] == [NAME], "the other project's alert"


def test_tickets_repricings_and_the_audit_log_forget_too(filled: SqliteStore, tmp_path: Path) -> None:
    desk = Desk(filled, lambda: NOW)
    desk.put(1, stated.budget({"name": "each", "limit_usd": 0, "per": ["user"]}), "test")
    with serving(filled) as server:
        asked = {"provider": "openai", "model": "gpt-4o", "input_tokens": 5, "max_output_tokens": 5, "user": NAME}
        server.ask("POST", "/v1/authorize", json.dumps(asked).encode())

        def price(one: Any, at_ms: int) -> Price:
            return Price(7, "new", None)

        scope = Scope(1, 0, 2 * NOW, {"user": (NAME,)}, unpriced_only=False)
        assert repricing.reprice(filled, scope, price, "test", NOW, apply=True).changed == 30
        filled.change(
            lambda c: c.execute(
                "INSERT INTO audit VALUES (99, 1, 1, 1, 'x', '', 'set', 'y', NULL, ?)", (json.dumps({"user": NAME}),)
            )
        )
        filled.change(
            lambda c: c.execute(
                "INSERT INTO inbox_rejected VALUES (1, ?, 'no')", (json.dumps({"user": NAME}).encode(),)
            )
        )
        filled.change(lambda c: c.execute("INSERT INTO inbox_rejected VALUES (2, ?, 'no')", (b"\xff" + NAME.encode(),)))
    done = forget(filled)
    assert done.left == {} and remains(tmp_path) == [] and agree(filled)
    (act,) = filled.repricings(1)
    assert act["scope"]["filters"] == {"user": [done.pseudonym]}
    with pytest.raises(LedgerError, match="never changed"):
        filled.change(lambda c: c.execute("UPDATE audit SET after = NULL"))


def test_what_lies_in_the_inbox_is_taken_in_first(store: SqliteStore, tmp_path: Path) -> None:
    body = json.dumps(envelope([receipt(user=NAME, provider="openai")], name=epoch())).encode()
    store.change(lambda c: c.execute("INSERT INTO inbox (received_ms, envelope) VALUES (?, ?)", (NOW, body)))
    assert forget(store).receipts == 1 and remains(tmp_path) == []


@pytest.mark.ids("E13")
@pytest.mark.parametrize("keep", [ARCHIVE, DELETE])
def test_archives_are_written_anew_and_sums_of_deleted_receipts_follow(
    filled: SqliteStore, tmp_path: Path, keep: str
) -> None:
    retention.set_rule(filled, None, Rule(2, keep), NOW, Actor("test"))
    before = costs(filled, user=NAME)["totals"]
    assert retention.run(filled, NOW).rows
    done = forget(filled)
    assert done.settled and remains(tmp_path) == []
    assert costs(filled, user=done.pseudonym)["totals"] == before and totals(filled, user=NAME)["calls"] == 0
    if keep == ARCHIVE:
        assert done.archived and all(found.problem is None for found in restoring.verify(filled))
        restoring.restore(filled, filled.look(books.archives), NOW)
        assert agree(filled) and remains(tmp_path) == []


@pytest.mark.ids("E13")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("again", ["forget", "retention", "restore"])
def test_a_file_with_the_name_goes_also_when_the_act_is_killed(
    filled: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, again: str
) -> None:
    retention.set_rule(filled, None, Rule(2, ARCHIVE), NOW, Actor("test"))
    retention.run(filled, NOW)
    real = pace.Pace.do

    def do(self: pace.Pace, step: Any, *given: Any) -> Any:
        if step.__name__ == "swap":
            if after:
                real(self, step, *given)
            raise KeyboardInterrupt
        return real(self, step, *given)

    with monkeypatch.context() as patch:
        patch.setattr(pace.Pace, "do", do)
        with pytest.raises(KeyboardInterrupt):
            forget(filled)
    if again == "forget":
        forget(filled)
        assert remains(tmp_path) == []
    elif again == "retention":
        retention.run(filled, NOW)
    else:
        restoring.restore(filled, [], NOW)
    known = {item.file for item in filled.look(books.archives)}
    folder = Path(retention.folder(filled))
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")} == known
    assert all(found.problem is None for found in restoring.verify(filled))


def test_an_archive_that_is_half_way_is_finished_first(filled: SqliteStore) -> None:
    retention.set_rule(filled, None, Rule(2, ARCHIVE), NOW, Actor("test"))
    retention.run(filled, NOW)
    item = filled.look(books.archives)[0]
    filled.change(lambda c: books.state(c, item.id, "restoring", NOW))
    with pytest.raises(Busy, match="half-way"):
        forget(filled)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE receipts SET user = 'somebody'",
        "UPDATE receipts SET user = NULL",
        "UPDATE receipts SET user = 'forgotten-1', input_tokens = 0",
        "UPDATE receipts SET tags = '{}'",
    ],
)
def test_the_file_refuses_any_other_change_of_a_receipt(filled: SqliteStore, statement: str) -> None:
    for text in (
        None,
        "INSERT INTO forgettings (project_id, at_ms, who, pseudonym, state, receipts, archived, others) "
        "VALUES (1, 1, 'x', 'forgotten-1', 'open', 0, 0, 0)",
    ):
        if text:
            filled.change(lambda c, text=text: c.execute(text))
        with pytest.raises(LedgerError, match="only by a recorded"):
            filled.change(lambda c: c.execute(statement + " WHERE user IS NOT NULL"))


def test_receipts_that_come_meanwhile_are_found_too(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    take(store, envelope([receipt(user=NAME)] * 40, name=epoch()))
    late = iter(range(12))
    real = pace.Pace.do

    def do(self: pace.Pace, *given: Any) -> Any:
        answer = real(self, *given)
        if next(late, None) is not None:
            take(store, envelope([receipt(user=NAME)], name="01LATE" + epoch()[6:]))
        return answer

    monkeypatch.setattr(pace.Pace, "do", do)
    done = forget(store)
    assert done.settled and agree(store) and totals(store, user=NAME)["calls"] == 0
    assert done.receipts == 52


def test_under_ingest_nothing_is_lost_or_doubled(store: SqliteStore) -> None:
    take(store, envelope([receipt(user=NAME)] * 300, name=epoch()))
    stop = threading.Event()
    sent = [300]

    def send() -> None:
        while not stop.is_set():
            take(store, envelope([receipt(user=f"u{n}") for n in range(50)], name=epoch()))
            sent[0] += 50

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert forget(store).receipts == 300
    finally:
        stop.set()
        sender.join()
    assert totals(store)["calls"] == sent[0] and agree(store)


def test_what_comes_later_is_stored_under_its_name(filled: SqliteStore) -> None:
    first = forget(filled)
    take(filled, envelope([receipt(user=NAME)], name=epoch()))
    assert totals(filled, user=NAME)["calls"] == 1
    again = forget(filled)
    assert again.receipts == 1 and totals(filled, user=first.pseudonym)["calls"] == 30 and agree(filled)


def test_one_project_is_forgotten_and_no_other(store: SqliteStore) -> None:
    from aicostguard.ledger import ingest
    from tests.ledger.support import price

    take(store, envelope([receipt(user=NAME)]))
    store.change(
        lambda c: c.execute("INSERT INTO projects (id, organisation_id, name, created_ms) VALUES (2, 1, 'b', 0)")
    )
    ingest.accept(store, 2, envelope([receipt(user=NAME)]), NOW, price=price)
    assert forget(store).receipts == 1
    assert store.look(lambda c: c.execute("SELECT count(*) FROM receipts WHERE user = ?", (NAME,)).fetchone()) == (1,)


def test_no_name_is_refused(store: SqliteStore) -> None:
    for name in ("", "x" * 300):
        with pytest.raises(Refused):
            forget(store, name)


def test_the_command(filled: SqliteStore, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    at = ["--db", filled.path]
    assert main(["forget", *at]) == 2
    assert main(["forget", "--user", NAME, *at]) == 0
    said = capsys.readouterr().out
    assert "forgotten: 60 receipts" in said and NAME not in said
    assert remains(tmp_path) == []
    assert main(["forget", "--history", *at]) == 0
    assert "done  60 receipts" in capsys.readouterr().out
    assert main(["forget", "--user", NAME, "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["receipts"] == 0


def test_the_command_says_by_its_exit_code_that_it_has_to_be_done_again(
    filled: SqliteStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting.places, "rest", lambda *_: False)
    assert main(["forget", "--user", NAME, "--db", filled.path]) == 1
    assert "receipts of this user kept coming" in capsys.readouterr().out


def test_over_http(filled: SqliteStore, tmp_path: Path) -> None:
    reader = "aicg_" + "r" * 40
    filled.add_key(reader, "reader", ("read",), 1, NOW)
    with serving(filled) as server:
        body = json.dumps({"user": NAME}).encode()
        assert server.ask("POST", "/v1/forget", body, key=reader).status == 403
        assert server.ask("POST", "/v1/forget", b"{}").status == 422
        assert server.ask("POST", "/v1/forget", json.dumps({"user": ""}).encode()).body["field"] == "user"
        begun = server.ask("POST", "/v1/forget", body)
        assert begun.status == 202 and begun.body["state"] == "open"

        def done() -> Any:
            (act, *_) = server.get("/v1/forget", key=reader).body["forgettings"]
            return act if act["state"] == "done" else None

        act = wait_for(done, "the act to end")
        assert act["receipts"] == 60 and act["id"] == begun.body["id"] and act["who"].startswith("key aicg_kkkk")
        wait_for(lambda: not filled.path or remains(tmp_path) == [], "the WAL to be cut")
    assert KEY and ledger


def test_what_is_a_user_in_a_text() -> None:
    naming = Naming("al", "P")
    assert (
        naming.text('{"user":"al","feature":"al","x":[{"user":["al","bo"]}]}')
        == '{"user":"P","feature":"al","x":[{"user":["P","bo"]}]}'
    )
    assert naming.text("Budget b of user 'al': $1") == "Budget b of user 'P': $1"
    assert naming.text("user=al&x=al") == "user=P&x=al"
    for same in ("user 'ali'", "superuser al", "al", "{broken", '["al"]', '{"tags":{"k":"al"}}'):
        assert naming.text(same) == same
    assert naming.text('{"user":"al","tags":{"k":"al"}}') == '{"user":"P","tags":{"k":"P"}}'
    assert naming.data(b"\xff al") == b"\xff **"
