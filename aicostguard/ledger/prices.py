"""Which prices a ledger charges: the table of this release or a refreshed one, and the user's own terms on top.

Owns where both lie and how they are read. A file with a mistake stops whoever would price by it, with the file, the
line and the remedy: a ledger that went on without its discounts would be wrong in silence.

- `pricebook.json` beside the ledger's file: a newer table, put there by `aicg price update`.
- `prices.json`, `prices.yaml` or `prices.yml` beside it: own terms, unless `aicg serve --prices FILE` named another
  file, which the ledger remembers so that every command that prices does it alike.
"""

from __future__ import annotations

import json
import os

from aicostguard import pricing
from aicostguard.ledger.errors import LedgerError
from aicostguard.pricing import BadPrice, PriceBook, pricefile
from aicostguard.pricing.pricefile import BadPriceFile

#: the refreshed table, beside the ledger's file
TABLE = "pricebook.json"
#: own terms, beside the ledger's file
OWN_NAMES = ("prices.json", "prices.yaml", "prices.yml")
#: the setting that names another file of own terms
SETTING = "prices"


class BadPrices(LedgerError):
    """Prices that must not be used; the text says where they are and what to do."""


def beside(path: str, name: str) -> str:
    """A file in the folder of the ledger at `path`."""
    return os.path.join(os.path.dirname(os.path.abspath(path)), name)


def own_file(path: str, remembered: str | None) -> str | None:
    """The file of own terms of the ledger at `path`, or None. Raises `BadPrices` when there are two."""
    if remembered:
        return remembered
    found = [file for file in (beside(path, name) for name in OWN_NAMES) if os.path.exists(file)]
    if len(found) > 1:
        raise BadPrices(f"{' and '.join(found)} are both there: keep one of them")
    return found[0] if found else None


def special(path: str, remembered: str | None) -> PriceBook | None:
    """The price book of the ledger at `path`; None: that of this release, which is read when needed."""
    own, table = own_file(path, remembered), beside(path, TABLE)
    return None if own is None and not os.path.exists(table) else book(path, remembered)


def book(path: str, remembered: str | None) -> PriceBook:
    """The price book of the ledger at `path`, own terms included. Raises `BadPrices`."""
    own, table = own_file(path, remembered), beside(path, TABLE)
    rows = read_table(table) if os.path.exists(table) else pricing.default_book()
    return rows if own is None else rows.with_own(read_own(own))


def read_own(path: str) -> pricing.Own:
    """The terms in a prices file. Raises `BadPrices`."""
    try:
        return pricefile.load(path)
    except BadPriceFile as error:
        raise BadPrices(str(error)) from None
    except OSError as error:
        raise BadPrices(
            f"{path}, the prices file, cannot be read: {error.strerror}; put it back, or forget it with "
            "`aicg serve --no-prices`"
        ) from error


def read_table(path: str) -> PriceBook:
    """A compiled price table, every row checked. Raises `BadPrices`."""
    try:
        with open(path, encoding="utf-8") as file:
            return PriceBook(json.load(file))
    except OSError as error:
        raise BadPrices(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        what = str(error) if isinstance(error, BadPrice) else f"it is no compiled price table ({type(error).__name__})"
        raise BadPrices(f"{path}: {what}; remove it to use the table of this release") from None
