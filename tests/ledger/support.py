"""What the ledger's tests share: envelopes, a fixed price table, and a real server over a real socket."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import os
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple

import pytest

from aicostguard import ledger
from aicostguard.ledger import ingest, keys, query
from aicostguard.ledger.api import create_app
from aicostguard.ledger.serve import server_for
from aicostguard.ledger.sqlite import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
KEY = "aicg_" + "k" * 40
NOW = ledger.now_ms()
EPOCH = "01JD8Y3W7ZK5T9Q2R4V6X8A0BC"
_EPOCHS = itertools.count()


class Priced(NamedTuple):
    cost_nanousd: int | None
    row: str | None = "fixed"
    reason: str | None = None


def price(receipt: Mapping[str, Any], at_ms: int) -> Priced:
    """Three nano-dollars a token; a model called `unheard-of` and a call without usage have no price."""
    if receipt["model"] == "unheard-of" or "input_tokens" not in receipt:
        return Priced(None, None, "no price")
    return Priced(3 * (receipt["input_tokens"] + receipt.get("output_tokens", 0)))


def receipt(**more: Any) -> dict[str, Any]:
    return {"provider": "openai", "model": "gpt-4o", "input_tokens": 100, "output_tokens": 10, **more}


def epoch() -> str:
    """An epoch nobody else has."""
    return f"01TEST{next(_EPOCHS):020d}"


def envelope(receipts: list[Any], *, first: int = 1, name: str = EPOCH, ago_ms: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "agent": "0.1.0",
        "epoch": name,
        "sent_at": NOW,
        "seq": list(range(first, first + len(receipts))),
        "at": [NOW - ago_ms] * len(receipts),
        "receipts": receipts,
        **more,
    }


def take(store: SqliteStore, body: object, **more: Any) -> dict[str, Any]:
    more.setdefault("price", price)
    return ingest.accept(store, store.default_project(), body, more.pop("received_ms", NOW), **more)


def costs(store: SqliteStore, **parameters: str) -> dict[str, Any]:
    given = {name: [value] for name, value in {"since": "all", "limit": "10000", **parameters}.items()}
    return query.run(store, query.parse(given, store.default_project(), ledger.now_ms()))


def totals(store: SqliteStore, **parameters: str) -> dict[str, Any]:
    return dict(costs(store, **parameters)["totals"])


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


class Server:
    """A ledger behind uvicorn on a socket of its own, with the key `KEY`."""

    def __init__(self, port: int, greeting: str = "") -> None:
        self.port = port
        self.greeting = greeting

    def ask(self, method: str, path: str, body: bytes | None = None, *, key: str | None = KEY, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        try:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            names = {name.lower() for name, _ in reply.getheaders()}
            return Reply(reply.status, {name: reply.getheader(name, "") for name in names}, reply.read())
        finally:
            connection.close()

    def post(self, body: object, *, zipped: bool = False, **more: Any) -> Reply:
        data = json.dumps(body).encode()
        if zipped:
            more["Content_Encoding"] = "gzip"
            data = gzip.compress(data)
        return self.ask("POST", "/v1/receipts", data, **more)

    def get(self, path: str, **more: Any) -> Reply:
        return self.ask("GET", path, **more)


@contextlib.contextmanager
def serving(store: SqliteStore, port: int = 0, **more: Any) -> Iterator[Server]:
    """A server in a thread of this process, over `store`; `port` 0 takes a free one."""
    store.add_key(KEY, "test", tuple(keys.SCOPES), store.default_project(), NOW)
    more.setdefault("price", price)
    server = server_for(create_app(store=store, **more))
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, "the server to start")
        yield Server(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()


def wait_for(happened: Any, what: str, seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = happened()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


def leaves(path: Path, name: str) -> list[int]:
    """The pages that hold the rows of a table, or the entries of an index, in the order of the file."""
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY 1", (name,))
        return [page for (page,) in found]
    except sqlite3.OperationalError:
        pytest.skip("needs an SQLite with dbstat, to find the pages of a table")
    finally:
        connection.close()


def command(*arguments: str, module: str = "aicostguard.cli") -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
    # No charts in alerts, each of which takes a second and more: the tests of charts ask for them.
    return {**kept, "PYTHONPATH": str(ROOT), "AICG_TEST_RAISE": "1", "AICG_ALERT_CHARTS": "0", **more}


def aicg(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(**env), capture_output=True, text=True, timeout=180, check=False
    )


@contextlib.contextmanager
def answering(said: bytes) -> Iterator[str]:
    """The address of something that says the same to everybody, and hangs up."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(said)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)


@contextlib.contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Server]]:
    """`aicg serve` as a process of its own, once it answers; what it said at the start is `greeting`."""
    process = subprocess.Popen(
        command("serve", "--port", "0", "--db", str(folder / "ledger.db"), *arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        greeting = ""
        while "\n  ask " not in greeting:
            line = process.stdout.readline()
            assert line, greeting + (process.stderr.read() if process.stderr else "")
            greeting += line
        server = Server(int(greeting.split(":")[2].split()[0]), greeting)
        assert server.get("/v1/health").status == 200
        yield process, server
    finally:
        process.kill()
        process.wait(10)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
