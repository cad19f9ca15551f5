"""Deliveries as a page: the API's figures, in words, with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.keeping import labels as of_labels
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web.plain import deliveries as plain
from tests.ledger.support import Server, receipt
from tests.web import managed
from tests.web.visitor import Visitor


@pytest.fixture
def given() -> dict[str, Any]:
    return {"price": None}


def test_before_anything_was_sent_the_page_says_how_to(server: Server) -> None:
    page = Visitor(server).get("/delivery")
    assert page.status == 200
    assert "No program was heard in this time" in page.text
    assert f"AICG_URL=http://127.0.0.1:{server.port}" in page.text


def test_when_everything_is_here_it_says_so(server: Server, store: SqliteStore) -> None:
    managed.take(store, managed.envelope([receipt()] * 3, [ledger.now_ms()] * 3, "01WEB" + "A" * 21, host="web-1"))
    page = Visitor(server).get("/delivery")
    assert "Everything is here: all 3 of 3 receipts that 1 process made are stored, each once." in page.text


def test_what_is_missing_is_counted_as_the_api_does_and_named(server: Server, store: SqliteStore) -> None:
    managed.fill(store)
    visitor = Visitor(server)
    page = visitor.get("/delivery")
    answer = server.get("/v1/deliveries").body
    totals = answer["totals"]
    missing = totals["lost"] + totals["known_lost"]
    assert missing == 6
    assert (
        f"{missing} of {totals['expected']} receipts that {totals['processes']} processes made never came." in page.text
    )
    for row in answer["rows"]:
        assert f"{row['expected']} {row['received']}" in page.text.partition(row["host"])[2], row["host"]
    for fact in plain.facts(totals):
        assert fact.fact in page.text
        assert fact.todo in page.text
    by_process = visitor.get("/delivery?group_by=process")
    assert "Never came: 3 to 5 and 8, of 0 to 9" in by_process.text
    assert "1 h ahead" in page.text or "2 h ahead" in page.text
    one = visitor.get("/delivery?host=web-9")
    assert "6 of 12 receipts that 1 process made never came." in one.text
    assert "jobs-2" not in one.text


def test_a_label_that_is_full_is_told_of_with_what_to_do(server: Server, store: SqliteStore) -> None:
    now = ledger.now_ms()
    managed.take(store, managed.envelope([receipt()], [now], "01WEB" + "A" * 21, host="web-1"))
    assert "Labels that are full" not in Visitor(server).get("/delivery").text
    actor = Actor("test")
    of_labels.set_bound(store, None, "user", 3, now, actor)
    for day, letter in ((now - DAY_MS, "B"), (now, "C")):
        some = [receipt(user=f"u{n}") for n in range(5)]
        managed.take(store, managed.envelope(some, [day] * 5, "01WEB" + letter * 21, service="shop"))
    page = Visitor(server).get("/delivery")
    assert "Labels that are full" in page.text
    assert "user had more than 3 values on 2 days, last on" in page.text
    assert "first from service shop: 4 calls stand under (other)." in page.text
    assert "For more room: aicg labels user --most 6" in page.text
    assert server.ask("POST", "/v1/alerts/check", b"{}", Content_Type="application/json").status == 200
    alerts = Visitor(server).get("/alerts")
    assert "Label user has more than 3 values on" in alerts.text
    assert 'href="/delivery?since=24h"' in alerts.html
    assert "Labels that are full" in Visitor(server).get("/delivery?since=24h").text
    assert "Everything is here" in page.text, "no receipt is lost by it"


def test_a_label_that_is_full_is_told_of_also_where_no_program_is_known(server: Server, store: SqliteStore) -> None:
    of_labels.set_bound(store, None, "user", 3, ledger.now_ms(), Actor("test"))
    for number in range(5):
        assert server.post(receipt(user=f"u{number}")).status == 200
    page = Visitor(server).get("/delivery")
    assert "No program was heard in this time" in page.text
    assert "user had more than 3 values on" in page.text


def test_a_question_that_is_none_is_refused_with_what_there_is(server: Server) -> None:
    page = Visitor(server).get("/delivery?group_by=nonsense")
    assert page.status == 422
    assert "takes different names out of process" in page.text
