"""What a test spent: calls, tokens and money of the receipts that came while it ran.

Owns the sums, and how they are priced: by the book of this release, for the moment at which the receipt came. Money is
an integer of nano-dollars; it is None as soon as one call has no price, because a sum that leaves calls out is too low.
"""

from __future__ import annotations

import collections
import threading
import time
from decimal import Decimal
from typing import Any, Deque, Dict, List, Mapping, Optional, Tuple

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

    `COUNTS` are its sums; `usage_missing` are unpriced calls that told no usage, `estimated` and `partial` calls whose
    counts are not whole.
    """

    def __init__(self) -> None:
        # What came and is not yet in the sums. A receipt may come on any thread, and from a finaliser in the middle of
        # a sum: appending is one step, and whoever reads adds up.
        self._came: Deque[Tuple[Mapping[str, Any], int]] = collections.deque()
        self._adding = threading.RLock()
        self._counts = dict.fromkeys(COUNTS, 0)
        self._models: Dict[str, int] = {}
        self._reasons: List[str] = []

    def add(self, receipt: Mapping[str, Any]) -> None:
        """One more billed response."""
        self._came.append((dict(receipt), time.time_ns() // 1_000_000))

    def _counted(self) -> Dict[str, int]:
        """The sums, with all that came until now."""
        with self._adding:
            while self._came:
                self._count(*self._came.popleft())
            return self._counts

    def _count(self, receipt: Mapping[str, Any], at_ms: int) -> None:
        from aicostguard import pricing

        price, counts = pricing.price(receipt, at_ms), self._counts
        name = "%s:%s" % (receipt.get("provider"), receipt.get("model"))
        self._models[name] = self._models.get(name, 0) + 1
        counts["calls"] += 1
        for tokens in ("input_tokens", "output_tokens"):
            counts[tokens] += receipt.get(tokens) or 0
        for flag in ("usage_missing", "estimated", "partial"):
            counts[flag] += bool(receipt.get(flag))
        if price.cost_nanousd is not None:
            counts["priced_nanousd"] += price.cost_nanousd
            return
        counts["unpriced"] += 1
        reason = "%s: %s" % (name, price.reason)
        if reason not in self._reasons:
            self._reasons.append(reason)

    @property
    def calls(self) -> int:
        """Billed responses."""
        return self._counted()["calls"]

    @property
    def input_tokens(self) -> int:
        """All input, cached and written included."""
        return self._counted()["input_tokens"]

    @property
    def output_tokens(self) -> int:
        """All output, reasoning included."""
        return self._counted()["output_tokens"]

    @property
    def priced_nanousd(self) -> int:
        """What the calls with a price cost, in nano-dollars."""
        return self._counted()["priced_nanousd"]

    @property
    def unpriced(self) -> int:
        """Calls without a price."""
        return self._counted()["unpriced"]

    @property
    def models(self) -> Dict[str, int]:
        """`{"provider:model": calls}`."""
        self._counted()
        return dict(self._models)

    @property
    def reasons(self) -> List[str]:
        """Why calls have no price, each reason once."""
        self._counted()
        return list(self._reasons)

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
        """The same as JSON has it: `COUNTS`, `models` and `reasons`."""
        return dict(self._counted(), models=self.models, reasons=self.reasons)

    def merge(self, row: Mapping[str, Any]) -> None:
        """Add what `as_dict` of another one says."""
        with self._adding:
            for name in COUNTS:
                self._counts[name] += row[name]
            for model, calls in row["models"].items():
                self._models[model] = self._models.get(model, 0) + calls
            self._reasons.extend(reason for reason in row["reasons"] if reason not in self._reasons)


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
