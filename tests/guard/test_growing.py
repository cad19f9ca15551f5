"""What a stream may grow by, and what of odd amounts is booked: the ends of the engine's arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store import MOST, StoreFailed
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.values import Bound, Facts, Spent
from aicostguard.health import health

NOW = 1_795_959_000_000


def facts(nanousd: int, tokens: int = 1, at: int = NOW) -> Facts:
    return Facts({}, Bound(nanousd, tokens, 0), at)


class Away(MemoryStore):
    """A store that can be away."""

    away = False

    def reserve(self, *args: Any, **more: Any) -> Any:
        self._there()
        return super().reserve(*args, **more)

    def grow(self, *args: Any, **more: Any) -> Any:
        self._there()
        return super().grow(*args, **more)

    def _there(self) -> None:
        if self.away:
            raise StoreFailed("away")


def made(*budgets: Budget, **policy: Any) -> Guard:
    return Guard(Policy(budgets=budgets, **policy), Away(), clock=lambda: NOW)


@pytest.mark.ids("C7", "Z2")
@pytest.mark.parametrize("amount, booked", [(-1, 0), (0, 0), (MOST, MOST), (MOST + 1, MOST)])
def test_what_cannot_have_been_used_is_booked_as_the_nearest_that_can(amount: int, booked: int) -> None:
    units = ("nanousd", "tokens", "requests")
    guard = made(*(Budget(unit, 100, unit=unit) for unit in units))
    guard.settle(guard.ask(facts(5)), Spent(amount, amount, amount))
    assert [(row.spent, row.reserved) for row in guard.status()] == [(booked, 0)] * 3


@pytest.mark.ids("Z3")
def test_the_limit_on_one_call_counts_all_that_its_stream_grew_by() -> None:
    """Money and tokens apart, each up to its own limit exactly, in several steps."""
    guard = made(
        Budget("all money", 10**6),
        Budget("all words", 10**6, unit="tokens"),
        Budget("money", 60, period="call"),
        Budget("words", 600, unit="tokens", period="call"),
    )
    ticket = guard.ask(facts(40, 400))
    assert guard.grow(ticket, 7, 150)
    assert guard.grow(ticket, 6, 0)
    assert guard.grow(ticket, 7, 0)
    assert not guard.grow(ticket, 1, 0)
    assert guard.grow(ticket, 0, 50)
    assert not guard.grow(ticket, 0, 1)
    assert [row.reserved for row in guard.status()[:2]] == [60, 600]
    guard.settle(ticket, Spent(60, 600))
    other = guard.ask(facts(40, 400))
    assert guard.grow(other, 20, 200), "what the first one had is not this one's"


@pytest.mark.ids("Z3", "ACC:Z2")
@pytest.mark.parametrize("mode, goes_on", [("open", True), ("closed", False)])
def test_a_stream_that_grows_while_the_store_is_away(mode: str, goes_on: bool) -> None:
    health.reset()
    guard = made(Budget("b", 100), on_store_failure=mode)
    ticket = guard.ask(facts(40))
    guard._store.away = True  # type: ignore[attr-defined]
    assert guard.grow(ticket, 1, 0) is goes_on
    assert health.notes["guard_store_failures"] == 1
    health.reset()


@pytest.mark.ids("Z3", "ACC:Z2")
def test_the_stream_of_a_call_that_was_let_through_without_a_store_is_not_cut() -> None:
    guard = made(Budget("b", 100))
    guard._store.away = True  # type: ignore[attr-defined]
    ticket = guard.ask(facts(40))
    guard._store.away = False  # type: ignore[attr-defined]
    assert guard.grow(ticket, 1000, 1000)
    health.reset()


@pytest.mark.ids("ACC:B09", "ACC:B12")
def test_what_a_minute_that_only_warns_was_passed_by_leaves_it_as_well() -> None:
    """The hold of a call that passes such a limit stands in its second, as any other's."""
    guard = made(
        Budget("told", 100, unit="tokens", period="minute", on_exceed="warn"),
        Budget("held", 10_000, unit="tokens", period="minute"),
    )
    for second in (0, 30):
        ticket = guard.ask(facts(1, 90, NOW + second * 1000))
        guard.settle(ticket, Spent(1, 90))
        assert bool(ticket.reasons) == bool(second)
    with pytest.raises(BudgetExceeded):
        guard.ask(facts(1, 9_821, NOW + 60_000))
    assert [(row.spent, row.reserved) for row in guard.status(NOW + 60_000)] == [(180, 0)] * 2
    assert [(row.spent, row.reserved) for row in guard.status(NOW + 61_000)] == [(90, 0)] * 2
    assert [(row.spent, row.reserved) for row in guard.status(NOW + 91_000)] == [(0, 0)] * 2
