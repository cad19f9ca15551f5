"""Many threads at the same moment: each call is counted once, under a number of its own, and no budget is passed.

What an interpreter without a GIL lets happen at once happens here at any of its steps (`tests.shaken`), and as fast as
the machine goes. These are the tests that are run on free-threaded builds; docs/testing.md says how.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Set

import pytest

from aicostguard import auto
from aicostguard import health as our_health
from aicostguard.capture import once
from aicostguard.config import load
from aicostguard.delivery import Delivery, files, folder
from aicostguard.delivery.queue import Queue
from aicostguard.delivery.segment import lines, read_record
from aicostguard.delivery.worker import Request, Worker
from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.values import Bound, Facts, Spent
from aicostguard.health import Health, health
from aicostguard.metering import Endpoint
from aicostguard.simulator import Simulator
from aicostguard.usage import Reading, Usage
from tests.agent import as_delivered, key_of_billed, key_of_receipt
from tests.delivery.fake_ledger import Answer, FakeLedger
from tests.safety.wiring import KEY, Outlets, Wire
from tests.shaken import at_once, shaken

RECEIPT = {"provider": "openai", "model": "gpt-4o", "input_tokens": 3, "output_tokens": 2, "latency_ms": 1}
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def delivery(tmp_path: Path) -> Any:
    """`delivery(url)` → a `Delivery` that is shut down when the test ends."""
    made: List[Delivery] = []

    def make(url: str, **more: str) -> Delivery:
        environ = {"AICG_URL": url, "AICG_KEY": KEY, "AICG_STATE_DIR": str(tmp_path / "state")}
        made.append(Delivery(load({**environ, **{"AICG_" + name: value for name, value in more.items()}})))
        return made[-1]

    health.reset()
    yield make
    for each in made:
        each._courier.leaving = True
        each._shut(0.5, force=False)
    health.reset()


def spooled(state: Path) -> List[Dict[str, Any]]:
    """The receipts in the files of a folder, each with its number; raises where a record is torn."""
    found = []
    for path in sorted((state / folder.ROOT).rglob("*" + folder.OPEN)):
        with path.open("rb") as file:
            for _, line in lines(file.fileno()):
                kind, text = read_record(line)
                if kind == b"r":
                    seq, _, receipt = text.split(b" ", 2)
                    found.append({"seq": int(seq), **json.loads(receipt)})
    return found


# The whole way: real calls, a ledger, the spool.


@pytest.mark.ids("G17", "Z3", "E12")
def test_calls_of_many_threads_are_billed_as_they_were(wired: Wire, simulator: Simulator, outlets: Outlets) -> None:
    openai = pytest.importorskip("openai")
    threads, calls = 10, 9
    simulator.reset_count()
    with FakeLedger() as ledger:
        wired(ledger.url)
        client = openai.OpenAI(base_url=simulator.base_url("openai"), api_key="x", max_retries=0)

        def work(number: int) -> None:
            for call in range(calls):
                asked = {"model": "gpt-4o", "messages": HI, "max_tokens": 20}
                if call % 3:
                    client.chat.completions.create(**asked)
                else:
                    list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

        with client:
            at_once(work, threads)
        assert auto.flush(30)
        billed = as_delivered(simulator.billed())
        assert len(billed) == threads * calls
        assert sorted(seq for _, seq in ledger.stored) == list(range(threads * calls)) and not ledger.duplicates
        assert sorted(map(key_of_receipt, ledger.stored.values())) == sorted(map(key_of_billed, billed))
        told = auto.stats()["counters"]
        assert (told["generated"], told["dropped"], told["unmetered"], told["faults"]) == (threads * calls, 0, 0, 0)


@pytest.mark.ids("E12", "E8")
def test_what_many_threads_write_down_is_whole(delivery: Callable[..., Delivery], tmp_path: Path) -> None:
    threads, calls = 12, 400
    with FakeLedger(then=Answer(status=503)) as ledger:
        made = delivery(ledger.url)
        at_once(
            lambda number: [made.submit(dict(RECEIPT, model="m%d" % number)) for _ in range(calls)] and None, threads
        )
        made.shutdown(0.5)
    found = spooled(tmp_path / "state")
    assert sorted(one["seq"] for one in found) == list(range(threads * calls))
    assert all(sum(one["model"] == "m%d" % number for one in found) == calls for number in range(threads))


@pytest.mark.ids("E12")
def test_an_end_while_threads_go_on_loses_nothing(delivery: Callable[..., Delivery], tmp_path: Path) -> None:
    """What a busy machine has no time to send in the seconds of an end lies in the spool, for the next start."""
    with FakeLedger() as ledger:
        made = delivery(ledger.url, SPOOL="on-failure")
        over, taken = threading.Event(), itertools.count()

        def work(number: int) -> None:
            while number and not over.is_set():
                made.submit(RECEIPT)
                next(taken)
            if not number:
                over.wait(0.05)
                made.leave()
                over.set()

        at_once(work, 6)
        made.flush(20)
        sent, kept = {seq for _, seq in ledger.stored}, {one["seq"] for one in spooled(tmp_path / "state")}
        assert len(ledger.stored) == len(sent) and sorted(sent | kept) == list(range(next(taken)))
        assert not health.snapshot()["faults"] and not health.counters["dropped"]


# Budgets.


@pytest.mark.ids("Z2", "B38", "D1")
def test_a_budget_that_threads_share_is_never_passed() -> None:
    limit, threads = 300, 12
    policy = Policy(budgets=(Budget(name="calls", unit="requests", limit=limit),))
    guard = Guard(policy, MemoryStore())
    passed: List[int] = []

    def work(number: int) -> None:
        for _ in range(limit):
            try:
                ticket = guard.ask(Facts({}, Bound(1, 1, 1), 1_790_000_000_000, True))
            except BudgetExceeded:
                continue
            passed.append(number)
            guard.settle(ticket, Spent(1, 2, 1))

    at_once(work, threads)
    (row,) = guard.status(1_790_000_000_000)
    assert (len(passed), row.spent, row.reserved) == (limit, limit, 0)


@pytest.mark.ids("Z2", "D1")
def test_no_two_tickets_have_one_name() -> None:
    for seed in range(15):
        guard = Guard(Policy(budgets=(Budget(name="calls", unit="requests", limit=9),)), MemoryStore())
        names: List[str] = []
        shaken(lambda number, guard=guard, names=names: names.append(guard._id(7)), seed=seed)  # type: ignore[misc]
        assert len(set(names)) == 4


# What is looked at and changed in one step.


@pytest.mark.ids("E12", "E7")
def test_numbers_come_from_what_is_one_step_without_a_gil_too() -> None:
    """`range`'s iterator gives one number twice there (cpython#120496), `count` does not (cpython#117657)."""
    kept = Health()
    numbers = kept.numbers()
    assert type(numbers) is itertools.count
    taken: Set[int] = set()
    at_once(lambda _: taken.update([next(numbers) for _ in range(2000)]), 8)
    assert (
        taken == set(range(16_000)) and kept.counters["generated"] == kept.counters_of(numbers)["generated"] == 16_000
    )


def test_a_look_at_the_queue_is_one_step() -> None:
    class Counted(Queue):
        def __init__(self) -> None:
            super().__init__()
            self._items = _Copied()

    queue = Counted()
    queue.put((1, 2, b"x"))
    assert queue.waiting() == [(1, 2, b"x")]


class _Copied(Deque[Any]):
    """A deque through which nobody goes but in a copy: without a GIL it may change meanwhile, which raises."""

    def copy(self) -> Any:
        return list(super().__iter__())

    def __iter__(self) -> Any:
        raise RuntimeError("deque mutated during iteration")


@pytest.mark.ids("G13")
def test_threads_that_begin_at_once_start_one_sender(
    delivery: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: List[Worker] = []
    start = Worker.start
    monkeypatch.setattr(Worker, "start", lambda self: (started.append(self), start(self))[1])
    with FakeLedger() as ledger:
        for seed in range(8):
            made = delivery(ledger.url, SPOOL="off")
            started.clear()
            shaken(lambda number, made=made: made.submit(RECEIPT), seed=seed)  # type: ignore[misc]
            assert made.flush(10) and len(started) == 1
            made._courier.queue.signal(Request(stop=True))  # as if it had been killed
            while started[0].alive:
                time.sleep(0.01)
            shaken(lambda number, made=made: made.submit(RECEIPT), seed=seed)  # type: ignore[misc]
            assert made.flush(10) and len(started) == 2
            made.shutdown(5)
        assert len(ledger.stored) == 64


def _reading(name: str, **more: Any) -> Reading:
    return Reading("m", Usage(1, 1), response_id=name, **more)


@pytest.mark.ids("B3")
def test_what_several_threads_poll_is_billed_once() -> None:
    for seed in range(10):
        once.pending.clear()
        shaken(lambda number: once.remember(_reading("one", also="two", pending=True)), seed=seed)
        found: List[Any] = []
        shaken(lambda number: found.extend(once.finished([_reading(("one", "two")[number % 2])])), seed=seed)  # noqa: B023
        assert len(found) == 1
    once.pending.clear()


@pytest.mark.ids("B3")
def test_the_rest_of_a_file_that_several_threads_fetch_is_billed_once() -> None:
    endpoint = Endpoint("openai", "batch", id="file-1")
    for seed in range(10):
        once._billed.clear()
        assert once.due(endpoint, [_reading("a")], 0, 3) and once.lines_billed(endpoint) == 3
        found: List[Any] = []
        shaken(lambda number: found.extend(once.due(endpoint, [_reading("b")], 3, 5)), seed=seed)  # noqa: B023
        assert len(found) == 1 and once.lines_billed(endpoint) == 5
    once._billed.clear()


def test_what_is_forgotten_first_may_be_gone() -> None:
    kept: Dict[str, int] = dict.fromkeys("abc", 0)
    shaken(lambda number: [kept.pop(our_health.oldest(kept) or "", None) for _ in range(20)] and None)
    assert not kept and our_health.oldest(kept) is None


@pytest.mark.ids("E10")
def test_two_threads_that_write_one_file_leave_one_of_them_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "1.json")
    for seed in range(10):
        shaken(lambda number: files.replace(path, b"%d" % number * 9), seed=seed)
        assert Path(path).read_bytes() in [b"%d" % number * 9 for number in range(4)]
    assert [each.name for each in tmp_path.iterdir()] == ["1.json"]
