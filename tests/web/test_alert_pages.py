"""Alerts, rules and channels as pages."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from aicostguard.ledger.alerts.rule import SORTS
from aicostguard.ledger.alerts.watch import Settings
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.alerting import receiving
from tests.ledger.support import Server
from tests.web import managed
from tests.web.visitor import Visitor


@pytest.fixture
def given() -> dict[str, Any]:
    return {"price": None, "alerts": Settings("http://127.0.0.1:8090", "localhost")}


def _alerts(server: Server, **asked: str) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return list(server.get(f"/v1/alerts?{query}").body["alerts"])


def _rule(server: Server, name: str) -> dict[str, Any]:
    return dict(server.get(f"/v1/alerts/rules/{name}").body)


def _fire(store: SqliteStore) -> None:
    desk = managed.budgets(store)
    managed.fill(store)
    managed.alerts(store, desk)


def test_while_nothing_fires_and_nobody_is_told_the_page_says_both(admin: Visitor) -> None:
    page = admin.get("/alerts")
    assert page.status == 200
    assert "Nothing fires." in page.text
    assert "Nobody is told yet." in page.text


def test_what_fires_is_shown_with_its_figures_and_the_view_it_speaks_of(
    store: SqliteStore, admin: Visitor, server: Server
) -> None:
    _fire(store)
    page = admin.get("/alerts")
    for row in _alerts(server, state="open", limit="500"):
        if row["kind"] != "budget":
            assert row["text"] in page.text
    assert "Budget experiments passed 100% of its limit" in page.text
    assert page.text.count("Budget experiments passed") == 1  # three thresholds are one line
    assert "42 calls without a price are in no sum" in page.text
    (spend,) = _alerts(server, rule="daily_spend")
    there = spend["url"].removeprefix("http://127.0.0.1:8090").replace("&", "&amp;")
    assert f'href="{there}"' in page.html
    (gap,) = _alerts(server, rule="delivery_gaps")
    assert gap["url"].startswith("http://127.0.0.1:8090/delivery?since=24h&group_by=")
    assert "of=" not in gap["url"]
    for address in re.findall(r'<a class="strong" href="([^"]+)"', page.html):
        assert admin.get(unescape(address)).status == 200, address
    assert admin.get("/").status == 200  # the first screen has alerts, too


def test_somebody_looks_after_a_budget_and_all_its_thresholds_are_answered(
    store: SqliteStore, admin: Visitor, server: Server
) -> None:
    _fire(store)
    rows = [row for row in _alerts(server, rule="budget_thresholds", limit="500") if row["budget"] == "experiments"]
    assert len(rows) == 3
    form = next(
        form for form in admin.get("/alerts").forms() if str(rows[0]["id"]) in form.fields.get("id", "").split(",")
    )
    assert admin.send(form.target, {**form.fields, "action": "ack"}).status == 303
    after = [row for row in _alerts(server, rule="budget_thresholds", limit="500") if row["budget"] == "experiments"]
    assert {(row["state"], row["by"]) for row in after} == {("acknowledged", "key aicg_kkkk (test)")}
    assert "key aicg_kkkk (test) looks after it" in admin.get("/alerts").text


def test_an_alert_is_snoozed_for_a_while(store: SqliteStore, admin: Visitor, server: Server) -> None:
    _fire(store)
    (row,) = _alerts(server, rule="daily_spend")
    done = admin.do("/alerts", "snooze", {"id": str(row["id"])}, minutes="240")
    assert done.status == 303
    (after,) = _alerts(server, rule="daily_spend")
    assert after["state"] == "snoozed"
    assert after["snoozed_until"]
    page = admin.send("/alerts", {**admin.get("/alerts").form("check").fields, "action": "snooze", "id": "x"})
    assert page.status == 422
    page = admin.send("/alerts", {**admin.get("/alerts").form("check").fields, "action": "ack", "id": "999999"})
    assert page.status == 404
    assert "there is no alert 999999" in page.text


def test_what_is_over_is_history_and_can_be_asked_for_by_rule(
    store: SqliteStore, admin: Visitor, server: Server
) -> None:
    _fire(store)
    admin.do("/alerts/rules", "switch", {"name": "daily_spend"})
    page = admin.get("/alerts?rule=daily_spend")
    assert "Daily spend" in page.text.partition("History")[2]
    assert "unpriced_models" not in page.text
    assert "daily_spend off" in admin.get("/alerts/rules").text
    assert _rule(server, "daily_spend")["enabled"] is False
    admin.do("/alerts/rules", "switch", {"name": "daily_spend"})
    assert _rule(server, "daily_spend")["enabled"] is True


@pytest.mark.parametrize(
    "path", ["/alerts", "/alerts/rules", "/alerts/rules/daily_spend", "/delivery", "/settings/audit"]
)
def test_a_link_leads_where_it_says_also_where_the_address_names_the_project(
    store: SqliteStore, admin: Visitor, server: Server, path: str
) -> None:
    _fire(store)
    admin.do("/alerts/rules", "switch", {"name": "daily_spend"})  # one for the history
    page = admin.get(
        f"{path}?since=30d&in=default/default" if path == "/settings/audit" else f"{path}?in=default/default"
    )
    assert page.status == 200, page.text
    links = [unescape(link) for link in re.findall(r'href="(/[^"]*)"', page.html)]
    assert [link for link in links if link.count("?") > 1] == []
    told = [link for link in links if "rule=" in link or link.startswith("/v1/")]
    assert told and all("in=default%2Fdefault" in link for link in told)
    for link in told:
        assert (server.get(link) if link.startswith("/v1/") else admin.get(link)).status == 200, link
    if path == "/settings/audit":
        assert "since=30d" in told[-1]


@pytest.mark.parametrize("kind", list(SORTS))
def test_a_rule_of_each_kind_is_made_by_its_form_and_saved_again_as_it_is(
    kind: str, admin: Visitor, server: Server
) -> None:
    more = {"threshold": "7"} if kind in ("spend", "query") else {}
    if kind == "query":
        more["query"] = "https://ledger.example/?since=24h&group_by=feature&team=search"
    made = admin.do(f"/alerts/rules?kind={kind}", "create", name="of mine", notify_resolved="1", **more)
    assert made.status == 303, made.text
    kept = _rule(server, "of%20mine")
    assert (kept["kind"], kept["enabled"], kept["notify"]) == (kind, True, ["firing", "resolved"])
    if kind == "query":
        assert kept["query"] == {"since": "24h", "group_by": "feature", "team": "search"}
    saved = admin.do("/alerts/rules/of%20mine", "save")
    assert saved.status == 303, saved.text
    again = _rule(server, "of%20mine")
    assert {**again, "changed_at": 0} == {**kept, "changed_at": 0}


@pytest.mark.parametrize(
    ("kind", "field", "value", "says"),
    [
        ("spend", "threshold", "much", "'much' cannot be used: use an amount in USD"),
        ("spend", "threshold", "", "is missing: use an amount in USD"),
        ("spend", "name", "", "is missing: every rule has one"),
        ("spend", "name", "daily_spend", "is taken"),
        ("spend", "match", "taem=search", "did you mean team?"),
        ("spend", "per", "nobody", "use one of provider, model"),
        ("spend", "channels", "ops", "there is no channel 'ops': there are none yet"),
        ("spend", "clear", "2", "use a share"),
        ("spend", "does", "shout", "use one of warn, alert, flag, investigate"),
        ("query", "query", "", "is missing"),
        ("query", "query", "since=24h&nonsense=1", "nonsense is not a parameter"),
        ("rate_spike", "window_minutes", "0", "use minutes, from 1"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_beside_its_field(
    kind: str, field: str, value: str, says: str, admin: Visitor, server: Server
) -> None:
    before = server.get("/v1/alerts/rules").body
    fields = {"name": "new", "threshold": "5", "query": "since=24h" if kind == "query" else None, field: value}
    page = admin.do(f"/alerts/rules?kind={kind}", "create", **fields)
    assert page.status == 422
    assert says in page.form("create").wrong[field]
    assert server.get("/v1/alerts/rules").body == before


def test_a_rule_is_changed_and_removed_and_who_was_overtaken_is_told(admin: Visitor, server: Server) -> None:
    page = admin.get("/alerts/rules/hourly_spend")
    assert "Fires when calls of one hour cost more than $100.00." in page.text
    form = page.form("save")
    assert admin.send(form.target, {**form.fields, "threshold": "250"}).status == 303
    assert _rule(server, "hourly_spend")["threshold"] == "250"
    late = admin.send(form.target, {**form.fields, "threshold": "300"})
    assert late.status == 409
    assert "was changed meanwhile by key aicg_kkkk (test)" in late.text
    assert _rule(server, "hourly_spend")["threshold"] == "250"
    assert admin.do("/alerts/rules/hourly_spend", "remove").status == 303
    assert server.get("/v1/alerts/rules/hourly_spend").status == 404
    assert admin.get("/alerts/rules/hourly_spend").status == 404


def test_a_channel_shows_its_secret_once_and_its_address_never(admin: Visitor, server: Server) -> None:
    address = "https://hooks.example.com/aicg/token-of-ours"
    made = admin.do("/alerts/channels", "add", name="ops", url=address)
    assert made.status == 200
    assert "It is shown this once" in made.text
    secret = made.html.partition('<code id="secret">')[2].partition("</code>")[0]
    assert len(secret) >= 16
    for page in (made, admin.get("/alerts/channels"), admin.get("/alerts/channels?log=ops"), admin.get("/alerts")):
        assert "token-of-ours" not in page.html
    assert secret not in admin.get("/alerts/channels").html
    assert server.get("/v1/alerts/channels/ops").body["url"] == "https://hooks.example.com/••••"
    assert "https://hooks.example.com/••••" in admin.get("/alerts/channels").text


@pytest.mark.parametrize(
    ("field", "value", "says"), [("url", "hooks", "is missing, or no address"), ("name", "a,b", "must be 1 to 128")]
)
def test_a_wrong_channel_is_refused_beside_its_field(
    admin: Visitor, server: Server, field: str, value: str, says: str
) -> None:
    page = admin.do("/alerts/channels", "add", **{"name": "ops", "url": "https://hooks.example.com/x", field: value})
    assert page.status == 422
    assert says in page.form("add").wrong[field]
    assert server.get("/v1/alerts/channels").body["channels"] == []


def test_a_test_says_whether_it_arrived_and_a_channel_is_switched_off_and_removed(
    admin: Visitor, server: Server
) -> None:
    with receiving() as hook:
        url = f"{hook.url}/hook"
        admin.do("/alerts/channels", "add", name="ops", url=url, kind="webhook")
        good = admin.do("/alerts/channels", "test", {"name": "ops"})
        assert "ops: the test arrived" in good.text
        assert hook.bodies[0]["event"] == "test"
    bad = admin.do("/alerts/channels", "test", {"name": "ops"})
    assert "ops: the test did not arrive" in bad.text
    assert "did not arrive" in admin.get("/alerts/channels?log=ops").text
    admin.do("/alerts/channels", "switch", {"name": "ops"})
    assert server.get("/v1/alerts/channels/ops").body["enabled"] is False
    assert admin.do("/alerts/channels", "remove", {"name": "ops"}).status == 303
    assert server.get("/v1/alerts/channels").body["channels"] == []
