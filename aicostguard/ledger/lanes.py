"""Many sums in one long integer: a lane for each name, so that two days are added up in one addition.

Owns how sums are laid side by side and how the largest are found among them. Pure. Amounts are 0 or more, and whoever
adds makes sure that no total leaves its lane (`FULL`): what did would be added to its neighbour.
"""

from __future__ import annotations

import heapq
import sys
from array import array
from typing import Iterable, Iterator, Mapping, Sequence

#: lanes of one long integer
WIDTH = 65_536
_BYTES = 8
#: all amounts of a total together stay under this
FULL = 2**62

#: chunk of numbers → its lanes
Lanes = Mapping[int, bytes]


def pack(amounts: Iterable[tuple[int, int]]) -> dict[int, bytes]:
    """Lanes of `(number, amount)`; those behind the last are left out."""
    made: dict[int, array[int]] = {}
    for number, amount in amounts:
        chunk, lane = divmod(number, WIDTH)
        lanes = made.setdefault(chunk, array("q"))
        if lane >= len(lanes):
            lanes.frombytes(bytes(_BYTES * (lane + 1 - len(lanes))))
        lanes[lane] = amount
    return {chunk: _little(lanes).tobytes() for chunk, lanes in made.items()}


class Laid:
    """Totals by place. The places of one chunk follow each other, and only chunks that occur have places."""

    def __init__(self, chunks: Iterable[int]) -> None:
        self.chunks = sorted(chunks)
        self._first = {chunk: place * WIDTH for place, chunk in enumerate(self.chunks)}

    def total(self, days: Iterable[tuple[int, bytes]]) -> array[int]:
        """The amounts of `(chunk, lanes)` added up."""
        sums = dict.fromkeys(self.chunks, 0)
        for chunk, lanes in days:
            sums[chunk] += int.from_bytes(lanes, "little")
        out = array("q")
        for chunk in self.chunks:
            out.frombytes(sums[chunk].to_bytes(_BYTES * WIDTH, "little"))
        return _little(out)

    def place(self, number: int) -> int:
        return self._first[number // WIDTH] + number % WIDTH

    def number(self, place: int) -> int:
        return self.chunks[place // WIDTH] * WIDTH + place % WIDTH


def _little(lanes: array[int]) -> array[int]:
    if sys.byteorder == "big":
        lanes.byteswap()
    return lanes


def first(amounts: Sequence[int], there: Sequence[int], count: int, *, largest: bool) -> list[int]:
    """Places of the `count` largest, or smallest, of those that are `there` (not 0 in it).

    All are given that are as large as the last of them: which of these come first is not decided here.
    """
    candidates: Iterator[int] = (amount for amount, is_there in zip(amounts, there) if is_there)
    found = heapq.nlargest(count, candidates) if largest else heapq.nsmallest(count, candidates)
    if not found:
        return []
    last = found[-1]
    if largest:
        return [place for place, amount in enumerate(amounts) if amount >= last and there[place]]
    return [place for place, amount in enumerate(amounts) if amount <= last and there[place]]
