"""The rules of a guard, as values.

Owns `Budget` and `Policy` and what makes them valid. Where they come from (a file, `CostConfig`, the ledger) is not
known here. A rule that is wrong raises `BadPolicy` with the field, the value and the remedy; none is half taken.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional, Tuple

UNITS = ("nanousd", "tokens", "requests")
PERIODS = ("call", "session", "minute", "hour", "day", "week", "month", "total")
ON_EXCEED = ("block", "warn", "log")


class BadPolicy(ValueError):
    """A rule that cannot be used: the text names the field, the value and the remedy."""


class Budget(NamedTuple):
    """One limit.

    `limit` is an integer of `unit`. It counts calls whose labels have every value of `match` (`{"team": "search"}`),
    separately for each combination of the labels named by `per` (a call that lacks one of them is kept under ""),
    within `period`: `minute` is the 60 seconds up to now, `hour` to `month` are calendar units of `timezone`,
    `session` is a budget per value of the label `session`, `total` never ends. `dimension` is the word in reasons
    (`Session`, `Daily`, …). `alert_at` are shares of the limit in per mille, each told once per period and scope.
    """

    name: str
    limit: int
    unit: str = "nanousd"
    match: Mapping[str, str] = {}
    per: Tuple[str, ...] = ()
    period: str = "total"
    timezone: str = "UTC"
    on_exceed: str = "block"
    alert_at: Tuple[int, ...] = (750, 900, 1000)
    dimension: str = ""


class Policy(NamedTuple):
    """All rules of one guard. `name` is what processes that share budgets through one store have in common."""

    name: str = "default"
    budgets: Tuple[Budget, ...] = ()
    on_unpriced: str = "warn"  # allow | warn | block
    on_unknown_bound: str = "observed"  # observed | max | refuse
    on_store_failure: str = "open"  # open | closed
    loop_window: float = 60.0
    loop_threshold: int = 5
    loop_action: str = "warn"  # warn | block | off
    #: `memory`, `sqlite` (its file named by `name` in the state folder), `sqlite:///path`, `redis://…`
    store: str = "memory"
    #: a file of own prices and aliases
    prices: Optional[str] = None
    #: the file in which every decision is logged
    audit: Optional[str] = None
