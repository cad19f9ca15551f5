"""The client against servers that are slow, deaf, chatty or in the way: every phase ends by its deadline."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from aicostguard.delivery import Delivery, reply, request, sockets, trust
from aicostguard.delivery.client import Client
from aicostguard.health import health
from tests.delivery.conftest import KEY, receipt
from tests.delivery.fake_ledger import BlackHole, FakeLedger
from tests.delivery.hosts.place import needs

Deliver = Callable[..., Delivery]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BODY = b'{"epoch":"%s","seq":[0],"receipts":[{"model":"m"}]}' % (b"0" * 26)


class Odd:
    """A server of one connection at a time that does what a function says; `heads` are the requests it read."""

    def __init__(self, *steps: Callable[[Odd, socket.socket], None], tls: Optional[str] = None) -> None:
        self.steps = list(steps)
        self.heads: List[bytes] = []
        self.served = 0
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(8)
        self.port = self._socket.getsockname()[1]
        self.url = "http://127.0.0.1:%d" % self.port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._context is not None:
            self._context.load_cert_chain(str(tls))
            self.url = "https://localhost:%d" % self.port
        self.over = threading.Event()

    def __enter__(self) -> Odd:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            step = self.steps[min(self.served, len(self.steps) - 1)]
            self.served += 1
            threading.Thread(target=self._serve, args=(step, near), daemon=True).start()

    def _serve(self, step: Callable[[Odd, socket.socket], None], near: socket.socket) -> None:
        try:
            if self._context is not None:
                near = self._context.wrap_socket(near, server_side=True)
            with near:
                step(self, near)
        except OSError:
            return

    def read(self, near: socket.socket) -> bytes:
        """One request: its head; the body is read and thrown away."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = near.recv(65536)
            if not more:
                raise OSError("closed")
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(next(row for row in head.split(b"\r\n") if row.lower().startswith(b"content-length")).split()[1])
        while len(body) < length:
            body += near.recv(65536)
        self.heads.append(head)
        return head

    def drip(self, near: socket.socket, data: bytes, pause: float = 0.05) -> None:
        """One byte after the other, as long as somebody listens."""
        for number in range(100_000):
            if self.over.is_set():
                return
            near.sendall(data[number % len(data) : number % len(data) + 1])
            time.sleep(pause)


def silent(server: Odd, near: socket.socket) -> None:
    server.over.wait(20)


def drips_head(server: Odd, near: socket.socket) -> None:
    server.read(near)
    server.drip(near, b"H")


def drips_headers(server: Odd, near: socket.socket) -> None:
    server.read(near)
    near.sendall(b"HTTP/1.1 200 OK\r\n")
    server.drip(near, b"X: y\r\n")


def drips_interim(server: Odd, near: socket.socket) -> None:
    server.read(near)
    for _ in range(1000):
        near.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.05)


def drips_body(server: Odd, near: socket.socket) -> None:
    server.read(near)
    near.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    server.drip(near, b" ")


def drips_handshake(server: Odd, near: socket.socket) -> None:
    # The head of a TLS record of 16 KB, whose bytes come one by one.
    near.sendall(b"\x16\x03\x03\x40\x00")
    server.drip(near, b"\x02")


def reads_slowly(server: Odd, near: socket.socket) -> None:
    while near.recv(1024):
        time.sleep(0.05)


PHASES: Dict[str, Tuple[Callable[[Odd, socket.socket], None], bool]] = {
    "silent": (silent, False),
    "head": (drips_head, False),
    "headers": (drips_headers, False),
    "interim answers": (drips_interim, False),
    "reads slowly": (reads_slowly, False),
    "handshake": (drips_handshake, True),
    "no handshake": (silent, True),
}


#: seconds: a busy machine may take some of them, and none of the phases is over by itself before
SHORT = 15.0


def _timed(client: Client, body: bytes = BODY, seconds: float = 0.6) -> Tuple[reply.Reply, float]:
    # Compressed before the time runs, which on a busy machine would be over by then.
    head, body = request.encode(client._address, KEY, body, "0")
    started = time.monotonic()
    answer = client._attempt(None, head, body, started + seconds)
    client.close()
    return answer, time.monotonic() - started


@pytest.mark.ids("E4", "Z4")
@pytest.mark.parametrize("phase", PHASES)
def test_no_phase_outlives_the_deadline(phase: str) -> None:
    step, tls = PHASES[phase]
    with Odd(step) as server:
        url = server.url.replace("http:", "https:") if tls else server.url
        large = os.urandom(12 << 20)  # more than the buffers of both sides
        answer, seconds = _timed(Client(url, KEY, "0"), large if phase == "reads slowly" else BODY)
    assert answer.kind == reply.LOST and answer.status is None
    assert 0.4 < seconds < SHORT


@pytest.mark.ids("E4")
def test_a_peer_that_reads_slowly_over_tls_gets_no_more_time(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate) + ".crt")
    large = os.urandom(12 << 20)
    with Odd(reads_slowly, tls=str(certificate)) as server:
        answer, seconds = _timed(Client(server.url, KEY, "0"), large, 1.0)
    assert answer.kind == reply.LOST and seconds < SHORT


@pytest.mark.ids("Z4")
def test_a_body_that_trickles_does_not_take_a_2xx_back() -> None:
    with Odd(drips_body) as server:
        answer, seconds = _timed(Client(server.url, KEY, "0"))
    assert answer.kind == reply.TAKEN and seconds < SHORT


@pytest.mark.ids("E4")
def test_connecting_has_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "CONNECT_SECONDS", 0.4)
    with BlackHole(accept=False) as hole:
        answer, seconds = _timed(Client(hole.url, KEY, "0"), BODY, 60.0)
        assert answer.kind == reply.LOST and seconds < SHORT
    with Odd(silent) as server:
        answer, seconds = _timed(Client(server.url.replace("http:", "https:"), KEY, "0"), BODY, 60.0)
        assert answer.kind == reply.LOST and seconds < SHORT


@pytest.mark.ids("E4")
def test_a_request_of_the_users_does_not_wait_for_a_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = threading.Event()
    monkeypatch.setattr(sockets.socket, "getaddrinfo", lambda *_: asleep.wait(60) and [])
    answer, seconds = _timed(Client("http://ledger.example", KEY, "0", hurry=True))
    asleep.set()
    assert (answer.kind, answer.detail) == (reply.LOST, "Late") and seconds < SHORT


def test_a_name_that_does_not_exist_is_the_same_failure_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(sockets.socket, "getaddrinfo", unknown)
    for hurry in (False, True):
        answer, _ = _timed(Client("http://ledger.example", KEY, "0", hurry=hurry))
        assert (answer.kind, answer.detail) == (reply.LOST, "gaierror")


def test_bytes_that_nobody_asked_for_are_no_answer() -> None:
    """Some servers and balancers say 408 or 400 on an idle connection before they close it."""

    def parting(server: Odd, near: socket.socket) -> None:
        server.read(near)
        near.sendall(OK)
        time.sleep(0.1)
        near.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        server.over.wait(5)

    def good(server: Odd, near: socket.socket) -> None:
        server.read(near)
        near.sendall(OK)
        server.over.wait(5)

    with Odd(parting, good) as server:
        client = Client(server.url, KEY, "0")
        assert client.post(BODY, time.monotonic() + 3).kind == reply.TAKEN
        time.sleep(0.3)
        assert client.post(BODY, time.monotonic() + 3).kind == reply.TAKEN
        assert (server.served, len(server.heads)) == (2, 2)
        client.close()


def test_interim_answers_are_passed_over_and_the_connection_is_kept() -> None:
    def hints(server: Odd, near: socket.socket) -> None:
        while True:
            server.read(near)
            near.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)

    with Odd(hints) as server:
        client = Client(server.url, KEY, "0")
        for _ in range(3):
            assert client.post(BODY, time.monotonic() + 3).kind == reply.TAKEN
        assert server.served == 1
        client.close()


def test_a_password_in_the_address_does_not_travel_in_the_host_header() -> None:
    assert request.target("http://user:secret@ledger.example:8090/x").authority == "ledger.example:8090"


# Proxies and certificates, as the environment names them.


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "ledger.example", False),
        ("nonsense/99, 192.168.0.0/16", "192.168.7.7", True),
        ("fd00::/8", "fd12::1", True),
        ("example", "ledger.example", True),
        (".example", "ledger.example", True),
        ("ledger.example:8090", "ledger.example", True),
        ("ledger.example:9999", "ledger.example", False),
        ("*", "ledger.example", True),
        ("", "ledger.example", False),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, direct: bool) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    monkeypatch.setenv("no_proxy", no_proxy)
    address = "[%s]" % host if ":" in host else host
    assert (request.target("http://%s:8090" % address).proxy is None) is direct


@pytest.mark.parametrize("url", ["socks5://proxy.example:1080", "https://proxy.example:443"])
def test_a_proxy_that_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    Client("https://ledger.example", KEY, "0")
    assert url.split(":")[0] in health.warnings["proxy.unusable"]
    assert "proxy.example" not in health.warnings["proxy.unusable"]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("status", [407, 403])
def test_what_a_proxy_refuses_is_kept(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch, tls: bool, status: int
) -> None:
    """407 is never the ledger's word. A 403 on plain http may be anybody's: kept, too."""

    def refuses(server: Odd, near: socket.socket) -> None:
        near.recv(65536)
        near.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)

    with Odd(refuses) as proxy:
        monkeypatch.setenv("https_proxy" if tls else "http_proxy", proxy.url)
        delivery = deliver("%s://ledger.example" % ("https" if tls else "http"))
        delivery.submit(receipt("a"))
        assert not delivery.flush(2)
        assert health.counters["dropped"] == 0
        assert delivery.stats()["spool"]["pending"] == 1
        if status == 407:
            expected = "ProxyWantsCredentials" if tls else "HTTP 407"
            assert expected in health.warnings["ledger.unreachable"]


@pytest.fixture
def folder(certificate: Path, tmp_path: Path) -> Path:
    """The certificate in a folder, by its hash, as `c_rehash` leaves it."""
    import subprocess

    found = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(certificate) + ".crt"],
        capture_output=True,
        text=True,
        check=True,
    )
    place = tmp_path / "certificates"
    place.mkdir()
    (place / (found.stdout.strip() + ".0")).write_text(Path(str(certificate) + ".crt").read_text())
    return place


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "dir"])
def test_certificates_that_the_environment_names(
    deliver: Deliver,
    secure: FakeLedger,
    certificate: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    place = str(folder) if variable in ("SSL_CERT_DIR", "dir") else str(certificate) + ".crt"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE" if variable == "dir" else variable, place)
    delivery = deliver(secure.url)
    delivery.submit(receipt("a"))
    assert delivery.flush(5), health.warnings
    assert secure.models() == ["a"] and not health.warnings


def test_a_bundle_that_is_not_there_is_said_and_nobody_is_trusted_for_it(
    deliver: Deliver, secure: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    delivery = deliver(secure.url)
    delivery.submit(receipt("a"))
    assert not delivery.flush(3) and not secure.seen
    assert "REQUESTS_CA_BUNDLE" in health.warnings["trust.unreadable"]
    assert "nowhere" not in json.dumps(health.warnings)


def test_where_the_system_has_no_certificates_those_of_the_host_s_library_serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs("certifi")
    nothing: Any = ssl.get_default_verify_paths()._replace(cafile=None, capath=str(tmp_path))
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert not trust.context({}).get_ca_certs()
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
    made = trust.context({})
    assert made.get_ca_certs() and made.verify_mode == ssl.CERT_REQUIRED and made.check_hostname


def test_verification_is_never_off() -> None:
    made = trust.context({})
    assert made.verify_mode == ssl.CERT_REQUIRED and made.check_hostname
