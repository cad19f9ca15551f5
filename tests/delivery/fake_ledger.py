"""A ledger over a real socket that answers what a test tells it to, and remembers what it was sent.

Owns one listening socket on loopback and a thread per connection. Never part of the product.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, NamedTuple, Optional, Tuple


class Answer(NamedTuple):
    """One answer. `body` None gives the ledger's usual reply; times in seconds."""

    status: int = 200
    headers: Tuple[Tuple[str, str], ...] = ()
    body: Optional[bytes] = None
    delay: float = 0.0
    #: commit, then close without a word
    drop: bool = False
    #: send this many bytes of the body, then close
    cut: Optional[int] = None
    #: seconds between two bytes of the head: an answer that never ends
    drip: float = 0.0


class Seen(NamedTuple):
    """One request as it came in; `envelope` is None when it was not JSON."""

    path: str
    headers: Dict[str, str]
    raw: bytes
    envelope: Optional[Dict[str, Any]]
    thread_at: float


OK = Answer()


class FakeLedger:
    """`with FakeLedger() as ledger:` → `ledger.url`, `ledger.seen`, `ledger.stored` (identity → receipt)."""

    def __init__(self, *answers: Answer, then: Answer = OK, port: int = 0) -> None:
        self.answers = list(answers)
        self.then = then
        self.seen: List[Seen] = []
        #: (epoch, seq) → receipt: what a ledger that dedupes would hold
        self.stored: Dict[Tuple[str, int], Dict[str, Any]] = {}
        self.duplicates = 0
        self.connections = 0
        self._lock = threading.Lock()
        ledger = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                ledger.connections += 1
                threading.current_thread().name = "fake_ledger"
                super().setup()

            def do_POST(self) -> None:
                ledger._post(self)

            def do_GET(self) -> None:
                self.send_response(405)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, *args: object) -> None:
                """A client that went away is part of the tests."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = "http://127.0.0.1:%d" % self.port

    def __enter__(self) -> FakeLedger:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        data = gzip.decompress(raw) if handler.headers.get("Content-Encoding") == "gzip" else raw
        try:
            envelope: Optional[Dict[str, Any]] = json.loads(data)
        except ValueError:
            envelope = None
        with self._lock:
            self.seen.append(Seen(handler.path, dict(handler.headers), raw, envelope, time.monotonic()))
            answer = self.answers.pop(0) if self.answers else self.then
        time.sleep(answer.delay)
        body = answer.body
        if 200 <= answer.status < 300:
            reply = self._commit(envelope)
            body = json.dumps(reply).encode() if body is None else body
        body = body or b""
        if answer.drop:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if answer.drip:
            handler.close_connection = True
            try:
                for _ in range(1000):
                    handler.connection.sendall(b"H")
                    time.sleep(answer.drip)
            except OSError:
                return
        handler.send_response(answer.status)
        for name, value in answer.headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if answer.cut is not None:
            handler.wfile.write(body[: answer.cut])
            handler.close_connection = True
            return
        handler.wfile.write(body)

    def _commit(self, envelope: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        accepted = duplicate = 0
        assert envelope is not None
        with self._lock:
            for seq, receipt in zip(envelope.get("seq", ()), envelope.get("receipts", ())):  # scores have neither
                if (envelope["epoch"], seq) in self.stored:
                    duplicate += 1
                else:
                    accepted += 1
                    self.stored[envelope["epoch"], seq] = receipt
            self.duplicates += duplicate
        return {"accepted": accepted, "duplicate": duplicate, "refused": []}

    def models(self) -> List[str]:
        """The models of all stored receipts, sorted: tests use them as names."""
        with self._lock:
            return sorted(receipt["model"] for receipt in self.stored.values())

    def wait(self, count: int, seconds: float = 5.0) -> bool:
        """True as soon as `count` receipts are stored."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if len(self.stored) >= count:
                return True
            time.sleep(0.01)
        return False


class BlackHole:
    """An address that takes a connection and never answers, or (`accept=False`) not even that."""

    def __init__(self, accept: bool = True) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(16 if accept else 0)
        self.url = "http://127.0.0.1:%d" % self._socket.getsockname()[1]
        self._held: List[socket.socket] = []
        if not accept:  # fill the backlog: further connection attempts get no answer
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(self._socket.getsockname())
                self._held.append(filler)

    def __enter__(self) -> BlackHole:
        return self

    def __exit__(self, *exc: object) -> None:
        for filler in self._held:
            filler.close()
        self._socket.close()


def free_port() -> int:
    """A port on which nothing listens: connections are refused at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
