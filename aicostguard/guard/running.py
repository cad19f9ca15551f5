"""What a stream has cost so far, while it runs: for calls whose most nobody knows beforehand.

Owns the estimate from the bytes that pass, and the decision to hold more or to cut. Text is what counts: the frames
around it are ten times its size. A call whose most is known has none of this: what it can use is held from its start.
If this estimates too little, a budget is passed by a stream that goes on; if too much, a stream is cut that had room.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Optional, Pattern, Tuple

from aicostguard.guard.bound import Asked
from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.values import Ticket
from aicostguard.pricing import PriceBook

#: bytes of text that make a token, about; an event of a stream has at least one
_BYTES = 4
#: tokens by which a price is told from the book
_STEP = 1_000_000
#: more is held by this share of what is held, so that a long stream does not ask at every event
_SHARE = 4

_STRING = rb'"\s*:\s*"((?:[^"\\]|\\.)*)"'
_ANY = re.compile(rb'"(?:content|text|delta|thinking|partial_json|response|reasoning|arguments)' + _STRING)
#: format → where its events carry what is written; an event that repeats the whole answer is left out
_WRITTEN: Dict[str, Pattern[bytes]] = {
    "responses": re.compile(rb'"delta' + _STRING),
    "messages": re.compile(rb'"(?:text|thinking|partial_json)' + _STRING),
    "generate": re.compile(rb'"text' + _STRING),
}


class Running:
    """One stream. `passed` takes its bytes, split anywhere; an event that is split counts when its end is here."""

    __slots__ = ("_guard", "_ticket", "_written", "_rest", "_text", "_events", "_input", "_rates", "_held", "_going")

    def __init__(
        self,
        guard: Guard,
        ticket: Ticket,
        written: Pattern[bytes],
        input_tokens: int,
        rates: Optional[Tuple[int, int]],
        held: Tuple[Optional[int], Optional[int]],
    ) -> None:
        self._guard = guard
        self._ticket = ticket
        self._written = written
        self._rest = b""
        self._text = 0
        self._events = 0
        self._input = input_tokens
        #: nano-dollars of the input, and of `_STEP` tokens of output
        self._rates = rates
        self._held = list(held)
        #: a question that was handed to a thread and is not answered yet
        self._going: Any = None

    def used(self) -> Tuple[Optional[int], int]:
        """Nano-dollars (None: no price is known) and tokens so far, as an estimate."""
        output = max(self._events, self._text // _BYTES)
        cost = None if self._rates is None else self._rates[0] + self._rates[1] * output // _STEP
        return cost, self._input + output

    def passed(self, data: bytes, elsewhere: Optional[Callable[..., Any]] = None) -> Optional[BudgetExceeded]:
        """The next bytes; an error when there is no room for what has come.

        `elsewhere` hands a function to a thread and gives its future, where this one must not wait for a store: then
        the stream goes on, and the answer is looked at when further bytes have come.
        """
        whole = self._rest + data
        line = whole.rfind(b"\n") + 1
        self._rest = whole[line:] if len(whole) - line < 65536 else b""
        for found in self._written.finditer(whole[:line] if line else b""):
            self._text += len(found.group(1))
            self._events += 1
        used = self.used()
        more = [0, 0]
        for unit in (0, 1):
            most, now = self._held[unit], used[unit]
            if most is not None and now is not None and now > most:
                more[unit] = now - most
        if not any(more):
            return None
        if elsewhere is None:
            extra = self._more(more)
        else:
            if self._going is None:
                self._going = elsewhere(self._more, more)
            if not self._going.done():
                return None
            extra, self._going = self._going.result(), None
        if extra is None:
            return self._cut(used)
        self._held = [most if most is None else most + extra[i] for i, most in enumerate(self._held)]
        return None

    def _more(self, need: List[int]) -> Optional[List[int]]:
        """What is held besides from now on: some more than is needed, or that; None when there is no room."""
        ample = [less and max(less, (self._held[unit] or 0) // _SHARE) for unit, less in enumerate(need)]
        for extra in (ample, need):
            if self._guard.grow(self._ticket, extra[0], extra[1]):
                return extra
        return None

    def _cut(self, used: Tuple[Optional[int], int]) -> BudgetExceeded:
        cost, tokens = used
        by_cost = cost is not None and self._held[0] is not None and cost > self._held[0]
        text = "Stream cut: what has come of it is about %s, and its budgets have room for %s" % (
            ("$%.6f" % ((cost or 0) / 1e9), "$%.6f" % ((self._held[0] or 0) / 1e9))
            if by_cost
            else ("%d tokens" % tokens, "%d" % (self._held[1] or 0))
        )
        return BudgetExceeded(
            text,
            budget=self._guard.policy.name,
            dimension="stream",
            unit="nanousd" if by_cost else "tokens",
            limit=self._held[0] if by_cost else self._held[1],
            estimate=cost if by_cost else tokens,
        )


def of(
    guard: Guard, book: PriceBook, ticket: Ticket, endpoint: Any, asked: Asked, body: Optional[bytes], at_ms: int
) -> Running:
    """The watch over one call's stream."""
    input_tokens = len(body or b"") // _BYTES

    def price(into: int, out: int) -> Optional[int]:
        if asked.model is None:
            return None
        return book.ceiling(
            endpoint.provider,
            asked.model,
            input_tokens_max=into,
            output_tokens_max=out,
            at_ms=at_ms,
            service_tier=asked.tier,
            region=asked.region or endpoint.region,
        )

    first, step = price(input_tokens, 0), price(0, _STEP)
    rates = None if first is None or step is None else (first, step)
    return Running(guard, ticket, _WRITTEN.get(endpoint.format, _ANY), input_tokens, rates, guard.holds(ticket))
