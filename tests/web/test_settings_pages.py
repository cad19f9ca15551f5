"""Settings as pages: keys, people, prices, retention, the audit log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.keeping import books
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, Server, receipt
from tests.web import managed
from tests.web.visitor import Visitor

#: decides for the whole ledger
OPERATOR = "aicg_" + "o" * 40


@pytest.fixture
def given() -> dict[str, Any]:
    return {"price": None}


@pytest.fixture
def operator(server: Server, store: SqliteStore) -> Visitor:
    store.add_key(OPERATOR, "operator", ("ingest", "read", "manage"), store.default_project(), ledger.now_ms())
    store.change(lambda c: c.execute("UPDATE keys SET reach = 'ledger' WHERE name = 'operator'").rowcount)
    return Visitor(server, OPERATOR)


def _once(html: str) -> str:
    return html.partition('<code id="secret">')[2].partition("</code>")[0]


# Keys.


def test_a_key_is_made_shown_once_and_works(admin: Visitor, server: Server) -> None:
    made = admin.do("/settings/keys", "create", name="shop", role="ingest", expires_in="90d", per_minute="600")
    assert made.status == 200
    key = _once(made.html)
    assert server.ask("GET", "/v1/whoami", key=key).body["roles"] == ["ingest"]
    (kept,) = [row for row in server.get("/v1/keys").body["keys"] if row["name"] == "shop"]
    assert (kept["per_minute"], kept["state"]) == (600, "in force")
    assert kept["expires_at"] is not None
    again = admin.get("/settings/keys")
    assert key not in again.html
    assert f"{key[:9]}…" in again.text
    assert made.headers["cache-control"] == "no-store"


def test_a_key_is_replaced_and_the_old_one_ends_after_its_grace_or_at_once(admin: Visitor, server: Server) -> None:
    old = _once(admin.do("/settings/keys", "create", name="shop", role="read").html)
    (row,) = [row for row in server.get("/v1/keys").body["keys"] if row["name"] == "shop"]
    new = _once(admin.do("/settings/keys", "rotate", {"key": row["id"]}, grace="1d").html)
    assert {server.ask("GET", "/v1/whoami", key=key).status for key in (old, new)} == {200}
    (row,) = [row for row in server.get("/v1/keys").body["keys"] if new.startswith(row["key"])]
    last = _once(admin.do("/settings/keys", "rotate", {"key": row["id"]}, grace="0s").html)
    assert server.ask("GET", "/v1/whoami", key=new).status == 401
    (row,) = [row for row in server.get("/v1/keys").body["keys"] if last.startswith(row["key"])]
    assert admin.do("/settings/keys", "revoke", {"key": row["id"]}).status == 303
    assert server.ask("GET", "/v1/whoami", key=last).status == 401
    assert "revoked" in admin.get("/settings/keys").text.partition("Over:")[2]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "=cmd", "must be at most 100 printable"),
        ("per_minute", "many", "must be a whole number"),
        ("role", "king", "must be one of"),
    ],
)
def test_a_wrong_key_is_refused_beside_its_field_and_none_is_made(
    admin: Visitor, server: Server, field: str, value: str, says: str
) -> None:
    before = len(server.get("/v1/keys").body["keys"])
    page = admin.do("/settings/keys", "create", **{"name": "x", field: value})
    assert page.status == 422
    assert says in page.form("create").wrong[field]
    assert len(server.get("/v1/keys").body["keys"]) == before


def test_nobody_makes_a_key_that_reaches_further_than_they_do(admin: Visitor, server: Server) -> None:
    page = admin.do("/settings/keys", "create", name="x", reach="ledger")
    assert page.status == 403
    assert "nobody gives what they do not have" in page.text
    assert len(server.get("/v1/keys").body["keys"]) == 1


# People.


def test_somebody_is_invited_by_an_operator_with_a_code_that_sets_a_password(operator: Visitor, server: Server) -> None:
    made = operator.do("/settings/people", "role", {"at": "new"}, email="ada@example.com", role="read")
    assert made.status == 200
    code = _once(made.html)
    done = server.ask(
        "POST",
        "/v1/password",
        json.dumps({"code": code, "new": "correct horse battery"}).encode(),
        key=None,
        Sec_Fetch_Site="same-origin",
    )
    assert done.status == 200
    assert code not in operator.get("/settings/people").html
    (ada,) = server.ask("GET", "/v1/people", key=OPERATOR).body["people"]
    assert [(role["role"], role["reach"]) for role in ada["roles"]] == [("read", "project")]


def test_an_admin_gives_a_role_and_takes_it_away(admin: Visitor, server: Server) -> None:
    done = admin.do("/settings/people", "role", {"at": "new"}, email="Bob@Example.com", role="admin")
    assert (done.status, done.location) == (303, "/settings/people")
    page = admin.get("/settings/people")
    assert "bob@example.com" in page.text
    assert "aicg people password" in page.text
    assert [form for form in page.forms() if form.fields.get("action") == "code"] == []
    forged = admin.send(
        "/settings/people", {**page.form("role", at="new").fields, "action": "code", "email": "bob@example.com"}
    )
    assert forged.status == 403
    assert admin.do("/settings/people", "role", {"at": "bob@example.com"}).status == 303
    assert server.get("/v1/people").body["people"] == []
    wrong = admin.do("/settings/people", "role", {"at": "new"}, email="bob")
    assert wrong.status == 422
    assert "must be an e-mail address" in wrong.form("role", at="new").wrong["email"]


def test_an_operator_disables_an_account_and_enables_it(operator: Visitor, store: SqliteStore, server: Server) -> None:
    managed.person(store, "eve@example.com", "read")
    for disabled in (True, False):
        assert operator.do("/settings/people", "switch", {"email": "eve@example.com"}).status == 303
        (eve,) = server.ask("GET", "/v1/people", key=OPERATOR).body["people"]
        assert (eve["disabled_at"] is not None) is disabled


# Prices.


def test_a_model_without_a_price_gets_one_and_the_calls_that_waited_are_priced(
    admin: Visitor, store: SqliteStore, server: Server
) -> None:
    managed.fill(store)
    page = admin.get("/settings/prices")
    assert "llama-70b-house corp 42 no prices for provider corp" in page.text
    given = admin.do("/settings/prices", "add", {"at": "w1"}, input_per_million="0.50", output_per_million="1.5")
    assert given.status == 303, given.text
    written = json.loads(Path(store.path).with_name("prices.json").read_text())
    assert written["prices"] == [
        {"provider": "corp", "model": "llama-70b-house", "input_per_million": 0.5, "output_per_million": 1.5}
    ]
    assert os.stat(Path(store.path).with_name("prices.json")).st_mode & 0o077 == 0
    assert "42 calls of it wait" in admin.get("/settings/prices").text
    done = admin.do("/settings/prices", "apply", {"model": "llama-70b-house"})
    assert done.status == 303, done.text
    # 42 calls of 900 and 90 tokens: 42 × (900 × 0.5 + 90 × 1.5) / 1,000,000
    totals = server.get("/v1/costs?since=all&model=llama-70b-house").body["totals"]
    assert (totals["cost_nanousd"], totals["unpriced_calls"]) == (24_570_000, 0)
    assert "Every call has a price." in admin.get("/settings/prices").text
    # What comes in from now on has the price at once, for this server, too.
    server.post(
        managed.envelope(
            [receipt(model="llama-70b-house", provider="corp")], [ledger.now_ms()], "01WEBAAAAAAAAAAAAAAAAAAAAA"
        )
    )
    totals = server.get("/v1/costs?since=all&model=llama-70b-house").body["totals"]
    assert (totals["calls"], totals["unpriced_calls"]) == (43, 0)


def test_discounts_and_aliases_are_added_and_removed_and_the_file_keeps_its_numbers(
    admin: Visitor, store: SqliteStore, server: Server
) -> None:
    file = Path(store.path).with_name("prices.json")
    row = '{"model": "house", "input_per_million": 0.10, "output_per_million": 10}'
    file.write_text(f'{{"version": 1, "note": "ours", "prices": [{row}]}}')
    assert (
        admin.do(
            "/settings/prices", "add", {"at": "discounts"}, provider="openai", percent="12.5", **{"from": "2026-01-01"}
        ).status
        == 303
    )
    assert admin.do("/settings/prices", "add", {"at": "aliases"}, model="support-bot", **{"is": "gpt-4o"}).status == 303
    text = file.read_text()
    assert '"input_per_million": 0.10' in text
    assert '"note": "ours"' in text
    page = admin.get("/settings/prices")
    assert "openai any model Percent off: 12.5" in page.text.replace("( ", "(").replace("(any model)", "any model")
    assert admin.do("/settings/prices", "remove", {"part": "discounts"}).status == 303
    left = json.loads(file.read_text())
    assert (left["discounts"], len(left["aliases"]), len(left["prices"])) == ([], 1, 1)
    gone = admin.send("/settings/prices", {**page.form("remove", part="discounts").fields})
    assert gone.status == 404
    assert "is not there any more" in gone.text


@pytest.mark.parametrize(
    ("part", "field", "value", "says"),
    [
        ("prices", "input_per_million", "cheap", "is no number; use one like 2.5"),
        ("prices", "model", "", "needs model"),
        ("prices", "until", "2020-01-01", "is not after from"),
        ("aliases", "is", "", "needs is"),
        ("discounts", "percent", "200", "use a number above 0"),
        ("discounts", "provider", "Open AI", "a provider's name"),
    ],
)
def test_wrong_terms_are_refused_beside_their_field_and_no_file_is_made(
    admin: Visitor, store: SqliteStore, part: str, field: str, value: str, says: str
) -> None:
    fields = {
        "prices": {"model": "m", "input_per_million": "1", "output_per_million": "1", "from": "2026-01-01"},
        "aliases": {"model": "m", "is": "gpt-4o"},
        "discounts": {"percent": "10"},
    }[part]
    page = admin.do("/settings/prices", "add", {"at": part}, **{**fields, field: value})
    assert page.status == 422
    assert says in (page.form("add", at=part).wrong.get(field) or page.text)
    assert not Path(store.path).with_name("prices.json").exists()


def test_with_a_second_project_only_who_manages_the_ledger_decides_on_prices(
    admin: Visitor, operator: Visitor, store: SqliteStore
) -> None:
    form = admin.get("/settings/prices").form("add", at="discounts")
    managed.project(store, "other")
    page = admin.get("/settings/prices")
    assert [form for form in page.forms() if form.fields.get("action") == "add"] == []
    assert "who manages all of it sets them" in page.text
    forged = admin.send(form.target, {**form.fields, "percent": "10"})
    assert forged.status == 403
    assert (
        operator.send(
            "/settings/prices", operator.get("/settings/prices").form("add", at="discounts").fields | {"percent": "10"}
        ).status
        == 303
    )
    assert "12.5" not in admin.get("/settings/prices").text


def test_a_file_in_yaml_is_shown_and_left_alone(admin: Visitor, store: SqliteStore) -> None:
    Path(store.path).with_name("prices.yaml").write_text(
        "version: 1\nprices:\n- {model: house, input_per_million: 0.25, output_per_million: 1}\n"
    )
    page = admin.get("/settings/prices")
    assert "house" in page.text
    assert "it is YAML, which is changed by hand" in page.text
    assert [form for form in page.forms() if form.fields.get("action") in ("add", "remove")] == []


def test_a_file_with_a_mistake_is_said_with_its_line_and_left_alone(admin: Visitor, store: SqliteStore) -> None:
    file = Path(store.path).with_name("prices.json")
    file.write_text('{"version": 1,\n "prices": [{"model": "house", "input_per_million": "cheap"}]}')
    page = admin.get("/settings/prices")
    assert page.status == 200
    assert "prices.json:2: prices[0].input_per_million: 'cheap' is not usable here" in page.text
    assert [form for form in page.forms() if form.fields.get("action") in ("add", "remove")] == []


# Retention.


def test_retention_is_set_with_care_and_stands_in_the_audit_log(admin: Visitor, store: SqliteStore) -> None:
    there, number = "/settings/retention", store.default_project()
    assert "All of them stay, for good." in admin.get(there).text
    wrong = admin.do(there, "change", keep="archive", days="soon")
    assert (wrong.status, "'soon' is no number of days" in wrong.form("change").wrong["days"]) == (422, True)
    careless = admin.do(there, "change", keep="delete", days="30")
    assert (careless.status, "must be ticked" in careless.form("change").wrong["sure"]) == (422, True)
    assert store.look(books.rules) == {}
    assert admin.do(there, "change", keep="delete", days="30", sure="yes").status == 303
    assert store.look(books.rules) == {number: books.Rule(30, "delete")}
    assert "older than 30 days are deleted" in admin.get(there).text
    assert "set how long receipts stay in default days: 30 keep: delete" in admin.get("/settings/audit").text
    assert admin.do(there, "change", keep="").status == 303
    assert store.look(books.rules) == {}


# The audit log.


def test_the_audit_log_says_who_did_what_and_pages_on(admin: Visitor, server: Server) -> None:
    for number in range(55):
        admin.do("/settings/keys", "create", name=f"key {number}")
        if number % 2:
            continue
        (row,) = [row for row in server.get("/v1/keys").body["keys"] if row["name"] == f"key {number}"]
        admin.do("/settings/keys", "revoke", {"key": row["id"]})
        admin.do("/settings/keys", "create", name=f"again {number}")
    page = admin.get("/settings/audit")
    assert "key aicg_kkkk (test) made the key" in page.text
    assert "127.0.0.1" in page.text
    entries = server.get("/v1/audit?limit=1000").body["entries"]
    assert len(entries) > 100
    older = page.html.partition('<a class="button" href="')[2].partition('"')[0]
    assert older == f"/settings/audit?before={entries[99]['id']}"
    rest = admin.get(older)
    assert "logged in" in rest.text
    assert rest.text.count("made the key") + page.text.count("made the key") == 83
    assert KEY not in page.html + rest.html
    assert admin.get("/settings/audit?reach=ledger").status == 403
    assert admin.get("/settings/audit?before=x").status == 422


def test_the_first_page_says_who_one_is(admin: Visitor) -> None:
    page: Any = admin.get("/settings")
    assert "default / default" in page.text
    assert "look at everything here, and change it" in page.text
