"""Sums that several threads add to, and a finaliser in the middle of one."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from aicostguard import auto, config
from aicostguard.capture.state import state
from aicostguard.testing.spend import Spend

pytestmark = pytest.mark.ids("Z8")
RECEIPT = {"provider": "openai", "model": "gpt-4o", "input_tokens": 10, "output_tokens": 5, "estimated": True}


def test_threads_lose_nothing() -> None:
    spend, before = Spend(), sys.getswitchinterval()

    def work() -> None:
        for number in range(2000):
            spend.add(RECEIPT)
            if number % 50 == 0:
                assert spend.calls > 0

    threads = [threading.Thread(target=work) for _ in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    row = spend.as_dict()
    assert (row["calls"], row["estimated"], row["input_tokens"]) == (16_000, 16_000, 160_000)
    assert row["models"] == {"openai:gpt-4o": 16_000}
    assert row["priced_nanousd"] == 16_000 * (10 * 2_500 + 5 * 10_000)


def test_one_that_comes_in_the_middle_of_a_sum_is_in_it_once() -> None:
    spend = Spend()

    class Late(dict):  # type: ignore[type-arg]
        def get(self, *more: object) -> object:
            if len(spend._came) == 0 and not came:
                came.append(1)
                spend.add(RECEIPT)
            return dict.get(self, *more)  # type: ignore[call-overload]

    came: list = []  # type: ignore[type-arg]
    spend._came.append((Late(RECEIPT), 1_790_000_000_000))
    assert spend.calls == 2


def test_whoever_listens_and_fails_keeps_no_receipt_from_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list = []  # type: ignore[type-arg]

    async def deliver(receipts: object) -> None:
        sent.append(receipts)

    def fail(receipt: object) -> None:
        raise RuntimeError("listener")

    monkeypatch.setattr(auto, "_settings", config.load({}))  # so that nothing is hooked
    monkeypatch.setattr(state, "deliver", sent.append)
    monkeypatch.setattr(state, "adeliver", deliver)
    stop = auto.observe(fail)
    assert stop is not None and state.deliver is not None and state.adeliver is not None
    with pytest.raises(RuntimeError):
        state.deliver(RECEIPT)
    with pytest.raises(RuntimeError):
        asyncio.run(state.adeliver([RECEIPT]))
    assert sent == [RECEIPT, [RECEIPT]]
    stop()
    assert state.adeliver is deliver
