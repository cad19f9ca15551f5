"""`CostPolicyEnforcer`: one question a call, one decision as an answer.

Owns what is decided of a usage that is known, or expected, as a whole: it is asked for and booked in one step. The
rules are the engine's; this is its face for code that calls it by hand. Kept in memory unless a store is given. Safe
under threads.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from aicostguard.guard import forks, rules, words
from aicostguard.guard.costs import CostConfig
from aicostguard.guard.errors import BudgetExceeded, BudgetExhausted
from aicostguard.guard.loops import Loops
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store import Store, open_store
from aicostguard.guard.tokens import TokenUsage
from aicostguard.guard.tracker import NANO, plus
from aicostguard.guard.uncopied import Uncopied
from aicostguard.guard.values import Alert, Bound, Facts, Spent
from aicostguard.pricing.registry import ModelPricing

_log = logging.getLogger("aicostguard.guard")
#: what a report tells, whether or not it is limited: name → unit, period
_MEASURED = {"daily": ("nanousd", "day"), "per_minute_tokens": ("tokens", "minute"), "budget": ("nanousd", "total")}


class CostDecision(NamedTuple):
    """What was decided of a call.

    `reason` says why it is blocked, or what it passes in mode `warn` or `log` and which alerts it sets off; empty when
    there is nothing to say. `dimension` is what `reason` is about (`session`, `daily`, `loop`, …), else None.
    `cost_usd` is what the call costs, NaN when its model has no price; `cumulative_usd` all that was recorded so far,
    with this call unless it is blocked.
    """

    allowed: bool
    reason: str
    cost_usd: float
    cumulative_usd: float
    dimension: Optional[str] = None

    @property
    def blocked(self) -> bool:
        """The call must not be made; nothing was recorded."""
        return not self.allowed


class CostPolicyEnforcer(Uncopied):
    """Decides about calls by the limits of a `CostConfig` (or a `Policy`).

    `store` is where budgets are kept: memory unless one is given, and then shared with everybody who uses it under the
    policy's name. It is said as in a policy file: `sqlite` (a file of this program's own), `sqlite:///PATH`,
    `redis://…`. `session_id` is the session that calls are counted in unless they name another.
    """

    def __init__(
        self,
        config: Union[CostConfig, Policy],
        *,
        session_id: Optional[str] = None,
        store: Union[Store, str, None] = None,
        pricing: Optional[ModelPricing] = None,
    ) -> None:
        if not isinstance(config, (CostConfig, Policy)):
            raise TypeError("config must be a CostConfig(...), not %s" % type(config).__name__)
        policy = config.policy() if isinstance(config, CostConfig) else config
        self.config = config
        self.session_id = session_id or "session-" + os.urandom(6).hex()
        self.pricing = pricing or ModelPricing()
        self._policy = policy
        self._store = _opened(store or "memory", config, policy.name)
        from aicostguard.guard import audit

        counted = policy._replace(budgets=(*policy.budgets, *_measuring(policy)))
        self._guard = audit.guard(counted, self._store, self._told)
        self._loops = Loops(policy.loop_window, policy.loop_threshold)
        self._alerts = threading.local()
        self._lock = forks.lock_of(self)
        self._nano = 0
        self.call_count = 0
        self._by_model: Dict[str, int] = {}
        self._by_agent: Dict[str, int] = {}

    def check_and_record(
        self,
        usage: TokenUsage,
        agent_id: Optional[str] = None,
        action_type: Optional[str] = None,
        session_id: Optional[str] = None,
        labels: Optional[Mapping[str, str]] = None,
    ) -> CostDecision:
        """Decide about a call, and record it unless it is blocked. `labels` are further ones that rules may match."""
        TokenUsage.needed(usage)
        cost = usage.price(self.pricing).cost_nanousd
        provider, model = self.pricing.resolve(usage.model, usage.provider)
        known: Dict[str, str] = {**(labels or {}), "model": model, "session": session_id or self.session_id}
        known.update((name, value) for name, value in (("provider", provider), ("agent", agent_id)) if value)
        bound = Bound(cost, usage.input_tokens, usage.output_tokens)
        facts = Facts(known, bound, time.time_ns() // 1_000_000, cost is not None, action_type or "")
        reasons: List[str] = []
        dimension: Optional[str] = None
        try:
            if self._looping(facts, usage, reasons):
                dimension = "loop"
            ticket = self._guard.ask(facts)
        except BudgetExhausted as error:
            dimension = error.dimension if isinstance(error, BudgetExceeded) else "loop"
            return CostDecision(False, str(error), _usd(cost), self._nano / NANO, dimension)
        found: List[Alert] = []
        self._alerts.found = found
        self._guard.settle(ticket, Spent(cost, usage.total_tokens))
        reasons += ticket.reasons
        reasons += [alert.text for alert in found]
        if dimension is None:
            dimension = self._dimension(ticket.reasons) or (found[0].dimension if found else None)
        return CostDecision(True, "; ".join(reasons), _usd(cost), self._add(usage, cost, agent_id), dimension)

    def _looping(self, facts: Facts, usage: TokenUsage, reasons: List[str]) -> bool:
        """Whether the call is a loop that is only warned of; raises LoopDetected when loops are blocked."""
        agent, action = facts.labels.get("agent"), facts.action
        if self._policy.loop_action == "off" or not (agent or action):
            return False
        content = (usage.input_tokens, usage.output_tokens)
        found = self._loops.seen(agent, action or None, usage.model, content)
        if found is None:
            return False
        block = self._policy.loop_action == "block"
        self._guard.decided(facts, found.error, block)
        if block:
            raise found.error
        if found.new:
            _log.warning("%s", found.error)
        reasons.append(str(found.error))
        return True

    def _dimension(self, reasons: Tuple[str, ...]) -> Optional[str]:
        """Which rule the first reason is about: its words tell."""
        for budget in self._policy.budgets:
            name = budget.dimension or budget.period
            if reasons and words.SUBJECTS[name if name in words.SUBJECTS else budget.period][1] in reasons[0]:
                return name
        return None

    def _told(self, alert: Alert) -> None:
        _log.warning("%s", alert.text)
        self._alerts.found.append(alert)

    def _add(self, usage: TokenUsage, cost: Optional[int], agent: Optional[str]) -> float:
        with self._lock:
            self.call_count += 1
            self._nano += cost or 0
            plus(self._by_model, usage.model, cost or 0)
            if agent:
                plus(self._by_agent, agent, cost or 0)
            return self._nano / NANO

    def get_report(self) -> Dict[str, Any]:
        """What stands where, in USD and tokens.

        `spent`, `remaining`, `utilization`, `daily_spent` and `tokens_last_minute` are of the budgets, so of everybody
        who shares their store; `call_count`, `by_model` and `by_agent` of the calls recorded here. `max_budget` and
        `remaining` are None without a total budget. `unpriced` calls are in no sum of money.
        """
        standing = {status.dimension: status for status in self._guard.status()}
        total = standing["budget"]
        limits = {budget.dimension or budget.name: budget for budget in self._policy.budgets}
        limit = limits["budget"].limit if "budget" in limits else None
        with self._lock:
            return {
                "session_id": self.session_id,
                "max_budget": None if limit is None else limit / NANO,
                "spent": total.spent / NANO,
                "remaining": None if limit is None else max(0, limit - total.spent) / NANO,
                "utilization": round(total.spent / limit, 4) if limit else 0.0,
                "call_count": self.call_count,
                "unpriced": total.unpriced,
                "by_model": {name: nano / NANO for name, nano in self._by_model.items()},
                "by_agent": {name: nano / NANO for name, nano in self._by_agent.items()},
                "daily_spent": standing["daily"].spent / NANO,
                "tokens_last_minute": standing["per_minute_tokens"].spent,
                "limits": self.config.limits if isinstance(self.config, CostConfig) else _limits(self._policy),
            }

    def close(self) -> None:
        """Let go of the store's files and connections; a later call opens them again."""
        self._store.close()

    def __repr__(self) -> str:
        return "CostPolicyEnforcer(%r, session_id=%r, calls=%d)" % (self.config, self.session_id, self.call_count)


def _opened(store: Union[Store, str], config: Union[CostConfig, Policy], name: str) -> Store:
    if not isinstance(store, str):
        return store
    from aicostguard.config import load
    from aicostguard.guard.enforcing import entry_script

    if store == "sqlite" and isinstance(config, CostConfig):  # which has no name
        name = "enforcer of " + entry_script()
    return open_store(store, name, load(os.environ).state_dir)


def _measuring(policy: Policy) -> Tuple[Budget, ...]:
    """Rules that limit nothing and count what a report tells. Where a model without a price is to be blocked, they do
    it, whatever the limits do beyond themselves, and also when there are none."""
    there = {budget.dimension for budget in policy.budgets}
    mode = "block" if policy.on_unpriced == "block" else "log"
    return tuple(
        Budget("measured." + name, rules.MOST, unit, period=period, on_exceed=mode, alert_at=(), dimension=name)
        for name, (unit, period) in _MEASURED.items()
        if name not in there
    )


def _limits(policy: Policy) -> Dict[str, Any]:
    return {budget.name: budget.limit / NANO if budget.unit == "nanousd" else budget.limit for budget in policy.budgets}


def _usd(nano: Optional[int]) -> float:
    return math.nan if nano is None else nano / NANO
