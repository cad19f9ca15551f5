"""Where budgets' counters are kept: one protocol, three stores.

    memory   one process; counters live as long as the guard
    sqlite   processes of one machine, through one file
    redis    processes of many machines, through one server

A store knows counters and tickets, and nothing of rules, periods or prices. Each step is atomic: a ticket stands in all
of its counters or in none. What must hold in every store, after every step, is written down once, in `Store`, and tried
on all of them by the same tests. If a store is wrong, money is spent that was refused elsewhere, or room is lost for
good.
"""

from __future__ import annotations

from typing import List, Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple, Union

from aicostguard.guard.policy import BadPolicy

#: as an amount: everything that is left of the counter
REST = -1
#: no single amount is larger, so that sums fit into 64 bits for longer than anybody lives: a million dollars
MOST = 10**15
#: how long a ticket's record is kept after its lease ran out, for a late settlement to correct what was booked
LATE_MS = 86_400_000
#: what the address of a server begins with
SERVERS = ("redis", "rediss", "unix", "valkey", "valkeys", "redis+cluster", "rediss+cluster")


class StoreFailed(Exception):
    """The store could not be asked, or did not answer in time. What became of the step is not known."""


class Busy(Exception):
    """With `wait=False`: this step would have had to wait. Nothing was done."""


class Counter(NamedTuple):
    """One counter that a call stands in.

    `spent + reserved` may come to `limit` and no further when it is `hard`; else it is only told. `window` is the
    seconds that a rolling counter looks back on, 0 for one that only grows. From `until` (Unix milliseconds, 0 is
    never) on nobody will ask for it, and it is forgotten.
    """

    key: str
    limit: int
    hard: bool = True
    window: int = 0
    until: int = 0


class Balance(NamedTuple):
    """What stands in a counter. `unpriced` calls were settled without an amount and held nothing; `estimated` ones
    were booked with what they held, or with an amount that is itself an estimate."""

    key: str
    spent: int = 0
    reserved: int = 0
    unpriced: int = 0
    estimated: int = 0


class Held(NamedTuple):
    """A step that was made. `amounts` is what the ticket got of each counter. `over` are (index, spent, reserved
    before) of counters that are not hard and are now above their limit."""

    amounts: Tuple[int, ...]
    over: Tuple[Tuple[int, int, int], ...] = ()


class Refusal(NamedTuple):
    """A step that was not made: the first counter without room, and what stands in it."""

    at: int
    spent: int
    reserved: int


Answer = Union[Held, Refusal]


class Store(Protocol):
    """What a guard needs. All times are Unix milliseconds, all amounts whole and not negative.

    What holds after every step:
    - `spent + reserved` of a hard counter never passes its limit through `reserve` or `grow`; only a settlement above
      what was held can carry it there.
    - `reserved` is the sum of what open tickets hold of it.
    - A ticket is settled or released once; a second answer changes nothing and is answered by None.
    - A ticket whose lease runs out is booked whole, as an estimate, and stays correctable for `LATE_MS`.

    Methods raise `StoreFailed`, and `Busy` when `wait` is False and they would have had to wait, and nothing else.
    """

    #: False when no step ever waits for anything: then a running loop may take it directly
    waits: bool

    def reserve(
        self, ticket: str, counters: Sequence[Counter], amounts: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> Answer:
        """Hold `amounts` (or `REST`) of the counters until `lease`."""

    def grow(
        self, ticket: str, counters: Sequence[Counter], more: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> bool:
        """Hold more for an open ticket, of all its counters or of none, and renew its lease. Counters come as they did
        in `reserve`, in the same order. With nothing more it renews. False when there is no room, or no such ticket."""

    def settle(
        self,
        ticket: str,
        keys: Sequence[str],
        amounts: Sequence[Optional[int]],
        estimated: bool,
        now: int,
        wait: bool = True,
    ) -> Optional[Tuple[int, ...]]:
        """Book what was used of each counter, None for what it holds, and give the rest back. What is spent of each
        counter afterwards; None when there is no such ticket. Keys come as they did in `reserve`."""

    def release(self, ticket: str, keys: Sequence[str], now: int, wait: bool = True) -> bool:
        """Give all that is held back, or what was booked when the lease ran out. False when there is no such ticket."""

    def expire(self, now: int, wait: bool = True) -> int:
        """Book tickets whose lease has run out, forget what nobody asks for any more; how many were booked."""

    def once(self, key: str, until: int, now: int, wait: bool = True) -> bool:
        """True for the first who asks with this key, of all who share the store, until `until` (0: for good)."""

    def read(self, prefix: str, now: int) -> List[Balance]:
        """The counters whose key begins with `prefix`, in the order of their keys."""

    def rebuild(self, spent: Mapping[str, int], counters: Sequence[Counter], now: int) -> None:
        """Set what is spent of these counters to what another book says. Doing it twice is doing it once: nothing is
        added. What open tickets hold stays; tickets that were booked because their lease ran out are closed for good,
        for the other book has them."""

    def close(self) -> None:
        """Let go of files and connections. A later step opens them again."""


def open_store(where: str, name: str, state_dir: str) -> Store:
    """The store that a policy says: `memory`, `sqlite` (a file in the state folder, named by a hash of the policy's
    name), `sqlite:///path`, or the address of a Redis or Valkey server. Opens nothing yet. Raises BadPolicy for another
    word.
    """
    kind, _, rest = where.partition("://")
    if where == "memory":
        from aicostguard.guard.store.memory import MemoryStore

        return MemoryStore()
    if where == "sqlite" or (kind == "sqlite" and len(rest) > 1 and rest[0] == "/"):
        from aicostguard.guard.store.sqlite import SqliteStore

        if rest:
            return SqliteStore(rest[1:])
        import hashlib
        import os

        return SqliteStore(os.path.join(state_dir, "guard-%s.db" % hashlib.sha256(name.encode()).hexdigest()[:16]))
    if kind in SERVERS and rest:
        from aicostguard.guard.store.redis import RedisStore

        return RedisStore(where, name)
    raise BadPolicy(
        "store: this cannot be used: write memory, sqlite, sqlite:///path, or the address of a server that begins "
        "with one of %s" % ", ".join("%s://" % scheme for scheme in SERVERS)
    )
