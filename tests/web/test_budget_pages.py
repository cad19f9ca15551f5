"""Budgets as pages: the same figures as the API, the same refusals, and nothing half done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.access import keyring
from aicostguard.ledger.access.principal import ROLES
from aicostguard.ledger.budgets import status
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web import words
from tests.ledger.support import Server
from tests.web import managed
from tests.web.visitor import Visitor


@pytest.fixture
def given() -> dict[str, Any]:
    return {"price": None}


def _api(server: Server, name: str = "") -> Any:
    return server.get("/v1/budgets" + (f"/{name}" if name else "")).body


def test_without_budgets_the_page_says_what_one_is_and_has_the_form_open(admin: Visitor) -> None:
    page = admin.get("/budgets")
    assert page.status == 200
    assert "No budget yet" in page.text
    assert "aicg budgets add" in page.text
    assert '<details class="card folded" id="new" open>' in page.html


def test_a_budget_is_made_by_the_form_and_is_what_the_api_says(admin: Visitor, server: Server) -> None:
    made = admin.do(
        "/budgets",
        "create",
        name="marketing",
        limit="500.25",
        match="team=marketing, environment=production",
        per="user",
        alert_at="50%, 100%",
        period="week",
        timezone="Europe/Berlin",
        on_exceed="block",
    )
    assert (made.status, made.location) == (303, "/budgets/marketing")
    kept = _api(server, "marketing")
    wanted = {
        "limit_usd": "500.25",
        "match": {"team": "marketing", "environment": "production"},
        "per": ["user"],
        "alert_at": [0.5, 1.0],
        "period": "week",
        "timezone": "Europe/Berlin",
        "on_exceed": "block",
    }
    assert {name: kept[name] for name in wanted} == wanted
    assert kept["history"][0]["who"].startswith("key aicg_kkkk")
    assert "The budget marketing holds from now on." in admin.get(made.location).text


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("limit", "a lot", "'a lot' cannot be used: use an amount in USD"),
        ("limit", "-1", "use an amount in USD"),
        ("name", "a,b", "use 1 to 128 letters, digits"),
        ("timezone", "Berlin", "did you mean Europe/Berlin?"),
        ("match", "search", "is no label with a value; write them like team=search"),
        ("match", "taem=search", "did you mean team?"),
        ("match", "team=a, team=b", "team stands there twice"),
        ("per", "usr", "did you mean user?"),
        ("alert_at", "7", "use a share from 0 to 1"),
        ("spent", "much", "use an amount in USD"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_made(
    admin: Visitor, server: Server, field: str, value: str, says: str
) -> None:
    fields = {"name": "x", "limit": "5", "period": "month", field: value}
    page = admin.do("/budgets", "create", **fields)
    assert page.status == 422
    form = page.form("create")
    assert says in form.wrong[field]
    assert form.fields[field] == value
    assert form.fields["limit"] == fields["limit"]
    assert _api(server)["budgets"] == []


def test_a_name_that_is_taken_is_refused_and_the_budget_stays_as_it_was(admin: Visitor, server: Server) -> None:
    admin.do("/budgets", "create", name="one", limit="5")
    page = admin.do("/budgets", "create", name="one", limit="7")
    assert page.status == 422
    assert "is taken" in page.form("create").wrong["name"]
    assert _api(server, "one")["limit_usd"] == "5"


def test_the_list_has_the_apis_figures_and_what_is_gone_soonest_comes_first(
    store: SqliteStore, admin: Visitor, server: Server
) -> None:
    managed.budgets(store)
    managed.fill(store)
    page = admin.get("/budgets")
    rows = _api(server)["budgets"]
    for row in rows:
        assert row["name"] in page.text
        if not row["per"] and row["period"] != "minute" and "limit_usd" in row:
            spent = f"{words.money(round(float(row['spent_usd']) * 10**9))} of {words.money(int(row['limit'] * 10**9))}"
            assert f"{spent}, {words.share(row['utilization'])}" in page.text, row["name"]
    places = {row["name"]: page.html.index(f'title="{row["name"]}"') for row in rows if not row["per"]}
    urgent = {
        row["name"]: (row["state"] != "exceeded", row["exhausted_at"] is None, row["exhausted_at"] or "")
        for row in rows
        if not row["per"] and row["period"] not in ("minute", "week")
    }
    assert urgent["experiments"][0] is False
    assert sorted(urgent, key=lambda name: urgent[name]) == sorted(urgent, key=lambda name: places[name])
    assert "+42 unpriced" in page.text
    assert "refuses calls" in page.text


def test_a_budgets_page_changes_it_and_says_who_did(admin: Visitor, server: Server) -> None:
    admin.do("/budgets", "create", name="a/b c", limit="5", match="team=search")
    there = "/budgets/a/b%20c"
    changed = admin.do(there, "change", limit="6", on_exceed="block")
    assert changed.status == 303, changed.text
    kept = _api(server, "a/b%20c")
    assert (kept["limit_usd"], kept["on_exceed"], kept["match"]) == ("6", "block", {"team": "search"})
    page = admin.get(there)
    assert "key aicg_kkkk (test) changed it" in page.text
    assert "limit_usd: 5 6" in page.text

    wrong = admin.do(there, "change", limit="six")
    assert wrong.status == 422
    assert "'six' cannot be used" in wrong.form("change").wrong["limit"]
    assert _api(server, "a/b%20c")["limit_usd"] == "6"


def test_who_was_overtaken_is_told_so(admin: Visitor, server: Server) -> None:
    admin.do("/budgets", "create", name="one", limit="5")
    form = admin.get("/budgets/one").form("change")
    server.ask("PUT", "/v1/budgets/one", json.dumps({"limit_usd": 9}).encode())
    late = admin.send(form.target, {**form.fields, "limit": "6"})
    assert late.status == 409
    assert "was changed meanwhile" in late.text
    assert _api(server, "one")["limit_usd"] == "9"
    assert admin.send(form.target, {**late.form("change").fields, "limit": "6"}).status == 303


def test_what_is_spent_can_be_set_and_is_written_down(admin: Visitor, server: Server) -> None:
    admin.do("/budgets", "create", name="one", limit="5", spent="1.5")
    assert _api(server, "one")["spent_usd"] == "1.5"
    wrong = admin.do("/budgets/one", "adjust", spent="x")
    assert wrong.status == 422
    assert "use an amount in USD" in wrong.form("adjust").wrong["spent"]
    assert admin.do("/budgets/one", "adjust", spent="2").status == 303
    kept = _api(server, "one")
    assert (kept["spent_usd"], kept["history"][0]["what"]) == ("2", "adjusted")
    assert "set what is spent" in admin.get("/budgets/one").text


def test_a_budget_is_removed_and_its_page_says_that_there_is_none(admin: Visitor, server: Server) -> None:
    admin.do("/budgets", "create", name="one", limit="5")
    gone = admin.do("/budgets/one", "remove")
    assert (gone.status, gone.location) == (303, "/budgets")
    assert _api(server)["budgets"] == []
    missing = admin.get("/budgets/one")
    assert missing.status == 404
    assert "there is no budget" in missing.text


def test_the_policy_is_set_by_words(store: SqliteStore, admin: Visitor) -> None:
    assert admin.get("/budgets").form("policy").fields["on_unpriced"] == "warn"
    done = admin.do("/budgets", "policy", on_unpriced="block", on_store_failure="closed")
    assert done.status == 303
    found = store.look(lambda connection: status.policy(connection, store.default_project()))
    assert (found["on_unpriced"], found["on_store_failure"]) == ("block", "closed")
    wrong = admin.do("/budgets", "policy", on_unpriced="perhaps")
    assert wrong.status == 422
    assert "use one of allow, warn, block" in wrong.form("policy").wrong["on_unpriced"]


def test_a_budget_of_the_organisation_is_made_seen_and_changed_by_who_reaches_it(
    store: SqliteStore, server: Server
) -> None:
    shop = managed.project(store, "shop")

    def key(role: str, reach: str, project: int) -> Visitor:
        return Visitor(
            server,
            store.change(lambda c: keyring.add(c, project, ROLES[role], managed.BY, ledger.now_ms(), reach=reach))[0],
        )

    wide, reader, narrow = (
        key("admin", "organisation", 1),
        key("read", "organisation", 1),
        key("admin", "project", shop),
    )
    assert 'name="reach"' not in narrow.get("/budgets").html
    made = wide.do(
        "/budgets", "create", name="cap", limit="7.5", period="total", on_exceed="block", reach="organisation"
    )
    assert (made.status, made.location) == (303, "/budgets/cap")
    managed.take(store, managed.envelope([managed.receipt(feature="secret")], [ledger.now_ms()], managed.epoch()), shop)
    for visitor in (wide, reader):
        page = visitor.get("/budgets")
        assert "of all projects of default together" in page.text and "of $7.50" in page.text
        assert visitor.get("/budgets/cap").status == 200
    forms = [[form.fields.get("action") for form in visitor.get("/budgets/cap").forms()] for visitor in (wide, reader)]
    assert "change" in forms[0] and "change" not in forms[1]
    assert wide.do("/budgets/cap", "change", limit="8.5").status == 303
    assert _api(server)["of_organisation"][0]["name"] == "cap", "the tests' own key is of one project"
    page = narrow.get("/budgets")
    assert "Budgets of the whole organisation default" in page.text and "cap counts all calls" in page.text
    assert "8.5" not in page.text and "secret" not in page.text
    assert narrow.get("/budgets/cap").status == 403
    assert "cap" not in narrow.get("/").text, "the first screen has the project's own"
    token = next(form.fields["csrf"] for form in narrow.get("/budgets").forms() if "csrf" in form.fields)
    for action in ("change", "adjust", "remove"):
        sent = narrow.send(
            "/budgets/cap", {"csrf": token, "action": action, "limit": "99", "spent": "0", "revision": "2"}
        )
        assert sent.status == 403, action
    for name in ("cap", "mine"):
        sent = narrow.send(
            "/budgets", {"csrf": token, "action": "create", "name": name, "limit": "1", "reach": "organisation"}
        )
        assert sent.status in (403, 422), name
    told = store.look(lambda c: status.budgets(c, -1, ledger.now_ms()))["budgets"]
    assert [(row["name"], row["limit_usd"], row["calls"]) for row in told] == [("cap", "8.5", 1)]
    assert wide.do("/budgets/cap", "remove").status == 303
