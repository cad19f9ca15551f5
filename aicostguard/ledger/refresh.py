"""A newer price table for a ledger: from an installed `genai-prices`, a file or an address.

Owns what is checked before a table is put in place, and that the one before it is kept. Nothing of the program that is
measured is touched: the table is the ledger's. If a broken table came through, every later receipt would be wrong.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, NamedTuple

from aicostguard import pricing
from aicostguard.ledger import prices
from aicostguard.ledger.prices import BadPrices
from aicostguard.pricing import BadPrice, PriceBook

#: the table that was in place before
BEFORE = "pricebook.previous.json"
MAX_BYTES = 20_000_000
TIMEOUT_S = 30
#: a table with fewer of the models known now was cut off, or is something else
LEAST_KEPT = 0.8


class Refreshed(NamedTuple):
    """What was done: the table in force before and now, and how many models are new, gone, or priced otherwise."""

    before: str
    now: str
    replaced: bool
    models: int
    new: int
    gone: int
    moved: int


def from_source(today: str) -> str:
    """The table that the installed genai-prices gives. Raises `BadPrices`."""
    from aicostguard.ledger import compiling

    try:
        return compiling.render(compiling.compile_books(), today)
    except ImportError as error:
        raise BadPrices(
            f"genai-prices is not installed or too old ({error}): pip install -U genai-prices, "
            "or name a compiled table with --from"
        ) from None
    except compiling.NotUnderstood as error:
        raise BadPrices(
            f"genai-prices {compiling.installed()}: {error}; a newer aicostguard may understand it"
        ) from None


def fetch(place: str) -> str:
    """The text of a compiled table at a path or an http(s) address. Raises `BadPrices`."""
    try:
        if place.startswith(("http://", "https://")):
            data = _download(place)
        else:
            with open(place, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadPrices(f"{place} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise BadPrices(f"{place} is larger than {MAX_BYTES} bytes, which is no price table")
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise BadPrices(f"{place} is no compiled price table: it is not UTF-8") from None


def _download(place: str) -> bytes:
    import http.client
    import urllib.request  # with ssl behind it: for this alone

    request = urllib.request.Request(place, headers={"Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            return bytes(reply.read(MAX_BYTES + 1))
    except http.client.HTTPException as error:
        raise OSError(f"what answers is no web server, or broke off ({type(error).__name__})") from None


def check(text: str, place: str) -> PriceBook:
    """The book that a table makes, every row checked. Raises `BadPrices`."""
    try:
        return PriceBook(json.loads(text))
    except BadPrice as error:
        raise BadPrices(f"{place}: {error}; nothing was changed") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadPrices(f"{place} is no compiled price table ({type(error).__name__}); nothing was changed") from None


def install(path: str, text: str, place: str, *, older: bool = False) -> Refreshed:
    """Put a table in place for the ledger at `path`, the one before it kept. Raises `BadPrices`, nothing changed.

    Refused are a broken table, one with far fewer models than are known now, and an older one unless `older`.
    """
    book = check(text, place)
    target = prices.beside(path, prices.TABLE)
    current = prices.read_table(target) if os.path.exists(target) else pricing.default_book()
    was, now = _rows(current), _rows(book)
    kept = sum(key in now for key in was)
    if kept < LEAST_KEPT * len(was):
        raise BadPrices(f"{place} has {kept} of the {len(was)} models known now: it was cut off; nothing was changed")
    if _day(book) < _day(current) and not older:
        raise BadPrices(f"{place} is of {_day(book)}, the table in force of {_day(current)}; --older takes it anyway")
    same = was == now and _version(current) == _version(book)
    if not same:
        _put(target, text, prices.beside(path, BEFORE))
    moved = sum(key in was and was[key] != row for key, row in now.items())
    new, gone = len(now.keys() - was.keys()), len(was.keys() - now.keys())
    return Refreshed(current.source, book.source, not same, len(now), new, gone, moved)


def _put(target: str, text: str, before: str) -> None:
    folder = os.path.dirname(target)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    # A copy, so that there is a table in force at every moment.
    if os.path.exists(target):
        with open(target, "rb") as file:
            _replace(before, file.read())
    _replace(target, text.encode())


def _replace(target: str, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".pricebook-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _rows(book: PriceBook) -> dict[tuple[str, str], Any]:
    return {(name, model): row for name, content in book.rows().items() for model, row in content["models"].items()}


def _day(book: PriceBook) -> str:
    return book.source.rpartition("(")[2].rstrip(")")


def _version(book: PriceBook) -> str:
    return book.source.rpartition(" (")[0]
