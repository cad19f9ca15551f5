"""People: log-in, sessions, what other sites' pages cannot do, guesses, roles, codes, and the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.access import guesses, passwords, people, people_routes, places, sessions
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.guesses import Guesses
from aicostguard.ledger.errors import Limited, Refused
from aicostguard.ledger.sqlite import SqliteStore, copying
from tests.ledger.support import NOW, Reply, Server, aicg, command, envelope, environment, epoch, receipt

BY = Actor("test")
ADA, PASSWORD = "ada@example.com", "correct horse battery"


@pytest.fixture(scope="module")
def hashed() -> str:
    return passwords.hashed(PASSWORD)


def person(store: SqliteStore, hashed: str, email: str = ADA, **roles: str) -> people.Person:
    def job(connection: Any) -> people.Person:
        made = people.add(connection, email, "", BY, ledger.now_ms())
        people.set_password(connection, made, hashed, BY, ledger.now_ms())
        for reach, role in roles.items():
            people.set_role(connection, made, reach, 0 if reach == "ledger" else 1, role, BY, ledger.now_ms())
        return made

    store.default_project()
    return store.change(job)


class Browser:
    """What a browser does: it keeps cookies, and says on whose behalf it asks."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None, *, origin: str | None = "", **headers: str) -> Reply:
        if origin is not None and method != "GET":
            headers["Origin"] = origin or f"http://127.0.0.1:{self.server.port}"
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        data = None if body is None else json.dumps(body).encode()
        reply = self.server.ask(method, path, data, key=None, **headers)
        for line in reply.headers.get("set-cookie", "").split(", aicg_"):
            name, _, value = line.partition(";")[0].partition("=")
            if name:
                self.cookies[name if name.startswith("aicg_") else f"aicg_{name}"] = value.strip('"')
        return reply

    def log_in(self, email: str = ADA, password: str = PASSWORD) -> Reply:
        return self.ask("POST", "/v1/login", {"email": email, "password": password})


def cookies(reply: Reply) -> str:
    return reply.headers["set-cookie"].lower()


def test_log_in_look_change_log_out(server: Server, store: SqliteStore, hashed: str) -> None:
    person(store, hashed, project="admin")
    server.post(envelope([receipt()], name=epoch()))
    browser = Browser(server)
    assert browser.ask("GET", "/v1/costs").status == 401
    reply = browser.log_in("ADA@example.com")
    assert (reply.status, reply.body["email"]) == (200, ADA)
    assert "httponly" in cookies(reply) and "samesite=lax" in cookies(reply) and "path=/" in cookies(reply)
    assert browser.ask("GET", "/v1/costs?since=24h").body["totals"]["calls"] == 1
    assert browser.ask("GET", "/v1/whoami").body["who"] == ADA
    assert browser.ask("POST", "/v1/budgets", {"name": "b", "limit": 1}).status == 201
    assert browser.ask("GET", "/v1/budgets/b").body["history"][0]["who"] == ADA
    kept = dict(browser.cookies)
    assert browser.ask("POST", "/v1/logout", {}).status == 200
    browser.cookies = kept
    assert browser.ask("GET", "/v1/costs").status == 401, "the ledger has forgotten it, too"
    whats = [line["what"] for line in server.get("/v1/audit?reach=project").body["entries"]]
    assert "login" not in whats, "log-ins are of no project"


def test_nothing_of_a_session_or_a_password_is_stored_as_it_is(server: Server, store: SqliteStore, hashed: str) -> None:
    person(store, hashed, project="read")
    browser = Browser(server)
    browser.log_in()
    assert hashed.startswith("$argon2id$")
    data = b"".join(Path(store.path + end).read_bytes() for end in ("", "-wal") if Path(store.path + end).exists())
    for value in (*browser.cookies.values(), PASSWORD):
        assert value.encode() not in data


def test_another_sites_page_changes_nothing(server: Server, store: SqliteStore, hashed: str) -> None:
    person(store, hashed, project="admin")
    browser = Browser(server)
    assert browser.log_in().status == 200
    body = {"name": "b", "limit": 1}
    for origin, more in (
        ("https://evil.example", {}),
        ("null", {}),
        (f"http://127.0.0.1:{server.port}.evil.example", {}),
        (None, {}),
        ("", {"Sec_Fetch_Site": "cross-site"}),
        ("", {"Sec_Fetch_Site": "same-site"}),
    ):
        for method, path, sent in (
            ("POST", "/v1/budgets", body),
            ("POST", "/v1/logout", {}),
            ("DELETE", "/v1/budgets/b", None),
        ):
            reply = browser.ask(method, path, sent, origin=origin, **more)
            assert (reply.status, reply.body["field"]) == (403, "Origin"), (origin, more)
    login = browser.ask("POST", "/v1/login", {"email": ADA, "password": PASSWORD}, origin="https://evil.example")
    assert login.status == 403, "nor logs it somebody in as somebody else"
    assert browser.ask("GET", "/v1/budgets").body == {"budgets": []}
    assert browser.ask("POST", "/v1/budgets", body, Sec_Fetch_Site="same-origin").status == 201


def test_a_session_ends_by_itself(
    server: Server, store: SqliteStore, hashed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    person(store, hashed, project="read")
    browser = Browser(server)
    browser.log_in()
    assert browser.ask("GET", "/v1/costs").status == 200
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "IDLE_MS", -1)
        assert "over" in browser.ask("GET", "/v1/costs").body["error"]
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "MOST_MS", -1)
        assert "over" in browser.ask("GET", "/v1/costs").body["error"]
    assert browser.ask("GET", "/v1/costs").status == 200


def test_each_log_in_makes_a_new_session_and_ends_the_one_before(
    server: Server, store: SqliteStore, hashed: str
) -> None:
    person(store, hashed, project="read")
    browser, planted = Browser(server), "aicgs_" + "x" * 40
    browser.cookies["aicg_session"] = planted
    browser.log_in()
    first = browser.cookies["aicg_session"]
    assert first != planted
    browser.log_in()
    assert browser.cookies["aicg_session"] != first
    for token, status in ((first, 401), (planted, 401), (browser.cookies["aicg_session"], 200)):
        browser.cookies["aicg_session"] = token
        assert browser.ask("GET", "/v1/costs").status == status


def test_logging_out_everywhere_and_being_disabled_end_all_sessions(
    server: Server, store: SqliteStore, hashed: str
) -> None:
    made = person(store, hashed, project="read")
    here, there = Browser(server), Browser(server)
    for browser in (here, there):
        assert browser.log_in().status == 200
    assert here.ask("POST", "/v1/logout", {"everywhere": True}).status == 200
    assert there.ask("GET", "/v1/costs").status == 401
    assert here.log_in().status == 200
    store.change(lambda c: people.disable(c, made, True, BY, NOW))
    assert here.ask("GET", "/v1/costs").status == 401
    reply = here.log_in()
    assert (reply.status, "wrong" in reply.body["error"]) == (401, True)


def test_the_cookie_is_bound_to_tls_where_there_is_tls() -> None:
    from starlette.requests import Request
    from starlette.responses import Response

    for scheme, expected in (
        ("https", "__host-aicg_session=v; httponly; max-age=604800; path=/; samesite=lax; secure"),
    ):
        request = Request(
            {
                "type": "http",
                "scheme": scheme,
                "path": "/",
                "headers": [(b"host", b"l.example")],
                "server": ("l.example", 443),
            }
        )
        response = Response()
        sessions.set_cookie(request, response, "v")
        assert response.headers["set-cookie"].lower() == expected


# Guesses


def test_a_wrong_password_is_answered_alike_for_nobody_and_somebody(
    server: Server, store: SqliteStore, hashed: str
) -> None:
    person(store, hashed, project="read")
    said = [Browser(server).log_in(email, "wrong wrong").body for email in (ADA, "nobody@example.com")]
    assert said[0] == said[1] and said[0]["status"] == 401
    assert "$argon2id$" in passwords._NOBODY, "as much work is done where there is no account"
    for status in [401] * (guesses.FREE - 1) + [429]:  # and as much is written, also while guesses are held
        store.remember(people_routes.UNKNOWN, None)
        assert Browser(server).log_in("nobody@example.com", "wrong wrong").status == status
        assert store.setting(people_routes.UNKNOWN)


def test_guessing_is_slowed_down_and_who_was_here_before_is_not_held_up(
    server: Server, store: SqliteStore, hashed: str
) -> None:
    person(store, hashed, project="read")
    known, stranger = Browser(server), Browser(server)
    assert known.log_in().status == 200
    statuses = [stranger.log_in(password="wrong wrong").status for _ in range(guesses.FREE + 1)]
    assert statuses == [401] * guesses.FREE + [429]
    held = stranger.log_in()
    assert held.status == 429 and int(held.headers["retry-after"]) >= 1, "the right one does not go through either"
    assert known.log_in().status == 200, "from the same address, but a browser that has logged in before"
    whats = [
        row.what for row in store.look(lambda c: __import__("aicostguard.ledger.access.audit", fromlist=["x"]).lines(c))
    ]
    assert "login.refused" in whats and "login.held" in whats


def _wrong(counted: Guesses, account: str, address: str, device: str | None = None) -> bool:
    try:
        counted.may(account, address, device)
    except Limited:
        return False
    counted.wrong(account, address, device)
    return True


def test_the_pause_doubles_and_ends() -> None:
    now = [0.0]
    counted = Guesses(lambda: now[0])
    assert all(_wrong(counted, "a", "10.0.0.1") for _ in range(guesses.FREE))
    for pause in (1, 2, 4, 8):
        assert not _wrong(counted, "a", "10.0.0.1")
        now[0] += pause
        assert _wrong(counted, "a", "10.0.0.1")
    assert _wrong(counted, "a", "10.0.0.2"), "another place waits for nobody"
    now[0] += 16
    counted.right("a", "10.0.0.1", None)
    assert _wrong(counted, "a", "10.0.0.1")


def test_an_address_that_tries_many_accounts_and_an_account_that_many_try() -> None:
    now = [0.0]
    counted = Guesses(lambda: now[0])
    assert sum(_wrong(counted, f"p{number}", "2001:db8::%x" % number) for number in range(200)) == guesses.OF_ADDRESS
    assert sum(_wrong(counted, "ada", f"10.0.{number}.1") for number in range(200)) == guesses.OF_ACCOUNT
    counted.may("ada", "10.9.9.9", "device of ada")
    now[0] += 3600
    assert _wrong(counted, "ada", "10.1.1.1") and _wrong(counted, "px", "2001:db8::1")


# Roles


def test_roles_hold_where_they_were_given(server: Server, store: SqliteStore, hashed: str) -> None:
    person(store, hashed, "reader@example.com", project="read")
    person(store, hashed, "boss@example.com", organisation="admin")
    person(store, hashed, "nobody@example.com")
    store.change(lambda c: places.add_project(c, 1, "b", BY, NOW))
    acme = store.change(lambda c: places.add_organisation(c, "acme", BY, NOW).id)
    store.change(lambda c: places.add_project(c, acme, "shop", BY, NOW))
    reader, boss, nobody = Browser(server), Browser(server), Browser(server)
    for browser, name in ((reader, "reader"), (boss, "boss"), (nobody, "nobody")):
        assert browser.log_in(f"{name}@example.com").status == 200
    assert nobody.ask("GET", "/v1/costs").status == 403
    assert reader.ask("POST", "/v1/budgets", {"name": "b", "limit": 1}).status == 403
    assert reader.ask("GET", "/v1/costs", AICG_Project="b").status == 404
    assert reader.ask("GET", "/v1/organisation/costs").status == 403
    assert [row["name"] for row in reader.ask("GET", "/v1/projects").body["projects"]] == ["default"]
    assert boss.ask("GET", "/v1/costs", AICG_Project="b").status == 200
    assert boss.ask("GET", "/v1/costs", AICG_Project="acme/shop").status == 404
    assert boss.ask("GET", "/v1/organisation/costs").status == 200
    assert boss.ask("POST", "/v1/projects", {"name": "c"}).status == 201
    for body, status in (
        ({"role": "admin", "reach": "ledger"}, 403),
        ({"role": "ingest"}, 422),
        ({"role": "admin"}, 200),
    ):
        assert boss.ask("PUT", "/v1/people/nobody@example.com/role", body, AICG_Project="b").status == status
    assert nobody.ask("POST", "/v1/budgets", {"name": "b", "limit": 1}).status == 201, "at once, without a new log-in"
    assert boss.ask("PUT", "/v1/people/nobody@example.com/role", {"role": None}, AICG_Project="b").status == 200
    assert nobody.ask("GET", "/v1/costs").status == 403
    assert boss.ask("POST", "/v1/people", {"email": "new@example.com"}).status == 403
    seen = {row["email"] for row in boss.ask("GET", "/v1/people").body["people"]}
    assert seen == {"reader@example.com", "boss@example.com"}


def test_a_code_sets_a_password_once(server: Server, store: SqliteStore) -> None:
    key = aicg("keys", "create", "--role", "admin", "--reach", "ledger", "--db", store.path).stdout.strip()
    made = server.ask("POST", "/v1/people", json.dumps({"email": ADA}).encode(), key=key)
    assert made.status == 201
    again = server.ask("POST", "/v1/people", json.dumps({"email": ADA}).encode(), key=key)
    assert (again.status, again.body["field"]) == (409, "email")
    browser, code = Browser(server), made.body["code"]
    short = browser.ask("POST", "/v1/password", {"code": code, "new": "short"})
    assert (short.status, short.body["field"]) == (422, "new")
    assert browser.ask("POST", "/v1/password", {"code": code, "new": PASSWORD}).status == 200
    assert browser.ask("POST", "/v1/password", {"code": code, "new": PASSWORD + "2"}).status == 401
    assert browser.ask("GET", "/v1/costs").status == 403, "logged in, and without a role"
    changed = browser.ask("POST", "/v1/password", {"old": "not this one", "new": PASSWORD + "3"})
    assert (changed.status, changed.body["field"]) == (403, "old")
    other = Browser(server)
    assert other.log_in().status == 200
    assert browser.ask("POST", "/v1/password", {"old": PASSWORD, "new": PASSWORD + "3"}).status == 200
    assert other.ask("GET", "/v1/whoami").status == 401, "the others end"
    assert code not in json.dumps(server.get("/v1/audit?reach=ledger", key=key).body)


@pytest.mark.parametrize(
    "password", ["short", "aaaaaaaaaaaaaaa", "ada@example.com", 5, None, "x" * 2000, "\ud800" + "abcdefghij"]
)
def test_a_password_that_will_not_do_is_refused(password: Any) -> None:
    with pytest.raises(Refused) as error:
        passwords.check(password, ADA)
    assert error.value.field == "password"


def test_a_restore_gives_nobody_back_what_was_taken(tmp_path: Path, hashed: str) -> None:
    path, copy = str(tmp_path / "ledger.db"), str(tmp_path / "copy.db")
    store = ledger.open_ledger(path)
    made = person(store, hashed, project="admin")
    token = store.change(lambda c: sessions.begin(c, made.id, "", ledger.now_ms()))
    store.close()
    copying.backup(path, copy)
    store = ledger.open_ledger(path)
    store.change(lambda c: people.set_role(c, made, "project", 1, None, BY, NOW))
    late = person(store, hashed, "late@example.com", project="read")
    store.close()
    copying.restore(copy, path, replace=True)
    store = ledger.open_ledger(path)
    try:
        assert store.look(lambda c: people.roles(c, made.id)) == []
        assert [role.role for role in store.look(lambda c: people.roles(c, late.id))] == ["read"]
        assert store.look(lambda c: sessions.found(c, token)) is None
    finally:
        store.close()


def test_people_at_the_command_line(tmp_path: Path) -> None:
    at = ("--db", str(tmp_path / "ledger.db"))
    code = aicg("people", "add", ADA, "--role", "admin", "--reach", "ledger", *at).stdout.strip()
    assert code.startswith("aicgc_")
    set_by = subprocess.run(
        command("people", "password", ADA, "--password-stdin", *at),
        input=PASSWORD + "\n",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (set_by.returncode, set_by.stdout) == (0, f"{ADA} can log in now\n")
    assert aicg("people", "role", ADA, "read", *at).returncode == 0
    listed = json.loads(aicg("people", "list", "--json", *at).stdout)
    assert [(role["role"], role["of"]) for role in listed[0]["roles"]] == [("admin", None), ("read", "default/default")]
    assert "disabled" in aicg("people", "disable", ADA, *at).stdout
    assert "disabled" in aicg("people", "list", *at).stdout
    assert aicg("people", "disable", ADA, "--undo", *at).stdout == f"{ADA} is enabled\n"
    assert aicg("people", "role", ADA, "none", *at).returncode == 0
    (listed,) = json.loads(aicg("people", "list", "--json", *at).stdout)
    assert listed["disabled_at"] is None
    assert [(role["role"], role["of"]) for role in listed["roles"]] == [("admin", None)]
    unknown = aicg("people", "disable", "x@example.com", *at)
    assert unknown.returncode == 1 and "aicg people list" in unknown.stderr
