"""A webhook behind TLS: it is cut off as one without is, whatever the other side does."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from aicostguard.ledger.alerts import target, webhook

Said = list[webhook.Outcome]


class Dripping:
    """A server that never ends its answer: bytes of a status line, or of nothing, one at a time."""

    def __init__(self, certificate: Path, shakes: bool) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}/"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(str(certificate))
        self._shakes = shakes
        self.speaks, self.end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        peer: socket.socket = self._listener.accept()[0]
        try:
            if self._shakes:
                peer = self._context.wrap_socket(peer, server_side=True)
            self.speaks.set()
            while not self.end.wait(0.05):
                if self._shakes:
                    peer.sendall(b"H")
        except OSError:
            pass
        finally:
            peer.close()

    def close(self) -> None:
        self.end.set()
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def dripping(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], Dripping]]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate) + ".crt")
    made: list[Dripping] = []

    def make(shakes: bool) -> Dripping:
        made.append(Dripping(certificate, shakes))
        return made[-1]

    yield make
    for one in made:
        one.close()


def sending(url: str, cuts: set[Any]) -> tuple[threading.Thread, Said]:
    said: Said = []

    def send() -> None:
        said.append(webhook.post(url, "whsec_x", "k", b"{}", time.time(), target.networks("localhost"), cuts))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread, said


@pytest.mark.parametrize("shakes", [True, False], ids=["an endless answer", "no handshake"])
def test_a_receiver_that_drips_behind_tls_is_left_after_the_deadline(
    dripping: Callable[[bool], Dripping], monkeypatch: pytest.MonkeyPatch, shakes: bool
) -> None:
    monkeypatch.setattr(webhook, "DEADLINE_S", 1.0)
    thread, said = sending(dripping(shakes).url, set())
    thread.join(20)
    assert [(one.ok, one.again) for one in said] == [(False, True)]
    assert "no answer within 1 s" in said[0].said


def test_a_stop_does_not_wait_for_a_receiver_behind_tls(
    dripping: Callable[[bool], Dripping], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "DEADLINE_S", 600.0)
    cuts: set[Any] = set()
    receiver = dripping(True)
    thread, said = sending(receiver.url, cuts)
    assert receiver.speaks.wait(20)
    for cut in list(cuts):
        cut()
    thread.join(20)
    assert [one.ok for one in said] == [False]
