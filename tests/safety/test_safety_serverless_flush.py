"""Trust contract 6: no silent loss of receipts on serverless platforms.

With any of the platforms' variables set, `submit` POSTs before it returns, no thread is started, and whatever goes
wrong on the way stays inside.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Set

import pytest

from aicostguard.config import SERVERLESS, load
from aicostguard.delivery import Delivery
from aicostguard.health import health
from tests.delivery.fake_ledger import Answer, FakeLedger, free_port

KEY = "aicg_" + "S" * 32
RECEIPT = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1240, "output_tokens": 312, "latency_ms": 842}

PLATFORMS = [{name: "1"} for name in SERVERLESS] + [{"FUNCTION_NAME": "handler", "GCP_PROJECT": "p"}]


def _names(value: Dict[str, str]) -> str:
    return "+".join(value)


Make = Callable[..., Delivery]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """`make(url, VERCEL="1")` → a Delivery under these variables, shut down when the test ends."""
    health.reset()
    made: List[Delivery] = []

    def build(url: str, **more: str) -> Delivery:
        environ = {"AICG_URL": url, "AICG_KEY": KEY, "AICG_STATE_DIR": str(tmp_path / "state")}
        environ.update(more)
        made.append(Delivery(load(environ)))
        return made[-1]

    yield build
    for delivery in made:
        delivery.shutdown(1)


def _threads() -> Set[int]:
    """The threads that Python knows, without those of the fake ledger."""
    return {thread.ident or 0 for thread in threading.enumerate() if thread.name != "fake_ledger"}


@pytest.mark.ids("G14", "G16", "G21")
@pytest.mark.parametrize("platform", PLATFORMS, ids=_names)
def test_submit_posts_before_it_returns_and_starts_no_thread(make: Make, platform: Dict[str, str]) -> None:
    with FakeLedger() as ledger:
        delivery = make(ledger.url, **platform)
        threads = _threads()
        for n in range(3):
            delivery.submit(dict(RECEIPT))
            assert len(ledger.stored) == n + 1  # no wait in between: it is there
        assert _threads() <= threads
        assert ledger.stored[delivery._epoch, 0] == RECEIPT


@pytest.mark.ids("G14", "G21")
@pytest.mark.parametrize("platform", [{}, {"FUNCTION_NAME": "handler"}, {"VERCEL": ""}], ids=_names)
def test_an_ordinary_server_is_not_taken_for_one(make: Make, platform: Dict[str, str]) -> None:
    with FakeLedger(then=Answer(delay=1.0)) as ledger:
        delivery = make(ledger.url, **platform)
        assert not delivery.inline
        started = time.monotonic()
        delivery.submit(dict(RECEIPT))
        assert time.monotonic() - started < 0.6 and not ledger.stored
        assert delivery.shutdown(3) and len(ledger.stored) == 1


@pytest.mark.ids("G14", "G21")
def test_the_mode_can_be_set_by_hand_either_way(make: Make) -> None:
    assert make("http://127.0.0.1:1", AICG_MODE="inline").inline
    assert not make("http://127.0.0.1:1", VERCEL="1", AICG_MODE="background").inline


@pytest.mark.ids("G16", "G21")
@pytest.mark.parametrize(
    "answer",
    [Answer(status) for status in (301, 400, 401, 413, 429, 500, 503)] + [Answer(drop=True), Answer(body=b"{")],
    ids=lambda answer: "drop" if answer.drop else str(answer.status),
)
def test_errors_of_the_ledger_do_not_propagate(make: Make, answer: Answer) -> None:
    with FakeLedger(then=answer) as ledger:
        delivery = make(ledger.url, VERCEL="1")
        delivery.submit(dict(RECEIPT))
        delivery.submit(dict(RECEIPT))
        assert ledger.seen


@pytest.mark.ids("G16", "G21")
def test_a_ledger_that_is_not_there_does_not_propagate_and_the_receipt_is_kept(make: Make) -> None:
    delivery = make("http://127.0.0.1:%d" % free_port(), AWS_LAMBDA_FUNCTION_NAME="f")
    started = time.monotonic()
    delivery.submit(dict(RECEIPT))
    assert time.monotonic() - started < 2.0
    assert health.counters["dropped"] == 0 and "ledger.unreachable" in health.warnings


@pytest.mark.ids("G16", "G21")
def test_our_own_faults_do_not_propagate(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception of ours: counted, and the next receipt goes out."""
    from aicostguard import health as our_health
    from aicostguard.delivery import courier

    monkeypatch.setattr(our_health, "_raise", False)
    with FakeLedger() as ledger:
        delivery = make(ledger.url, VERCEL="1")
        with monkeypatch.context() as broken:
            broken.setattr(courier.Courier, "carry", lambda *args, **more: 1 // 0)
            delivery.submit(dict(RECEIPT))
        with monkeypatch.context() as broken:
            broken.setattr(courier.envelope, "head", lambda *args: 1 // 0)
            broken.setattr(delivery._courier, "_head", None)
            delivery.submit(dict(RECEIPT))
        assert health.counters["faults"] == 2
        delivery.submit(dict(RECEIPT))
        assert {seq for _, seq in ledger.stored} == {1, 2}


@pytest.mark.ids("G16", "G21")
def test_a_read_only_machine_does_not_propagate(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard import health as our_health

    monkeypatch.setattr(our_health, "_raise", False)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with FakeLedger(Answer(500)) as ledger:
        delivery = make(ledger.url, AICG_STATE_DIR=str(blocked / "state"), AZURE_FUNCTIONS_ENVIRONMENT="Production")
        delivery.submit(dict(RECEIPT))
        assert health.counters["dropped"] == 0 and health.counters["faults"] == 1
        delivery._courier.link.opens_at = 0.0
        delivery.submit(dict(RECEIPT))
        assert len(ledger.stored) == 2
    assert os.listdir(str(tmp_path)) == ["file"]
