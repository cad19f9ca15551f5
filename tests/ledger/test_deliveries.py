"""Is everything here? Every number of `deliveries`, under any order, cut and repetition of what arrives."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aicostguard import ledger
from aicostguard.ledger import deliveries, keys
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import HOUR_MS
from aicostguard.ledger.sqlite import SqliteStore, schema
from aicostguard.ledger.sqlite.arrived import LATE_MS, REMEMBERED, runs
from tests.ledger.support import NOW, Server, aicg, envelope, epoch, receipt, take

MINUTE = 60_000


def books(store: SqliteStore, now_ms: int = NOW, **parameters: str) -> dict[str, Any]:
    given = {name: [value] for name, value in {"since": "all", **parameters}.items()}
    return deliveries.run(store, deliveries.parse(given, store.default_project(), now_ms), now_ms)


def process(store: SqliteStore, now_ms: int = NOW, **parameters: str) -> dict[str, Any]:
    (row,) = books(store, now_ms, group_by="process", **parameters)["rows"]
    return dict(row)


#: (first seq, how many, every which of them is refused; 0 none)
_BATCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.sampled_from([0, 0, 3])), max_size=12)


@pytest.mark.ids("E8", "Z4")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(batches=[(0, 1, 0), (2, 1, 0), (4, 2, 0), (1, 1, 0)], more=0, dropped=0, hours=0)
@given(batches=_BATCHES, more=st.integers(0, 30), dropped=st.integers(0, 30), hours=st.integers(0, 2))
def test_the_books_of_a_process_balance_whatever_comes_in_whatever_order(
    store: SqliteStore, batches: Any, more: int, dropped: int, hours: int
) -> None:
    name, came = epoch(), set()
    made = max((first + count for first, count, _ in batches), default=0)
    counters = {"generated": made + more, "dropped": dropped}
    take(store, envelope([], name=name, counters=counters))
    for first, count, refuse in batches:
        rows = [receipt(nope=1) if refuse and seq % refuse == 0 else receipt() for seq in range(first, first + count)]
        take(store, envelope(rows, first=first, name=name, counters={"generated": first}))
        came.update(range(first, first + count))
    row = process(store, NOW + hours * HOUR_MS, epoch=name)
    highest = max(came, default=-1)
    holes = [seq for seq in range(highest + 1) if seq not in came]
    assert row["expected"] == made + more
    assert row["missing"] == row["expected"] - len(came) == row["known_lost"] + row["waiting"] + row["lost"]
    assert row["known_lost"] == min(dropped, row["missing"])
    assert (row["waiting"] if hours > 1 else row["lost"]) == 0
    assert [tuple(run) for run in row["gaps"]] == list(runs(holes))[: deliveries.MAX_GAPS]
    assert row["more_gaps"] == (len(list(runs(holes))) > deliveries.MAX_GAPS)
    assert row["highest_seq"] == (highest if came else None)
    (source,) = store.sources(store.default_project(), epochs=(name,))
    assert source.missing == len(holes)


@pytest.mark.ids("E7", "Z4")
def test_duplicates_are_counted_and_change_nothing_else(store: SqliteStore) -> None:
    body = envelope([receipt()] * 10, first=0, counters={"generated": 10})
    take(store, body)
    once = process(store)
    for cut in (slice(0, 4), slice(2, 10)):
        take(store, {**body, **{key: body[key][cut] for key in ("seq", "at", "receipts")}})
    assert process(store) == {**once, "duplicates": 12}


def test_a_gap_is_known_without_reading_receipts(store: SqliteStore) -> None:
    order = random.Random(3)
    name = epoch()
    seqs = list(range(4000))
    lost = set(order.sample(seqs, 50))
    for start in order.sample(range(0, 4000, 40), 100):
        kept = [seq for seq in range(start, start + 40) if seq not in lost]
        body = envelope([receipt()] * len(kept), name=name, seq=kept)
        take(store, body)
    asked: list[str] = []

    def listen(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(asked.append)

    store._read(listen)
    row = process(store)
    assert asked
    assert not [statement for statement in asked if "FROM receipts" in statement]
    (source,) = store.sources(store.default_project())
    assert source.missing == len([seq for seq in lost if seq < source.max_seq]) == row["lost"] + row["waiting"]


@pytest.mark.ids("E8", "Z4")
def test_what_is_missing_is_waited_for_and_then_lost(store: SqliteStore) -> None:
    counters = {"generated": 10, "dropped": 1}
    take(store, envelope([receipt()] * 3, first=0, counters=counters))
    take(store, envelope([receipt()] * 2, first=5, counters=counters))
    seen = [
        (row["state"], row["known_lost"], row["waiting"], row["lost"])
        for row in (process(store, NOW + after) for after in (0, HOUR_MS, HOUR_MS + 1))
    ]
    assert seen == [("running", 1, 4, 0), ("running", 1, 4, 0), ("silent", 1, 0, 4)]
    # What comes after all is found again.
    take(store, envelope([receipt()] * 5, first=3, counters=counters), received_ms=NOW + 3 * HOUR_MS)
    row = process(store, NOW + 3 * HOUR_MS)
    assert (row["state"], row["missing"], row["known_lost"], row["lost"], row["waiting"]) == ("running", 2, 1, 0, 1)
    assert row["gaps"] == []


@pytest.mark.ids("E8", "Z4")
def test_an_end_is_clean_only_when_it_was_said_and_nothing_followed(store: SqliteStore) -> None:
    counters = {"generated": 3}
    body = envelope([receipt()] * 2, first=0, counters=counters)
    take(store, body)
    assert process(store)["state"] == "running"
    assert take(store, envelope([], counters=counters, ended=True)) == {"accepted": 0, "duplicate": 0, "refused": []}
    # The last word may arrive before what was said earlier.
    take(store, body)
    row = process(store, NOW + MINUTE)
    assert (row["state"], row["missing"], row["waiting"]) == ("ended", 1, 1)
    assert process(store, NOW + MINUTE + 1)["lost"] == 1, "nothing was spooled: nothing can be on its way"
    take(store, envelope([receipt()], first=3, counters={"generated": 4}))
    assert process(store)["state"] == "running", "it went on"
    take(store, envelope([receipt()], first=2, counters={"generated": 4, "spooled": 1}, ended=True))
    row = process(store, NOW + 2 * HOUR_MS)
    assert (row["state"], row["missing"], row["lost"]) == ("ended", 0, 0)


def test_the_last_word_is_true_or_absent(server: Server) -> None:
    for value in (False, 1, "true", None):
        reply = server.post(envelope([receipt()], ended=value))
        assert (reply.status, reply.body["field"]) == (422, "ended")


@pytest.mark.ids("Z4")
def test_late_arrivals_are_counted_with_the_longest(store: SqliteStore) -> None:
    take(store, envelope([receipt()] * 2, first=0, ago_ms=LATE_MS))
    take(store, envelope([receipt()] * 3, first=2, ago_ms=LATE_MS + 1))
    take(store, envelope([receipt()], first=5, ago_ms=7 * HOUR_MS))
    take(store, envelope([receipt()], first=5, ago_ms=9 * HOUR_MS))  # a duplicate: it was in time
    row = process(store)
    assert (row["late"], row["late_max_ms"]) == (4, 7 * HOUR_MS)


@pytest.mark.ids("Z4")
def test_a_clock_is_judged_by_the_envelope_that_took_least(store: SqliteStore) -> None:
    def send(first: int, ahead: int, way: int, after: int = 0) -> None:
        sent = NOW + after + ahead
        take(store, {**envelope([receipt()], first=first, host="h"), "sent_at": sent}, received_ms=NOW + after + way)

    send(0, ahead=60_000, way=9_000)
    send(1, ahead=60_000, way=20)
    send(2, ahead=60_000, way=30_000)
    (row,) = books(store, group_by="host")["rows"]
    assert (row["clock_offset_ms"], row["clock_wrong"]) == (59_980, True)
    assert row["clock_adjusted"] == 0, "the time of the call is right all the same"
    send(3, ahead=-4_990, way=5, after=HOUR_MS + 10_000)  # it was set right
    (row,) = books(store, group_by="host")["rows"]
    assert (row["clock_offset_ms"], row["clock_wrong"]) == (-4_995, False)
    send(4, ahead=-7_000, way=5, after=3 * HOUR_MS)
    (row,) = books(store, group_by="host")["rows"]
    assert (row["clock_offset_ms"], row["clock_wrong"]) == (-7_005, True)


def test_what_is_salvaged_keeps_its_books(store: SqliteStore, tmp_path: Path) -> None:
    from aicostguard.ledger.sqlite.salvage import salvage

    ended, going = epoch(), epoch()
    take(store, envelope([receipt()] * 3, first=2, name=ended, counters={"generated": 6}, ended=True))
    take(store, envelope([receipt(nope=1), receipt()], first=1, name=going, counters={"generated": 3}))
    take(
        store, envelope([receipt()] * 2, first=2, name=going, counters={"generated": 6}), received_ms=NOW + 2 * HOUR_MS
    )
    names = ("process", "state", "expected", "missing", "lost", "gaps", "clock_wrong", "refused", "received")
    before = [{name: row[name] for name in names} for row in books(store, group_by="process")["rows"]]
    other = ledger.open_ledger(str(tmp_path / "other.db"))
    try:
        salvage(store.path, other)
        after = [{name: row[name] for name in names} for row in books(other, group_by="process")["rows"]]
        assert sorted(after, key=str) == sorted(before, key=str)
    finally:
        other.close()
    # Of a table that could not be read nothing is left but the receipts: they say nothing of a clock.
    store._writer.do(lambda connection: connection.execute("DELETE FROM epochs"))
    bare = ledger.open_ledger(str(tmp_path / "bare.db"))
    try:
        salvage(store.path, bare)
        assert {(row["clock_offset_ms"], row["clock_wrong"]) for row in books(bare)["rows"]} == {(None, False)}
    finally:
        bare.close()


def test_hosts_are_added_up_with_trouble_first(store: SqliteStore) -> None:
    for host, lost in (("fine", 0), ("bad", 2), ("worse", 5)):
        for service in ("web", "jobs"):
            counters = {"generated": 10 + lost, "unmetered": 1}
            body = envelope([receipt()] * 10, first=0, name=epoch(), counters=counters, host=host, service=service)
            take(store, {**body, "ended": True})
    after = NOW + 2 * MINUTE
    answer = books(store, after, group_by="host")
    assert [(row["host"], row["processes"], row["ended"], row["lost"]) for row in answer["rows"]] == [
        ("worse", 2, 2, 10),
        ("bad", 2, 2, 4),
        ("fine", 2, 2, 0),
    ]
    assert (answer["totals"]["expected"], answer["totals"]["lost"], answer["totals"]["unmetered"]) == (74, 14, 6)
    cut = books(store, after, limit="2")
    assert len(cut["rows"]) == 2
    assert cut["other"]["groups"] == 4
    assert cut["other"]["lost"] + sum(row["lost"] for row in cut["rows"]) == 14
    only = books(store, after, host="bad", service="web", group_by="service")
    assert [(row["service"], row["lost"]) for row in only["rows"]] == [("web", 2)]
    assert books(store, after, host="")["rows"] == []


def test_since_is_when_a_process_was_heard_last(store: SqliteStore) -> None:
    take(store, envelope([receipt()], first=0), received_ms=NOW - 30 * 24 * HOUR_MS)
    assert books(store, since="7d")["rows"] == []
    assert len(books(store, since="60d")["rows"]) == 1


@pytest.mark.parametrize(
    ("field", "parameters"),
    [
        ("nope", {"nope": "1"}),
        ("group_by", {"group_by": "model"}),
        ("group_by", {"group_by": "host,host"}),
        ("limit", {"limit": "0"}),
        ("limit", {"limit": "٣"}),
        ("since", {"since": "soon"}),
    ],
)
def test_a_question_that_does_not_fit_is_refused_by_name(
    store: SqliteStore, field: str, parameters: dict[str, str]
) -> None:
    with pytest.raises(Refused) as caught:
        books(store, **parameters)
    assert (caught.value.status, caught.value.field) == (422, field)


def test_who_may_send_may_ask_what_came_of_a_process_it_names(server: Server, store: SqliteStore) -> None:
    key = keys.make()
    store.add_key(key, "sender", ("ingest",), store.default_project(), NOW)
    mine, other = epoch(), epoch()
    for name in (mine, other):
        server.post(envelope([receipt()], first=1, name=name), key=key)
    assert server.get("/v1/deliveries", key=key).status == 403
    assert server.get("/v1/deliveries?epoch=", key=key).status == 403
    answer = server.get(f"/v1/deliveries?group_by=process&epoch={mine}", key=key).body
    assert [row["process"] for row in answer["rows"]] == [mine]
    assert answer["rows"][0]["gaps"] == [[0, 0]]
    assert len(server.get("/v1/deliveries?group_by=process").body["rows"]) == 2


def test_a_file_of_the_first_version_gets_its_gaps(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    connection = sqlite3.connect(path)
    for statement in schema.MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute("INSERT INTO organisations VALUES (1, 'o', 0)")
    connection.execute("INSERT INTO projects VALUES (1, 1, 'p', 0)")
    rows = [("A" * 26, seq) for seq in (2, 3, 7)] + [("B" * 26, 0), ("bare:x", 0)]
    connection.executemany(
        "INSERT INTO receipts (project_id, epoch, seq, at_ms, received_ms, clock_adjusted, provider, model) "
        "VALUES (1, ?, ?, 0, 0, 0, 'openai', 'gpt-4o')",
        rows,
    )
    connection.execute("INSERT INTO refusals VALUES (1, ?, 5, 0, 'f', 'e')", ("A" * 26,))
    for name, highest in (("A" * 26, 7), ("B" * 26, 0)):
        connection.execute(
            "INSERT INTO epochs VALUES (1, ?, '', '', '', '', '', ?, ?, ?, 0, ?, 3, 1, 0, 0, 0, 0, 0, 0, 0)",
            (name, NOW, NOW, NOW, highest),
        )
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    store = ledger.open_ledger(path)
    try:
        found = {row["process"]: (row["missing"], row["gaps"]) for row in books(store, group_by="process")["rows"]}
        assert found == {"A" * 26: (4, [[0, 1], [4, 4], [6, 6]]), "B" * 26: (0, [])}
        take(store, envelope([receipt()] * 3, first=0, name="A" * 26))
        assert process(store, epoch="A" * 26)["gaps"] == [[4, 4], [6, 6]]
    finally:
        store.close()


def test_arrivals_come_in_their_order_and_forget_the_oldest(
    store: SqliteStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = server.get("/v1/arrivals").body
    assert start["receipts"] == []
    take(store, envelope([receipt(feature="b")] * 2, first=5))
    take(store, envelope([receipt(feature="a")] * 7, first=0, ago_ms=9 * HOUR_MS))
    take(store, receipt(feature="bare"))
    answer = server.get(f"/v1/arrivals?after={start['cursor']}").body
    assert [row["seq"] for row in answer["receipts"]] == [5, 6, 0, 1, 2, 3, 4, 0]
    assert not answer["skipped"]
    only = server.get(f"/v1/arrivals?after={start['cursor']}&feature=bare&feature=b").body
    assert [row["feature"] for row in only["receipts"]] == ["b", "b", "bare"]
    assert server.get(f"/v1/arrivals?after={answer['cursor']}").body["receipts"] == []
    assert server.get("/v1/arrivals?after=9999").body["skipped"], "a cursor of before a restore"
    for path in ("after=x", "after=-1", "nope=1"):
        assert server.get(f"/v1/arrivals?{path}").status == 422
    monkeypatch.setattr("aicostguard.ledger.sqlite.arrived.REMEMBERED", 10)
    monkeypatch.setattr("aicostguard.ledger.sqlite.arrived.FORGET_EVERY", 4)
    for turn in range(30):
        take(store, envelope([receipt()], first=10 + turn))
        store.fold()  # as the served ledger does every second: what the spreads have not heard of is not forgotten
    answer = server.get(f"/v1/arrivals?after={start['cursor']}").body
    assert answer["skipped"]
    assert 10 <= len(answer["receipts"]) <= 14
    assert REMEMBERED > 1000


def test_many_arrivals_are_told_in_parts(store: SqliteStore, server: Server) -> None:
    start = server.get("/v1/arrivals").body["cursor"]
    name = epoch()
    for turn in range(6):
        take(store, envelope([receipt()] * 300, first=turn * 300, name=name))
    seqs, more = [], True
    while more:
        answer = server.get(f"/v1/arrivals?after={start}").body
        seqs += [row["seq"] for row in answer["receipts"]]
        start, more = answer["cursor"], answer["more"]
    assert seqs == list(range(1800))


def test_processes_are_told_in_pages(store: SqliteStore, server: Server) -> None:
    names = [epoch() for _ in range(7)]
    for place, name in enumerate(names):
        # three of each moment: the id decides between those
        take(store, envelope([receipt()], name=name), received_ms=NOW + place // 3)
    newest = sorted(names, key=lambda name: (-(names.index(name) // 3), name))
    seen: list[str] = []
    cursor, pages = "", 0
    while cursor is not None:
        found = server.get(f"/v1/sources?limit=2&cursor={cursor}").body
        assert len(found["sources"]) <= 2
        seen += [source["epoch"] for source in found["sources"]]
        cursor, pages = found["cursor"], pages + 1
    assert (seen, pages) == (newest, 4)
    whole = server.get("/v1/sources").body
    assert ([source["epoch"] for source in whole["sources"]], whole["cursor"]) == (newest, None)
    for field, question in (
        ("limit", "limit=0"), ("limit", "limit=10001"), ("limit", "limit=1&limit=2"), ("cursor", "cursor=1"),
        ("cursor", "cursor=5.a%20b"), ("x", "x=1"),
    ):  # fmt: skip
        refused = server.get(f"/v1/sources?{question}")
        assert (refused.status, refused.body["field"]) == (422, field), refused.body


def test_another_projects_deliveries_and_arrivals_are_not_shown(store: SqliteStore) -> None:
    from aicostguard.ledger import ingest, query

    project = store.default_project()
    ingest.accept(store, project + 1, envelope([receipt()], first=3), NOW)
    assert books(store)["rows"] == []
    assert store.gaps(project, envelope([])["epoch"], 9) == []
    answer = query.arrivals(store, {"after": ["0"]}, project)
    assert answer["receipts"] == []
    assert answer["cursor"] == "1"


# The command.


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))
    take(store, envelope([receipt()] * 4, first=0, name=epoch(), host="whole", counters={"generated": 4}, ended=True))
    store.close()
    return path


@pytest.mark.ids("Z4")
def test_the_command_shows_what_is_missing_and_says_so_by_its_exit_code(filled: Path) -> None:
    done = aicg("deliveries", "--db", str(filled))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 ended" in done.stdout
    assert "Everything that is known to have been made is here." in done.stdout
    store = ledger.open_ledger(str(filled))
    old = ledger.now_ms() - 2 * HOUR_MS
    take(
        store,
        envelope([receipt()] * 2, first=3, name=epoch(), host="gone", counters={"generated": 7, "dropped": 1}),
        received_ms=old,
    )
    store.close()
    done = aicg("deliveries", "--db", str(filled), "--by", "process,host")
    assert done.returncode == 4
    for words in ("never came: 0 to 2; highest 4", "4 receipts lost", "1 receipt lost and known", "1 process silent"):
        assert words in done.stdout
    done = aicg("deliveries", "--db", str(filled), "--json", "--where", "host=gone")
    assert done.returncode == 4
    assert json.loads(done.stdout)["totals"]["lost"] == 4
    store = ledger.open_ledger(str(filled))
    known = envelope([receipt()], first=0, name=epoch(), host="short", counters={"generated": 2, "dropped": 1})
    take(store, {**known, "ended": True})
    store.close()
    done = aicg("deliveries", "--db", str(filled), "--where", "host=short")
    assert (done.returncode, "1 receipt lost and known" in done.stdout) == (4, True), "also what is known to be lost"
    assert aicg("deliveries", "--db", str(filled), "--where", "host=whole").returncode == 0
    assert aicg("deliveries", "--db", str(filled), "--where", "model=x").returncode == 2
    assert aicg("deliveries", "--db", str(filled), "--by", "model").returncode == 2


def test_the_command_asks_file_and_server_alike(server: Server, store: SqliteStore, tmp_path: Path) -> None:
    from tests.ledger.support import KEY

    take(store, envelope([receipt()], first=2, host="h", counters={"generated": 3}))
    url = f"http://127.0.0.1:{server.port}"
    asked = aicg("deliveries", "--json", AICG_URL=url, AICG_KEY=KEY)
    assert json.loads(asked.stdout) == json.loads(aicg("deliveries", "--json", "--db", store.path).stdout)
