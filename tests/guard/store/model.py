"""What a store must do, written as slowly and plainly as it can be. The stores are compared with this."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from aicostguard.guard.store import LATE_MS, REST, Balance, Counter


class Model:
    def __init__(self) -> None:
        self.counters: Dict[str, Counter] = {}
        #: (key, second or 0) → [spent, reserved]; every amount that ever was
        self.amounts: Dict[Tuple[str, int], List[int]] = {}
        self.counts: Dict[str, List[int]] = {}
        #: ticket → (keys, amounts, slots, lease, booked)
        self.tickets: Dict[str, List] = {}

    def _sum(self, key: str, what: int, now: int) -> int:
        window = self.counters[key].window
        return sum(
            amounts[what]
            for (name, second), amounts in self.amounts.items()
            if name == key and (not window or second >= now // 1000 - window)
        )

    def spent(self, key: str, now: int) -> int:
        return self._sum(key, 0, now)

    def reserved(self, key: str, now: int) -> int:
        return self._sum(key, 1, now)

    def _add(self, key: str, slot: int, spent: int, reserved: int) -> None:
        amounts = self.amounts.setdefault((key, slot), [0, 0])
        amounts[0] += spent
        amounts[1] += reserved

    def reserve(self, ticket: str, counters: Sequence[Counter], amounts: Sequence[int], now: int, lease: int):
        held = []
        for at, (counter, amount) in enumerate(zip(counters, amounts)):
            self.counters.setdefault(counter.key, counter)
            self.counts.setdefault(counter.key, [0, 0])
            spent, reserved = self.spent(counter.key, now), self.reserved(counter.key, now)
            if amount == REST:
                amount = max(counter.limit - spent - reserved, 0)
                if counter.hard and amount == 0:
                    return at, spent, reserved
            if counter.hard and spent + reserved + amount > counter.limit:
                return at, spent, reserved
            held.append(amount)
        slots = [now // 1000 if counter.window else 0 for counter in counters]
        for counter, amount, slot in zip(counters, held, slots):
            self._add(counter.key, slot, 0, amount)
        self.tickets[ticket] = [[counter.key for counter in counters], held, slots, lease, False]
        return tuple(held)

    def grow(self, ticket: str, counters: Sequence[Counter], more: Sequence[int], now: int, lease: int) -> bool:
        if ticket not in self.tickets or self.tickets[ticket][4]:
            return False
        keys, held, slots, old, _ = self.tickets[ticket]
        for counter, amount in zip(counters, more):
            used = self.spent(counter.key, now) + self.reserved(counter.key, now)
            if amount and counter.hard and used + amount > counter.limit:
                return False
        for index, amount in enumerate(more):
            self._add(keys[index], slots[index], 0, amount)
            held[index] += amount
        self.tickets[ticket][3] = max(old, lease)
        return True

    def _open(self, ticket: str):
        found = self.tickets.pop(ticket, None)
        if found is None:
            return None
        keys, held, slots, _, booked = found
        if booked:
            for key, amount, slot in zip(keys, held, slots):
                self._add(key, slot, -amount, amount)
                self.counts[key][1] -= 1
        return keys, held, slots

    def settle(self, ticket: str, amounts: Sequence[Optional[int]], estimated: bool, now: int):
        found = self._open(ticket)
        if found is None:
            return None
        for key, held, slot, amount in zip(*found, amounts):
            if amount is None and not held:
                self.counts[key][0] += 1
            elif amount is None or estimated:
                self.counts[key][1] += 1
            self._add(key, slot, held if amount is None else amount, -held)
        return tuple(self.spent(key, now) for key in found[0])

    def release(self, ticket: str) -> bool:
        found = self._open(ticket)
        if found is None:
            return False
        for key, held, slot in zip(*found):
            self._add(key, slot, 0, -held)
        return True

    def expire(self, now: int) -> int:
        booked = 0
        for name, ticket in list(self.tickets.items()):
            keys, held, slots, lease, late = ticket
            if not late and lease <= now:
                ticket[4] = True
                booked += 1
                for key, amount, slot in zip(keys, held, slots):
                    self._add(key, slot, amount, -amount)
                    self.counts[key][1] += 1
            if lease + LATE_MS <= now:
                del self.tickets[name]
        return booked

    def rebuild(self, spent: Dict[str, int], counters: Sequence[Counter]) -> None:
        for counter in counters:
            self.counters.setdefault(counter.key, counter)
            self.counts.setdefault(counter.key, [0, 0])[1] = 0
            self.amounts.setdefault((counter.key, 0), [0, 0])[0] = spent[counter.key]
        for name, (keys, _, _, _, booked) in list(self.tickets.items()):
            if booked and set(keys) & set(spent):
                del self.tickets[name]

    def balances(self, now: int) -> List[Balance]:
        return [
            Balance(key, self.spent(key, now), self.reserved(key, now), *self.counts[key])
            for key in sorted(self.counters)
        ]
