"""`CostTracker`: adds up what calls cost, says when a budget is used up or the same call keeps coming.

Owns running sums of one program's calls, and two refusals that come *after* a call: what was spent is counted before
they are raised. What is refused before a call is for the engine. Safe under threads; time and memory of a call do not
grow with their number.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Dict, Hashable, Optional

from aicostguard.guard import forks, rules, words
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.loops import Loops
from aicostguard.guard.tokens import TokenUsage
from aicostguard.guard.uncopied import Uncopied
from aicostguard.pricing.book import Price
from aicostguard.pricing.registry import ModelPricing

NANO = 1e9
#: names kept apart in `by_model` and `by_agent`; what comes beyond is added up under `OTHER`
MOST = 1000
OTHER = "(other)"
_log = logging.getLogger("aicostguard")


class CostTracker(Uncopied):
    """What calls have cost, in USD. `max_budget` is the most they may; None for no limit.

    `track` and `record` both add to the same sums. Both raise BudgetExceeded once more is spent than the budget (a call
    that reaches it exactly is fine), and `record` raises LoopDetected at the `loop_threshold`-th identical call within
    `loop_window` seconds; the call is counted all the same. Calls are identical when agent, action, model and content
    are; without a `fingerprint` of the content its token counts stand for it, and without agent, action and
    fingerprint nothing says that two calls are the same. `on_unpriced` is what `record` does with a model without a
    price: `allow` and `warn` count it in `unpriced`, `block` raises ValueError, as `track` always does.
    """

    def __init__(
        self,
        max_budget: Optional[float] = None,
        loop_window: float = 60.0,
        loop_threshold: int = 5,
        *,
        pricing: Optional[ModelPricing] = None,
        on_unpriced: str = "warn",
    ) -> None:
        where = "CostTracker."
        self._limit: Optional[int] = (
            None if max_budget is None else rules.read(rules.USD, where + "max_budget", max_budget)
        )
        self._loops = Loops(
            rules.read(rules.SECONDS, where + "loop_window", loop_window),
            rules.read(rules.COUNT, where + "loop_threshold", loop_threshold),
        )
        self._on_unpriced = rules.read(rules.COST["on_unpriced"], where + "on_unpriced", on_unpriced)
        self.max_budget = max_budget
        self.pricing = pricing or ModelPricing()
        self._lock = forks.lock_of(self)
        self._nano = 0
        self._told: Dict[str, bool] = {}
        self._by_model: Dict[str, int] = {}
        self._by_agent: Dict[str, int] = {}
        #: tokens and calls of all calls, and calls without a price, which are in no sum of money
        self.total_tokens = 0
        self.call_count = 0
        self.unpriced = 0

    def track(self, model: str, input_tokens: int, output_tokens: int, **more: Any) -> float:
        """Add a call by its counts; what it costs in USD. `more` is as for `TokenUsage`.

        Raises ValueError for a model without a price, and then counts nothing.
        """
        usage = TokenUsage(model, input_tokens, output_tokens, **more)
        price = usage.price(self.pricing)
        if price.cost_nanousd is None:
            raise self.pricing.unpriced(model, price, usage.provider)
        self._add(usage, price.cost_nanousd, None)
        return price.cost_nanousd / NANO

    def record(
        self,
        usage: TokenUsage,
        agent_id: Optional[str] = None,
        action_type: Optional[str] = None,
        *,
        fingerprint: Hashable = None,
        parent_id: Optional[str] = None,
    ) -> Optional[float]:
        """Add a call; what it costs in USD, None for a model without a price.

        `fingerprint` stands for what was asked, and is compared only; `parent_id` is the agent that asked this one.
        """
        TokenUsage.needed(usage)
        price = usage.price(self.pricing)
        if price.cost_nanousd is None:
            self._without_price(usage, price)
        loop = None
        if fingerprint is not None or agent_id or action_type:
            content = fingerprint if fingerprint is not None else (usage.input_tokens, usage.output_tokens)
            loop = self._loops.seen(agent_id, action_type, usage.model, content, parent_id)
        self._add(usage, price.cost_nanousd, agent_id)
        if loop is not None:
            raise loop.error
        return None if price.cost_nanousd is None else price.cost_nanousd / NANO

    def _without_price(self, usage: TokenUsage, price: Price) -> None:
        error = self.pricing.unpriced(usage.model, price, usage.provider)
        if self._on_unpriced == "block":
            raise error
        if self._on_unpriced == "warn" and len(self._told) < MOST and not self._told.get(usage.model):
            self._told[usage.model] = True
            _log.warning("%s; its calls are counted and stand in no sum of money", error)

    def _add(self, usage: TokenUsage, cost: Optional[int], agent: Optional[str]) -> None:
        with self._lock:
            self.call_count += 1
            self.total_tokens += usage.total_tokens
            if cost is None:
                self.unpriced += 1
                return
            self._nano += cost
            plus(self._by_model, usage.model, cost)
            if agent:
                plus(self._by_agent, agent, cost)
            spent = self._nano
        if self._limit is not None and spent > self._limit:
            raise BudgetExceeded(
                "Spend %s exceeds budget %s" % words.amounts("nanousd", spent, self._limit),
                budget="max_budget",
                dimension="budget",
                limit=self._limit,
                spent=spent,
                estimate=cost,
            )

    def __repr__(self) -> str:
        return "CostTracker(max_budget=%r, spent=%r, calls=%d)" % (self.max_budget, self.spent, self.call_count)

    @property
    def spent_nanousd(self) -> int:
        """What all calls have cost, exactly."""
        return self._nano

    @property
    def total_cost(self) -> float:
        """What all calls have cost, in USD."""
        return self._nano / NANO

    spent = total_cost

    @property
    def remaining(self) -> float:
        """What is left of the budget in USD, never below zero; infinity without one."""
        return math.inf if self._limit is None else max(0, self._limit - self._nano) / NANO

    @property
    def by_model(self) -> Dict[str, float]:
        """USD by model."""
        with self._lock:
            return {name: nano / NANO for name, nano in self._by_model.items()}

    @property
    def by_agent(self) -> Dict[str, float]:
        """USD by agent, of calls that named one."""
        with self._lock:
            return {name: nano / NANO for name, nano in self._by_agent.items()}


def plus(sums: Dict[str, int], name: str, cost: int) -> None:
    """Add to a sum by name, of which a bounded number is kept apart."""
    if name not in sums and len(sums) >= MOST:
        name = OTHER
    sums[name] = sums.get(name, 0) + cost
