"""Deliveries to ledgers that tests control, one state folder and clean counters per test."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from aicostguard import health as our_health
from aicostguard.config import Settings, load
from aicostguard.delivery import Delivery
from aicostguard.delivery import living as module
from aicostguard.health import health
from tests.delivery.fake_ledger import FakeLedger

KEY = "aicg_" + "K" * 40


def receipt(name: str) -> Dict[str, Any]:
    """A receipt that can be told from others by its model."""
    return {"provider": "openai", "model": name, "input_tokens": 3, "output_tokens": 2, "latency_ms": 1}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    health.reset()
    monkeypatch.setattr(module, "_living", [])
    yield
    health.reset()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def settings(state: Path) -> Callable[..., Settings]:
    def make(url: str, **more: str) -> Settings:
        environ = {"AICG_URL": url, "AICG_KEY": KEY, "AICG_STATE_DIR": str(state)}
        environ.update(more)
        return load(environ)

    return make


@pytest.fixture
def deliver(settings: Callable[..., Settings]) -> Iterator[Callable[..., Delivery]]:
    """`deliver(url, MODE="inline")` → a Delivery that is shut down when the test ends."""
    made: List[Delivery] = []

    def make(url: str, **more: str) -> Delivery:
        delivery = Delivery(settings(url, **{"AICG_" + name: value for name, value in more.items()}))
        made.append(delivery)
        return delivery

    yield make
    for delivery in made:
        delivery._courier.leaving = True
        delivery._shut(0.5, force=False)


@pytest.fixture
def faults_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production: a fault of the machine (disk full, file unwritable) is counted, not raised."""
    monkeypatch.setattr(our_health, "_raise", False)


@pytest.fixture
def secure(certificate: Path) -> Iterator[FakeLedger]:
    """A ledger that speaks TLS on localhost."""
    ledger = FakeLedger()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(certificate))
    ledger._server.socket = context.wrap_socket(ledger._server.socket, server_side=True)
    ledger.url = "https://localhost:%d" % ledger.port
    with ledger:
        yield ledger
