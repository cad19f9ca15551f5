"""Budgets of an organisation: counted from all its projects, enforced in each of them, and told to nobody else."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicostguard import ledger
from aicostguard.guard import stated
from aicostguard.ledger import ingest
from aicostguard.ledger.access import audit, keyring, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.principal import ROLES
from aicostguard.ledger.alerts.office import Office
from aicostguard.ledger.alerts.watch import Settings, Watch
from aicostguard.ledger.budgets import ask as asking
from aicostguard.ledger.budgets import book, counters, leases, rule, status
from aicostguard.ledger.budgets.desk import Desk, Exceeded, Granted
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.sqlite import SqliteStore, salvage
from tests.ledger.budget_lines import run, told
from tests.ledger.support import NOW, Reply, Server, envelope, epoch, price, receipt

BY = Actor("test")
COST = 330  # nano-dollars of a `receipt()` at the tests' price
AMOUNTS = ("limit_usd", "spent_usd", "reserved_usd", "remaining_usd", "limit", "spent", "calls", "alerts", "history")


class Acme:
    """An organisation with the projects search and shop, another organisation beside it, and a clock."""

    def __init__(self, store: SqliteStore, now_ms: int = NOW) -> None:
        self.store, self.now_ms = store, now_ms
        store.default_project()
        self.desk = Desk(store, lambda: self.now_ms)

        def made(connection: sqlite3.Connection) -> tuple[int, int, int, int]:
            acme = places.add_organisation(connection, "acme", BY, NOW).id
            other = places.add_organisation(connection, "other", BY, NOW).id
            search, shop = (places.add_project(connection, acme, name, BY, NOW).id for name in ("search", "shop"))
            return acme, search, shop, places.add_project(connection, other, "far", BY, NOW).id

        self.acme, self.search, self.shop, self.far = store.change(made)

    def project(self, name: str) -> int:
        return self.store.change(lambda c: places.add_project(c, self.acme, name, BY, NOW).id)

    def put(self, owner: int | None = None, **given: Any) -> None:
        self.desk.put(-self.acme if owner is None else owner, stated.budget(given), "test")

    def take(self, project: int, calls: int = 1, *, ago_ms: int = 0, name: str = "", **labels: Any) -> None:
        body = envelope([receipt(**labels)] * calls, name=name or epoch())
        body.update(sent_at=self.now_ms, at=[self.now_ms - ago_ms] * calls)
        said = ingest.accept(self.store, project, body, self.now_ms, price=price)
        assert said["accepted"] + said["duplicate"] == calls, said

    def may(self, project: int, nanousd: int, **labels: str) -> Granted | Exceeded:
        asked = asking.Asking({"model": "gpt-4o", **labels}, nanousd, 10, False, 600)
        return self.desk.authorize(project, asked, None, "")

    def balance(self, name: str = "cap", **labels: str) -> counters.Balance:
        self.desk.catch_up()

        def read(connection: sqlite3.Connection) -> counters.Balance:
            kept = book.need(connection, -self.acme, name)
            return counters.balance(connection, kept, rule.scope(kept.budget, labels), self.now_ms)

        return self.store.look(read)

    def everything(self) -> list[tuple[Any, ...]]:
        self.desk.catch_up()
        return self.store.look(
            lambda c: c.execute(
                "SELECT budget_id, scope, start_ms, spent, reserved, calls, unpriced, estimated FROM budget_counters "
                "WHERE spent OR reserved OR calls OR unpriced ORDER BY 1, 2, 3"
            ).fetchall()
        )

    def anew(self) -> list[tuple[Any, ...]]:
        self.desk.rebuild(-self.acme, [], "test")
        return self.everything()


class Keys(NamedTuple):
    """Admins of one project each, and one of the whole organisation."""

    search: str
    shop: str
    far: str
    wide: str


@pytest.fixture
def acme(store: SqliteStore) -> Acme:
    return Acme(store)


@pytest.fixture
def keys(acme: Acme) -> Keys:
    def made(connection: sqlite3.Connection) -> Keys:
        def key(project: int, reach: str = "project") -> str:
            return keyring.add(connection, project, ROLES["admin"], BY, ledger.now_ms(), name="k", reach=reach)[0]

        return Keys(key(acme.search), key(acme.shop), key(acme.far), key(acme.search, "organisation"))

    return acme.store.change(made)


def ask(server: Server, method: str, path: str, body: Any = None, **more: Any) -> Reply:
    return server.ask(method, path, None if body is None else json.dumps(body).encode(), **more)


#: without a reset, so that no midnight between two questions matters
CAP = {"name": "cap", "limit_usd": "10", "reach": "organisation"}
DOLLAR = {"model": "gpt-4o", "estimate_usd": 1}


@pytest.mark.ids("ACC:A12", "ACC:A14")
def test_one_limit_holds_for_every_project_and_no_one_learns_what_the_others_spend(server: Server, keys: Keys) -> None:
    made = ask(server, "POST", "/v1/budgets", CAP, key=keys.wide)
    assert (made.status, made.body["reach"], made.body["limit_usd"]) == (201, "organisation", "10")
    tickets = {}
    for call in range(10):
        key = (keys.search, keys.shop)[call % 2]
        reply = ask(server, "POST", "/v1/authorize", {**DOLLAR, "feature": f"secret-{call % 2}"}, key=key)
        assert reply.status == 200, reply
        tickets[reply.body["ticket"]] = key
    for key in (keys.search, keys.shop):
        blocked = ask(server, "POST", "/v1/authorize", DOLLAR, key=key)
        assert (blocked.status, blocked.body["budget"], blocked.body["reach"]) == (402, "cap", "organisation")
        assert blocked.body["detail"] == "Budget limit reached. Inference blocked."
        assert blocked.body["estimate_usd"] == "1"
        assert not set(AMOUNTS) & set(blocked.body), "what all spend is not this key's to know"
        assert "$" not in blocked.body["error"] and "secret" not in blocked.raw.decode()
    monthly = {"name": "a closed month", "limit_usd": 0, "period": "month", "timezone": "Europe/Berlin"}
    ask(server, "POST", "/v1/budgets", {**monthly, "reach": "organisation"}, key=keys.wide)
    blocked = ask(server, "POST", "/v1/authorize", DOLLAR, key=keys.shop)
    assert (blocked.status, blocked.body["budget"]) == (402, "a closed month")
    assert blocked.body["resets_at"][8:19] == "01T00:00:00" and int(blocked.headers["retry-after"]) >= 1
    ask(server, "DELETE", "/v1/budgets/a closed month".replace(" ", "%20"), key=keys.wide)
    known = ask(server, "POST", "/v1/authorize", DOLLAR, key=keys.wide)
    assert (known.status, known.body["limit_usd"], known.body["reserved_usd"]) == (402, "10", "10")
    assert ask(server, "POST", "/v1/authorize", DOLLAR, key=keys.far).status == 200, "another organisation"
    ticket, key = tickets.popitem()
    assert ask(server, "POST", "/v1/settle", {"ticket": ticket, "cost_usd": "0.25"}, key=key).status == 200
    given_back = {**DOLLAR, "estimate_usd": "0.75"}
    assert ask(server, "POST", "/v1/authorize", given_back, key=keys.search).status == 200
    assert ask(server, "POST", "/v1/authorize", {**DOLLAR, "estimate_usd": "0.01"}, key=keys.shop).status == 402


def test_who_may_see_it_and_set_it(server: Server, acme: Acme, keys: Keys) -> None:
    store = acme.store
    refused = ask(server, "POST", "/v1/budgets", CAP, key=keys.search)
    assert (refused.status, refused.body["field"]) == (403, "name") and "reach organisation" in refused.body["error"]
    assert ask(server, "POST", "/v1/budgets", {**CAP, "reach": "ledger"}, key=keys.wide).body["field"] == "reach"
    assert ask(server, "POST", "/v1/budgets", CAP, key=keys.wide).status == 201
    acme.take(acme.shop, 3, feature="secret")
    for method, path, body in (
        ("GET", "/v1/budgets/cap", None),
        ("GET", "/v1/budgets?reach=organisation", None),
        ("PUT", "/v1/budgets/cap", {"limit_usd": 99}),
        ("POST", "/v1/budgets", {"name": "cap", "limit": 99}),
        ("DELETE", "/v1/budgets/cap", None),
        ("POST", "/v1/rebuild", {"budgets": ["cap"]}),
    ):
        for key in (keys.search, keys.shop):
            reply = ask(server, method, path, body, key=key)
            assert reply.status == 403, (method, path, reply)
        assert ask(server, method, path, body, key=keys.far).status in (200, 201, 403, 404), (method, path)
    assert ask(server, "POST", "/v1/rebuild", {}, key=keys.shop).body == {"rebuilt": []}
    assert ask(server, "POST", "/v1/rebuild", {}, key=keys.wide).body == {"rebuilt": ["cap"]}
    seen = ask(server, "GET", "/v1/budgets", key=keys.search).body
    (bare,) = seen["of_organisation"]
    assert seen["budgets"] == [] and not set(AMOUNTS) & set(bare)
    assert (bare["name"], bare["period"], bare["on_exceed"], bare["unit"]) == ("cap", "total", "block", "usd")
    (row,) = ask(server, "GET", "/v1/budgets", key=keys.wide).body["budgets"]
    assert (row["spent_usd"], row["calls"], row["limit_usd"]) == ("0.00000099", 3, "10")
    assert ask(server, "GET", "/v1/budgets?reach=organisation", key=keys.wide).body == {"budgets": [row]}
    assert ask(server, "GET", "/v1/budgets?reach=project", key=keys.wide).body == {"budgets": []}
    reader = store.change(lambda c: keyring.add(c, acme.shop, ROLES["read"], BY, NOW, name="r", reach="organisation"))[
        0
    ]
    assert ask(server, "GET", "/v1/budgets/cap", key=reader).status == 200
    assert ask(server, "PUT", "/v1/budgets/cap", {"limit_usd": 5}, key=reader).status == 403
    wider = ask(server, "PUT", "/v1/budgets/cap", {"limit": 20}, key=keys.wide)
    assert (wider.status, wider.body["limit_usd"], wider.body["reach"]) == (200, "20", "organisation")
    told = store.look(lambda c: audit.lines(c, organisation_id=acme.acme))
    of_budget = [line for line in told if line.what.startswith("budget.")]
    assert [(line.what, line.project_id) for line in of_budget] == [("budget.changed", None), ("budget.created", None)]
    assert (of_budget[0].before or {})["limit_usd"] == "10" and (of_budget[0].after or {})["limit_usd"] == "20"
    for project in (acme.search, acme.shop):
        assert not [line for line in store.look(lambda c, at=project: audit.lines(c, project_id=at))
                    if line.what.startswith("budget.")]  # fmt: skip
    assert ask(server, "DELETE", "/v1/budgets/cap", key=keys.wide).status == 200
    assert ask(server, "POST", "/v1/authorize", {**DOLLAR, "estimate_usd": 50}, key=keys.shop).status == 200


def test_a_name_means_one_budget_in_every_project(acme: Acme) -> None:
    acme.put(name="cap", limit_usd=1)
    with pytest.raises(Refused, match="is a budget of the organisation"):
        acme.put(acme.shop, name="cap", limit_usd=1)
    acme.put(acme.far, name="cap", limit_usd=1)
    acme.put(acme.shop, name="mine", limit_usd=1)
    with pytest.raises(Refused, match="the project shop has a budget 'mine'"):
        acme.put(name="mine", limit_usd=1)
    acme.put(acme.search, name="mine", limit_usd=1)
    with pytest.raises(Refused, match="per: user"):
        acme.put(name="one", limit_usd=1, match={"user": "zoë"})
    acme.put(name="cap", limit_usd=2)
    assert [kept.owner for kept in acme.store.look(lambda c: book.over(c, acme.shop))] == [-acme.acme, acme.shop]
    names = acme.store.look(
        lambda c: c.execute("SELECT name, organisation_id FROM budgets WHERE project_id < 0").fetchall()
    )
    assert names == [("cap", acme.acme)]


@pytest.mark.ids("ACC:A14", "D4")
def test_it_counts_the_receipts_of_all_projects_those_to_come_included(acme: Acme) -> None:
    acme.take(acme.search, 2)
    acme.put(name="cap", limit_usd=1)
    acme.put(name="teams", limit_usd=1, per=["team"], match={"tags.tier": "gold"}, period="day")
    acme.put(name="prod", limit_tokens=10**6, match={"organisation": "acme"}, period="total")
    assert acme.balance().spent == 2 * COST, "what came before it, too"
    acme.take(acme.shop, 3, team="a", tags={"tier": "gold"})
    acme.take(acme.far, 50)
    late = acme.project("late")
    acme.take(late, 4, team="a", tags={"tier": "gold"})
    acme.take(late, 1, name="01SENTTWICE")
    acme.take(late, 1, name="01SENTTWICE")
    acme.take(acme.search, 1, model="unheard-of")
    found = acme.balance()
    assert (found.spent, found.calls, found.unknown) == (10 * COST, 11, 1)
    assert acme.balance("teams", team="a").spent == 7 * COST
    assert acme.balance("prod").spent == 11 * 110
    before = acme.everything()
    assert acme.anew() == before
    acme.store.change(lambda c: c.execute("UPDATE budget_counters SET spent = 7"))
    assert acme.anew() == before, "one scan over all projects"


def test_arrivals_that_were_forgotten_are_counted_from_all_projects(acme: Acme) -> None:
    acme.put(name="cap", limit_usd=1)
    acme.put(acme.far, name="theirs", limit_usd=1)
    for project in (acme.search, acme.shop, acme.far):
        acme.take(project, 2)
    acme.store.change(lambda c: c.execute("DELETE FROM arrivals WHERE id < (SELECT max(id) FROM arrivals)"))
    assert acme.balance().spent == 4 * COST


def test_a_zones_month_and_a_session_are_told_apart_as_in_a_project(store: SqliteStore) -> None:
    acme = Acme(store, 1_798_758_000_000)  # 2026-12-31 23:00 UTC: in Berlin the new year has begun
    acme.put(name="cap", limit_usd=1, period="month", timezone="Europe/Berlin")
    acme.put(name="utc", limit_usd=1, period="month")
    acme.put(name="each", limit_requests=2, period="session")
    acme.take(acme.search, 1, ago_ms=60_000, session="s")
    acme.take(acme.shop, 2, session="t")
    assert (acme.balance().spent, acme.balance("utc").spent) == (2 * COST, 3 * COST)
    assert (acme.balance("each", session="s").spent, acme.balance("each", session="t").spent) == (1, 2)
    before = acme.everything()
    assert set(acme.anew()) <= set(before)


@pytest.mark.ids("ACC:A15")
def test_thresholds_are_told_once_in_each_project_and_without_amounts(acme: Acme) -> None:
    acme.put(name="cap", limit_usd="0.000001", period="month", alert_at=[0.5, 0.75])
    acme.put(name="features", limit_usd="0.0000001", per=["feature"], alert_at=[0.5])

    def told(project: int) -> list[Any]:
        watch = Watch(acme.store, lambda: acme.now_ms, Settings(), acme.desk.catch_up)
        office = Office(watch, project, BY, lambda: acme.now_ms)
        return list(office.alerts({"kind": "budget"})["alerts"])

    acme.take(acme.shop, 2, feature="secret")
    for _ in range(2):
        for project in (acme.search, acme.shop):
            (row,) = told(project)
            assert (row["budget"], row["threshold"]) == ("cap", 0.5)
            assert row["text"] == "Budget utilization of the whole organisation exceeds alert threshold 50%"
            assert "secret" not in json.dumps(row) and not {"spent_usd", "limit_usd"} & set(row)
    assert told(acme.far) == []
    acme.take(acme.search, 1)
    assert sorted(row["threshold"] for row in told(acme.shop)) == [0.5, 0.75]
    known = acme.store.look(lambda c: status.detailed(c, acme.search, "cap", acme.now_ms))["alerts"]
    assert [(row["threshold"], row["limit_usd"]) for row in known] == [(0.75, "0.000001"), (0.5, "0.000001")]
    assert len(acme.store.look(lambda c: status.alerts(c, -acme.acme, budget="features"))["alerts"]) == 2


@pytest.mark.ids("D3", "D4", "Z2")
@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(
                ["receipts", "may", "settle", "release", "told", "wait", "lend", "back", "anew", "change", "far"]
            ),
            st.integers(0, 2**16),
        ),
        max_size=25,
    )
)
def test_whatever_happens_in_which_project_counters_are_what_the_books_say_and_the_limit_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("shared") / "ledger.db"))
    limit = 10_000
    try:
        acme = Acme(store)
        acme.put(name="cap", limit_usd="0.00001")
        acme.put(name="teams", limit_usd="0.000006", per=["team"], period="day", on_exceed="warn")
        acme.put(acme.shop, name="own", limit_usd="0.000008")
        tickets: list[tuple[int, str]] = []
        lent: dict[int, int] = {}
        unasked = 0
        for step, number in steps:
            pick = random.Random(number)
            project = pick.choice([acme.search, acme.shop])
            labels = {"team": pick.choice(["a", "b"])}
            if step == "receipts":  # calls that nobody was asked about: they count, and nothing can hold them back
                acme.take(project, name=f"01HOLDER{project}" if pick.random() < 0.5 else "", **labels)
                unasked += COST
            elif step == "far":
                acme.take(acme.far, 3, **labels)
                acme.may(acme.far, 1000)
            elif step == "may":
                found = acme.may(project, pick.randrange(4000), **labels)
                if isinstance(found, Granted):
                    tickets.append((project, found.ticket.id))
            elif step in ("settle", "release") and tickets:
                project, ticket = tickets.pop(pick.randrange(len(tickets)))
                bound = store.look(
                    lambda c, at=ticket: c.execute("SELECT bound_nanousd FROM tickets WHERE id = ?", (at,)).fetchone()[
                        0
                    ]
                )
                used = asking.Used(release=True) if step == "release" else asking.Used(nanousd=pick.randint(0, bound))
                acme.desk.settle(project, ticket, used)
            elif step == "told" and tickets:
                project, ticket = tickets.pop(pick.randrange(len(tickets)))
                acme.take(project, request=ticket, **labels)
                unasked += COST
            elif step == "wait":
                acme.now_ms += pick.randrange(400_000)
            elif step in ("lend", "back"):
                amount = pick.randrange(5000) if step == "lend" else pick.randrange(lent.get(project, 0) + 1)
                at_least, exactly = (amount, None) if step == "lend" else (None, amount)
                asked = leases.Asked("[]", number % 2, 0, at_least, exactly)
                ((_, given_),) = acme.desk.lend(project, f"01HOLDER{project}", [("cap", asked)])
                assert given_ is not None
                lent[project] = given_.granted
            elif step == "change":
                acme.put(name="teams", limit_usd="0.000006", per=["team"], period=pick.choice(["day", "month"]),
                         on_exceed="warn")  # fmt: skip
            elif step == "anew":
                acme.desk.rebuild(project, [], "test")
            cap = acme.balance()
            assert cap.spent + cap.reserved <= limit + unasked, "nothing that was asked for passes the limit"
            before = acme.everything()
            now = {row for row in acme.anew() if row[2] in (0, rule.bounds("month", "UTC", acme.now_ms)[0])}
            assert now <= set(before)
            assert {row for row in before if row[2] == 0} <= now
    finally:
        store.close()


def test_what_is_lent_to_a_program_of_one_project_is_missing_in_the_other(server: Server, keys: Keys) -> None:
    ask(server, "POST", "/v1/budgets", {**CAP, "limit_usd": "0.00001"}, key=keys.wide)

    def lend(key: str, holder: str, at_least: int) -> Any:
        body = {"holder": holder, "leases": [{"budget": "cap", "turn": 0, "have": 0, "at_least": at_least}]}
        return ask(server, "POST", "/v1/authorize", body, key=key).body["leases"][0]

    first = lend(keys.search, "01HOLDERA", 6000)
    assert first["granted"] == 6000 + 4000 // 16
    other = lend(keys.shop, "01HOLDERB", 5000)
    assert (other["refused"], other["spent"], other["reserved"], other["limit"]) == (True, 6250, 0, 10_000)
    assert lend(keys.wide, "01HOLDERC", 5000)["reserved"] == 6250
    assert lend(keys.shop, "01HOLDERB", 3000)["refused"] is False
    assert lend(keys.far, "01HOLDERD", 1)["gone"] is True, "there is no such budget there"


def test_a_policy_has_it_under_the_words_that_every_agent_reads(server: Server, keys: Keys) -> None:
    ask(server, "POST", "/v1/budgets", CAP, key=keys.wide)
    ask(server, "POST", "/v1/budgets", {"name": "own", "limit_usd": 1}, key=keys.shop)
    found = ask(server, "GET", "/v1/policy", key=keys.shop)
    assert [item["name"] for item in found.body["budgets"]] == ["cap", "own"]
    for item in found.body["budgets"]:
        assert stated.budget(item).name == item["name"], "no key that a released agent would refuse"
    assert [item["name"] for item in ask(server, "GET", "/v1/policy", key=keys.far).body["budgets"]] == []
    ask(server, "PUT", "/v1/budgets/cap", {"limit": 11}, key=keys.wide)
    changed = ask(server, "GET", "/v1/policy", key=keys.shop, If_None_Match=found.headers["etag"])
    assert changed.status == 200 and changed.body["budgets"][0]["limit_usd"] == "11"


def test_salvage_takes_it_along_with_what_stands_in_it(acme: Acme, tmp_path: Path) -> None:
    acme.desk.put(-acme.acme, stated.budget({"name": "cap", "limit_usd": 1, "period": "month"}), "test", 5000)
    acme.take(acme.search, 2)
    acme.take(acme.shop, 3)
    assert acme.balance().spent == 5000 + 5 * COST
    store = ledger.open_ledger(str(tmp_path / "salvaged.db"))
    try:
        salvage.salvage(acme.store.path, store)
        desk = Desk(store, lambda: acme.now_ms)
        desk.catch_up()
        kept = store.look(lambda c: book.need(c, acme.shop, "cap"))
        assert kept.owner == -acme.acme
        assert store.look(lambda c: counters.balance(c, kept, "[]", acme.now_ms)).spent == acme.balance().spent
    finally:
        store.close()


def test_the_command_line_sets_and_shows_it_on_a_file_and_over_http(server: Server, acme: Acme, keys: Keys) -> None:
    http, file = ("--url", f"http://127.0.0.1:{server.port}"), ("--db", acme.store.path)
    wide = (*http, "--key", keys.wide)
    assert told("add", "cap", "--usd", "0.000001", "--organisation", "acme", *file)["reach"] == "organisation"
    assert told("add", "calls", "--requests", "9", "--organisation", "ACME", *wide)["reach"] == "organisation"
    acme.take(acme.search, 2)
    acme.take(acme.shop, 1)
    of_acme = told("--organisation", "acme", *file)
    assert [(row["name"], row["reach"]) for row in of_acme["budgets"]] == [
        ("calls", "organisation"),
        ("cap", "organisation"),
    ]
    assert of_acme["budgets"][1]["spent_usd"] == "0.00000099"
    assert [alert["threshold"] for alert in of_acme["alerts"]] == [0.9, 0.75]
    assert told("--organisation", "acme", *wide)["alerts"] == of_acme["alerts"]
    code, text = run("--organisation", "acme", *wide)
    assert code == 0 and "cap (organisation)" in text and "exceeds alert threshold 90%" in text
    assert told(*file)["budgets"] == [], "the first project is none of acme's"
    code, text = run(*http, "--key", keys.shop)
    assert code == 0 and "cap holds, too: the whole organisation shares it (block" in text and "0.00" not in text
    code, text = run("--organisation", "other", *wide)
    assert code == 1 and "the key is of the organisation acme" in text
    assert run("--organisation", "nobody", *file)[0] == 1
    code, text = run("set", "cap", "--usd", "5", *http, "--key", keys.shop)
    assert code == 1 and "reach organisation" in text
    for where in (wide, file):
        assert told("set", "cap", "--usd", "2", "--organisation", "acme", *where)["limit_usd"] == "2"
        assert told("rebuild", "--organisation", "acme", *where) == {"rebuilt": ["calls", "cap"]}
    acme.put(acme.search, name="own", limit_usd=1)
    for where in (wide, file):
        assert run("show", "own", "--organisation", "acme", *where)[0] == 1
        assert run("remove", "own", "--organisation", "acme", *where)[0] == 1
    assert told("show", "own", *wide)["reach"] == "project"
    assert run("remove", "calls", "--organisation", "acme", *wide) == (0, "removed calls\n")
    assert run("remove", "cap", "--organisation", "acme", *file) == (0, "removed cap\n")
    assert told("--organisation", "acme", *wide)["budgets"] == []
    assert told("rebuild", "--organisation", "acme", *wide) == {"rebuilt": []}
