"""`CostConfig`: the limits of a program, written in its code.

Owns the names of the limits and how they become rules. Checks everything when built, so that a mistake shows where
it stands; changes nothing and enforces nothing by itself.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from aicostguard.guard import rules
from aicostguard.guard.policy import Budget, Policy

#: what is told of a budget's use when nothing else was said, in per mille
ALERT_AT = 800
_KEYS = {**rules.COST, "audit": rules.TEXT}
#: what None leaves out; of every other key it would be no value
_OMITTED = {"audit", *(row[0] for row in rules.DIMENSIONS)}


class CostConfig:
    """Limits on what calls may cost. Each is optional; amounts are USD, exact to the nano-dollar.

    `budget_usd` is a ceiling across all sessions and processes, `per_session_limit_usd` one for each session,
    `daily_budget_usd` one for each UTC day, `per_call_limit_usd` one for each call, `per_minute_tokens` the tokens of
    any 60 seconds. `alert_threshold` is the share of a budget at which its use is told, once. `on_exceed` is what
    happens to a call without room: `block`, `warn` or `log`; the other words are explained in docs/budgets.md.
    Raises BadPolicy (a ValueError) that names the key, the value and what to write instead.
    """

    def __init__(
        self,
        *,
        budget_usd: Optional[float] = None,
        per_call_limit_usd: Optional[float] = None,
        per_session_limit_usd: Optional[float] = None,
        daily_budget_usd: Optional[float] = None,
        per_minute_tokens: Optional[int] = None,
        alert_threshold: float = 0.8,
        on_exceed: str = "block",
        on_unpriced: str = "warn",
        on_unknown_bound: str = "observed",
        on_store_failure: str = "open",
        loop_window: float = 60.0,
        loop_threshold: int = 5,
        loop_action: str = "warn",
        audit: Optional[str] = None,
        **unknown: Any,
    ) -> None:
        self.budget_usd = budget_usd
        self.per_call_limit_usd = per_call_limit_usd
        self.per_session_limit_usd = per_session_limit_usd
        self.daily_budget_usd = daily_budget_usd
        self.per_minute_tokens = per_minute_tokens
        self.alert_threshold = alert_threshold
        self.on_exceed = on_exceed
        self.on_unpriced = on_unpriced
        self.on_unknown_bound = on_unknown_bound
        self.on_store_failure = on_store_failure
        self.loop_window = loop_window
        self.loop_threshold = loop_threshold
        self.loop_action = loop_action
        self.audit = audit
        read: Dict[str, Any] = {}
        for name, value in {**vars(self), **unknown}.items():
            kind = rules.kind_of(_KEYS, "CostConfig." + name, name)
            if value is not None or name not in _OMITTED:
                read[name] = rules.read(kind, "CostConfig." + name, value)
        self._read = read

    def __setattr__(self, name: str, value: Any) -> None:
        if "_read" in vars(self):  # who was given it has read it: a limit that is changed now would hold nowhere
            raise AttributeError("a CostConfig does not change: build another one with %s=%r" % (name, value))
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        said = ("%s=%r" % (name, getattr(self, name)) for name in _KEYS if getattr(self, name) is not None)
        return "CostConfig(%s)" % ", ".join(said)

    def __eq__(self, other: object) -> bool:
        return self._read == other._read if isinstance(other, CostConfig) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @property
    def limits(self) -> Dict[str, Any]:
        """The limits as they were given, and what happens beyond them."""
        names = [row[0] for row in rules.DIMENSIONS]
        return {name: getattr(self, name) for name in rules.COST if name in (*names, "on_exceed")}

    def policy(self, name: str = "default", store: str = "memory") -> Policy:
        """The same as rules, for a store that is shared by everybody who names it."""
        return policy(self._read, name, store)


def budgets(found: Mapping[str, Any]) -> Tuple[Budget, ...]:
    """The rules of the limits among the values of `cost:`."""
    alert = int(found.get("alert_threshold", ALERT_AT))
    return tuple(
        Budget(
            name=name,
            limit=found[name],
            unit=unit,
            period=period,
            on_exceed=found.get("on_exceed", "block"),
            # One call and the last minute have no use that grows towards a limit.
            alert_at=() if period in ("call", "minute") else (alert,),
            dimension=dimension,
        )
        for name, unit, period, dimension in rules.DIMENSIONS
        if name in found
    )


def policy(found: Mapping[str, Any], name: str, store: str, more: Tuple[Budget, ...] = ()) -> Policy:
    """The rules of what `rules.read_cost` has read, and `more` budgets."""
    words = {key: found[key] for key in Policy._fields if key in found}
    return Policy(name=name, budgets=(*budgets(found), *more), store=store, **words)
