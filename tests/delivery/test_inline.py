"""Inline delivery: on the wire before the call returns, and inside a loop without blocking it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Set, Tuple

import pytest

from aicostguard.delivery import Delivery, courier, link
from aicostguard.delivery.queue import Queue
from aicostguard.health import health
from tests.delivery.conftest import receipt
from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger, free_port

Deliver = Callable[..., Delivery]


@pytest.mark.ids("G14")
def test_inline_is_on_the_wire_before_submit_returns_and_starts_no_thread(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        threads = _threads()
        for n in range(3):
            delivery.submit(receipt("m%d" % n))
            assert len(ledger.stored) == n + 1
        assert delivery._worker is None and _threads() <= threads
        assert ledger.connections == 1


def _threads() -> Set[int]:
    """The threads that Python knows, without those of the fake ledger."""
    return {thread.ident or 0 for thread in threading.enumerate() if thread.name != "fake_ledger"}


@pytest.mark.ids("G14")
def test_inline_from_many_threads_each_waits_for_its_own_receipt(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Queue.take
    # Time for every thread to arrive before the first one looks into the queue.
    monkeypatch.setattr(Queue, "take", lambda *args: time.sleep(0.1) or take(*args))
    with FakeLedger(then=Answer(delay=0.2)) as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        missing: List[str] = []

        def call(name: str) -> None:
            delivery.submit(receipt(name))
            if name not in ledger.models():
                missing.append(name)

        threads = [threading.Thread(target=call, args=("t%d" % n,)) for n in range(8)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not missing and len(ledger.stored) == 8
        assert time.monotonic() - started < 1.2  # side by side, not one after the other


@pytest.mark.ids("G15", "A18")
def test_asubmit_awaits_and_does_not_block_the_loop(deliver: Deliver) -> None:
    with FakeLedger(then=Answer(delay=0.3)) as ledger:
        delivery = deliver(ledger.url, MODE="inline")

        async def main() -> Tuple[int, int]:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticker = asyncio.ensure_future(tick())
            await delivery.asubmit([receipt("a"), receipt("b")])
            stored = len(ledger.stored)
            ticker.cancel()
            return ticks, stored

        threads = _threads()
        ticks, stored = asyncio.run(main())
        assert stored == 2 and len(ledger.seen) == 1
        assert ticks > 10
        assert _threads() <= threads


@pytest.mark.ids("G15")
def test_many_tasks_await_side_by_side(deliver: Deliver) -> None:
    with FakeLedger(then=Answer(delay=0.3)) as ledger:
        delivery = deliver(ledger.url, MODE="inline")

        async def main() -> float:
            started = time.monotonic()
            await asyncio.gather(*(delivery.asubmit([receipt("m%d" % n)]) for n in range(10)))
            return time.monotonic() - started

        assert asyncio.run(main()) < 2.0
        assert len(ledger.stored) == 10 and ledger.duplicates == 0


@pytest.mark.ids("G15", "A7")
def test_a_cancelled_caller_is_cancelled_at_once_and_its_receipt_is_not_lost(deliver: Deliver) -> None:
    with FakeLedger(Answer(delay=1.0)) as ledger:
        delivery = deliver(ledger.url, MODE="inline")

        async def main() -> float:
            task = asyncio.ensure_future(delivery.asubmit([receipt("a")]))
            await asyncio.sleep(0.2)
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - started

        assert asyncio.run(main()) < 0.5
        assert delivery.stats()["queue"] == 1
        assert delivery.flush(3) and ledger.models() == ["a"]


@pytest.mark.ids("G15")
@pytest.mark.parametrize(
    "answer",
    [Answer(), Answer(201), Answer(cut=4), Answer(body=b"x" * 100_000), Answer(headers=(("X-Long", "y" * 9000),))],
)
def test_the_awaited_sender_reads_every_kind_of_answer(deliver: Deliver, answer: Answer) -> None:
    with FakeLedger(answer) as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        asyncio.run(delivery.asubmit([receipt("a")]))
        assert ledger.models() == ["a"] and delivery.stats()["counters"]["sent"] == 1
        assert delivery.stats()["last"]["kind"] == "taken"


@pytest.mark.ids("G15")
def test_the_awaited_sender_reads_chunks_and_obeys_the_same_rules(deliver: Deliver, state: Path) -> None:
    with FakeLedger(Answer(413), Answer(), Answer(), Answer(401)) as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        asyncio.run(delivery.asubmit([receipt("a"), receipt("b")]))
        assert ledger.models() == ["a", "b"] and len(ledger.seen) == 3
        asyncio.run(delivery.asubmit([receipt("c")]))
        assert "ledger.denied" in health.warnings and delivery.stats()["spool"]["pending"] == 1
    from aicostguard.delivery.awaited import _unchunk

    assert _unchunk(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n") == b"abcde"
    assert _unchunk(b"3\r\nabc\r\nzz") == b"abc"


@pytest.mark.ids("G15")
def test_a_black_hole_is_awaited_to_its_deadline_only(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "INLINE_SECONDS", 1.0)
    with BlackHole() as hole:
        delivery = deliver(hole.url, MODE="inline")
        started = time.monotonic()
        asyncio.run(delivery.asubmit([receipt("a")]))
        assert 0.9 < time.monotonic() - started < 2.5
        # And the next call does not even try.
        started = time.monotonic()
        asyncio.run(delivery.asubmit([receipt("b")]))
        delivery.submit(receipt("c"))
        assert time.monotonic() - started < 0.8
        assert delivery.stats()["spool"]["pending"] == 3


def test_asubmit_in_background_mode_only_queues(deliver: Deliver) -> None:
    with FakeLedger(then=Answer(delay=1.0)) as ledger:
        delivery = deliver(ledger.url)
        started = time.monotonic()
        asyncio.run(delivery.asubmit([receipt("a")]))
        assert time.monotonic() - started < 0.6
        assert delivery.flush(3) and ledger.models() == ["a"]


@pytest.mark.ids("G15")
def test_without_an_asyncio_loop_asubmit_blocks(deliver: Deliver) -> None:
    """As under trio: the coroutine is driven by hand, no asyncio loop runs."""
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        with pytest.raises(StopIteration):
            delivery.asubmit([receipt("a")]).send(None)
        assert ledger.models() == ["a"]


def test_inline_keeps_what_fails_and_sends_it_with_a_later_call(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "FIRST", 0.0)
    for mode in ({"SPOOL": "off"}, {}):
        with FakeLedger(Answer(500)) as ledger:
            more: Dict[str, Any] = dict(mode, MODE="inline")
            delivery = deliver(ledger.url, **more)
            delivery.submit(receipt("a"))
            assert ledger.models() == []
            delivery.submit(receipt("b"))
            assert ledger.models() == ["a", "b"]


def test_inline_never_raises_and_a_refused_ledger_costs_little(deliver: Deliver) -> None:
    delivery = deliver("http://127.0.0.1:%d" % free_port(), MODE="inline")
    started = time.monotonic()
    for n in range(50):
        delivery.submit(receipt("m%d" % n))
    assert time.monotonic() - started < 3.0
    assert not delivery.flush(1)
    assert health.counters["spooled"] == 50


@pytest.mark.ids("G16")
def test_a_finaliser_inside_inline_sending_does_not_send_inside_it(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        transport = delivery._courier.transport
        real, depth = transport.post, [0]

        def post(*args: Any) -> Any:
            depth[0] += 1
            assert depth[0] == 1
            if not ledger.seen:
                delivery.submit(receipt("inner"))
            answer = real(*args)
            depth[0] -= 1
            return answer

        transport.post = post
        delivery.submit(receipt("outer"))
        assert ledger.models() == ["inner", "outer"]
