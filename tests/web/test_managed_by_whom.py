"""Who may do what on the pages that change something: by enumeration, so that a new form is tried, too."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from aicostguard import ledger
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web.table import PAGES
from aicostguard.ledger.web.view import Page
from tests.ledger.support import Server, serving
from tests.web import managed
from tests.web.visitor import Visitor

READER = "aicg_" + "r" * 40
STRANGER = "aicg_" + "s" * 40
#: what a path leaves open → something that is there
_OPEN = {"/budgets/{name:path}": "/budgets/experiments", "/alerts/rules/{name:path}": "/alerts/rules/daily_spend"}
MINE = [page for page in PAGES if page.name.split(".")[0] in ("budgets", "alerts", "delivery", "settings")]
ACTIONS = [(page, action) for page in MINE for action in page.actions]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    folder: Path = tmp_path_factory.mktemp("managed")
    opened = ledger.open_ledger(str(folder / "ledger.db"))
    desk = managed.budgets(opened)
    managed.fill(opened)
    managed.alerts(opened, desk)
    managed.person(opened, "ada@example.com", "admin")
    opened.add_key(READER, "reader", ("read",), opened.default_project(), ledger.now_ms())
    other = managed.project(opened, "other")
    opened.add_key(STRANGER, "stranger", ("ingest", "read", "manage"), other, ledger.now_ms())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(store: SqliteStore) -> Iterator[Server]:
    with serving(store, price=None) as running:
        yield running


@pytest.fixture(scope="module")
def reader(server: Server) -> Visitor:
    return Visitor(server, READER)


def _path(page: Page) -> str:
    return _OPEN.get(page.path, page.path)


def test_there_is_something_to_try() -> None:
    assert len(MINE) >= 13
    assert len(ACTIONS) >= 24


@pytest.mark.parametrize("page", MINE, ids=lambda page: page.name)
def test_a_reader_sees_pages_without_a_form_or_is_told_that_they_may_not(reader: Visitor, page: Page) -> None:
    seen = reader.get(_path(page))
    assert seen.status == (403 if page.scope == "manage" else 200)
    if page.scope == "manage":
        assert "lacks the scope manage" in seen.text
    changing = [form for form in seen.forms() if "csrf" in form.fields and form.target != "/logout"]
    assert changing == []


@pytest.mark.parametrize(("page", "action"), ACTIONS, ids=lambda one: one if isinstance(one, str) else one.name)
def test_a_form_that_a_reader_sends_all_the_same_is_refused(reader: Visitor, page: Page, action: str) -> None:
    token = next(form.fields["csrf"] for form in reader.get("/settings").forms() if form.target == "/logout")
    sent = reader.send(_path(page), {"csrf": token, "action": action, "name": "daily_spend", "key": "x", "id": "1"})
    assert sent.status == 403
    assert "lacks the scope manage" in sent.text


@pytest.mark.parametrize(("page", "action"), ACTIONS, ids=lambda one: one if isinstance(one, str) else one.name)
def test_a_form_of_another_page_is_refused_whoever_is_logged_in(server: Server, page: Page, action: str) -> None:
    admin = Visitor(server)
    without = admin.send(_path(page), {"action": action})
    assert without.status == 403
    token = next(form.fields["csrf"] for form in admin.get("/settings").forms() if form.target == "/logout")
    elsewhere = admin.send(_path(page), {"action": action, "csrf": token}, **{"Sec-Fetch-Site": "cross-site"})
    assert elsewhere.status == 403
    unknown = admin.send(_path(page), {"action": "nothing", "csrf": token})
    assert unknown.status == 422


def test_who_is_not_logged_in_is_sent_to_do_so_and_comes_back(server: Server) -> None:
    nobody = Visitor(server)
    nobody.cookies.clear()
    for page in MINE:
        seen = nobody.get(_path(page))
        assert (seen.status, seen.location.split("?")[0]) == (303, "/login")


@pytest.mark.parametrize("page", MINE, ids=lambda page: page.name)
def test_nothing_of_another_project_is_seen(server: Server, store: SqliteStore, page: Page) -> None:
    stranger = Visitor(server, STRANGER)
    seen = stranger.get(_path(page))
    assert seen.status in (200, 404)
    marks = ("experiments", "web-1", "llama-70b-house", "ada@example.com", "each team", "user-1", "aicg_kkkk", "$29")
    ours = seen.text.replace("there is no budget 'experiments'", "").replace("web-1.", "")
    assert [mark for mark in marks if mark in ours] == []


def test_a_stranger_changes_nothing_of_ours(server: Server) -> None:
    stranger = Visitor(server, STRANGER)
    token = next(form.fields["csrf"] for form in stranger.get("/settings").forms() if form.target == "/logout")
    (key,) = [row for row in server.get("/v1/keys").body["keys"] if row["name"] == "reader"]
    tries = (
        ("/budgets/experiments", {"action": "remove"}),
        ("/budgets/experiments", {"action": "change", "limit": "1", "revision": "1"}),
        ("/alerts", {"action": "ack", "id": "1"}),
        ("/settings/keys", {"action": "revoke", "key": key["id"]}),
        ("/settings/keys", {"action": "rotate", "key": key["id"]}),
        ("/settings/people", {"action": "code", "email": "ada@example.com"}),
        ("/settings/prices", {"action": "add", "part": "discounts", "percent": "10"}),
    )
    for path, fields in tries:
        assert stranger.send(path, {"csrf": token, **fields}).status in (403, 404), path
    assert server.ask("GET", "/v1/whoami", key=READER).status == 200
    assert server.get("/v1/budgets/experiments").body["limit_usd"] == "0.5"


def test_what_somebody_calls_a_thing_is_never_a_part_of_the_page(server: Server) -> None:
    admin, evil = Visitor(server), "<img src=x onerror=alert(1)>"
    admin.do("/settings/keys", "create", name=evil)
    for page in MINE:
        assert evil not in admin.get(_path(page)).html, page.name
    for path in ("/settings/keys", "/settings/audit"):
        assert "&lt;img src=x onerror=alert(1)&gt;" in admin.get(path).html
