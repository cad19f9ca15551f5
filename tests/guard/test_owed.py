"""What a store was owed is taken once, in order, and not for ever, wherever it failed in between."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import pytest

from aicostguard.guard import owed
from aicostguard.guard.owed import Owed
from aicostguard.guard.store import LATE_MS, Counter, Held, StoreFailed
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.health import health

NOW = 1_795_959_000_000
COUNTERS = (Counter("a", 100), Counter("b", 100))


class Failing(MemoryStore):
    """A store of which one step fails: before it is taken, or after, when only the answer is lost."""

    fails: Optional[Tuple[str, bool]] = None

    def _step(self, name: str, *args: Any) -> Any:
        failing, late = self.fails or ("", False)
        if name != failing:
            return getattr(super(), name)(*args)
        self.fails = None
        if late:
            getattr(super(), name)(*args)
        raise StoreFailed("away")

    def once(self, *args: Any, **more: Any) -> Any:
        return self._step("once", *args)

    def reserve(self, *args: Any, **more: Any) -> Any:
        return self._step("reserve", *args)

    def settle(self, *args: Any, **more: Any) -> Any:
        return self._step("settle", *args)


def booked(store: MemoryStore) -> List[Tuple[int, ...]]:
    return [tuple(row[1:]) for row in store.read("", NOW)]


@pytest.mark.ids("D11", "D6")
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("step", ["once", "reserve", "settle"])
def test_what_was_used_without_a_store_is_booked_once_wherever_it_fails(step: str, late: bool) -> None:
    health.reset()
    store = Failing()
    owes = Owed(store)
    owes.book("t", COUNTERS, (30, None), False, NOW)
    owes.book("t", COUNTERS, (30, None), False, NOW)  # a second answer to the same ticket
    store.fails = (step, late)
    owes.tidy(NOW)
    assert len(owes) == 2 and health.notes["guard_store_failures"] == 1
    owes.tidy(NOW)
    owes.tidy(NOW)
    assert len(owes) == 0
    # (spent, reserved, unpriced, estimated): what is not known was not held, and is counted as unpriced
    assert booked(store) == [(30, 0, 0, 0), (0, 0, 1, 0)]
    health.reset()


@pytest.mark.ids("D11")
def test_a_ticket_that_was_booked_long_ago_is_not_booked_again() -> None:
    store = MemoryStore()
    for later in (0, LATE_MS - 1):
        owes = Owed(store)
        owes.book("t", COUNTERS, (30, 1), False, NOW)
        owes.tidy(NOW + later)
    assert booked(store) == [(30, 0, 0, 0), (1, 0, 0, 0)]


@pytest.mark.ids("D11")
def test_steps_are_taken_in_order_some_at_a_time_and_leases_run_out_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owed, "AT_ONCE", 2)
    store = MemoryStore()
    owes = Owed(store)
    for number in range(5):
        store.reserve("t%d" % number, COUNTERS, (10, 1), NOW, NOW + 1000)
        owes.settle("t%d" % number, ("a", "b"), (number, 1), False, NOW)
    left = []
    for _ in range(3):
        owes.tidy(NOW)
        left.append((len(owes), booked(store)[0][:2]))
    assert left == [(3, (0 + 1, 30)), (1, (0 + 1 + 2 + 3, 10)), (0, (10, 0))]
    assert store.reserve("lost", COUNTERS, (7, 1), NOW, NOW + 1000) == Held((7, 1))
    owes.tidy(NOW + 1000)
    assert booked(store)[0] == (17, 0, 0, 1)


@pytest.mark.ids("D11", "A12")
def test_more_than_there_is_room_for_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    health.reset()
    monkeypatch.setattr(owed, "MAX_OWED", 2)
    owes = Owed(MemoryStore())
    for _ in range(3):
        owes.release("t", ("a",), NOW)
    assert len(owes) == 2 and health.notes["guard_steps_dropped"] == 1
    health.reset()
