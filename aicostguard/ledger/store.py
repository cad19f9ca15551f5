"""What the ledger asks of a store. SQLite is the one there is; ClickHouse will stand behind the same interface.

Nothing here may assume how rows are kept: no row numbers, no order other than the one asked for, no types
that the database guesses.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Protocol, Sequence

from aicostguard.ledger.model import Added, Arrivals, Batch, Costs, Key, Place, Query, Source
from aicostguard.pricing import PriceBook

#: makes a batch of an envelope's bytes found in the inbox: (project, bytes, received_ms) → Batch
Prepare = Callable[[int, bytes, int], Batch]


class Store(Protocol):
    """Receipts, their sums, and who may ask. Every method may be called from any thread.

    Raises `Full`, `Busy`, `Corrupt` and `NotWritable` of `aicostguard.ledger.errors`.
    """

    #: the prices of what comes in; None: those of this release
    book: PriceBook | None

    def add(self, batch: Batch) -> Added:
        """Dedupe, insert, roll up, in one transaction; returns after it is durable.

        Raises `Refused` (422) when the batch's `bare_key` was seen with another body.
        """

    def drain(self, prepare: Prepare) -> int:
        """Take in what agents left in the file itself; returns how many envelopes. 0 where there is no such way."""

    def fold(self, at_most_every_s: float = 0.0) -> None:
        """Take into percentiles what was added until now: the sums have it at once, percentiles only then.

        Nothing is done when that was done less than so long ago, or is being done and `at_most_every_s` is given.
        """

    def costs(self, query: Query) -> Costs:
        """Rows and totals of one and the same moment."""

    def receipts(self, query: Query, after: Place | None = None) -> list[dict[str, Any]]:
        """The newest `query.limit` receipts of the period that pass the filters, keys left out where absent.

        With `after`, those behind that place: what comes in meanwhile moves none of them.
        """

    def missing(self, query: Query, *, raw: bool = False) -> list[tuple[int, int]]:
        """`(start of a UTC day in ms, receipts)`: what `costs`, or `receipts` (`raw`), lack because it is archived."""

    def sources(
        self,
        project_id: int,
        since_ms: int = 0,
        epochs: Sequence[str] = (),
        *,
        limit: int = -1,
        after: tuple[int, str] | None = None,
        filters: Mapping[str, tuple[str, ...]] = {},
    ) -> list[Source]:
        """Every process that was heard at `since_ms` or later, the latest first; only `epochs`, if any are named.

        Of these the first `limit`, -1 for all, behind the one that was last heard at `after[0]` and is `after[1]`.
        """

    def gaps(self, project_id: int, epoch: str, limit: int) -> list[tuple[int, int]]:
        """The first `limit` runs `(first, last)` of seqs of a process that never came while later ones did."""

    def arrivals(self, project_id: int, after: int | None, filters: Mapping[str, tuple[str, ...]]) -> Arrivals:
        """What was stored after the point `after` and passes the filters; None gives the present point alone."""

    def first_at(self, project_id: int) -> int | None:
        """The start of the UTC day of the oldest receipt, archived or not; None while there is none."""

    def default_project(self) -> int:
        """The project of the inbox and of the first key. Made when there is none."""

    def add_key(self, key: str, name: str, scopes: tuple[str, ...], project_id: int, now_ms: int) -> Key:
        """Remember a key by its hash. The same key again is left as it was."""

    def find_key(self, key: str) -> Key | None:
        """The key's entry, revoked or not, or None."""

    def keys(self, project_id: int) -> list[Key]:
        """All keys, in the order they were made."""

    def revoke_key(self, shown: str, project_id: int, now_ms: int) -> list[Key]:
        """Revoke the key `shown`, or every key in force that begins with its nine characters; returns them."""

    def close(self) -> None:
        """Finish what was begun and let go of the file."""
