"""The ledger: takes receipts exactly once, prices them, keeps sums, answers questions about cost.

Owns stored receipts and money. Imports nothing of capture or delivery: what it knows of agents is the
envelope. Needs the extra `server` for its HTTP face; the store itself runs on the standard library.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Mapping

from aicostguard import config
from aicostguard.ledger import ingest, prices, scores
from aicostguard.ledger.model import Batch
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.store import Store
from aicostguard.pricing import PriceBook


def default_path(environ: Mapping[str, str] | None = None) -> str:
    """`AICG_DATA_DIR/ledger.db`, else where the user's data lives."""
    settings = config.load(os.environ if environ is None else environ)
    return os.path.join(settings.data_dir, "ledger.db")


def open_ledger(path: str, *, create: bool = True, check: bool = False, own: str | None = None) -> SqliteStore:
    """Open the ledger file, with its prices, and take in what agents left in its inbox.

    `own` is a prices file that the ledger uses and remembers from now on, "" forgets it. Errors
    as `SqliteStore`'s, and `prices.BadPrices`.
    """
    store = SqliteStore(path, create=create, check=check)
    try:
        if own is not None:
            store.remember(prices.SETTING, os.path.abspath(own) if own else None)
        store.book = prices.special(path, store.setting(prices.SETTING))
        drain(store)
    except BaseException:
        store.close()
        raise
    return store


def drain(store: Store) -> int:
    """Price and roll up what lies in the inbox; returns how many envelopes."""
    taken = store.drain(partial(_prepare, store.book))
    if taken:  # a file that nobody serves is folded here, or its arrivals would be remembered for ever
        store.fold()
    return taken


def _prepare(book: PriceBook | None, project_id: int, envelope: bytes, received_ms: int) -> Batch:
    body, received_ms = ingest.parse(envelope), min(received_ms, now_ms())
    if isinstance(body, dict) and "scores" in body:
        found = tuple(scores.parse(body, now_ms()))
        return Batch(project_id, "", received_ms, received_ms, {}, "", {}, (), scores=found)
    return ingest.prepare(project_id, body, received_ms, price=book.cost if book is not None else None)


def now_ms() -> int:
    """The ledger's clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000
