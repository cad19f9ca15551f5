"""Budgets in the ledger over HTTP: rules, history, the simple form, the policy, what is refused and how."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any
from urllib.parse import quote

import pytest

from aicostguard.ledger.access import places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, NOW, Reply, Server, aicg, envelope, epoch, receipt


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    data = None if body is None else json.dumps(body).encode()
    return server.ask(method, quote(path, safe="/?&=:"), data, **headers)


def put(server: Server, **rule: Any) -> Any:
    reply = ask(server, "POST", "/v1/budgets", rule)
    assert reply.status in (200, 201), reply
    return reply.body


def budget(server: Server, name: str = "default") -> Any:
    reply = ask(server, "GET", f"/v1/budgets/{name}")
    assert reply.status == 200, reply
    return reply.body


@pytest.mark.ids("ACC:A11", "ACC:A22", "A25")
def test_the_simple_form_makes_a_budget_and_changes_its_limit_alone(server: Server) -> None:
    simple = {"name": "default", "limit": 50.0, "spent": 12.5}
    made = ask(server, "POST", "/v1/budgets", simple)
    assert made.status == 201
    assert {name: made.body[name] for name in simple} == simple
    again = ask(server, "POST", "/v1/budgets", simple)
    assert again.status == 200, "the same once more changes nothing"
    assert len(again.body["history"]) == 1
    server.post(envelope([receipt()]))  # 330 nano-dollars
    assert budget(server)["spent_usd"] == "12.50000033"
    wider = ask(server, "POST", "/v1/budgets", {"name": "default", "limit": 60.0})
    assert (wider.status, wider.body["limit_usd"], wider.body["spent_usd"]) == (200, "60", "12.50000033")
    for spent in (0, 12.5):
        refused = ask(server, "POST", "/v1/budgets", {"name": "default", "limit": 60.0, "spent": spent})
        assert (refused.status, refused.body["field"]) == (422, "spent")
        assert "adjust: true" in refused.body["error"]
    assert budget(server)["spent_usd"] == "12.50000033"
    adjusted = ask(server, "POST", "/v1/budgets", {"name": "default", "limit": 60.0, "spent": 3, "adjust": True})
    assert adjusted.body["spent_usd"] == "3"
    last = adjusted.body["history"][0]
    assert (last["what"], last["rule"]["spent_usd"], last["who"]) == ("adjusted", "3", "key aicg_kkkk (test)")
    server.post(envelope([receipt()], first=2))
    assert budget(server)["spent_usd"] == "3.00000033"
    assert ask(server, "POST", "/v1/rebuild", {}).body == {"rebuilt": ["default"]}
    assert budget(server)["spent_usd"] == "3.00000033", "what no receipt says survives"


def test_the_simple_form_keeps_what_else_a_rule_says(server: Server) -> None:
    put(server, name="t", limit_tokens=500, per=["team"], period="day", timezone="Asia/Tokyo", on_exceed="warn")
    changed = put(server, name="t", limit=900)
    assert (changed["limit_tokens"], changed["per"], changed["timezone"]) == (900, ["team"], "Asia/Tokyo")
    refused = ask(server, "POST", "/v1/budgets", {"name": "t", "limit": 1, "spent": 4, "adjust": True})
    assert (refused.status, refused.body["field"]) == (422, "spent")


def test_who_did_what_when_is_kept_and_outlives_the_budget(server: Server, store: SqliteStore) -> None:
    other = "aicg_" + "m" * 40
    store.add_key(other, "", ("manage", "read"), store.default_project(), NOW)
    put(server, name="a/b c", limit_usd=1)
    ask(server, "PUT", "/v1/budgets/a/b c", {"limit_usd": 2, "period": "day"}, key=other)
    assert ask(server, "PUT", "/v1/budgets/a/b c", {"limit_usd": 2, "period": "day"}).status == 200, (
        "no change, no line"
    )
    assert ask(server, "DELETE", "/v1/budgets/a/b c").body == {"removed": "a/b c"}
    gone = ask(server, "GET", "/v1/budgets/a/b c")
    assert (gone.status, gone.body["field"]) == (404, "name")
    put(server, name="a/b c", limit_usd=3)
    lines = budget(server, "a/b c")["history"]
    assert [(line["revision"], line["what"], line["rule"]["limit_usd"]) for line in lines] == [
        (4, "created", "3"),
        (3, "removed", "2"),
        (2, "changed", "2"),
        (1, "created", "1"),
    ]
    assert lines[2]["who"] == "key aicg_mmmm"


@pytest.mark.parametrize(
    "body,field,words",
    [
        ({"limit_usd": 1}, "name", "missing"),
        ({"name": "x"}, "limit_usd", "give one of"),
        ({"name": "x", "limit_usd": -1}, "limit_usd", "use an amount"),
        ({"name": "x", "limit": 1, "limit_usd": 1}, "limit", "another word"),
        ({"name": "x", "limit": "lots"}, "limit_usd", "use an amount"),
        ({"name": "x", "limit_usd": 1, "timezone": "Mars"}, "timezone", "IANA"),
        ({"name": "x", "limit_usd": 1, "per": ["prompt"]}, "per", "known are"),
        ({"name": "x", "limit_usd": 1, "perr": []}, "perr", "did you mean per"),
        ({"name": "x", "limit_usd": 1, "spent": -1}, "spent", "use an amount"),
        ({"name": "x", "limit_usd": 1, "adjust": 1}, "adjust", "true or false"),
        ({"name": "x", "limit_usd": 1, "adjust": True}, "adjust", "not given"),
        ({"name": ["x"], "limit_usd": 1}, "name", "use 1 to 128"),
    ],
)
def test_a_wrong_rule_is_refused_in_the_policys_own_words(server: Server, body: Any, field: str, words: str) -> None:
    reply = ask(server, "POST", "/v1/budgets", body)
    assert (reply.status, reply.body["field"]) == (422, field), reply
    assert words in reply.body["error"]
    assert ask(server, "GET", "/v1/budgets").body == {"budgets": []}


def test_bodies_are_bounded_and_must_be_objects(server: Server) -> None:
    for path in ("/v1/budgets", "/v1/authorize", "/v1/settle"):
        for data in (b"", b"[1]", b"{", b'{"a": NaN}', b"[" * 100_000):
            assert server.ask("POST", path, data).status == 400
        assert server.ask("POST", path, b" " * 300_000).status == 413
        assert server.ask("POST", path, b" " * 300_000, key=None).status == 401


def test_what_a_key_may(server: Server, store: SqliteStore) -> None:
    keys = {scope: "aicg_" + scope.ljust(40, "0") for scope in ("ingest", "read", "manage")}
    for scope, key in keys.items():
        store.add_key(key, scope, (scope,), store.default_project(), NOW)
    body = {"name": "x", "limit_usd": 1}
    assert "scope manage" in ask(server, "POST", "/v1/budgets", body, key=keys["read"]).body["error"]
    assert ask(server, "POST", "/v1/budgets", body, key=keys["manage"]).status == 201
    assert ask(server, "GET", "/v1/budgets", key=keys["ingest"]).status == 403
    for scope, status in (("ingest", 200), ("read", 200), ("manage", 403)):
        assert ask(server, "GET", "/v1/policy", key=keys[scope]).status == status
    for path in ("/v1/authorize", "/v1/settle"):
        assert ask(server, "POST", path, {"model": "m"}, key=keys["read"]).status == 403


def test_a_project_has_its_own_budgets(server: Server, store: SqliteStore) -> None:
    store.change(lambda connection: places.add_project(connection, 1, "other", Actor("test"), NOW))
    other = "aicg_" + "o" * 40
    store.add_key(other, "", ("ingest", "read", "manage"), 2, NOW)
    put(server, name="mine", limit_usd=1)
    assert ask(server, "GET", "/v1/budgets", key=other).body == {"budgets": []}
    assert ask(server, "POST", "/v1/budgets", {"name": "mine", "limit_usd": 5}, key=other).status == 201
    server.post(envelope([receipt()], name=epoch()), key=other)
    server.post(envelope([receipt()] * 3, name=epoch()))
    assert budget(server, "mine")["calls"] == 3
    assert ask(server, "GET", "/v1/budgets", key=other).body["budgets"][0]["calls"] == 1
    ticket = ask(server, "POST", "/v1/authorize", {"model": "gpt-4o", "estimate_usd": 0.5}).body["ticket"]
    assert ask(server, "POST", "/v1/settle", {"ticket": ticket, "release": True}, key=other).status == 404


@pytest.mark.ids("D6", "X1")
def test_what_has_no_price_is_counted_and_told(server: Server) -> None:
    put(server, name="default", limit_usd=1)
    server.post(envelope([receipt(), receipt(model="unheard-of"), receipt(estimated=True)]))
    told = budget(server)
    assert (told["calls"], told["unpriced_calls"], told["estimated_calls"]) == (3, 1, 1)
    assert told["usage_missing_calls"] == 0
    question = {"model": "unheard-of", "input_tokens": 10, "max_output_tokens": 10}
    warned = ask(server, "POST", "/v1/authorize", question)
    assert warned.status == 200
    assert "No pricing configured for model: unheard-of" in warned.body["warnings"][0]
    assert ask(server, "PUT", "/v1/policy", {"on_unpriced": "block"}).body["on_unpriced"] == "block"
    blocked = ask(server, "POST", "/v1/authorize", question)
    assert (blocked.status, blocked.body["field"]) == (422, "model")
    assert "No pricing configured for model: unheard-of" in blocked.body["error"]
    assert ask(server, "POST", "/v1/authorize", {**question, "estimate_usd": 0.1}).status == 200
    ask(server, "PUT", "/v1/policy", {"on_unpriced": "allow"})
    assert ask(server, "POST", "/v1/authorize", question).body["warnings"] == []


@pytest.mark.parametrize("rebuilt", [False, True])
def test_what_has_no_usage_is_in_no_sum_of_tokens_and_told(server: Server, store: SqliteStore, rebuilt: bool) -> None:
    """A budget by model and feature is made anew from the receipts, one for all from sums."""
    silent = {"provider": "openai", "model": "gpt-4o", "feature": "ask", "usage_missing": True}
    if not rebuilt:
        put(server, name="tokens", limit_tokens=1000)
        put(server, name="ask", limit_tokens=1000, match={"feature": "ask", "model": "gpt-4o"})
    server.post(envelope([receipt(), receipt(feature="ask"), silent, silent]))
    if rebuilt:
        put(server, name="tokens", limit_tokens=1000)
        put(server, name="ask", limit_tokens=1000, match={"feature": "ask", "model": "gpt-4o"})
    for name, calls in (("tokens", 4), ("ask", 3)):
        told = budget(server, name)
        assert (told["calls"], told["usage_missing_calls"], told["unpriced_calls"]) == (calls, 2, 0), name
        assert told["spent_tokens"] == 110 * (calls - 2)
    shown = aicg("budgets", "--db", store.path).stdout
    assert "4 counted without usage: in no sum of tokens" in shown


def test_a_call_without_a_bound_counts_as_the_mean_or_not_at_all(server: Server) -> None:
    put(server, name="default", limit_usd="0.000001")
    server.post(envelope([receipt()] * 2))
    reply = ask(server, "POST", "/v1/authorize", {"model": "gpt-4o"})
    assert (reply.status, reply.body["reserved_usd"]) == (200, "0.00000033")
    assert "mean" in reply.body["warnings"][0]
    assert ask(server, "POST", "/v1/authorize", {"model": "gpt-4o"}).status == 402
    ask(server, "PUT", "/v1/policy", {"on_unknown_bound": "refuse"})
    refused = ask(server, "POST", "/v1/authorize", {"model": "gpt-4o"})
    assert (refused.status, refused.body["field"]) == (422, "max_output_tokens")


@pytest.mark.ids("A09", "ACC:A10", "ACC:A16", "X2")
def test_up_to_the_limit_and_not_beyond(server: Server) -> None:
    put(server, name="default", limit_usd="0.30", period="day")
    question = {"model": "gpt-4o", "estimate_usd": "0.1"}
    tickets = [ask(server, "POST", "/v1/authorize", question).body["ticket"] for _ in range(3)]
    refused = ask(server, "POST", "/v1/authorize", {**question, "estimate_usd": "0.000000001"})
    assert refused.status == 402
    assert refused.body["detail"] == "Budget limit reached. Inference blocked."
    assert {name: refused.body[name] for name in ("budget", "dimension", "scope", "limit_usd", "spent_usd")} == {
        "budget": "default",
        "dimension": "day",
        "scope": {},
        "limit_usd": "0.3",
        "spent_usd": "0",
    }
    assert (refused.body["reserved_usd"], refused.body["estimate_usd"]) == ("0.3", "0.000000001")
    assert 1 <= int(refused.headers["retry-after"]) <= 86_400
    assert refused.body["resets_at"].endswith("T00:00:00+00:00")
    assert "$0.300000001" in refused.body["error"], "no rounding hides the difference"
    ask(server, "POST", "/v1/settle", {"ticket": tickets[0], "release": True})
    assert ask(server, "POST", "/v1/authorize", question).status == 200


@pytest.mark.ids("ACC:A12", "ACC:A13", "ACC:A14", "A31")
def test_per_team_per_model_per_label_and_for_the_whole_organisation(server: Server) -> None:
    put(server, name="marketing", limit_usd=500, match={"team": "Marketing"}, period="month")
    put(server, name="gpt-4", limit_usd=100, match={"model": "gpt-4"}, period="day")
    put(server, name="everybody", limit_usd=550)
    put(server, name="users", limit_requests=2, per=["user", "tags.tier"], period="hour")

    def may(cost: float, **labels: Any) -> str:
        reply = ask(server, "POST", "/v1/authorize", {"model": "gpt-4o", **labels, "estimate_usd": cost})
        return "" if reply.status == 200 else str(reply.body["budget"])

    assert may(500, team="Marketing", user="1") == ""
    assert may(1, team="Marketing", user="2") == "marketing"
    assert may(1, team="Engineering", user="1", tags={"tier": "gold"}) == ""
    assert may(49.5, team="Engineering", user="3") == "everybody"
    assert may(101, model="gpt-4", user="3") in ("everybody", "gpt-4")
    assert may(1, user="1", tags={"tier": "gold"}) == ""
    assert may(1, user="1", tags={"tier": "gold"}) == "users"
    reply = ask(
        server, "POST", "/v1/authorize", {"model": "m", "user": "1", "tags": {"tier": "gold"}, "estimate_usd": 0}
    )
    assert reply.body["scope"] == {"user": "1", "tags.tier": "gold"}
    assert (reply.body["limit_requests"], reply.body["spent_requests"], reply.body["reserved_requests"]) == (2, 0, 2)


@pytest.mark.ids("ACC:B12")
def test_a_rule_that_warns_lets_the_call_through_and_says_so(server: Server) -> None:
    put(server, name="soft", limit_usd=1, on_exceed="warn")
    put(server, name="silent", limit_usd=1, on_exceed="log")
    put(server, name="call", limit_usd=5, period="call")
    over = ask(server, "POST", "/v1/authorize", {"model": "gpt-4o", "estimate_usd": 2})
    assert over.status == 200
    assert over.body["warnings"] == ["Budget soft: $2.00 would exceed the limit $1.00"]
    single = ask(server, "POST", "/v1/authorize", {"model": "gpt-4o", "estimate_usd": 6})
    assert (single.status, single.body["dimension"], single.body["resets_at"]) == (402, "call", None)
    assert "retry-after" not in single.headers


@pytest.mark.ids("ACC:A15", "D7", "X5")
def test_each_threshold_is_told_once_for_a_period_and_a_scope(server: Server) -> None:
    put(server, name="team", limit_requests=100, per=["team"], period="month")
    server.post(envelope([receipt(team="a")] * 74, name=epoch()))
    assert ask(server, "GET", "/v1/alerts").body == {"alerts": [], "cursor": None}
    for count in (1, 6, 10, 20):  # 75, 81, 91, 111
        server.post(envelope([receipt(team="a")] * count, name=epoch()))
        ask(server, "GET", "/v1/budgets")
    server.post(envelope([receipt(team="b")] * 95, name=epoch()))
    told = ask(server, "GET", "/v1/alerts").body["alerts"]
    rows = [(row["scope"]["team"], row["threshold"]) for row in reversed(told)]
    assert rows == [("a", 0.75), ("a", 0.9), ("a", 1.0), ("b", 0.75), ("b", 0.9)]
    assert told[-1]["text"] == "Budget utilization 75% exceeds alert threshold 75%"
    assert (told[-1]["spent_requests"], told[-1]["limit_requests"]) == (75, 100)
    ask(server, "POST", "/v1/rebuild", {})
    assert ask(server, "GET", "/v1/alerts").body["alerts"] == told
    assert [row["threshold"] for row in ask(server, "GET", "/v1/alerts?limit=2&budget=team").body["alerts"]] == [
        0.9,
        0.75,
    ]
    put(server, name="team", limit_requests=96, per=["team"], period="month")
    assert ask(server, "GET", "/v1/alerts").body["alerts"] == told, "95 of 96 are no threshold more"
    put(server, name="team", limit_requests=95, per=["team"], period="month")
    assert [row["scope"]["team"] for row in ask(server, "GET", "/v1/alerts").body["alerts"]][:1] == ["b"]
    assert ask(server, "GET", "/v1/alerts?budget=none").body == {"alerts": [], "cursor": None}
    assert ask(server, "GET", "/v1/alerts?limit=0").status == 422


def test_the_policy_has_an_etag_that_only_a_change_changes(server: Server) -> None:
    first = ask(server, "GET", "/v1/policy")
    assert first.body == {"version": 1, "name": "ledger-project-1", "budgets": []}
    put(server, name="default", limit_usd="12.5", per=["team"])
    second = ask(server, "GET", "/v1/policy", If_None_Match=first.headers["etag"])
    assert second.status == 200
    assert second.body["budgets"][0]["limit_usd"] == "12.5"
    server.post(envelope([receipt(team="a")]))
    for tag in (second.headers["etag"], f'"x", W/{second.headers["etag"]}'):
        third = ask(server, "GET", "/v1/policy", If_None_Match=tag)
        assert (third.status, third.raw, third.headers["etag"]) == (304, b"", second.headers["etag"])
    ask(server, "PUT", "/v1/policy", {"on_store_failure": "closed"})
    assert ask(server, "GET", "/v1/policy", If_None_Match=second.headers["etag"]).status == 200
    ask(server, "PUT", "/v1/policy", {"on_store_failure": None})
    assert ask(server, "GET", "/v1/policy", If_None_Match=second.headers["etag"]).status == 304
    for body in ({"on_unpriced": "maybe"}, {"budgets": []}):
        assert ask(server, "PUT", "/v1/policy", body).status == 422


def test_from_a_shell_with_curl(server: Server) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    put(server, name="default", limit_usd="0.01")

    def run(path: str, body: str) -> tuple[int, Any]:
        done = subprocess.run(
            [curl, "-sS", "--noproxy", "*", "-w", "\n%{http_code}", "-d", body, "-H", f"Authorization: Bearer {KEY}"]
            + [f"http://127.0.0.1:{server.port}{path}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        text, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(text)

    status, may = run("/v1/authorize", '{"model": "gpt-4o", "input_tokens": 1000, "max_output_tokens": 500}')
    assert (status, may["reserved_usd"]) == (200, "0.0075")
    assert run("/v1/authorize", '{"model": "gpt-4o", "input_tokens": 1000, "max_output_tokens": 500}')[0] == 402
    status, settled = run("/v1/settle", f'{{"ticket": "{may["ticket"]}", "input_tokens": 900, "output_tokens": 100}}')
    assert (status, settled["cost_usd"], settled["state"]) == (200, "0.00325", "settled")
    assert budget(server)["spent_usd"] == "0.00325"
