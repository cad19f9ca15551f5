"""A gate in force around real calls, and the provider's side of the books."""

from __future__ import annotations

import gc
import time
from typing import Any, List

from aicostguard.capture.state import state
from aicostguard.config import load
from aicostguard.guard import enforcing
from aicostguard.guard.gate import CallGate
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.values import Status
from aicostguard.pricing import default_book
from aicostguard.simulator import Simulator

#: nano-dollars
CENT = 10_000_000
HI: Any = [{"role": "user", "content": "hi"}]
CLAUDE, GPT, GEMINI = "claude-sonnet-4-6", "gpt-4o", "gemini-2.5-flash"


def gate(*budgets: Budget, **policy: Any) -> CallGate:
    """Set a gate with these budgets, over a store in memory."""
    return enforcing.start(Policy(budgets=budgets, **policy), load({}))


def cap(nanousd: int, **more: Any) -> Budget:
    """One budget for everything."""
    return Budget("cap", nanousd, **more)


def standing(timeout: float = 10.0, reserved: int = 0) -> Status:
    """The first budget, once so much is reserved: a stream may end a moment after its reader."""
    made: Any = state.gate
    deadline = time.monotonic() + timeout
    while True:
        rows: List[Status] = made.guard.status()
        if (rows and rows[0].reserved == reserved) or time.monotonic() > deadline:
            return rows[0] if rows else Status("cap", "", {}, "nanousd", "total", "block", 0)
        gc.collect()
        time.sleep(0.01)


def billed(simulator: Simulator) -> int:
    """Nano-dollars by the provider's own count."""
    book, now = default_book(), time.time_ns() // 1_000_000
    total = 0
    for row in simulator.billed():
        assert row.usage is not None
        counts = {k: v for k, v in row.usage._asdict().items() if v is not None}
        cost = book.price({"provider": row.provider, "model": row.model, **counts}, now).cost_nanousd
        assert cost is not None, row
        total += cost
    return total
