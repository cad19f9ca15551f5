"""What a refused call raises.

    BudgetExhausted
     ├── BudgetExceeded   a budget has no room for the call
     └── LoopDetected     the same call came again and again

Owns the three classes and their words. They can be pickled and copied, so that they cross processes as themselves.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple


class BudgetExhausted(Exception):
    """The base of both: no further call is let through."""

    #: keyword arguments of the constructor, in order, kept as attributes
    FIELDS: Tuple[str, ...] = ()

    def __reduce__(self) -> Tuple[Any, ...]:
        return _again, (type(self), self.args, {name: getattr(self, name) for name in self.FIELDS})


def _again(kind: type, args: Tuple[Any, ...], fields: Dict[str, Any]) -> BudgetExhausted:
    made: BudgetExhausted = kind(*args, **fields)
    return made


class BudgetExceeded(BudgetExhausted):
    """A budget has no room for this call. Nothing was sent, and nothing is charged.

    `budget` is the rule's name, `dimension` what it limits (`per_call`, `session`, `daily`, `per_minute_tokens`,
    `budget`, or the rule's own period), `scope` the labels it is kept for (`{"team": "marketing"}`; empty when it is
    one for all). `limit`, `spent`, `reserved` and `estimate` are integers of `unit`: `nanousd` (1 USD =
    1,000,000,000), `tokens` or `requests`; `estimate` is what this call was counted with, None when nothing is known
    of it. `resets_at` is Unix milliseconds, None for a budget that never does.
    """

    FIELDS = ("budget", "dimension", "scope", "unit", "limit", "spent", "reserved", "estimate", "resets_at")

    def __init__(
        self,
        message: str,
        *,
        budget: str = "",
        dimension: str = "",
        scope: Optional[Mapping[str, str]] = None,
        unit: str = "nanousd",
        limit: Optional[int] = None,
        spent: int = 0,
        reserved: int = 0,
        estimate: Optional[int] = None,
        resets_at: Optional[int] = None,
    ) -> None:
        super().__init__(message)
        self.budget = budget
        self.dimension = dimension
        self.scope: Mapping[str, str] = dict(scope or {})
        self.unit = unit
        self.limit = limit
        self.spent = spent
        self.reserved = reserved
        self.estimate = estimate
        self.resets_at = resets_at


class LoopDetected(BudgetExhausted):
    """The same agent made the same call `count` times within `window` seconds. The text says "loop"."""

    FIELDS = ("agent", "action", "model", "count", "window")

    def __init__(
        self,
        message: str,
        *,
        agent: Optional[str] = None,
        action: Optional[str] = None,
        model: Optional[str] = None,
        count: int = 0,
        window: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.agent = agent
        self.action = action
        self.model = model
        self.count = count
        self.window = window
