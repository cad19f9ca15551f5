"""What a test spent: calls, tokens and money of the receipts that came while it ran.

Owns the sums, and how they are priced: by the book of this release, for the moment at which the receipt came. Money is
an integer of nano-dollars; it is None as soon as one call has no price, because a sum that leaves calls out is too low.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any, Dict, List, Mapping, Optional

#: what a sum counts, in the order in which it is shown
COUNTS = (
    "calls",
    "input_tokens",
    "output_tokens",
    "priced_nanousd",
    "unpriced",
    "usage_missing",
    "estimated",
    "partial",
)
NANO = 10**9


class Spend:
    """What one test, or a run, has spent so far. It grows while the test runs.

    `calls`, `input_tokens`, `output_tokens`; `priced_nanousd`: of the calls that have a price; `unpriced`: calls
    without one, of which `usage_missing` told no usage; `estimated` and `partial`: calls whose counts are not whole.
    """

    def __init__(self) -> None:
        self.calls = self.input_tokens = self.output_tokens = self.priced_nanousd = 0
        self.unpriced = self.usage_missing = self.estimated = self.partial = 0
        #: `{"provider:model": calls}`
        self.models: Dict[str, int] = {}
        #: why calls have no price, each reason once
        self.reasons: List[str] = []

    def add(self, receipt: Mapping[str, Any]) -> None:
        """One more billed response."""
        from aicostguard import pricing

        price = pricing.price(receipt, int(time.time() * 1000))
        name = "%s:%s" % (receipt.get("provider"), receipt.get("model"))
        self.models[name] = self.models.get(name, 0) + 1
        self.calls += 1
        self.input_tokens += receipt.get("input_tokens") or 0
        self.output_tokens += receipt.get("output_tokens") or 0
        for flag in ("usage_missing", "estimated", "partial"):
            setattr(self, flag, getattr(self, flag) + bool(receipt.get(flag)))
        if price.cost_nanousd is None:
            self.unpriced += 1
            reason = "%s: %s" % (name, price.reason)
            if reason not in self.reasons:
                self.reasons.append(reason)
        else:
            self.priced_nanousd += price.cost_nanousd

    @property
    def cost_nanousd(self) -> Optional[int]:
        """All of it, in nano-dollars; None when a call has no price."""
        return None if self.unpriced else self.priced_nanousd

    @property
    def cost_usd(self) -> Optional[Decimal]:
        """All of it, in dollars, exact; None when a call has no price."""
        return None if self.cost_nanousd is None else Decimal(self.cost_nanousd) / NANO

    def assert_calls(self, count: int) -> None:
        """Raise AssertionError unless exactly `count` billed responses came so far."""
        assert self.calls == count, "%s came, not %d: %s" % (number(self.calls, "billed call"), count, self.models)

    def assert_cost_at_most(self, usd: Any) -> None:
        """Raise AssertionError when more than `usd` dollars were spent, or when it is not known how much."""
        problem = over(self, limit_nanousd(usd, "assert_cost_at_most"))
        assert not problem, problem

    def as_dict(self) -> Dict[str, Any]:
        """The same as JSON has it."""
        row: Dict[str, Any] = {name: getattr(self, name) for name in COUNTS}
        return dict(row, models=dict(self.models), reasons=list(self.reasons))

    def merge(self, row: Mapping[str, Any]) -> None:
        """Add what `as_dict` of another one says."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + row[name])
        for model, calls in row["models"].items():
            self.models[model] = self.models.get(model, 0) + calls
        self.reasons.extend(reason for reason in row["reasons"] if reason not in self.reasons)


def limit_nanousd(usd: Any, where: str) -> int:
    """A limit in dollars as nano-dollars, rounded down. Raises ValueError, naming `where`, for what is none."""
    try:
        amount = Decimal(str(usd))
    except ArithmeticError:
        amount = Decimal("NaN")
    if isinstance(usd, bool) or not amount.is_finite() or not 0 <= amount <= 10**9:
        raise ValueError("%s takes dollars, from 0 to a billion, like 0.02, not %r" % (where, usd))
    return int(amount * NANO)


def over(spend: Spend, limit: int) -> str:
    """Why `spend` is not within `limit` nano-dollars; empty when it is."""
    if spend.priced_nanousd > limit:
        return "AI calls cost %s, the limit is %s (%s; %s)" % (
            dollars(spend.priced_nanousd),
            dollars(limit),
            number(spend.calls, "call"),
            ", ".join(sorted(spend.models)),
        )
    if spend.unpriced:
        return "whether AI calls cost at most %s is not known: %s without a price (%s)" % (
            dollars(limit),
            number(spend.unpriced, "call"),
            "; ".join(spend.reasons),
        )
    return ""


def dollars(nanousd: int) -> str:
    """`$0.0123`: two places at least, and all that are not zero."""
    whole, part = divmod(nanousd, NANO)
    return "$%d.%s" % (whole, ("%09d" % part).rstrip("0").ljust(2, "0"))


def number(count: int, word: str) -> str:
    """`1 call`, `2 calls`."""
    return "%d %s%s" % (count, word, "" if count == 1 else "s")
