"""How latencies are spread: histograms that can be added up, and the percentiles read from them. Pure.

Owns the bins. Each is two per cent wide, so that a percentile is off by one per cent at most, whatever is added to
whatever; `exact` works from the values themselves and is off by nothing. A spread is bytes, ready to be stored: its
first bin, its number of values, and a count of 32 bits for each bin. Read as one long integer, spreads are added in one
step. If this is wrong, percentiles are wrong beyond the bound that is stated.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from typing import Iterable, Mapping, Sequence

#: the relative error of a percentile at most
BOUND = 0.01
_GAMMA = (1 + BOUND) / (1 - BOUND)
_WIDTH = math.log(_GAMMA)
_HEAD = struct.Struct("<HQ")
_LANE = 4
#: a spread of so many values takes no more: no bin may pass 32 bits
FULL = 2**32 - 1
EMPTY = b""

#: the bins of short times, by milliseconds: a look-up costs a fifth of a logarithm
_BIN_OF = [0, *(1 + math.ceil(math.log(ms) / _WIDTH) for ms in range(1, 20_000))]


def bin_of(ms: int) -> int:
    """The bin of a time; 0 has one of its own."""
    return _BIN_OF[ms] if ms < 20_000 else 1 + math.ceil(math.log(ms) / _WIDTH)


def bins_of(times: Sequence[int | None]) -> list[int | None]:
    """The bins of times, None for None."""
    return [None if ms is None else _BIN_OF[ms] if ms < 20_000 else bin_of(ms) for ms in times]


def middle(number: int) -> float:
    """What a bin stands for: no value in it is further off than `BOUND`."""
    return 0.0 if number == 0 else 2 * _GAMMA ** (number - 1) / (1 + _GAMMA)


def of(values: Iterable[int]) -> bytes:
    """The spread of some times in milliseconds."""
    counts: dict[int, int] = {}
    for value in values:
        number = bin_of(value)
        counts[number] = counts.get(number, 0) + 1
    return of_counts(counts)


def of_counts(counts: Mapping[int, int]) -> bytes:
    """The spread with so many values in each bin."""
    if not counts:
        return EMPTY
    first = min(counts)
    lanes = array("I", bytes(_LANE * (max(counts) - first + 1)))
    for number, count in counts.items():
        lanes[number - first] = count
    return _HEAD.pack(first, sum(counts.values())) + _bytes(lanes)


def add(one: bytes, other: bytes) -> bytes:
    """Both in one. What would pass `FULL` stays as it is: so many values are sample enough."""
    return total((one, other))


def total(spreads: Sequence[bytes]) -> bytes:
    """All of them in one, in one addition of long integers each."""
    if len(spreads) == 1:
        return spreads[0]
    heads = [(*_HEAD.unpack_from(one), one) for one in spreads if one]
    if not heads:
        return EMPTY
    least = min(first for first, _, _ in heads)
    bins = count = 0
    width = 0
    for first, values, one in heads:
        if count + values > FULL:
            continue
        count += values
        bins += int.from_bytes(one[_HEAD.size :], "little") << (8 * _LANE * (first - least))
        width = max(width, first - least + (len(one) - _HEAD.size) // _LANE)
    return _HEAD.pack(least, count) + bins.to_bytes(_LANE * width, "little")


def count(spread: bytes) -> int:
    """How many values there are in it."""
    return int(_HEAD.unpack_from(spread)[1]) if spread else 0


def percentile(spread: bytes, share: float) -> float | None:
    """The percentile (0.95: the 95th), off by `BOUND` at most; None of nothing."""
    if not spread:
        return None
    first, values = _HEAD.unpack_from(spread)
    lanes = array("I", spread[_HEAD.size :])
    if sys.byteorder == "big":
        lanes.byteswap()
    return _ranked([(middle(first + at), number) for at, number in enumerate(lanes) if number], values, share)


def exact(counted: Sequence[tuple[int, int]], share: float) -> float | None:
    """The percentile of `(value, how often)`, rising: between two neighbours as far as the rank lies between them."""
    return _ranked(counted, sum(number for _, number in counted), share)


def _ranked(counted: Sequence[tuple[float, int]], values: int, share: float) -> float | None:
    if not values:
        return None
    rank = (values - 1) * share
    low = int(rank)
    at = iter(counted)
    value, passed = next(at)
    while passed <= low:
        value, number = next(at)
        passed += number
    if rank == low or passed > low + 1:
        return float(value)
    after = next(at)[0]
    return value + (after - value) * (rank - low)


def _bytes(lanes: array[int]) -> bytes:
    if sys.byteorder == "big":
        lanes.byteswap()
    return lanes.tobytes()
