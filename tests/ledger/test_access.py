"""Organisations, projects and keys: who may do what, where; what is seen of others; the audit log; the command line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.access import keyring, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.limits import Limits
from aicostguard.ledger.access.principal import ROLES
from aicostguard.ledger.access.uses import Uses
from aicostguard.ledger.errors import LedgerError, Limited
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.sqlite import SqliteStore, copying
from tests.ledger.support import KEY, NOW, Reply, Server, aicg, envelope, epoch, receipt, wait_for

BY = Actor("test")


def ask(server: Server, method: str, path: str, body: Any = None, **more: Any) -> Reply:
    return server.ask(method, path, None if body is None else json.dumps(body).encode(), **more)


def key_of(store: SqliteStore, role: str, reach: str = "project", project_id: int = 1, **more: Any) -> str:
    made, _ = store.change(
        lambda c: keyring.add(c, project_id, ROLES[role], BY, ledger.now_ms(), name=role, reach=reach, **more)
    )
    return made


def project_of(store: SqliteStore, name: str, organisation: str | None = None) -> int:
    def job(connection: sqlite3.Connection) -> int:
        number = 1
        if organisation is not None:
            number = places.add_organisation(connection, organisation, BY, NOW).id
        return places.add_project(connection, number, name, BY, NOW).id

    return store.change(job)


def refused(reply: Reply, status: int, field: str | None = None) -> str:
    assert reply.status == status, reply
    assert reply.body.get("field") == field, reply
    return str(reply.body["error"])


# Roles and reach


def test_what_each_role_may(server: Server, store: SqliteStore) -> None:
    keys = {role: key_of(store, role) for role in ROLES}
    for role, send, read, manage in (("ingest", 200, 403, 403), ("read", 403, 200, 403), ("admin", 200, 200, 200)):
        key = keys[role]
        assert server.post(envelope([receipt()], name=epoch()), key=key).status == send
        assert server.get("/v1/costs", key=key).status == read
        assert server.get("/v1/keys", key=key).status == manage
        assert server.get("/v1/audit", key=key).status == manage
        assert server.get("/v1/whoami", key=key).body["roles"] == [role]


def test_keys_of_before_keep_exactly_what_they_could(server: Server, store: SqliteStore) -> None:
    old = "aicg_" + "m" * 40
    store.add_key(old, "", ("manage",), 1, NOW)
    assert server.get("/v1/whoami", key=old).body["roles"] == ["manage"]
    assert server.get("/v1/costs", key=old).status == 403
    refused(ask(server, "POST", "/v1/keys", {"roles": ["read"]}, key=old), 403, "roles")
    assert server.get("/v1/whoami").body["roles"] == ["admin"]


def test_what_one_does_not_see_is_refused_like_what_is_not_there(server: Server, store: SqliteStore) -> None:
    project_of(store, "secret")
    project_of(store, "shop", "acme")
    key = key_of(store, "admin")
    for name in ("secret", "nowhere", "acme/shop", "default/secret"):
        for path in ("/v1/costs", "/v1/keys", "/v1/whoami", "/v1/budgets"):
            said = refused(server.get(path, key=key, AICG_Project=name), 404, "AICG-Project")
            assert said == f"there is no project {name!a}"
    wide = key_of(store, "admin", "organisation")
    assert server.get("/v1/costs", key=wide, AICG_Project="secret").status == 200
    refused(server.get("/v1/costs", key=wide, AICG_Project="acme/shop"), 404, "AICG-Project")
    widest = key_of(store, "admin", "ledger")
    assert server.get("/v1/whoami", key=widest, AICG_Project="acme/shop").body["organisation"] == "acme"
    assert server.get("/v1/costs", key=key, AICG_Project="default/Default").status == 200


def test_what_lists_show_of_others(server: Server, store: SqliteStore) -> None:
    project_of(store, "b")
    project_of(store, "c", "acme")
    seen = {
        reach: [row["name"] for row in server.get("/v1/projects", key=key_of(store, "read", reach)).body["projects"]]
        for reach in ("project", "organisation", "ledger")
    }
    assert seen == {"project": ["default"], "organisation": ["default", "b"], "ledger": ["default", "b", "c"]}
    of = [
        [row["name"] for row in server.get("/v1/organisations", key=key_of(store, "read", reach)).body["organisations"]]
        for reach in ("organisation", "ledger")
    ]
    assert of == [["default"], ["default", "acme"]]


@pytest.mark.ids("ACC:A14", "ACC:D14")
def test_an_organisations_costs_are_those_of_its_projects(server: Server, store: SqliteStore) -> None:
    b, foreign = project_of(store, "b"), project_of(store, "c", "acme")
    server.post(envelope([receipt()] * 2, name=epoch()))
    server.post(envelope([receipt()] * 5, name=epoch()), key=key_of(store, "ingest", project_id=b))
    server.post(envelope([receipt(model="unheard-of")], name=epoch()), key=key_of(store, "ingest", project_id=b))
    server.post(envelope([receipt()] * 9, name=epoch()), key=key_of(store, "ingest", project_id=foreign))
    wide = key_of(store, "read", "organisation")
    answer = server.get("/v1/organisation/costs?since=24h", key=wide).body
    assert [(row["project"], row["calls"], row["cost_nanousd"]) for row in answer["rows"]] == [
        ("b", 6, 1650),
        ("default", 2, 660),
    ]
    assert (answer["totals"]["calls"], answer["totals"]["unpriced_calls"]) == (8, 1)
    assert answer["totals"]["cost_usd"] == "0.00000231"
    assert "its whole organisation" in refused(server.get("/v1/organisation/costs"), 403, None)
    refused(server.get("/v1/organisation/costs?group_by=model", key=wide), 422, "group_by")


# Projects and organisations by the API


def test_projects_are_made_renamed_archived_and_taken_back(server: Server, store: SqliteStore) -> None:
    admin = key_of(store, "admin", "organisation")
    refused(ask(server, "POST", "/v1/projects", {"name": "b"}), 403, None)
    made = ask(server, "POST", "/v1/projects", {"name": "b"}, key=admin)
    assert (made.status, made.body["name"], made.body["archived_at"]) == (201, "b", None)
    assert "taken" in refused(ask(server, "POST", "/v1/projects", {"name": "B"}, key=admin), 409, "name")
    key = ask(server, "POST", "/v1/keys", {"roles": ["admin"]}, key=admin, AICG_Project="b").body["secret"]
    assert ask(server, "PATCH", "/v1/projects/b", {"name": "c"}, key=admin).body["name"] == "c"
    assert server.get("/v1/whoami", key=key).body["project"] == "c", "a key stays with its project"
    assert server.post(envelope([receipt()], name=epoch()), key=key).status == 200
    assert ask(server, "PATCH", "/v1/projects/c", {"archived": True}, key=admin).body["archived_at"]
    late = server.post(envelope([receipt()], name=epoch()), key=key)
    assert "archived" in refused(late, 403, None), "an agent keeps what a 403 refuses"
    assert "archived" in refused(ask(server, "POST", "/v1/budgets", {"name": "x", "limit": 1}, key=key), 403, None)
    assert server.get("/v1/costs?since=24h", key=key).body["totals"]["calls"] == 1
    assert ask(server, "PATCH", "/v1/projects/c", {"archived": False}, key=admin).body["archived_at"] is None
    assert server.post(envelope([receipt()], name=epoch()), key=key).status == 200


def test_organisations_are_the_ledgers_own_affair(server: Server, store: SqliteStore) -> None:
    admin, root = key_of(store, "admin", "organisation"), key_of(store, "admin", "ledger")
    refused(ask(server, "POST", "/v1/organisations", {"name": "acme"}, key=admin), 403, None)
    assert ask(server, "POST", "/v1/organisations", {"name": "acme"}, key=root).status == 201
    assert ask(server, "POST", "/v1/projects", {"name": "shop", "organisation": "acme"}, key=root).status == 201
    refused(ask(server, "POST", "/v1/projects", {"name": "x", "organisation": "acme"}, key=admin), 404, "organisation")
    said = [
        refused(ask(server, "PATCH", f"/v1/organisations/{name}", {"name": "x"}, key=admin), 404, "name")
        for name in ("acme", "nope")
    ]
    assert said[0] == said[1].replace("nope", "acme"), "one that is not theirs is answered as one that is not there"
    assert ask(server, "PATCH", "/v1/organisations/default", {"name": "home"}, key=admin).body["name"] == "home"
    refused(ask(server, "PATCH", "/v1/organisations/home", {"archived": True}, key=admin), 403, None)
    key = key_of(store, "admin", project_id=2)
    assert ask(server, "PATCH", "/v1/organisations/acme", {"archived": True}, key=root).status == 200
    assert "archived" in refused(server.post(envelope([receipt()], name=epoch()), key=key), 403, None)
    refused(ask(server, "POST", "/v1/projects", {"name": "y", "organisation": "acme"}, key=root), 409, "organisation")


@pytest.mark.parametrize(
    "path,body,field",
    [
        ("/v1/projects", {}, "name"),
        ("/v1/projects", {"name": "=cmd()"}, "name"),
        ("/v1/projects", {"name": "<b>"}, "name"),
        ("/v1/projects", {"name": "a\r\nX: y"}, "name"),
        ("/v1/projects", {"name": "a' OR 1=1"}, "name"),
        ("/v1/projects", {"name": "a/b"}, "name"),
        ("/v1/projects", {"name": 5}, "name"),
        ("/v1/projects", {"name": "x", "colour": 1}, "colour"),
        ("/v1/keys", {"name": "=1+1"}, "name"),
        ("/v1/keys", {"name": "a\nb"}, "name"),
        ("/v1/keys", {"roles": []}, "roles"),
        ("/v1/keys", {"roles": ["owner"]}, "roles"),
        ("/v1/keys", {"roles": "admin"}, "roles"),
        ("/v1/keys", {"reach": "world"}, "reach"),
        ("/v1/keys", {"expires_in": "soon"}, "expires_in"),
        ("/v1/keys", {"expires_in": "0s"}, "expires_in"),
        ("/v1/keys", {"expires_in": "999999d"}, "expires_in"),
        ("/v1/keys", {"per_minute": 0}, "per_minute"),
        ("/v1/keys", {"per_minute": True}, "per_minute"),
        ("/v1/keys", {"max_bytes": 1e9}, "max_bytes"),
    ],
)
def test_what_does_not_fit_is_named(server: Server, store: SqliteStore, path: str, body: Any, field: str) -> None:
    refused(ask(server, "POST", path, body, key=key_of(store, "admin", "ledger")), 422, field)


# Keys by the API


def test_a_key_is_said_once_and_stored_as_a_hash(server: Server, store: SqliteStore) -> None:
    made = ask(server, "POST", "/v1/keys", {"name": "shop", "roles": ["ingest"]}).body
    assert server.post(envelope([receipt()], name=epoch()), key=made["secret"]).status == 200
    everything = json.dumps(server.get("/v1/keys").body) + json.dumps(server.get("/v1/audit").body)
    assert made["secret"][:9] in everything and made["secret"] not in everything
    store.change(lambda c: c.execute("PRAGMA user_version"))
    for end in ("", "-wal"):
        data = Path(store.path + end)
        assert not data.exists() or made["secret"].encode() not in data.read_bytes()


def test_nobody_gives_what_they_do_not_have(server: Server, store: SqliteStore) -> None:
    for reach in ("organisation", "ledger"):
        assert "do not have" in refused(ask(server, "POST", "/v1/keys", {"reach": reach}), 403, "roles")
    wide = server.get("/v1/keys", key=key_of(store, "admin", "ledger")).body["keys"][-1]["id"]
    for method, path in (("DELETE", ""), ("POST", "/rotate"), ("PATCH", "")):
        assert ask(server, method, f"/v1/keys/{wide}{path}", {}).status == 403, "nor takes a stronger one over"


def test_rotating_ends_the_old_key_now_or_after_a_grace(server: Server) -> None:
    first = ask(server, "POST", "/v1/keys", {"roles": ["read"], "name": "r", "per_minute": 900}).body
    second = ask(server, "POST", f"/v1/keys/{first['id']}/rotate", {"grace": "1h"}).body
    assert (second["name"], second["roles"], second["per_minute"]) == ("r", ["read"], 900)
    for made in (first, second):
        assert server.get("/v1/costs", key=made["secret"]).status == 200
    third = ask(server, "POST", f"/v1/keys/{second['id']}/rotate", {}).body
    assert "revoked" in refused(server.get("/v1/costs", key=second["secret"]), 401, None)
    assert server.get("/v1/costs", key=third["secret"]).status == 200
    assert "revoked already" in refused(ask(server, "POST", f"/v1/keys/{second['id']}/rotate", {}), 409, "key")
    assert server.get("/v1/keys").body["keys"][1]["expires_at"] is not None


def test_a_key_expires(server: Server, store: SqliteStore) -> None:
    key = key_of(store, "read", expires_ms=ledger.now_ms() + 3_600_000)
    assert server.get("/v1/costs", key=key).status == 200
    found = store.find_key(key)
    assert found is not None
    past = ledger.now_ms() - 1
    store.change(lambda c: keyring.change(c, found, BY, NOW, expires_ms=past))
    assert "expired" in refused(server.get("/v1/costs", key=key), 401, None)
    assert [row["state"] for row in server.get("/v1/keys").body["keys"]] == ["in force", "expired"]


def test_a_revoked_key_is_refused_at_once(server: Server) -> None:
    made = ask(server, "POST", "/v1/keys", {"roles": ["read"]}).body
    assert server.get("/v1/costs", key=made["secret"]).status == 200
    assert ask(server, "DELETE", f"/v1/keys/{made['id']}").body["state"] == "revoked"
    refused(server.get("/v1/costs", key=made["secret"]), 401, None)
    refused(ask(server, "DELETE", "/v1/keys/0000000000000000"), 404, "key")


def test_the_last_use_is_known_at_once_and_written_once_a_while(server: Server, store: SqliteStore) -> None:
    made = ask(server, "POST", "/v1/keys", {"roles": ["read"]}).body
    assert made["last_used_at"] is None
    for _ in range(20):
        server.get("/v1/whoami", key=made["secret"])
    assert server.get("/v1/keys").body["keys"][-1]["last_used_at"] is not None

    def written() -> Any:
        return store.look(
            lambda c: c.execute("SELECT last_ms FROM key_uses WHERE key_id = ?", (made["id"],)).fetchall()
        )

    assert len(wait_for(written, "the use to be written")) == 1


def test_uses_are_written_once_a_minute_and_kept_when_the_disk_is_full() -> None:
    written: list[dict[str, int]] = []
    full = [True]

    def keep(seen: dict[str, int]) -> None:
        if full[0]:
            raise LedgerError("full")
        written.append(seen)

    uses = Uses(keep)
    uses.note("a", 5)
    with pytest.raises(LedgerError):
        uses.write(1000)
    full[0] = False
    uses.note("b", 7)
    uses.write(1001)
    assert not written, "not before the minute is over"
    uses.write(61_000)
    for _ in range(100):
        uses.note("a", 61_001)
        uses.write(61_002)
    assert written == [{"a": 5, "b": 7}]
    assert uses.at("a", 5) == 61_001
    uses.write(61_003, at_once=True)
    assert written[1:] == [{"a": 61_001}]


# Limits


def test_a_bucket_lets_through_what_it_holds_and_fills_with_time() -> None:
    now = [0.0]
    limits = Limits(lambda: now[0])
    for _ in range(6):
        limits.take("a", 6)
    limits.take("b", 6)
    with pytest.raises(Limited) as error:
        limits.take("a", 6)
    assert error.value.retry_after == 10
    now[0] = 9.9
    with pytest.raises(Limited):
        limits.take("a", 6)
    now[0] = 10.0
    limits.take("a", 6)
    now[0] = 10_000.0
    for _ in range(6):
        limits.take("a", 6)
    with pytest.raises(Limited):
        limits.take("a", 6)


def test_a_key_that_asks_too_often_is_told_when_to_come_again(server: Server, store: SqliteStore) -> None:
    key = key_of(store, "admin", per_minute=3)
    for _ in range(3):
        assert server.post(envelope([receipt()], name=epoch()), key=key).status == 200
    reply = server.post(envelope([receipt()], name=epoch()), key=key)
    assert "3 requests a minute" in refused(reply, 429, None)
    assert 1 <= int(reply.headers["retry-after"]) <= 20
    assert server.get("/v1/costs?since=24h").body["totals"]["calls"] == 3, "others are not held up"


def test_a_keys_bodies_are_bounded(server: Server, store: SqliteStore) -> None:
    key = key_of(store, "admin", max_bytes=1000)
    assert server.post(envelope([receipt()], name=epoch()), key=key).status == 200
    assert "1000 bytes" in refused(server.post(envelope([receipt()] * 50, name=epoch()), key=key), 413, None)
    refused(ask(server, "POST", "/v1/budgets", {"name": "x" * 2000}, key=key), 413, None)


# The audit log


def test_who_changed_what_when_from_where(server: Server, store: SqliteStore) -> None:
    admin = key_of(store, "admin", "organisation")
    ask(server, "POST", "/v1/projects", {"name": "b"}, key=admin)
    ask(server, "PATCH", "/v1/projects/b", {"name": "c"}, key=admin)
    made = ask(server, "POST", "/v1/keys", {"name": "k"}, key=admin, AICG_Project="c").body
    ask(server, "PATCH", f"/v1/keys/{made['id']}", {"per_minute": 7}, key=admin, AICG_Project="c")
    lines = server.get("/v1/audit?reach=organisation&limit=4", key=admin).body["entries"]
    assert [line["what"] for line in lines] == ["key.changed", "key.created", "project.changed", "project.created"]
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    assert {line["who"] for line in lines} == {f"key {admin[:9]} (admin)"}
    assert (lines[0]["before"], lines[0]["after"]) == ({"per_minute": None}, {"per_minute": 7})
    assert (lines[2]["before"], lines[2]["after"]) == ({"name": "b"}, {"name": "c"})
    own = server.get("/v1/audit?limit=1", key=admin, AICG_Project="c").body["entries"]
    assert own == lines[:1]
    older = server.get(f"/v1/audit?before={own[0]['id']}&limit=1", key=admin, AICG_Project="c").body["entries"]
    assert older == lines[1:2]
    assert all(line["what"] == "key.created" for line in server.get("/v1/audit").body["entries"])
    refused(server.get("/v1/audit?reach=ledger", key=admin), 403, None)
    refused(server.get("/v1/audit?limit=0", key=admin), 422, "limit")


def test_the_file_refuses_to_change_or_cut_the_log(store: SqliteStore) -> None:
    store.default_project()
    key_of(store, "read")
    for statement in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
        with pytest.raises((LedgerError, sqlite3.Error)):
            store.change(lambda c, statement=statement: c.execute(statement))
    assert store.look(lambda c: c.execute("SELECT count(*) FROM audit").fetchone()) == (1,)


# Restore, and the command line


def test_a_restore_keeps_who_may_do_what(tmp_path: Path) -> None:
    path, copy = str(tmp_path / "ledger.db"), str(tmp_path / "copy.db")
    store = ledger.open_ledger(path)
    store.default_project()
    number = project_of(store, "b")
    key = key_of(store, "read", project_id=number)
    store.close()
    copying.backup(path, copy)
    store = ledger.open_ledger(path)
    store.change(lambda c: places.change_project(c, number, BY, NOW, name="renamed", archived=None))
    late = project_of(store, "late")
    made = key_of(store, "read", project_id=late)
    found = store.find_key(key)
    assert found is not None
    store.change(lambda c: keyring.revoke(c, found, BY, NOW))
    before = store.look(lambda c: c.execute("SELECT who, what, target FROM audit ORDER BY id").fetchall())
    store.close()
    copying.restore(copy, path, replace=True)
    store = ledger.open_ledger(path)
    try:
        old, new = store.find_key(key), store.find_key(made)
        assert old is not None and (old.project, old.revoked_ms) == ("renamed", NOW)
        assert new is not None and (new.project, new.project_id) == ("late", late), "no other project gets its number"
        assert store.look(lambda c: c.execute("SELECT who, what, target FROM audit ORDER BY id").fetchall()) == before
    finally:
        store.close()


def test_projects_and_keys_at_the_command_line(tmp_path: Path) -> None:
    at = ("--db", str(tmp_path / "ledger.db"))
    assert "made acme/shop" in aicg("projects", "create", "shop", "--organisation", "acme", *at).stdout
    key = aicg("keys", "create", "--project", "acme/shop", "--role", "read", "--expires", "90d", *at).stdout.strip()
    assert "renamed to acme/store" in aicg("projects", "rename", "acme/shop", "store", *at).stdout
    listed = json.loads(aicg("keys", "list", "--project", "store", "--json", *at).stdout)
    assert (listed[0]["key"], listed[0]["roles"], listed[0]["state"]) == (key[:9], ["read"], "in force")
    new = aicg("keys", "rotate", key[:9], "--project", "store", "--grace", "1d", *at).stdout.strip()
    assert new.startswith("aicg_") and new != key
    (old,) = [
        row
        for row in json.loads(aicg("keys", "list", "--project", "store", "--json", *at).stdout)
        if row["key"] == key[:9]
    ]
    left_ms = old["expires_ms"] - ledger.now_ms()
    assert DAY_MS - 600_000 < left_ms <= DAY_MS, "it goes on for the day that it was given"
    assert aicg("keys", "set", new[:9], "--project", "store", "--per-minute", "60", *at).returncode == 0
    wrong = aicg("keys", "set", new[:9], "--project", "store", "--per-minute", "lots", *at)
    assert wrong.returncode == 2 and "--per-minute" in wrong.stderr
    assert "archived: acme/store" in aicg("projects", "archive", "store", *at).stdout
    assert "archived" in aicg("keys", "create", "--project", "store", *at).stderr
    shown = aicg("projects", "list", *at).stdout
    assert "acme" in shown and "archived 20" in shown
    entries = json.loads(aicg("projects", "audit", "--json", *at).stdout)
    assert [entry["what"] for entry in entries] == [
        "project.changed",
        "key.changed",
        "key.rotated",
        "project.changed",
        "key.created",
        "project.created",
        "organisation.created",
    ]
    assert all(entry["who"].startswith("command line (") for entry in entries)
    assert key not in json.dumps(entries) and KEY not in json.dumps(entries)
