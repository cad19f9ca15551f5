"""The queue of wake-ups where Python has none in C (PyPy): no item is lost or given twice, and `put` never waits."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any, List

import pytest

from aicostguard.delivery.threads import Empty, Woken
from tests.shaken import at_once, shaken


@pytest.mark.ids("E6")
def test_each_item_goes_to_one_of_many_threads() -> None:
    for seed in range(6):
        queue, got = Woken(), []  # type: ignore[var-annotated]

        def work(number: int, queue: Woken = queue, got: List[int] = got) -> None:
            if number < 2:
                for item in range(20):
                    queue.put(number * 20 + item)
            else:
                for _ in range(20):
                    got.append(queue.get(timeout=20))

        (at_once if seed % 2 else shaken)(work, 4)
        assert sorted(got) == list(range(40)) and queue.qsize() == 0


def test_who_waits_is_woken_at_once_and_not_before() -> None:
    queue = Woken()
    began = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.05)
    assert time.monotonic() - began >= 0.05
    with pytest.raises(Empty):
        queue.get_nowait()
    got: List[Any] = []
    waiting = threading.Thread(target=lambda: got.append(queue.get()), daemon=True)
    waiting.start()
    queue.put("news")
    waiting.join(10)
    assert got == ["news"]
    queue.put(1)
    queue.put(2)
    assert (queue.get(), queue.get(timeout=0)) == (1, 2)


def test_a_signal_handler_may_put_while_the_same_thread_does() -> None:
    queue = Woken()
    before = signal.signal(signal.SIGALRM, lambda *_: queue.put("signal"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for number in range(20_000):
            queue.put(number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert queue.qsize() >= 20_000
