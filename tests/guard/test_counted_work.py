"""What a check and its settlement run is bounded and does not grow, counted in steps of the interpreter.

A time would be spoilt by whatever else runs; a step more stays one. `scripts/bench guard` says what they amount to.
"""

from __future__ import annotations

import gc
import sys

from aicostguard.guard.costs import CostConfig
from aicostguard.guard.engine import Guard
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.values import Bound, Facts, Spent
from scripts.benchmarks.counted import least

#: a tenth above what was counted on CPython 3.11 when this was written
STEPS, FUNCTIONS = 1390, 29
#: another version compiles to other steps
SLACK = 1.0 if sys.version_info[:2] == (3, 11) else 1.5
HISTORY = 100_000
NOW = 1_790_000_000_000


class Used:
    """A guard with five limits, and the one who calls: ten calls in a millisecond of its own clock."""

    def __init__(self) -> None:
        self.calls = 0
        dollars = 10**8
        limits = CostConfig(
            budget_usd=dollars,
            per_call_limit_usd=2,
            per_session_limit_usd=dollars,
            daily_budget_usd=dollars,
            per_minute_tokens=10**12,
        )
        self.guard = Guard(limits.policy(), MemoryStore(), clock=self.now)

    def now(self) -> int:
        return NOW + self.calls // 10

    def call(self) -> None:
        """One, and what it used."""
        labels = {"session": "s", "model": "gpt-4o", "provider": "openai", "feature": "f", "team": "t"}
        self.guard.settle(self.guard.ask(Facts(labels, Bound(1000, 10, 10), self.now())), Spent(500, 15))
        self.calls += 1


def test_a_check_and_its_settlement() -> None:
    used = Used()
    for _ in range(5):
        used.call()
    gc.collect()
    gc.disable()
    try:
        first = least(used.call)
        assert first.functions <= FUNCTIONS, first.entered.most_common(20)
        assert 0 < first.steps <= STEPS * SLACK, first.by_function.most_common(20)
        for _ in range(HISTORY):
            used.call()
        late = least(used.call)
        assert late.by_function == first.by_function, "no more after many calls than after a few"
    finally:
        gc.enable()
    spent = {status.budget: status.spent for status in used.guard.status()}
    assert sorted(set(spent.values()))[-1] == used.calls * 500, "and none of them was forgotten"
