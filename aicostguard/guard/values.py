"""What is asked of a guard, and what it gives in return.

Owns the values that pass between whoever sees calls (the gate in the call path, an enforcer, the ledger's
`/v1/authorize`) and the engine. Nothing here decides anything. All money is integer nano-dollars.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional, Tuple

#: label names that a budget may match or be kept per, beside `tags.NAME`
LABELS = (
    "organisation",
    "project",
    "team",
    "user",
    "session",
    "feature",
    "agent",
    "parent_agent",
    "model",
    "provider",
    "operation",
    "service",
    "environment",
)


class Bound(NamedTuple):
    """The most that one call can use. None is *not known*, never zero.

    `unknown` says why, in one of a few fixed words (`outside`, `tools`, `media`, `unreadable`, `no-maximum`), when any
    of the three is None for another reason than a missing price.
    """

    nanousd: Optional[int] = None
    input_tokens: Optional[int] = None
    output_tokens: Optional[int] = None
    unknown: Optional[str] = None

    @property
    def tokens(self) -> Optional[int]:
        """Input and output together."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


class Facts(NamedTuple):
    """One logical call before it is sent.

    `labels` has the label names of `LABELS`, and `tags.NAME`, as text. `priced` is False when the price book has no
    row for the model. `action` and `fingerprint` (a hash made in this process, never sent) say when two calls are
    the same; without a fingerprint loops are not looked for. `at_ms` is Unix milliseconds.
    """

    labels: Mapping[str, str]
    bound: Bound
    at_ms: int
    priced: bool = True
    action: str = ""
    fingerprint: Optional[bytes] = None


class Spent(NamedTuple):
    """What a call has really used. None is *not known*: then the whole reservation is booked, as an estimate."""

    nanousd: Optional[int] = None
    tokens: Optional[int] = None
    requests: int = 1
    estimated: bool = False


class Ticket(NamedTuple):
    """A call that was let through: what the guard needs to settle it. Opaque to whoever holds it.

    `id` is time-ordered and unique. `keys` and `held` are the counters it stands in and what it holds of each.
    `reasons` are the texts of rules in mode `warn` or `log` that it passes. `kind` (provider, model, feature) is what
    its use will tell of further calls whose most is not known; `single` is the most nanousd and tokens that limits on
    one call let it use. See `Guard.holds`.
    """

    id: str
    at_ms: int
    keys: Tuple[str, ...] = ()
    held: Tuple[int, ...] = ()
    reasons: Tuple[str, ...] = ()
    kind: Tuple[str, ...] = ()
    single: Tuple[Optional[int], Optional[int]] = (None, None)


class Alert(NamedTuple):
    """A budget's use reached a threshold. `threshold` is in per mille; `resets_at` as in BudgetExceeded."""

    text: str
    budget: str
    dimension: str
    scope: Mapping[str, str]
    unit: str
    threshold: int
    limit: int
    spent: int
    at_ms: int
    resets_at: Optional[int] = None


class Status(NamedTuple):
    """One budget, for one scope, now. `remaining` is never below zero; all amounts are of `unit`.

    `unpriced` calls cost something that nobody knows and are not part of `spent`; `estimated` ones were booked with
    what they held, or with a figure that is an estimate. A limit on single calls has no `spent`.
    """

    budget: str
    dimension: str
    scope: Mapping[str, str]
    unit: str
    period: str
    on_exceed: str
    limit: int
    spent: int = 0
    reserved: int = 0
    remaining: int = 0
    unpriced: int = 0
    estimated: int = 0
    resets_at: Optional[int] = None
