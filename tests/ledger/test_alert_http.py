"""Alerts over HTTP, through the ledger as it is served: rules, answers, who may, and what comes of receipts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, Reply, Server, envelope, epoch, price, receipt, serving, wait_for

pytest.importorskip("fastapi")


def ask(server: Server, method: str, path: str, body: Any = None, **more: Any) -> Reply:
    return server.ask(method, path, None if body is None else json.dumps(body).encode(), **more)


def costing(usd: float, **labels: Any) -> dict[str, Any]:
    """A receipt that costs so much, at the three nano-dollars a token of `support.price`."""
    return receipt(input_tokens=int(usd * 10**9 / 3), output_tokens=0, **labels)


@pytest.mark.ids("A23", "E16", "E15", "D16")
def test_fifty_dollars_are_told_within_a_minute_by_the_ledger_as_it_is_served(server: Server) -> None:
    for _ in range(10):
        server.post(envelope([costing(0.5)] * 10, name=epoch()))

    def found() -> Any:
        rows = ask(server, "GET", "/v1/alerts?state=open").body["alerts"]
        return [row for row in rows if row["rule"] == "rate_spike"]

    (row,) = wait_for(found, "the spike to be seen", 55)
    assert (row["state"], row["action"]) == ("firing", "investigate")
    assert row["text"].startswith("Spend rate: $50.00 in 10 minutes")


@pytest.mark.ids("X5", "A23")
def test_rules_are_made_changed_and_removed(server: Server) -> None:
    rows = ask(server, "GET", "/v1/alerts/rules").body["rules"]
    assert [row["name"] for row in rows][:4] == ["hourly_spend", "daily_spend", "single_request", "rate_spike"]
    made = ask(
        server,
        "POST",
        "/v1/alerts/rules",
        {"name": "team: search", "kind": "spend", "threshold": 20, "match": {"team": "search"}},
    )
    assert (made.status, made.body["threshold"], made.body["match"]) == (201, "20", {"team": "search"})
    assert made.body["changed_by"].startswith(f"key {KEY[:9]}")
    path = "/v1/alerts/rules/team%3A%20search"
    assert ask(server, "PATCH", path, {"threshold": "30.5"}).body["threshold"] == "30.5"
    assert ask(server, "PATCH", path, {"threshold": None}).status == 422
    assert ask(server, "PATCH", path, {"kind": "query"}).body["field"] == "kind"
    assert ask(server, "GET", path).body["threshold"] == "30.5"
    assert ask(server, "DELETE", path).body == {"removed": "team: search"}
    gone = ask(server, "GET", path)
    assert (gone.status, gone.body["field"]) == (404, "name")


@pytest.mark.ids("A23")
def test_an_alert_is_listed_acknowledged_and_snoozed(server: Server) -> None:
    ask(server, "POST", "/v1/alerts/rules", {"name": "tiny", "kind": "spend", "threshold": "0.001"})
    server.post(envelope([costing(0.5)], name=epoch()))
    checked = ask(server, "POST", "/v1/alerts/check").body
    (row,) = [row for row in checked["alerts"] if row["rule"] == "tiny"]
    assert checked["faults"] == []
    assert (row["value"], row["threshold"], row["unit"]) == ("0.499999998", "0.001", "usd")
    done = ask(server, "POST", f"/v1/alerts/{row['id']}/ack")
    assert (done.status, done.body["state"]) == (200, "acknowledged")
    done = ask(server, "POST", f"/v1/alerts/{row['id']}/snooze", {"minutes": 30})
    assert (done.status, done.body["state"]) == (200, "snoozed")
    assert done.body["snoozed_until"] > row["started_at"]
    assert [one["id"] for one in ask(server, "GET", "/v1/alerts?state=snoozed&rule=tiny").body["alerts"]] == [row["id"]]
    for path, status in ((f"{row['id']}x/ack", 422), ("77/ack", 404), (f"{row['id']}/snooze", 422)):
        assert ask(server, "POST", f"/v1/alerts/{path}", {}).status == status
    assert ask(server, "POST", f"/v1/alerts/{row['id']}/ack", {"why": 1}).body["field"] == "why"


@pytest.mark.parametrize(
    "query, field",
    [
        ("state=burning", "state"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("cursor=x", "cursor"),
        ("since=whenever", "since"),
        ("kind=none", "kind"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ],
)
def test_a_wrong_question_is_refused_by_name(server: Server, query: str, field: str) -> None:
    reply = ask(server, "GET", f"/v1/alerts?{query}")
    assert (reply.status, reply.body["field"]) == (422, field)


WRITES = [
    ("POST", "/v1/alerts/rules"),
    ("PATCH", "/v1/alerts/rules/daily_spend"),
    ("DELETE", "/v1/alerts/rules/daily_spend"),
    ("POST", "/v1/alerts/channels"),
    ("PATCH", "/v1/alerts/channels/x"),
    ("DELETE", "/v1/alerts/channels/x"),
    ("POST", "/v1/alerts/test"),
    ("POST", "/v1/alerts/check"),
    ("POST", "/v1/alerts/1/ack"),
    ("POST", "/v1/alerts/1/snooze"),
]


@pytest.mark.parametrize("method, path", WRITES)
def test_who_may_only_read_changes_nothing(server: Server, store: SqliteStore, method: str, path: str) -> None:
    store.add_key("aicg_" + "r" * 40, "reader", ("read",), store.default_project(), 0)
    reply = ask(server, method, path, {}, key="aicg_" + "r" * 40)
    assert (reply.status, "manage" in reply.body["error"]) == (403, True)
    assert ask(server, method, path, {}, key=None).status == 401


def test_a_project_sees_nothing_of_anothers_alerts(store: SqliteStore) -> None:
    def second(connection: Any) -> None:
        connection.execute("INSERT INTO projects (id, organisation_id, name, created_ms) VALUES (2, 1, 'second', 0)")

    with serving(store, price=price) as server:
        store.change(second)
        store.add_key("aicg_" + "s" * 40, "second", ("ingest", "read", "manage"), 2, 0)
        server.post(envelope([costing(2)] * 60, name=epoch()))
        rows = ask(server, "POST", "/v1/alerts/check").body["alerts"]
        assert "hourly_spend" in [row["rule"] for row in rows]
        ask(server, "POST", "/v1/alerts/channels", {"name": "ops", "url": "https://hooks.example/x"})
        theirs = {"key": "aicg_" + "s" * 40}
        assert ask(server, "POST", "/v1/alerts/check", **theirs).body["alerts"] == []
        assert ask(server, "GET", "/v1/alerts", **theirs).body["alerts"] == []
        assert len(ask(server, "GET", "/v1/alerts/rules", **theirs).body["rules"]) == 9
        assert ask(server, "GET", "/v1/alerts/channels", **theirs).body == {"channels": []}
        assert ask(server, "POST", f"/v1/alerts/{rows[0]['id']}/ack", **theirs).status == 404
        assert ask(server, "GET", "/v1/alerts/channels/ops/log", **theirs).status == 404


def test_changes_stand_in_the_audit_log_without_a_secret(server: Server, store: SqliteStore) -> None:
    from aicostguard.ledger.access import audit

    ask(server, "PATCH", "/v1/alerts/rules/daily_spend", {"threshold": 7})
    ask(server, "POST", "/v1/alerts/channels", {"name": "ops", "url": "https://hooks.example/T0PSECRET"})
    lines = store.look(lambda connection: audit.lines(connection, limit=2))
    assert [line.what for line in lines] == ["alert_channel.created", "alert_rule.changed"]
    assert (lines[1].before or {})["threshold"] == "500"
    assert (lines[1].after or {})["threshold"] == "7"
    assert "T0PSECRET" not in str(lines)


def test_the_api_page_names_every_route(server: Server) -> None:
    paths = server.get("/docs/openapi.json", key=None).body["paths"]
    named = {(method.upper(), path) for path, methods in paths.items() for method in methods if "/alerts" in path}
    assert {
        ("GET", "/v1/alerts"),
        ("POST", "/v1/alerts/{number}/ack"),
        ("GET", "/v1/alerts/channels/{name}/log"),
    } <= named
    assert len(named) == 16
