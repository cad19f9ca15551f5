"""What a call costs, in nano-dollars, from dated price rows that ship with the package.

Owns the price book of this process. Reads one data file of this package, at the first price, and nothing else.
Never raises for a receipt that fits the schema, never answers with a default price: a receipt whose model, class,
tier or unit is not in the book is *unpriced*, with the reason. If this breaks, money is missing or wrong.
"""

from __future__ import annotations

import threading
from typing import Any, Mapping, Optional

from aicostguard.pricing.book import Price, PriceBook
from aicostguard.pricing.own import Own
from aicostguard.pricing.rates import BadPrice

__all__ = ["BadPrice", "Own", "Price", "PriceBook", "default_book", "price"]

_lock = threading.Lock()
_book: Optional[PriceBook] = None


def default_book() -> PriceBook:
    """The book that ships with this release, loaded once."""
    global _book
    if _book is None:
        with _lock:
            if _book is None:
                import json
                import os.path

                path = os.path.join(os.path.dirname(__file__), "data", "prices.json")
                with open(path, encoding="utf-8") as file:
                    _book = PriceBook(json.load(file))
    return _book


def price(receipt: Mapping[str, Any], at_ms: int) -> Price:
    """What a receipt costs for a call at `at_ms` (Unix milliseconds, UTC), by the book of this release."""
    return (_book or default_book()).price(receipt, at_ms)
