"""What a call is to hold, before any store is asked.

Owns what follows from the rules and the call alone: limits on single calls, `on_unpriced`, `on_unknown_bound`, and the
errors that refuse. Pure but for the log line of a rule that is passed and does not block.
"""

from __future__ import annotations

from typing import List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple

from aicostguard import health
from aicostguard.guard import words
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.observed import Observed
from aicostguard.guard.plan import Plan, Planner, Rule
from aicostguard.guard.policy import Policy
from aicostguard.guard.store import MOST, REST
from aicostguard.guard.values import Facts, Spent

NANOUSD, TOKENS = 0, 1


class Want(NamedTuple):
    """A call that no rule refuses by itself: what it is to hold of the counters of its plan."""

    now: int
    plan: Plan
    amounts: Tuple[int, ...]
    reasons: Tuple[str, ...]
    kind: Tuple[str, ...]


class Asking:
    """The rules of one policy, applied to one call at a time."""

    def __init__(self, policy: Policy, planner: Planner) -> None:
        self._policy = policy
        self._planner = planner
        self._observed = Observed() if policy.on_unknown_bound == "observed" else None

    def want(self, facts: Facts) -> Want:
        """Raises BudgetExceeded."""
        now = facts.at_ms
        reasons: Tuple[str, ...] = ()
        plan = self._planner.plan(facts.labels, now)
        kind: Tuple[str, ...] = ()
        if self._observed is not None:
            get = facts.labels.get
            kind = (get("provider") or "", get("model") or "", get("feature") or "")
        bound = facts.bound
        nanousd, tokens = bound.nanousd, bound.tokens
        if nanousd is None or tokens is None or not facts.priced:
            most, reasons = self._guess(facts, plan, kind)
        else:
            most = (nanousd if nanousd < MOST else MOST, tokens if tokens < MOST else MOST, 1)
        if plan.calls:
            reasons += self._single(plan, facts, most)
        return Want(now, plan, tuple([most[unit] for unit in plan.units]), reasons, kind)

    def learn(self, kind: Tuple[str, ...], spent: Spent) -> None:
        """What a call has used tells of later ones whose most is not known."""
        if kind and self._observed is not None:
            self._observed.learn(kind, spent)

    def _guess(self, facts: Facts, plan: Plan, kind: Tuple[str, ...]) -> Tuple[Tuple[int, int, int], Tuple[str, ...]]:
        """What to hold when some of the bound is not known, and what to say about it."""
        rules = (*(entry.rule for entry in plan.entries), *plan.calls)
        reasons: Tuple[str, ...] = ()
        dearest = self._observed.dearest(kind) if self._observed is not None else (REST, REST)
        most = [facts.bound.nanousd, facts.bound.tokens]
        if not facts.priced:  # it holds nothing, for nobody knows what it costs
            most[NANOUSD] = 0
            reasons = self._unpriced(facts, [rule for rule in rules if rule.unit == NANOUSD])
        for unit, amount in enumerate(most):
            if amount is None:
                most[unit] = dearest[unit]
                if self._policy.on_unknown_bound == "refuse":
                    for rule in rules:
                        if rule.hard and rule.unit == unit:
                            self.refuse(rule, facts.labels, words.unbounded(facts.bound.unknown))
        return (most[NANOUSD] or 0, most[TOKENS] or 0, 1), reasons

    def _unpriced(self, facts: Facts, rules: List[Rule]) -> Tuple[str, ...]:
        if not rules or self._policy.on_unpriced == "allow":
            return ()
        text = words.unpriced(facts.labels.get("model") or "")
        if self._policy.on_unpriced == "block":
            for rule in rules:
                if rule.hard:
                    self.refuse(rule, facts.labels, text)
        _log("warn", text)
        return (text,)

    def _single(self, plan: Plan, facts: Facts, most: Sequence[int]) -> Tuple[str, ...]:
        """Limits on one call, which need no counter."""
        reasons: Tuple[str, ...] = ()
        for rule in plan.calls:
            amount = most[rule.unit]
            if amount > rule.budget.limit:
                text = words.exceeds(rule.budget, rule.scope(facts.labels), 0, amount)
                if rule.hard:
                    self.refuse(rule, facts.labels, text, estimate=amount)
                reasons += (passed(rule, text),)
        return reasons

    @staticmethod
    def refuse(
        rule: Rule,
        labels: Mapping[str, str],
        text: str,
        *,
        spent: int = 0,
        reserved: int = 0,
        estimate: Optional[int] = None,
        resets_at: Optional[int] = None,
    ) -> NoReturn:
        """Raise BudgetExceeded for a rule."""
        budget = rule.budget
        raise BudgetExceeded(
            text,
            budget=budget.name,
            dimension=budget.dimension or budget.period,
            scope=rule.scope(labels),
            unit=budget.unit,
            limit=budget.limit,
            spent=spent,
            reserved=reserved,
            estimate=estimate,
            resets_at=resets_at,
        )


def passed(rule: Rule, text: str) -> str:
    """A rule that is passed and does not block is logged, and its text returned."""
    _log(rule.budget.on_exceed, text)
    return text


def _log(mode: str, text: str) -> None:
    import logging

    try:
        logging.getLogger("aicostguard.guard").log(logging.INFO if mode == "log" else logging.WARNING, "%s", text)
    except Exception as error:  # a handler of the user's may raise
        health.fault("guard.asking.log", error)
