"""A key of one project reads nothing of another: every route that there is, by enumeration.

A new route is found by itself. One with a part in its path that is not known here fails until `OF_B` names one of the
other project's things for it.
"""

from __future__ import annotations

import json
import urllib.parse
from typing import Any, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aicostguard import ledger
from aicostguard.ledger.access import keyring, people, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.principal import ROLES
from aicostguard.ledger.api import create_app
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import NOW, Server, envelope, epoch, receipt, serving

BY = Actor("test")
CANARY = "canary"
#: paths that need no key, and say nothing of anybody's costs
PUBLIC = {
    "/v1/health",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/login",
    "/v1/logout",
    "/v1/password",
    "/v1/oidc/login",
    "/v1/oidc/callback",
}
#: what a key that only sends may post
FOR_SENDERS = {"/v1/receipts", "/v1/authorize", "/v1/settle", "/v1/scores"}
#: what it may ask for
OF_SENDERS = {"/v1/policy", "/v1/whoami", "/v1/projects"}
#: part of a path → a thing of the other project
OF_B: dict[str, str] = {"name": f"{CANARY}-thing", "email": f"{CANARY}@example.com", "number": "1"}


def operations(app: Any) -> Iterator[tuple[str, str]]:
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path


def filled(path: str, parts: dict[str, str]) -> str:
    for name in [piece.split("}")[0] for piece in path.split("{")[1:]]:
        assert name in parts, f"{path}: name a thing of the other project for {{{name}}} in OF_B"
        path = path.replace("{%s}" % name, urllib.parse.quote(parts[name], safe=""))
    return path


@pytest.fixture
def two(server: Server, store: SqliteStore) -> tuple[str, str, dict[str, str]]:
    """`(key of a, key of b, the parts of b)`; b is full of canaries, a has one plain receipt."""

    def job(connection: Any) -> tuple[str, str, str]:
        b = places.add_project(connection, 1, f"{CANARY}-b", BY, NOW).id
        key_a, _ = keyring.add(connection, 1, ROLES["admin"], BY, ledger.now_ms(), name="a")
        key_b, entry = keyring.add(connection, b, ROLES["admin"], BY, ledger.now_ms(), name=f"{CANARY} key")
        person = people.add(connection, OF_B["email"], CANARY, BY, ledger.now_ms())
        people.set_role(connection, person, "project", b, "admin", BY, ledger.now_ms(), organisation_id=1)
        return key_a, key_b, entry.id

    key_a, key_b, number = store.change(job)
    server.post(envelope([receipt(feature="plain")], name=epoch()), key=key_a)
    return key_a, key_b, {**OF_B, "key": number}


def fill(server: Server, key: str) -> None:
    """Put canaries into everything that a project has."""
    texts = dict.fromkeys(("feature", "team", "user", "agent", "session", "project", "request", "region"), CANARY)
    sent = envelope(
        [receipt(model=f"{CANARY}-model", **texts)], name=epoch(), service=CANARY, host=CANARY, release=CANARY
    )
    assert server.post(sent, key=key).status == 200
    for method, path, body in (
        ("POST", "/v1/budgets", {"name": OF_B["name"], "limit": 1e-9}),
        ("PUT", "/v1/policy", {"on_unpriced": "block"}),
        ("POST", "/v1/authorize", {"model": "gpt-4o", "estimate_usd": 1e-9, "feature": CANARY}),
        ("POST", "/v1/alerts/rules", {"name": OF_B["name"], "measure": "cost", "window": "day", "above": 0}),
    ):
        server.ask(method, path, json.dumps(body).encode(), key=key)


def seen(server: Server, key: str, paths: list[str]) -> dict[str, Any]:
    """What every GET says, without what is of the moment."""
    out: dict[str, Any] = {}
    for path in paths:
        for question in ("", "?since=all", "?since=all&group_by=feature", "?after=0", "?tz=UTC"):
            reply = server.get(path + question, key=key)
            assert reply.status in (200, 403, 404, 422), (path, reply)
            if reply.status == 200:
                told = json.loads(reply.raw) if "json" in reply.headers["content-type"] else reply.raw.decode()
                out[path + question] = (reply.status, _plain(told))
    return out


def _plain(found: Any) -> Any:
    # Cursors count the whole ledger's batches; times of last use and ends of periods move by themselves.
    if isinstance(found, dict):
        moving = ("cursor", "last_used_at", "until", "last_heard", "resets_at", "exhausted_at", "skipped")
        return {name: _plain(value) for name, value in found.items() if name not in moving}
    return [_plain(item) for item in found] if isinstance(found, list) else found


def test_no_get_tells_a_word_of_another_project(
    server: Server, store: SqliteStore, two: tuple[str, str, dict[str, str]]
) -> None:
    key_a, key_b, parts = two
    paths = [filled(path, parts) for method, path in operations(_app(store)) if method == "GET" and path not in PUBLIC]
    assert len(paths) > 15
    before = seen(server, key_a, paths)
    fill(server, key_b)
    after = seen(server, key_a, paths)
    assert CANARY not in json.dumps(after), [path for path in after if CANARY in json.dumps(after[path])]
    assert after == before, "what happens there changes nothing here"
    assert CANARY in json.dumps(seen(server, key_b, paths)), "the canaries are there to be seen"


def test_a_limit_that_both_share_tells_neither_of_the_other(
    server: Server, store: SqliteStore, two: tuple[str, str, dict[str, str]]
) -> None:
    key_a, key_b, parts = two
    wide = store.change(lambda c: keyring.add(c, 1, ROLES["admin"], BY, ledger.now_ms(), reach="organisation"))[0]
    for rule in ({"name": "cap", "limit_usd": "0.0000005"}, {"name": "each", "limit_usd": 1, "per": ["feature"]}):
        body = json.dumps({**rule, "alert_at": [], "reach": "organisation"}).encode()
        assert server.ask("POST", "/v1/budgets", body, key=wide).status == 201
    paths = [filled(path, parts) for method, path in operations(_app(store)) if method == "GET" and path not in PUBLIC]
    before = seen(server, key_a, [*paths, "/v1/budgets/cap"])
    fill(server, key_b)
    question = json.dumps({"model": "gpt-4o", "estimate_usd": "0.0000001"}).encode()
    blocked = server.ask("POST", "/v1/authorize", question, key=key_a)
    assert (blocked.status, blocked.body["budget"]) == (402, "cap"), "both have used it up"
    assert CANARY not in blocked.raw.decode() and "spent_usd" not in blocked.body
    after = seen(server, key_a, [*paths, "/v1/budgets/cap"])
    assert CANARY not in json.dumps(after) and after == before
    assert CANARY in json.dumps(seen(server, wide, ["/v1/budgets/each"])), "the canaries are there to be seen"


def test_every_route_wants_a_key_and_sees_no_other_project(
    server: Server, store: SqliteStore, two: tuple[str, str, dict[str, str]]
) -> None:
    key_a, key_b, parts = two
    fill(server, key_b)
    sender = store.change(lambda c: keyring.add(c, 1, ROLES["ingest"], BY, ledger.now_ms()))[0]
    reader = store.change(lambda c: keyring.add(c, 1, ROLES["read"], BY, ledger.now_ms()))[0]
    for method, path in operations(_app(store)):
        if path in PUBLIC:
            continue
        at, body = filled(path, parts), None if method in ("GET", "DELETE") else b"{}"
        for key in (None, "aicg_" + "x" * 40):
            reply = server.ask(method, at, body, key=key)
            assert (reply.status, reply.headers["content-type"]) == (401, "application/problem+json"), (method, path)
            assert reply.body["status"] == 401 and reply.body["detail"]
        for name in (f"{CANARY}-b", f"default/{CANARY}-b"):
            reply = server.ask(method, at, body, key=key_a, AICG_Project=name)
            assert (reply.status, reply.body["field"]) == (404, "AICG-Project"), (method, path)
        if method == "GET":
            if path not in OF_SENDERS:
                assert server.ask(method, at, key=sender).status == 403, path
            continue
        if path not in FOR_SENDERS:
            for key in (sender, reader):
                assert server.ask(method, at, body, key=key).status == 403, (method, path)
        if "{" in path:
            reply = server.ask(method, at, body, key=key_a)
            assert 400 <= reply.status < 500, (method, path, "changes something of the other project")
    assert server.get(f"/v1/budgets/{OF_B['name']}", key=key_b).status == 200
    assert server.get("/v1/whoami", key=key_b).status == 200


TEXTS = st.one_of(
    st.sampled_from(
        [
            "' OR '1'='1",
            "'; DROP TABLE receipts; --",
            '" UNION SELECT hash FROM keys --',
            "%' ESCAPE '\\",
            '=HYPERLINK("http://x")',
            "+1+1",
            "@SUM(A1)",
            "\r\nSet-Cookie: a=b",
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "../../etc/passwd",
            "{{7*7}}",
            "\x00",
            "\ud800",
            "🦄" * 50,
        ]
    ),
    st.text(max_size=60),
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(text=TEXTS)
def test_texts_that_would_be_code_elsewhere_are_texts(injected: tuple[Server, SqliteStore, str], text: str) -> None:
    server, store, key = injected
    quoted = urllib.parse.quote(text.encode("utf-8", "surrogatepass"))
    tables = store.look(lambda c: c.execute("SELECT count(*) FROM sqlite_master").fetchone())
    for name in ("feature", "user", "model", "since", "tz", "order", "group_by", "limit", "after", "budget", "x"):
        for path in ("/v1/costs", "/v1/receipts", "/v1/arrivals", "/v1/alerts", "/v1/deliveries", "/v1/audit"):
            reply = server.get(f"{path}?{name}={quoted}", key=key)
            assert reply.status in (200, 422), (path, name, reply)
            _harmless(reply)
    for path in ("/v1/budgets/", "/v1/keys/", "/v1/people/"):
        _harmless(server.ask("DELETE", path + quoted, key=key))
    for path, name in (
        ("/v1/projects", "name"),
        ("/v1/keys", "name"),
        ("/v1/people", "email"),
        ("/v1/budgets", "name"),
    ):
        reply = server.ask("POST", path, json.dumps({name: text}).encode(), key=key)
        assert reply.status in (200, 201, 400, 409, 422), (path, reply)
        _harmless(reply)
    assert store.look(lambda c: c.execute("SELECT count(*) FROM sqlite_master").fetchone()) == tables
    assert server.get("/v1/whoami", key=key).status == 200


def _harmless(reply: Any) -> None:
    assert reply.status < 500, reply
    assert "json" in reply.headers["content-type"] and reply.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in reply.headers
    reply.raw.decode("ascii")


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, SqliteStore, str]]:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("injected") / "ledger.db"))
    store.default_project()
    key = store.change(lambda c: keyring.add(c, 1, ROLES["admin"], BY, ledger.now_ms(), reach="ledger"))[0]
    with serving(store) as server:
        yield server, store, key
    store.close()


def _app(store: SqliteStore) -> Any:
    return create_app(store=store)
