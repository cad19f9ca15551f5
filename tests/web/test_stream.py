"""The stream of new receipts from its other side: whose right ends, and who is gone before it begins."""

from __future__ import annotations

import asyncio
import http.client
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.api import create_app
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web import tail
from tests.ledger.support import KEY, NOW, Server


def test_it_ends_with_the_right_to_look_also_while_receipts_come_in(
    server: Server, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "CHECK_S", 0.1)
    monkeypatch.setattr(tail, "EVERY_S", 0.01)
    monkeypatch.setattr(tail, "LASTS_S", 15.0)
    monkeypatch.setattr(tail.Tails, "_next", lambda *_: {"rows": ["<tr>"], "cursor": "1", "skipped": 0})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/tail", headers={"Authorization": f"Bearer {KEY}"})
    reply = connection.getresponse()
    while not reply.readline().startswith(b"data:"):
        pass
    found = store.find_key(KEY)
    assert found is not None
    store.revoke_key(found.shown, found.project_id, ledger.now_ms())
    assert reply.read().decode().endswith("event: over\ndata: {}\n\n")
    connection.close()


def test_who_is_gone_before_the_first_word_takes_no_place(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.default_project()
    store.add_key(KEY, "test", ("read",), 1, NOW)
    app = create_app(store=store)
    monkeypatch.setattr(tail, "MOST", 2)

    def asked() -> list[int]:
        return asyncio.run(_asked_and_left(app))

    with ThreadPoolExecutor(1) as elsewhere:  # this thread has the loop of the tests' browser, when that is open
        statuses = [status for _ in range(4) for status in elsewhere.submit(asked).result(60)]
    assert 503 not in statuses


async def _asked_and_left(app: Any) -> list[int]:
    """The statuses of a request whose sender has gone already."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/tail",
        "raw_path": b"/tail",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {KEY}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            sent.append(message["status"])

    await asyncio.wait_for(app(scope, receive, send), 30)
    return sent
