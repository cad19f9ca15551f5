"""How often a password may be guessed.

Owns the counts, which live in memory. Three of them, each for one way to guess: an account from one place, an address
that tries many accounts, and an account that many addresses try. A browser that has logged in before brings a mark of
its own and is counted by that mark alone: nobody else can use up its guesses, so that nobody can lock somebody out.
"""

from __future__ import annotations

import ipaddress
import threading
from typing import Callable, NamedTuple

from aicostguard.ledger.errors import Limited

#: wrong guesses that cost nothing; after that each waits twice as long as the one before, to a quarter of an hour
FREE = 5
MOST_WAIT_S = 900.0
#: wrong guesses of an address at once, and how many come back in an hour
OF_ADDRESS, ADDRESS_PER_HOUR = 30, 60
#: the same of an account, from everywhere that has not logged in before
OF_ACCOUNT, ACCOUNT_PER_HOUR = 60, 60
_MOST_KEPT = 50_000
_DAY_S = 86_400.0


class _Count(NamedTuple):
    wrong: float
    at_s: float


class Guesses:
    """`clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], _Count] = {}

    def may(self, account: str, address: str, device: str | None) -> None:
        """Raises `Limited` when it is too early for another guess."""
        now = self._clock()
        with self._lock:
            wait = self._wait(self._place(account, address, device), now)
            if device is None:
                wait = max(
                    wait,
                    self._full(("address", network(address)), OF_ADDRESS, ADDRESS_PER_HOUR, now),
                    self._full(("account", account), OF_ACCOUNT, ACCOUNT_PER_HOUR, now),
                )
        if wait > 0:
            seconds = int(wait) + 1
            raise Limited(f"too many wrong passwords; try again in {seconds} s. An admin can give you a code", seconds)

    def wrong(self, account: str, address: str, device: str | None) -> None:
        """Count a wrong guess."""
        now = self._clock()
        with self._lock:
            if len(self._counts) > _MOST_KEPT:
                self._counts = {name: count for name, count in self._counts.items() if now - count.at_s < _DAY_S / 24}
            place = self._place(account, address, device)
            self._counts[place] = _Count(self._of(place, now) + 1, now)
            if device is None:
                for key, rate in self._wide(account, address):
                    self._counts[key] = _Count(self._left(key, rate, now) + 1, now)

    def right(self, account: str, address: str, device: str | None) -> None:
        """Forget what this place guessed before."""
        with self._lock:
            self._counts.pop(self._place(account, address, device), None)

    @staticmethod
    def _wide(account: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
        return ((("address", network(address)), ADDRESS_PER_HOUR), (("account", account), ACCOUNT_PER_HOUR))

    @staticmethod
    def _place(account: str, address: str, device: str | None) -> tuple[str, str]:
        return ("device", device) if device is not None else ("place", f"{account} {network(address)}")

    def _of(self, key: tuple[str, str], now: float) -> float:
        count = self._counts.get(key)
        return 0.0 if count is None or now - count.at_s > _DAY_S else count.wrong

    def _wait(self, key: tuple[str, str], now: float) -> float:
        wrong = self._of(key, now)
        if wrong < FREE:
            return 0.0
        pause = float(2 ** min(int(wrong) - FREE, 20))
        return self._counts[key].at_s + min(MOST_WAIT_S, pause) - now

    def _left(self, key: tuple[str, str], per_hour: int, now: float) -> float:
        count = self._counts.get(key)
        return 0.0 if count is None else max(0.0, count.wrong - (now - count.at_s) * per_hour / 3600)

    def _full(self, key: tuple[str, str], most: int, per_hour: int, now: float) -> float:
        """Seconds until one more fits."""
        return (self._left(key, per_hour, now) - most + 1) * 3600 / per_hour


def network(address: str) -> str:
    """What one holder of an address has at hand: of IPv6 a whole /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
