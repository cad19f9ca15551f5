"""The ways to a ledger: TLS with the system's or the user's certificates, proxies, odd addresses."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from pathlib import Path
from typing import Callable, List, Tuple

import pytest

from aicostguard.delivery import Delivery, probe, request, sockets
from aicostguard.health import health
from tests.delivery.conftest import KEY, receipt
from tests.delivery.fake_ledger import FakeLedger, free_port

Deliver = Callable[..., Delivery]


class Proxy:
    """A forward proxy: remembers request lines and credentials; tunnels CONNECT, passes the rest on to `to`."""

    def __init__(self, to: int) -> None:
        self.seen: List[Tuple[str, str]] = []
        self._to = to
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(16)
        self.url = "http://user:p%%40ss@127.0.0.1:%d" % self._socket.getsockname()[1]

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._to)) as far:
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(65536)
            lines = head.decode("latin-1").split("\r\n")
            credentials = [line.split(": ", 1)[1] for line in lines if line.startswith("Proxy-Authorization: ")]
            self.seen.append((lines[0], base64.b64decode(credentials[0].split()[1]).decode() if credentials else ""))
            if head.startswith(b"CONNECT"):
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                # A real proxy sends the path alone; the fake ledger does not look at the host.
                absolute = lines[0].split()[1]
                far.sendall(head.replace(absolute.encode(), b"/" + absolute.split("/", 3)[3].encode(), 1))
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join(5)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.mark.parametrize("mode", ["background", "inline", "awaited"])
def test_https_with_the_users_own_certificates(
    deliver: Deliver, secure: FakeLedger, certificate: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from aicostguard.delivery import awaited

    monkeypatch.setattr(awaited, "_context", None)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate) + ".crt")
    delivery = deliver(secure.url, MODE="background" if mode == "background" else "inline")
    for name in ("a", "b"):
        if mode == "awaited":
            asyncio.run(delivery.asubmit([receipt(name)]))
        else:
            delivery.submit(receipt(name))
    assert delivery.flush(5), health.warnings
    assert secure.models() == ["a", "b"]
    assert probe.probe_http(secure.url).ok


@pytest.mark.ids("E9")
@pytest.mark.parametrize("mode", ["background", "awaited"])
def test_a_certificate_that_nobody_vouches_for_gets_no_key(
    deliver: Deliver, secure: FakeLedger, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from aicostguard.delivery import awaited

    monkeypatch.setattr(awaited, "_context", None)
    delivery = deliver(secure.url, MODE="background" if mode == "background" else "inline")
    if mode == "awaited":
        asyncio.run(delivery.asubmit([receipt("a")]))
    else:
        delivery.submit(receipt("a"))
    assert not delivery.flush(3)
    assert not secure.seen
    assert "SSLCertVerificationError" in health.warnings["ledger.unreachable"]
    assert "certificate is not trusted" in probe.probe_http(secure.url).text


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback addresses count as another machine, so that a proxy may be used."""
    monkeypatch.setattr(request, "LOOPBACK", ())


def test_plain_http_through_a_proxy(deliver: Deliver, elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLedger() as ledger, Proxy(ledger.port) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        delivery = deliver("http://ledger.example:8090/base")
        delivery.submit(receipt("a"))
        assert delivery.flush(5) and ledger.models() == ["a"]
        assert proxy.seen == [("POST http://ledger.example:8090/base/v1/receipts HTTP/1.1", "user:p@ss")]
        assert ledger.seen[0].headers["Host"] == "ledger.example:8090"
        assert ledger.seen[0].path == "/base/v1/receipts"


@pytest.mark.parametrize("mode", ["background", "awaited"])
def test_https_through_a_proxy_is_a_tunnel_that_sees_no_key(
    deliver: Deliver,
    secure: FakeLedger,
    certificate: Path,
    elsewhere: None,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate) + ".crt")
    with Proxy(secure.port) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        delivery = deliver(secure.url, MODE="background" if mode == "background" else "inline")
        if mode == "awaited":
            asyncio.run(delivery.asubmit([receipt("a")]))
        else:
            delivery.submit(receipt("a"))
        assert delivery.flush(5), health.warnings
        assert secure.models() == ["a"]
        assert proxy.seen == [("CONNECT localhost:%d HTTP/1.1" % secure.port, "user:p@ss")]
        assert "Proxy-Authorization" not in secure.seen[0].headers
        assert secure.seen[0].headers["Authorization"] == "Bearer " + KEY
        delivery.shutdown(2)


def test_a_proxy_is_passed_by_for_our_own_machine_and_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy.example:3128")
    proxied = request.target("http://ledger.example:8090")
    assert proxied.proxy == request.Proxy("proxy.example", 3128, None)
    assert request.target("http://127.0.0.1:8090").proxy is None
    assert request.target("http://localhost:8090").proxy is None
    monkeypatch.setenv("no_proxy", "ledger.example")
    assert request.target("http://ledger.example:8090").proxy is None
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("all_proxy", "socks5://proxy.example:1080")
    assert request.target("http://ledger.example").proxy is None


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://h", "h", 80, "/v1/receipts"),
        ("https://h", "h", 443, "/v1/receipts"),
        ("https://h:8443/a/b", "h", 8443, "/a/b/v1/receipts"),
        ("http://[::1]:8090", "::1", 8090, "/v1/receipts"),
    ],
)
def test_addresses(url: str, host: str, port: int, path: str) -> None:
    target = request.target(url)
    assert (target.host, target.port, target.path) == (host, port, path)


def test_every_address_of_a_host_is_tried_within_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLedger() as ledger:
        dead = free_port()
        real = socket.getaddrinfo

        def two(host: str, port: int, *more: int) -> List[Tuple[object, ...]]:
            return [*real("127.0.0.1", dead, *more), *real("127.0.0.1", port, *more)]

        monkeypatch.setattr(sockets.socket, "getaddrinfo", two)
        connection = sockets.Connection(request.target(ledger.url), None, time.monotonic() + 2)
        connection.close()
        with pytest.raises(OSError):
            sockets.Connection(request.target("http://127.0.0.1:%d" % dead), None, time.monotonic() - 1)
