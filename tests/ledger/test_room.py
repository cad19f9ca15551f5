"""Labels that never repeat: a day's sums have room for so many names, the rest is `(other)`, and no answer is wrong."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections import Counter
from typing import Any, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import cli, ledger
from aicostguard.guard import stated
from aicostguard.ledger import repricing
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.budgets import book, counted, counters, rule
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.keeping import forgetting, pace, retention
from aicostguard.ledger.keeping.books import ARCHIVE, DELETE, Rule
from aicostguard.ledger.model import DAY_MS, DIMENSIONS, HOUR_MS, MOST_NAMES, OTHER, PAIRS, Query
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore, room
from tests.ledger.alerting import DAY, Town
from tests.ledger.support import NOW, Priced, costs, envelope, epoch, receipt, serving, take, totals

#: a day that is over, whatever the hour
YESTERDAY = NOW - NOW % DAY_MS - DAY_MS


def bound(store: SqliteStore, most: int, *names: str) -> None:
    rows = [(name, most) for name in names or MOST_NAMES]
    store.change(lambda connection: connection.executemany("INSERT OR REPLACE INTO bounds VALUES (0, ?, ?)", rows))


def send(store: SqliteStore, receipts: list[dict[str, Any]], at_ms: int = YESTERDAY, **more: Any) -> None:
    body = envelope(receipts, name=epoch(), **{"service": "shop", **more})
    take(store, {**body, "at": [at_ms] * len(receipts)})


def dimensions(store: SqliteStore, table: str = "daily") -> dict[str, int]:
    return dict(
        store.look(
            lambda connection: connection.execute(
                f"SELECT dimension, count(*) FROM {table} WHERE value <> '' GROUP BY 1"
            ).fetchall()
        )
    )


def rows(store: SqliteStore, by: str, **more: str) -> dict[Any, int]:
    return {row[by]: row["calls"] for row in costs(store, group_by=by, **more)["rows"]}


def test_rows_of_sums_are_bounded_however_many_names_come(store: SqliteStore) -> None:
    bound(store, 3)
    for start in range(0, 60, 20):
        ids = range(start, start + 20)
        send(
            store, [receipt(**{n: f"{n}-{i}" for n in ("user", "feature", "team", "agent")}, latency_ms=5) for i in ids]
        )
        store.fold()
    for table, most in (("daily", 4), ("hourly", 4), ("daily_spreads", 4)):
        found = dimensions(store, table)
        assert found["feature"] == most, table
        assert max(found.values()) == most, table
    assert {n: rows(store, n)[OTHER] for n in ("user", "feature", "team")} == dict.fromkeys(
        ("user", "feature", "team"), 57
    )
    assert totals(store)["calls"] == 60
    (other,) = [row for row in costs(store, group_by="feature", latency="1")["rows"] if row["feature"] == OTHER]
    assert other["latency_p50_ms"] == pytest.approx(5, rel=0.02)


def test_a_name_that_has_room_keeps_it_and_one_that_has_none_never_gets_it(store: SqliteStore) -> None:
    bound(store, 2, "user")
    send(store, [receipt(user="a"), receipt(user="b"), receipt(user="c")])
    bound(store, 10, "user")
    send(store, [receipt(user="a"), receipt(user="c"), receipt(user="d"), receipt()])
    assert rows(store, "user") == {"a": 2, "b": 1, OTHER: 3, None: 1}
    send(store, [receipt(user=name) for name in "cde"], YESTERDAY - DAY_MS)
    assert rows(store, "user", until="yesterday") == {"c": 1, "d": 1, "e": 1}, "another day has room of its own"


def test_what_is_full_is_known_since_when_and_by_whom(store: SqliteStore) -> None:
    bound(store, 2, "user")
    send(store, [receipt(user=name) for name in "ab"], service="steady")
    assert store.look(room.full) == []
    send(store, [receipt(user=name) for name in "abc"], service="wild")
    send(store, [receipt(user=name) for name in "de"], service="late")
    (found,) = store.look(room.full)
    assert found == (store.default_project(), YESTERDAY, "user", 2, NOW, "wild")


def test_answers_say_on_which_days_values_stand_together(store: SqliteStore) -> None:
    bound(store, 2, "user")
    for back in (0, 1, 2):
        names = "abc" if back else "ab"
        send(store, [receipt(user=name) for name in names], YESTERDAY - back * DAY_MS)
    days = [ledger.query.period.day(YESTERDAY - back * DAY_MS) for back in (2, 1)]
    assert costs(store, group_by="user")["full"] == {"days": 2, "first_day": days[0], "last_day": days[1]}
    for asked in (
        {},
        {"group_by": "model"},
        {"user": "c"},
        {"user": "c", "group_by": "user"},
        {"group_by": "user,model"},
    ):
        assert costs(store, **asked)["full"] is None, asked
    with pytest.raises(Refused, match=r"\(other\) is no value"):
        costs(store, user=OTHER)


@pytest.mark.parametrize("gone", [ARCHIVE, DELETE])
def test_days_that_are_full_lose_no_sum_to_retention(store: SqliteStore, gone: str, monkeypatch: Any) -> None:
    if gone == ARCHIVE:
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(pace, "REST", 0)
    bound(store, 2, "user")
    old = YESTERDAY - 9 * DAY_MS
    send(store, [receipt(user=name) for name in "aabccd"], old)
    retention.set_rule(store, None, Rule(5, gone), NOW, Actor("test"))
    retention.run(store, NOW)
    assert rows(store, "user") == {"a": 2, "b": 1, OTHER: 3}
    assert totals(store, user="a")["calls"] == 2
    answer = costs(store, user="c")
    assert (answer["totals"]["calls"], answer["archived"]["receipts"]) == (0, 6), "what is not known is said"
    assert costs(store, user="a")["archived"] is None


def test_a_budget_by_user_counts_each_user_and_keeps_its_receipts(store: SqliteStore) -> None:
    bound(store, 2, "user")
    desk = Desk(store, lambda: NOW)
    project = store.default_project()
    send(store, [receipt(user=name) for name in "aabccd"], NOW)
    desk.put(project, stated.budget({"name": "default", "per": ["user"], "limit_usd": 1, "period": "month"}), "test")
    desk.put(project, stated.budget({"name": "c", "match": {"user": "c"}, "limit_usd": 1, "period": "month"}), "test")
    desk.catch_up()

    def spent(connection: sqlite3.Connection, name: str, **labels: str) -> int:
        kept = book.need(connection, project, name)
        return counters.balance(connection, kept, rule.scope(kept.budget, labels), NOW).spent

    found = store.look(lambda connection: {name: spent(connection, "default", user=name) for name in "abcd"})
    assert found == {"a": 660, "b": 330, "c": 660, "d": 330}
    assert store.look(lambda connection: spent(connection, "c")) == 660
    (kept, _) = store.look(lambda connection: book.over(connection, project))
    day = NOW - NOW % DAY_MS
    assert [
        store.look(lambda connection, at=at: counted.needs(connection, kept, project, at)) for at in (day, day - DAY_MS)
    ] == [True, False]


def test_an_alert_by_user_is_of_a_user_and_never_of_the_rest(store: SqliteStore) -> None:
    town = Town(store)
    bound(store, 2, "user")
    town.only()
    town.office.add_rule({"name": "dear", "kind": "spend", "threshold": "10", "period": "day", "per": "user"})
    town.office.add_rule({"name": "month", "kind": "spend", "threshold": "25", "period": "month", "per": "user"})
    town.office.add_rule({"name": "asked", "kind": "query", "threshold": "10", "query": {"group_by": "user"}})
    for name in "abcdef":
        town.spend(4, user=name)
    assert town.look() == [], "the rest costs more than anybody may, and nobody does"
    town.spend(7, user="f")
    assert {(row["rule"], row["group"]["user"], row["value"]) for row in town.look()} == {
        ("dear", "f", "11"),
        ("asked", "f", "11"),
    }
    town.now_ms += DAY  # on the next day f comes first, and has sums of its own
    town.spend(8, user="f")
    town.spend(8, user="f")
    month = [row for row in town.look() if row["rule"] == "month"]
    assert [(row["group"]["user"], row["value"]) for row in month] == [("f", "27")]


def test_forgetting_leaves_names_where_they_stand(store: SqliteStore) -> None:
    bound(store, 2, "user")
    send(store, [receipt(user=name) for name in "aabccd"])
    project = store.default_project()
    for name in "ca":
        done = forgetting.forget(store, project, name, Actor("test"), NOW)
        assert done.settled
        assert totals(store, user=name)["calls"] == 0
        assert totals(store, user=done.pseudonym)["calls"] == 2
    assert rows(store, "user") == {done.pseudonym: 2, "b": 1, OTHER: 3}
    send(store, [receipt(user="a")])
    assert rows(store, "user")[OTHER] == 4, "room that a name gave up is given to nobody"


def test_a_file_of_an_older_release_counts_the_names_it_has(store: SqliteStore) -> None:
    send(store, [receipt(user=name) for name in "abcdd"])
    before = store.look(lambda connection: sorted(connection.execute("SELECT * FROM named_days").fetchall()))

    def again(connection: sqlite3.Connection) -> None:
        for trigger in ("names_come", "names_go"):
            connection.execute(f"DROP TRIGGER {trigger}")
        for table in ("named_days", "bounds"):
            connection.execute(f"DROP TABLE {table}")
        for statement in room.ROOM:
            connection.execute(statement)

    store.change(again)
    assert store.look(lambda connection: sorted(connection.execute("SELECT * FROM named_days").fetchall())) == before
    assert {row[2]: row[3] for row in before}["user"] == 4


@pytest.mark.ids("E13")
def test_several_processes_keep_one_bound(store: SqliteStore) -> None:
    bound(store, 4, "user")
    other = ledger.open_ledger(store.path)
    try:
        for number in range(12):
            send((store, other)[number % 2], [receipt(user=f"u{number}"), receipt(user=f"u{number % 5}")])
    finally:
        other.close()
    found = rows(store, "user")
    assert (len(found), sum(found.values())) == (5, 24)


def test_the_command_line_says_what_is_full_and_sets_bounds(
    store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        code = cli.main(["labels", *arguments, "--db", store.path])
        return code, "".join(capsys.readouterr())

    assert "No day is full" in run()[1]
    code, said = run("user", "--most", "2")
    assert code == 0
    assert "user 2" in said
    send(store, [receipt(user=name) for name in "abc"], service="wild")
    assert "user of project default: more than 2 values, full since" in run()[1]
    assert "by service wild" in run()[1]
    assert "project default: user 5" in run("user", "--most", "5", "--project", "default")[1]
    found = json.loads(run("--json")[1])
    assert (found["bounds"]["user"], found["of_projects"]) == (2, {"default": {"user": 5}})
    assert [(item["dimension"], item["values"], item["service"]) for item in found["full"]] == [("user", 2, "wild")]
    run("user", "--default")
    assert json.loads(run("--json")[1])["bounds"]["user"] == MOST_NAMES["user"]
    for arguments, wanted in (
        (("user", "--most", "0"), "use 1 to 1,000,000"),
        (("session", "--most", "5"), "has no sums; use one of provider"),
        (("user",), "--most N, or --default"),
        (("--most", "5"), "name the dimension"),
        (("user", "--most", "5", "--project", "nobody"), "is no project"),
    ):
        code, said = run(*arguments)
        assert code != 0, arguments
        assert wanted in said, said
    told = store.look(lambda connection: connection.execute("SELECT what, target, after FROM audit").fetchall())
    assert ("labels.bounded", "user of every project", '{"most":2}') in told
    assert cli.main(["costs", "--by", "user", "--since", "all", "--db", store.path]) == 0
    assert "too many different values for sums of each: the rest is (other)" in capsys.readouterr().out


def test_prometheus_has_the_days_that_are_full(store: SqliteStore) -> None:
    bound(store, 2, "user", "feature")
    for back in (0, 1):
        send(store, [receipt(user=name, feature="f") for name in "abc"], YESTERDAY - back * DAY_MS)
    with serving(store) as server:
        text = server.get("/metrics", key=None).raw.decode()
    assert 'aicg_labels_full_days{dimension="user"} 2.0' in text
    assert 'dimension="feature"' not in text


def _dearer(given: Any, at_ms: int) -> Priced:
    return Priced(7 * given["input_tokens"], "dearer")


_NAMES = st.sampled_from("abcdef")
_SENT = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {"model": st.sampled_from(["m1", "m2", "m3"]), "input_tokens": st.integers(0, 9)},
            optional={"latency_ms": st.integers(0, 99), **dict.fromkeys(("user", "feature", "team"), _NAMES)},
        ),
        st.integers(0, 2),
        st.integers(0, DAY_MS - 1),
    ),
    min_size=4,
    max_size=30,
)


@pytest.mark.ids("X6", "E13")
@settings(max_examples=20, deadline=None, suppress_health_check=[*HealthCheck])
@given(sent=_SENT, parts=st.integers(1, 6), most=st.integers(1, 3), acts=st.permutations(["price", "forget", "none"]))
def test_every_filter_is_exact_and_every_grouping_whole(
    tmp_path_factory: pytest.TempPathFactory, sent: Any, parts: int, most: int, acts: list[str]
) -> None:
    """As the raw receipts say, for each value of each dimension, and for what no receipt has."""
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("room") / "ledger.db"))
    try:
        bound(store, most)
        for part, act in zip(range(parts), itertools.cycle(acts)):
            chunk = [(receipt(**item, provider=f"p{back}"), back, at) for item, back, at in sent[part::parts]]
            if not chunk:
                continue
            body = envelope(
                [item for item, _, _ in chunk], name=epoch(), service=f"s{part}", environment=f"e{part % 3}"
            )
            body["at"] = [YESTERDAY - back * DAY_MS + at for _, back, at in chunk]
            take(store, body)
            store.fold()
            project = store.default_project()
            if act == "price":
                repricing.reprice(store, Scope(project, 0, NOW), _dearer, "test", NOW, apply=True)
            elif act == "forget":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(pace, "REST", 0)
                    assert forgetting.forget(store, project, "a", Actor("test"), NOW).settled
        for problem in _wrong(store, most):
            raise AssertionError(problem)
    finally:
        store.close()


def _wrong(store: SqliteStore, most: int) -> Iterator[Any]:
    project = store.default_project()
    # A part of an hour at either edge, whole hours, and whole days.
    for since, until in ((0, NOW), (YESTERDAY - 2 * DAY_MS + 5 * HOUR_MS + 7, YESTERDAY + 7 * HOUR_MS)):
        whole = Query(project, since, until, limit=10_000)
        raw = store.receipts(whole)
        names = [*DIMENSIONS]
        for name in names:
            values = {str(row.get(name, "")) for row in raw} | {"nobody", ""}
            if name in ("release", "region", "operation", "host", "request"):
                values = {"", "nobody"}
            for value in values:
                mine = [row for row in raw if row.get(name, "") == value]
                rest = [row for row in raw if row.get(name, "") != value]
                for by in ((), (name,), ("model",), ("day",)):
                    asked = whole._replace(group_by=by, latency="approximate" if name == "feature" else "")
                    for wanted, query in (
                        (mine, asked._replace(filters={name: (value,)})),
                        (rest, asked._replace(excluded={name: (value,)})),
                    ):
                        found = store.costs(query)
                        if _sums(wanted) != _amounts([found.totals]):
                            yield name, value, by, "totals"
                        if by and _amounts([sums for _, sums in found.rows]) != _sums(wanted):
                            yield name, value, by, "rows"
            for by in ((name,), (name, "day")):
                named = store.costs(whole._replace(group_by=by, named=True))
                if Counter(str(row.get(name, "")) for row in raw) != _by_name(named):
                    yield name, by, "named"
        for one, other in PAIRS:
            found = store.costs(whole._replace(group_by=(one, other)))
            if _amounts([sums for _, sums in found.rows]) != _sums(raw):
                yield one, other
            for value in {row.get(one, "") for row in raw}:
                found = store.costs(whole._replace(group_by=(other,), filters={one: (value,)}))
                mine = [row for row in raw if row.get(one, "") == value]
                if _by_name(found) != Counter(str(row.get(other, "")) for row in mine):
                    yield one, value, other
    counts = store.look(
        lambda connection: connection.execute(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM daily WHERE value NOT IN ('', ?) "
            "AND dimension NOT LIKE '%,%' GROUP BY project_id, dimension, start_ms)",
            (OTHER,),
        ).fetchone()[0]
    )
    if counts is not None and counts > most:
        yield "more names than there is room for", counts


def _by_name(found: Any) -> Counter[str]:
    out: Counter[str] = Counter()
    for values, sums in found.rows:
        out[values[0]] += sums["calls"]
    return out


def _sums(raw: list[dict[str, Any]]) -> tuple[int, ...]:
    return (len(raw), sum(row["cost_nanousd"] or 0 for row in raw), sum(row.get("latency_ms", 0) for row in raw))


def _amounts(rows: Any) -> tuple[int, ...]:
    names = ("calls", "cost_nanousd", "latency_ms")
    return tuple(sum(row[name] for row in rows) for name in names)
