"""Who gets in, how, for how long, and what nobody else reads."""

from __future__ import annotations

import re
import socket
import sqlite3
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlencode

import pytest

from aicostguard import ledger
from aicostguard.ledger.access import oidc, opened, people, sessions
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger import issuer as issuers
from tests.ledger.support import KEY, Server, aicg, serving
from tests.web import filled, managed
from tests.web.conftest import Site, Tab, axe

FORM = "application/x-www-form-urlencoded"


def cookies(reply: Any) -> dict[str, str]:
    """What a reply sets, when it is one cookie."""
    name, _, value = reply.headers.get("set-cookie", "=").partition(";")[0].partition("=")
    return {name: value}


def token(reply: Any) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', reply.raw.decode())
    assert found is not None
    return found.group(1)


def send(server: Server, path: str, cookie: str = "", **fields: str) -> Any:
    """A form, sent by our own page."""
    more = {"Content_Type": FORM, "Sec_Fetch_Site": "same-origin", **({"Cookie": cookie} if cookie else {})}
    return server.ask("POST", path, urlencode(fields).encode(), key=None, **more)


def log_in(server: Server, key: str = KEY) -> str:
    """The cookie of a session that a key begins."""
    page = server.get("/login", key=None)
    seed = f"aicg_form={cookies(page)['aicg_form']}"
    reply = send(server, "/login", seed, csrf=token(page), way="key", key=key)
    assert reply.status == 303, reply.raw
    return f"aicg_session={cookies(reply)['aicg_session']}"


@pytest.mark.parametrize("path", ["/", "/receipts", "/receipts/1/a/1"])
def test_nothing_is_shown_without_a_log_in(server: Server, path: str) -> None:
    reply = server.get(path, key=None)
    assert reply.status == 303
    assert reply.headers["location"] == ("/login" if path == "/" else "/login?" + urlencode({"next": path}))
    assert server.get("/tail", key=None).status == 401


def test_a_key_begins_a_session_that_ends_with_the_key(server: Server, store: SqliteStore) -> None:
    cookie = log_in(server)
    assert server.get("/", key=None, Cookie=cookie).status == 200
    assert KEY not in cookie
    found = store.find_key(KEY)
    assert found is not None
    store.revoke_key(found.shown, found.project_id, ledger.now_ms())
    assert server.get("/", key=None, Cookie=cookie).status == 303
    assert server.get("/v1/costs", key=None, Cookie=cookie).status == 401


def test_a_wrong_key_is_refused_and_not_repeated(server: Server) -> None:
    page = server.get("/login", key=None)
    seed = f"aicg_form={cookies(page)['aicg_form']}"
    wrong = "aicg_" + "w" * 40
    reply = send(server, "/login", seed, csrf=token(page), way="key", key=wrong)
    assert reply.status == 401
    assert "not known" in reply.raw.decode()
    assert wrong not in reply.raw.decode()
    assert "aicg_session" not in reply.headers.get("set-cookie", "")


def test_a_key_that_may_not_read_opens_nothing(server: Server, store: SqliteStore) -> None:
    sender = filled.key(store, scopes=("ingest",))
    page = server.get("/login", key=None)
    reply = send(server, "/login", f"aicg_form={cookies(page)['aicg_form']}", csrf=token(page), way="key", key=sender)
    assert reply.status == 403
    assert "lacks the scope read" in reply.raw.decode()


def test_a_session_is_over_after_a_while(server: Server, store: SqliteStore) -> None:
    cookie = log_in(server)

    def age(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE key_sessions SET created_ms = created_ms - ?", (sessions.MOST_MS,))

    store.change(age)
    assert server.get("/", key=None, Cookie=cookie).status == 303


def test_a_form_needs_the_token_of_its_page(server: Server) -> None:
    cookie = log_in(server)
    page = server.get("/", key=None, Cookie=cookie)
    for wrong in ("", "0" * 64):
        reply = send(server, "/logout", cookie, csrf=wrong)
        assert reply.status == 403, reply.raw
    assert server.get("/", key=None, Cookie=cookie).status == 200
    assert send(server, "/logout", cookie, csrf=token(page)).status == 303
    assert server.get("/", key=None, Cookie=cookie).status == 303, "the session itself is over, not only the cookie"


def test_a_form_of_another_site_is_refused_even_with_the_token(server: Server) -> None:
    cookie = log_in(server)
    body = urlencode({"csrf": token(server.get("/", key=None, Cookie=cookie))}).encode()
    headers = {"Cookie": cookie, "Content_Type": FORM}
    for foreign in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert server.ask("POST", "/logout", body, key=None, **headers, **foreign).status == 403
    assert server.get("/", key=None, Cookie=cookie).status == 200


def test_the_session_of_a_key_changes_nothing_for_another_site(server: Server) -> None:
    cookie = log_in(server)
    body = b'{"name": "a", "limit_usd": "5", "period": "day"}'
    for foreign in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        assert server.ask("POST", "/v1/budgets", body, key=None, Cookie=cookie, **foreign).status == 403
    assert server.get("/v1/budgets").body["budgets"] == []
    assert server.ask("POST", "/v1/budgets", body, key=None, Cookie=cookie, Sec_Fetch_Site="same-origin").status == 201


def test_a_link_opens_once(server: Server, store: SqliteStore) -> None:
    found = store.find_key(KEY)
    assert found is not None
    code = store.change(lambda connection: opened.link(connection, found.id, ledger.now_ms()))
    page = server.get("/login", key=None)
    seed = f"aicg_form={cookies(page)['aicg_form']}"
    replies = [send(server, "/login", seed, csrf=token(page), way="link", link=code) for _ in range(2)]
    assert [reply.status for reply in replies] == [303, 401]
    stale = store.change(lambda c: opened.link(c, found.id, ledger.now_ms() - opened.LINK_MS))
    assert send(server, "/login", seed, csrf=token(page), way="link", link=stale).status == 401


@pytest.mark.parametrize("target", ["//evil.example/", "https://evil.example", "/\\evil.example", "javascript:1"])
def test_a_log_in_leads_nowhere_else(server: Server, target: str) -> None:
    page = server.get("/login?" + urlencode({"next": target}), key=None)
    assert "evil" not in page.raw.decode() and "javascript:" not in page.raw.decode()
    seed = f"aicg_form={cookies(page)['aicg_form']}"
    reply = send(server, "/login", seed, csrf=token(page), way="key", key=KEY, next=target)
    assert reply.headers["location"] == "/"


def test_the_session_of_one_project_reads_nothing_of_another(full: Site) -> None:
    lab, mine = full.get("/?since=all", full.other).raw.decode(), full.get("/?since=all").raw.decode()
    assert "moonshot" in lab and "answer_question" not in lab
    assert "moonshot" not in mine and "secret-lab" not in mine and "answer_question" in mine
    for path in ("/", "/receipts", "/tail", "/v1/costs", "/v1/receipts"):
        assert full.get(f"{path}?in=default/secret-lab").status == 404, path
    receipt = full.api("/v1/receipts?since=all&limit=1", full.other)["receipts"][0]
    address = f"/receipts/{receipt['at_ms']}/{receipt['epoch']}/{receipt['seq']}"
    assert full.get(address, full.other).status == 200
    assert full.get(address).status == 404


def test_a_link_names_a_project_that_one_may_see(store: SqliteStore) -> None:
    filled.fill(store)
    wide = filled.key(store, reach="organisation")
    with serving(store) as server:
        shown = server.get("/?in=default/secret-lab&since=all", key=wide).raw.decode()
        assert "moonshot" in shown
        links = re.findall(r'href="(/[^"#]*)"', shown)
        inside = [link for link in links if not link.startswith(("/assets/", "/charts/", "/docs"))]
        lost = [link for link in inside if "in=default%2F" not in link]
        assert not lost, "a link that forgets the project shows another one's costs"
        answer = server.get("/v1/costs?since=all&group_by=feature&in=default/secret-lab", key=wide).body
        assert [row["feature"] for row in answer["rows"]] == ["moonshot"]


def test_headers_let_a_browser_do_nothing_else(full: Site) -> None:
    reply = full.get("/")
    policy = reply.headers["content-security-policy"]
    assert "unsafe" not in policy and "http:" not in policy and "*" not in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    page = full.server.get("/login", key=None)
    cookie = page.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=lax" in cookie.lower()


def test_assets_are_kept_for_ever_under_an_address_of_their_own(full: Site) -> None:
    page = full.get("/").raw.decode()
    found = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page)
    assert len(found) >= 3
    for address in found:
        reply = full.server.get(address, key=None, Accept_Encoding="gzip")
        assert reply.status == 200 and "immutable" in reply.headers["cache-control"]
        assert reply.headers["content-encoding"] == "gzip"
    for wrong in ("/assets/0000000000000000/app.css", found[0] + ".map", found[0].rsplit("/", 1)[0] + "/..%2fview.py"):
        assert full.server.get(wrong, key=None).status == 404


def test_the_command_prints_a_link_that_works(full: Site) -> None:
    made = aicg("dashboard", "--db", str(full.path), "--url", full.url, "--print")
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(re.escape(full.url) + r"/login#aicgl_\w{40}\n", made.stdout)


def test_a_link_logs_a_browser_in_and_leaves_no_trace(full: Site, tab: Callable[..., Tab]) -> None:
    link = aicg("dashboard", "--db", str(full.path), "--url", full.url, "--print").stdout.strip()
    shown = tab(full, logged_in=False)
    shown.page.goto(link)
    shown.page.wait_for_url(full.url + "/")
    assert "Overview" in shown.page.title()
    second = tab(full, logged_in=False)
    second.page.goto(full.url + "/login")
    second.page.goto(link)  # where the page is open already, only what stands behind the # changes
    second.page.wait_for_selector(".refused")
    assert "used already" in second.text
    assert "aicgl_" not in second.page.url


def test_a_browser_logs_in_goes_where_it_wanted_and_logs_out(full: Site, tab: Callable[..., Tab]) -> None:
    shown = tab(full, logged_in=False)
    shown.goto("/receipts?model=gpt-4o")
    shown.shot("login")
    shown.page.fill("input[name=key]", "aicg_" + "w" * 40)
    shown.page.keyboard.press("Enter")
    shown.page.wait_for_selector(".refused")
    shown.page.fill("input[name=key]", full.key)
    shown.page.keyboard.press("Enter")
    shown.page.wait_for_url(full.url + "/receipts?model=gpt-4o")
    shown.page.click(".who summary")
    shown.page.click("button:text-is('Log out')")
    shown.page.wait_for_url(full.url + "/login")
    assert "logged out" in shown.text
    shown.goto("/")
    assert shown.page.url.endswith("/login")
    assert [message for message in shown.wrong if "401" not in message] == []


def test_a_browser_logs_in_at_the_organisations_provider(
    store: SqliteStore, tab: Callable[..., Tab], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with issuers.running() as issuer:
        role = {"group": "finops", "role": "read", "of": "default"}
        url = f"http://127.0.0.1:{port}"
        body = {"issuer": issuer.url, "client_id": "aicg", "url": url, "roles": [role], "sign_up": True}
        provider = oidc.Provider(oidc.parse(body, "s3cr:t"))
        try:
            with serving(store, port, provider=provider) as server:
                shown = tab(Site(server, tmp_path, KEY), logged_in=False).goto("/receipts?since=30d")
                shown.shot("login-organisation")
                assert axe(shown.page) == []
                issuer.person["groups"] = ["finops"]
                shown.page.click("text=Log in with your organisation")
                shown.page.wait_for_url(f"{url}/receipts?since=30d")
                assert "ada@example.com" in shown.page.inner_text(".who")
                assert shown.page.locator("nav.pages a", has_text="Budgets").count() == 1
                shown.page.click(".who summary")
                shown.page.click("button:text-is('Log out')")
                shown.page.wait_for_url(f"{url}/login")
                issuer.person["groups"] = ["strangers"]
                shown.page.click("text=Log in with your organisation")
                shown.page.wait_for_selector("h1:has-text('Not allowed')")
                shown.shot("login-no-role")
        finally:
            provider.close()
    assert [message for message in shown.wrong if "403" not in message] == []


def test_a_browser_sets_a_first_password_with_a_code_and_logs_in_with_it(
    store: SqliteStore, tab: Callable[..., Tab], tmp_path: Path
) -> None:
    ada = managed.person(store, "ada@example.com", "read", "Ada")
    code = store.change(lambda connection: people.code(connection, ada, managed.BY, ledger.now_ms()))
    with serving(store) as server:
        shown = tab(Site(server, tmp_path, KEY), logged_in=False).goto("/login")
        page = shown.page
        page.click("text=use a code")
        page.fill("input[name=code]", code)
        page.fill("input[name=new]", "a long enough one")
        page.fill("input[name=again]", "a long enough two")
        page.click("button:has-text('Set it and log in')")
        page.wait_for_selector(".refused")
        assert "are not the same" in shown.text
        shown.shot("password")
        assert axe(page) == []
        page.fill("input[name=code]", code)
        page.fill("input[name=new]", "a long enough one")
        page.fill("input[name=again]", "a long enough one")
        page.click("button:has-text('Set it and log in')")
        page.wait_for_url(re.compile(r"/$"))
        assert "Your password is set." in shown.text
        page.click(".who summary")
        page.click("button:text-is('Log out')")
        page.fill("input[name=email]", "ada@example.com")
        page.fill("input[name=password]", "not that one")
        page.click("button:text-is('Log in')")
        page.wait_for_selector(".refused")
        page.fill("input[name=password]", "a long enough one")
        page.click("button:text-is('Log in')")
        page.wait_for_url(re.compile(r"/$"))
        assert "ada@example.com" in page.inner_text(".who")
    assert [message for message in shown.wrong if not re.search("401|422", message)] == []
