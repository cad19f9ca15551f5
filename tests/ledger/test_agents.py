"""The tree of agents: each cost on one line, at any depth, whoever calls whom; and the sums that it is made of."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicostguard import ledger
from aicostguard.cli.agents import shown
from aicostguard.ledger import agents, repricing
from aicostguard.ledger.agents import SUMMED, Line, tree
from aicostguard.ledger.model import DAY_MS, HOUR_MS, JOINT, OTHER, Query
from aicostguard.ledger.sqlite import SqliteStore, callers, room, schema, sums
from tests.ledger.support import NOW, Priced, costs, envelope, epoch, receipt, serving, take

YESTERDAY = NOW - NOW % DAY_MS - DAY_MS
Edge = tuple[str | None, str | None]


def row(caller: str | None, agent: str | None, usd: int, **more: int) -> dict[str, Any]:
    return {"parent_agent": caller, "agent": agent, **dict.fromkeys(SUMMED, 0), "cost_nanousd": usd, "calls": 1, **more}


def told(*edges: tuple[str | None, str | None, int]) -> list[tuple[int, str | None, int, int]]:
    """`(depth, agent, direct, delegated)` of each line."""
    lines = tree([row(*edge) for edge in edges]).lines
    return [(line.depth, line.agent, line.direct["cost_nanousd"], line.delegated["cost_nanousd"]) for line in lines]


@pytest.mark.ids("B19", "A32")
def test_total_is_direct_plus_delegated_at_any_depth() -> None:
    found = told((None, "a", 1), ("a", "b", 2), ("b", "c", 4), ("a", "d", 8), (None, None, 99))
    assert found == [(0, "a", 1, 14), (1, "d", 8, 0), (1, "b", 2, 4), (2, "c", 4, 0)]
    chain = told(*[(str(n) if n else None, str(n + 1), 1) for n in range(5_000)])
    assert chain[0] == (0, "1", 1, 4_999) and chain[-1] == (4_999, "5000", 1, 0)


def test_what_an_agent_of_several_callers_handed_on_is_counted_once() -> None:
    apart = told((None, "a", 1), (None, "b", 1), ("a", "c", 2), ("b", "c", 3), ("c", "d", 5))
    assert apart == [(0, "c", 0, 5), (1, "d", 5, 0), (0, "b", 1, 3), (1, "c", 3, 0), (0, "a", 1, 2), (1, "c", 2, 0)]
    lines = tree([row(None, "a", 1), row(None, "b", 1), row("a", "c", 2), row("b", "c", 3), row("c", "d", 5)]).lines
    assert [(line.gathered, line.elsewhere) for line in lines if line.agent == "c"] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert lines[0].callers == ("a", "b")


def test_an_agent_that_all_ways_lead_through_is_charged_for_all() -> None:
    found = told((None, "p", 1), ("p", "a", 1), ("p", "b", 1), ("a", "c", 2), ("b", "c", 3), ("c", "d", 5))
    assert found[0] == (0, "p", 1, 12)
    assert [line[:2] for line in found] == [(0, "p"), (1, "c"), (2, "d"), (1, "b"), (2, "c"), (1, "a"), (2, "c")]
    both = told((None, "p", 1), ("p", "c", 1), ("p", "a", 1), ("a", "c", 2), ("c", "d", 5))
    assert (1, "c", 1, 5) in both and (2, "c", 2, 0) in both, "on the line of the call from p itself"


def test_circles_are_cut_where_they_close() -> None:
    assert told((None, "a", 1), ("a", "b", 2), ("b", "a", 4)) == [(0, "a", 1, 6), (1, "b", 2, 4), (2, "a", 4, 0)]
    assert told(("a", "b", 2), ("b", "a", 4), ("b", "q", 1)) == [
        (0, "a", 0, 7),
        (1, "b", 2, 5),
        (2, "a", 4, 0),
        (2, "q", 1, 0),
    ]
    assert told(("x", "x", 1)) == [(0, "x", 0, 1), (1, "x", 1, 0)]
    # What a circle leads to is no beginning, though its name comes first.
    assert told(("y", "z", 1), ("z", "y", 1), ("y", "a", 1))[0][:2] == (0, "y")


def test_callers_without_calls_and_calls_without_a_name_have_lines() -> None:
    assert told(("ghost", "b", 1)) == [(0, "ghost", 0, 1), (1, "b", 1, 0)]
    assert told((None, "a", 1), ("a", None, 3)) == [(0, "a", 1, 3), (1, None, 3, 0)]
    assert told(("ghost", None, 3)) == [(0, "ghost", 0, 3), (1, None, 3, 0)]
    found = tree([row(None, "a", 1), row(OTHER, OTHER, 7), row(None, None, 9)])
    assert (found.other["cost_nanousd"], found.unnamed["cost_nanousd"], len(found.lines)) == (7, 9, 1)


def test_what_has_no_price_is_no_zero() -> None:
    (line,) = tree([row(None, "a", 0, calls=2, unpriced_calls=2)]).lines
    assert agents.told(line.total)["cost_nanousd"] is None
    top, _ = tree([row(None, "a", 1), row("a", "b", 0, calls=3, unpriced_calls=3)]).lines
    assert agents.told(top.delegated)["cost_usd"] is None
    assert (agents.told(top.total)["cost_nanousd"], top.total["unpriced_calls"]) == (1, 3)


@pytest.mark.ids("A32")
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.tuples(*[st.sampled_from([None, *"abcdefg"])] * 2), st.integers(0, 1000), max_size=24))
def test_every_cost_stands_on_one_line_and_all_adds_up(given: dict[Edge, int]) -> None:
    rows = [row(caller, agent, usd) for (caller, agent), usd in given.items()]
    found = tree(rows)
    held = [(line.caller, line.agent) for line in found.lines if not line.gathered]
    assert Counter(held) == Counter(edge for edge in given if edge != (None, None))
    tops = [line.total for line in found.lines if line.depth == 0]
    for name in SUMMED:
        assert sum(top[name] for top in tops) + found.unnamed[name] == sum(one[name] for one in rows), name
    for at, line in enumerate(found.lines):
        end = next((n for n, one in enumerate(found.lines) if n > at and one.depth <= line.depth), len(found.lines))
        children = [one for one in found.lines[at + 1 : end] if one.depth == line.depth + 1]
        assert line.delegated == {name: sum(one.total[name] for one in children) for name in SUMMED}
        assert all(one.caller == line.agent for one in children)
    assert [line.agent for line in found.lines] == [line.agent for line in tree(rows[::-1]).lines]


def test_the_dearest_lines_have_all_that_is_above_them() -> None:
    rng = random.Random(5)
    names = [None, *(f"a{n}" for n in range(60))]
    rows = [row(rng.choice(names), rng.choice(names[1:]), rng.randrange(50)) for _ in range(200)]
    rows = list({(one["parent_agent"], one["agent"]): one for one in rows}.values())
    lines = [{"total": line.total, "line": line} for line in tree(rows).lines]
    for most in (1, 7, 30, 1000):
        shown: list[Line] = [one["line"] for one in agents.dearest(lines, most)]
        assert len(shown) == min(most, len(lines)) and shown[0].depth == 0
        assert all(one.depth <= before.depth + 1 for before, one in itertools.pairwise(shown))


# What the tree is read from.


def pairs(store: SqliteStore) -> dict[str, int]:
    return dict(
        store.look(
            lambda connection: connection.execute(
                "SELECT value, sum(calls) FROM daily WHERE dimension = ? GROUP BY 1", (callers.PAIR,)
            ).fetchall()
        )
    )


def send(store: SqliteStore, edges: list[Edge], at_ms: int = YESTERDAY) -> None:
    named = [{"parent_agent": caller, "agent": agent} for caller, agent in edges]
    bodies = [receipt(**{key: value for key, value in one.items() if value}) for one in named]
    take(store, {**envelope(bodies, name=epoch()), "at": [at_ms] * len(bodies)})


def test_receipts_without_an_agent_have_no_sum_of_callers(store: SqliteStore) -> None:
    send(store, [(None, None)] * 20)
    assert pairs(store) == {}
    send(store, [(None, "a"), ("a", "b"), ("a", "b"), ("a", None), *[(None, None)] * 5])
    assert pairs(store) == {f"{JOINT}a": 1, f"a{JOINT}b": 2, f"a{JOINT}": 1}
    found = {(one["parent_agent"], one["agent"]): one["calls"] for one in _by_pair(store)}
    assert found == {(None, None): 25, (None, "a"): 1, ("a", "b"): 2, ("a", None): 1}


def test_where_all_have_an_agent_nobody_is_shown_who_has_none(store: SqliteStore) -> None:
    send(store, [(None, "a"), ("a", "b")])
    answer = costs(store, group_by="parent_agent,agent")
    assert len(answer["rows"]) == 2 and answer["other"] is None
    few = costs(store, group_by="agent", parent_agent="", limit="5")
    assert [one["agent"] for one in few["rows"]] == ["a"] and few["other"] is None
    days = costs(store, group_by="day,parent_agent,agent", until="today")
    assert [(one["parent_agent"], one["agent"]) for one in days["rows"]] == [(None, "a"), ("a", "b")]


@pytest.mark.parametrize("most", [10_000, 2])
def test_sums_of_callers_say_what_the_receipts_say(store: SqliteStore, most: int) -> None:
    store.change(lambda c: c.execute("INSERT INTO bounds VALUES (0, ?, ?)", (callers.PAIR, most)))
    rng = random.Random(11)
    names: list[str | None] = [None, None, "a", "b", "c"]
    for back in range(4):
        send(store, [(rng.choice(names), rng.choice(names)) for _ in range(30)], YESTERDAY - back * DAY_MS)
    filters: list[dict[str, tuple[str, ...]]] = [{}, {"agent": ("",)}, {"agent": ("a", "")}, {"parent_agent": ("b",)}]
    filters += [{"agent": ("",), "parent_agent": ("",)}, {"agent": ("",), "parent_agent": ("a", "")}]
    for by, kept, out in itertools.product(
        ((), ("agent",), ("parent_agent", "agent"), ("day", "agent", "parent_agent")), filters, filters
    ):
        query = Query(1, YESTERDAY - 5 * DAY_MS, YESTERDAY + DAY_MS, by, kept, limit=1000, excluded=out)
        if sums.rolled_up(query) != callers.PAIR:
            continue
        # One that no sums answer reads the receipts.
        raw = store.costs(query._replace(excluded={**out, "session": ("nobody",)}))
        found = store.costs(query._replace(named=True))
        assert (found.totals, sorted(found.rows, key=str)) == (raw.totals, sorted(raw.rows, key=str)), (by, kept, out)
        lumped = store.costs(query)
        assert lumped.totals == raw.totals
        assert sum(one["calls"] for _, one in lumped.rows) == (raw.totals["calls"] if by else 0)


def test_callers_are_read_from_sums_in_every_zone_of_whole_hours(store: SqliteStore) -> None:
    since = YESTERDAY - 30 * DAY_MS - 5 * HOUR_MS
    query = Query(1, since, since + 31 * DAY_MS, ("parent_agent", "agent"))
    assert {table for table, *_ in sums.cover_of(query)} == {"daily", "hourly"}
    send(store, [(None, "a"), ("a", "b"), (None, None)], since)
    send(store, [(None, "a"), ("a", "b"), (None, None)], since - 1)
    assert sorted(one["calls"] for _, one in store.costs(query).rows) == [1, 1, 1]


def test_repricing_moves_the_sums_of_callers(store: SqliteStore) -> None:
    send(store, [(None, "a"), ("a", "b"), (None, None)])
    scope = repricing.Scope(store.default_project(), 0, 2**50, unpriced_only=False)
    repricing.reprice(store, scope, lambda body, at_ms: Priced(1_000_000, "dearer"), "test", NOW, apply=True)
    assert [one["cost_nanousd"] for one in _by_pair(store)] == [1_000_000] * 3
    assert pairs(store) == {f"{JOINT}a": 1, f"a{JOINT}b": 1}


# Files of before.


def _by_pair(store: SqliteStore) -> list[dict[str, Any]]:
    return list(costs(store, group_by="parent_agent,agent")["rows"])


def _everything(store: SqliteStore) -> Any:
    return store.look(
        lambda connection: [
            connection.execute("SELECT * FROM hourly ORDER BY project_id, dimension, start_ms, value").fetchall(),
            connection.execute("SELECT * FROM daily ORDER BY project_id, dimension, start_ms, value").fetchall(),
            connection.execute("SELECT * FROM named_days ORDER BY project_id, start_ms, dimension").fetchall(),
        ]
    )


def _older(store: SqliteStore, path: Path, since_ms: int = 0) -> None:
    """A file of the release before the sums of callers, of which retention has deleted what is older."""
    connection = sqlite3.connect(path)
    version = schema.MIGRATIONS.index(callers.CALLERS)
    for statement in (one for step in schema.MIGRATIONS[:version] for one in step):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.execute("ATTACH ? AS new", (store.path,))
    for table in ("organisations", "projects", "receipts", "hourly", "daily", "arrivals", "bounds"):
        names = ", ".join(f'"{one[1]}"' for one in connection.execute(f"PRAGMA main.table_info({table})"))
        kept = dict.fromkeys(("hourly", "daily"), f"WHERE dimension <> '{callers.PAIR}'")
        kept["receipts"] = f"WHERE at_ms >= {since_ms}"
        connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table} {kept.get(table, '')}")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("most", [10_000, 2])
def test_a_file_of_the_release_before_gets_its_callers(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    store.change(lambda c: c.execute("INSERT INTO bounds VALUES (0, ?, ?)", (callers.PAIR, most)))
    for back in range(3):
        send(store, [(None, "a"), ("a", "b"), ("a", "c"), ("b", None), (None, None)], YESTERDAY - back * DAY_MS)
    send(store, [(None, None)] * 3, YESTERDAY - 7 * DAY_MS)
    _older(store, tmp_path / "old.db")
    filled: list[int] = []
    fill_day = callers.fill

    def killed(connection: sqlite3.Connection, project_id: int, day_ms: int) -> None:
        fill_day(connection, project_id, day_ms)
        filled.append(day_ms)
        if len(filled) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(callers, "fill", killed)
        ledger.open_ledger(str(tmp_path / "old.db"))
    monkeypatch.setattr(callers, "fill", lambda *given: filled.append(given[2]) or fill_day(*given))
    old = ledger.open_ledger(str(tmp_path / "old.db"))
    try:
        days = [YESTERDAY - back * DAY_MS for back in (2, 1, 0)]
        assert filled == [*days[:2], *days[1:]], "only days with agents, and the one it was killed at anew"
        mine, theirs = _everything(old), _everything(store)
        if most == 2:  # which names have room follows from who came first
            full = [costs(one, group_by="parent_agent,agent")["full"] for one in (old, store)]
            assert full[0] == full[1] and full[0]["days"] == 3
            assert sum(pairs(old).values()) == sum(pairs(store).values()) == 12
        else:
            assert mine == theirs
        assert not old.look(lambda c: c.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'backfill%'").fetchone())
    finally:
        old.close()


def test_agents_of_receipts_that_are_gone_are_not_called_nobodys(store: SqliteStore, tmp_path: Path) -> None:
    send(store, [(None, "a"), ("a", "b"), (None, None)])
    send(store, [(None, "a"), ("a", "b"), (None, None), (None, None)], YESTERDAY - DAY_MS)
    _older(store, tmp_path / "old.db", since_ms=YESTERDAY)
    old = ledger.open_ledger(str(tmp_path / "old.db"))
    try:
        answer = agents.ask(old, {"since": ["all"]}, old.default_project(), NOW)
        assert (answer["other"]["calls"], answer["unnamed"]["calls"]) == (2, 3)
        assert answer["full"]["days"] == 1 and answer["totals"]["calls"] == 7
        assert [(one["agent"], one["direct"]["calls"]) for one in answer["agents"]] == [("a", 1), ("b", 1)]
        assert len(old.look(room.full)) == 1
    finally:
        old.close()


# Asking.


def test_the_table_says_how_many_lines_it_leaves_out(store: SqliteStore) -> None:
    send(store, [(None, "a"), ("a", "b"), (None, "c")])
    answer = agents.ask(store, {"since": ["all"]}, store.default_project(), NOW)
    assert "(2 cheaper lines more: --limit)" in shown(answer, 1)
    assert "cheaper" not in shown(answer, 3)


@pytest.mark.ids("A32")
def test_the_api_gives_the_tree_and_refuses_what_does_not_apply(store: SqliteStore) -> None:
    send(store, [(None, "a"), ("a", "b"), ("b", "a"), (None, None), ("b", "c")])
    with serving(store) as server:
        answer = server.get("/v1/agents?since=all").body
        assert [(one["depth"], one["agent"], one["called_by"]) for one in answer["agents"]] == [
            (0, "a", None),
            (1, "b", "a"),
            (2, "a", "b"),
            (2, "c", "b"),
        ]
        top = answer["agents"][0]
        assert top["total"]["calls"] == 4 and top["callers"] == [None, "b"] and answer["agents"][2]["elsewhere"]
        tops = [one["total"]["cost_nanousd"] for one in answer["agents"] if one["depth"] == 0]
        assert sum(tops) + answer["unnamed"]["cost_nanousd"] == answer["totals"]["cost_nanousd"] == 5 * 330
        text = server.get("/v1/agents?since=all&format=csv").raw.decode().splitlines()
        assert text[0].startswith("depth,agent,called_by,direct_usd,delegated_usd,total_usd,calls,")
        assert text[1].startswith("0,a,,0.00000033,0.00000099,0.00000132,1,") and text[-1].startswith("0,(unnamed),,")
        for name in ("group_by", "order", "limit", "compare", "latency", "exact"):
            reply = server.get(f"/v1/agents?{name}=1")
            assert (reply.status, reply.body["field"]) == (422, name)
        assert server.get("/v1/agents", key=None).status == 401
        only = server.get("/v1/agents?since=all&agent=c").body
        assert [one["agent"] for one in only["agents"]] == ["b", "c"] and only["totals"]["calls"] == 1
