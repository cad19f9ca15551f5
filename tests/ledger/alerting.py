"""What tests of alerts share: a ledger whose clock they turn, receipts that cost what they say, and a receiver."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Iterator, Mapping

from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.alerts.office import Office
from aicostguard.ledger.alerts.watch import Settings, Watch
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import Priced, epoch, receipt, take

#: a Wednesday, noon UTC
NOON = 1_795_608_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
#: without charts, each of which takes a second and more; tests of charts have them
LOOPBACK = Settings("https://costs.example", "127.0.0.1", charts=False)


def priced(given: Mapping[str, Any], at_ms: int) -> Priced:
    """A token costs a tenth of a cent; `unheard-of` has no price."""
    if given["model"] == "unheard-of":
        return Priced(None, None, "no price")
    return Priced(given["input_tokens"] * 1_000_000)


class Town:
    """A ledger, its watch and a clock."""

    def __init__(self, store: SqliteStore, now_ms: int = NOON, settings: Settings = LOOPBACK) -> None:
        self.store = store
        self.now_ms = now_ms
        self.project = store.default_project()
        self.desk = Desk(store, lambda: self.now_ms)
        self.watch = Watch(store, lambda: self.now_ms, settings, self.desk.catch_up)
        self.office = Office(self.watch, self.project, Actor("test"), lambda: self.now_ms)

    def again(self) -> Town:
        """Another process over the same file, later."""
        return Town(self.store, self.now_ms, self.watch.settings)

    def spend(self, usd: float, *, ago_ms: int = 0, calls: int = 1, **labels: Any) -> None:
        """So many calls that cost so much together."""
        at = self.now_ms - ago_ms
        origin = {name: labels.pop(name) for name in ("release", "service", "host") if name in labels}
        rows = [receipt(input_tokens=round(usd * 1000 / calls), output_tokens=0, **labels)] * calls
        body = {
            "schema": 1,
            "agent": "0.1.0",
            "epoch": epoch(),
            "sent_at": self.now_ms,
            "seq": list(range(calls)),
            "at": [at] * calls,
            "receipts": rows,
            **origin,
        }
        said = take(self.store, body, received_ms=self.now_ms, price=priced)
        assert said["accepted"] == calls, said

    def pass_time(self, ms: int, step: int = MINUTE) -> None:
        """Let time go by, the watch looking now and then as it does."""
        end = self.now_ms + ms
        while self.now_ms < end:
            self.now_ms = min(end, self.now_ms + step)
            self.watch.tick()

    def look(self) -> list[dict[str, Any]]:
        """Look as the ledger does; what is open, the oldest first."""
        self.now_ms += 6_000
        self.watch.tick()
        return self.open()

    def open(self) -> list[dict[str, Any]]:
        return list(reversed(self.office.alerts({"state": "open"})["alerts"]))

    def every(self) -> list[dict[str, Any]]:
        return list(reversed(self.office.alerts({})["alerts"]))

    def only(self, *names: str) -> None:
        """Keep no rules but these."""
        for row in self.office.rules()["rules"]:
            if row["name"] not in names:
                self.office.remove_rule(row["name"])
        self.watch = Watch(self.store, lambda: self.now_ms, self.watch.settings, self.desk.catch_up)
        self.office = Office(self.watch, self.project, Actor("test"), lambda: self.now_ms)

    def texts(self) -> list[str]:
        return [row["text"] for row in self.open()]


class Receiver:
    """An HTTP server on loopback that keeps what it is sent and answers as it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes, str]] = []
        #: called with the request's number, from 1; gives status and headers, or None to say nothing until `end`
        self.answer: Callable[[int], tuple[int, dict[str, str]] | None] = lambda number: (200, {})
        self.end = threading.Event()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                with receiver._lock:
                    receiver.requests.append(({k.lower(): v for k, v in self.headers.items()}, body, self.path))
                    number = len(receiver.requests)
                said = receiver.answer(number)
                if said is None:
                    receiver.end.wait(30)
                    self.close_connection = True
                    return
                self.send_response(said[0])
                for name, value in {"Content-Length": "0", **said[1]}.items():
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body, _ in self.requests]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.end.set()
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join(10)
