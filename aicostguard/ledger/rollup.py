"""From receipts to the hourly and daily sums that dashboards are answered from. Pure.

Owns what a receipt adds to which sum. Works by columns, and only with the measures that occur in a batch: most of the
28 are nothing in most batches, and this runs for every receipt that any ledger takes. If it is wrong, totals are
wrong while every receipt is right: `tests/ledger/test_sums.py` compares the two.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Mapping, NamedTuple, Sequence

from aicostguard.ledger.model import (
    DAY_MS,
    DIMENSIONS,
    FLAGGED,
    HOUR_MS,
    JOINT,
    MEASURES,
    OF_ENVELOPE,
    PAIRS,
    SPARSE,
    TIMED,
    UNITS,
    Row,
)

_BY_HOUR = tuple(name for name, dimension in DIMENSIONS.items() if dimension.hourly)
#: the other daily sums are folded from the hourly ones
_BY_DAY = tuple(name for name, dimension in DIMENSIONS.items() if dimension.daily and not dimension.hourly)

_PAIRS = {",".join(pair): pair for pair in PAIRS}

#: (dimension, start_ms, value)
Cell = tuple[str, int, str]
#: an amount for each of `RollUp.measures`
Sums = dict[Cell, Sequence[int]]


class RollUp(NamedTuple):
    """Sums of some receipts; a measure that is not in `measures` is 0 in all of them."""

    measures: tuple[str, ...]
    hourly: Sums
    daily: Sums


def roll_up(rows: Sequence[Row], origin: Mapping[str, str]) -> RollUp:
    """Hourly and daily sums of these rows, which came from one process."""
    receipts = [row.receipt for row in rows]
    present: set[str] = set().union(*receipts)
    columns = _columns(rows, receipts, present)
    amounts = list(zip(*columns.values()))
    values = {name: _values(name, receipts, present, origin) for name in (*_BY_HOUR, *_BY_DAY)}
    said = {name: pair for name, pair in _PAIRS.items() if name in SPARSE and any(values[one] for one in pair)}
    values.update((name, _joined(len(rows), *(values[one] for one in pair))) for name, pair in said.items())
    hourly: Sums = {}
    daily: Sums = {}
    for into, names, length in ((hourly, (*_BY_HOUR, *said), HOUR_MS), (daily, _BY_DAY, DAY_MS)):
        for start, places in _by_start(rows, length).items():
            _sum_up(into, names, start, places, values, amounts)
    for key in [key for key in hourly if key[0] in said and key[2] == JOINT]:
        del hourly[key]
    folded: defaultdict[tuple[str, int, str], list[Sequence[int]]] = defaultdict(list)
    for (name, start, value), sums in hourly.items():
        folded[name, start - start % DAY_MS, value].append(sums)
    daily.update((key, _total(members)) for key, members in folded.items())
    for name, (one, other) in _PAIRS.items():
        if name not in SPARSE:
            _pair(daily, rows, amounts, name, (one, values[one]), (other, values[other]))
    return RollUp(tuple(columns), hourly, daily)


def _by_start(rows: Sequence[Row], length: int) -> dict[int, Sequence[int] | None]:
    """Places of rows by the hour or day they fall into; None for all of them, as is usual."""
    starts = [row.at_ms - row.at_ms % length for row in rows]
    if starts.count(starts[0]) == len(starts):
        return {starts[0]: None}
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place, start in enumerate(starts):
        places[start].append(place)
    return {**places}


def _columns(rows: Sequence[Row], receipts: Sequence[Mapping[str, Any]], present: set[str]) -> dict[str, Sequence[int]]:
    """What each row adds to each measure; measures that nobody adds to are left out."""
    found: dict[str, Sequence[int]] = {
        "cost_nanousd": [row.cost_nanousd or 0 for row in rows],
        "calls": [1] * len(rows),
        "unpriced_calls": [1 if row.cost_nanousd is None else 0 for row in rows],
        "clock_adjusted_calls": [1 if row.clock_adjusted else 0 for row in rows],
    }
    for flag, name in FLAGGED.items():
        if flag in present:
            found[name] = [1 if flag in receipt else 0 for receipt in receipts]
    for name in UNITS:
        if name in present:
            found[name] = [receipt.get(name, 0) for receipt in receipts]
    if any(row.cache_savings_nanousd for row in rows):
        found["cache_savings_nanousd"] = [row.cache_savings_nanousd or 0 for row in rows]
    for key, calls in TIMED.items():
        if key in present:
            found[calls] = [1 if key in receipt else 0 for receipt in receipts]
            found[key] = [receipt.get(key, 0) for receipt in receipts]
    return {name: found[name] for name in MEASURES if name in found and any(found[name])}


def _values(
    name: str, receipts: Sequence[Mapping[str, Any]], present: set[str], origin: Mapping[str, str]
) -> Sequence[str] | str:
    """The value of a dimension for each receipt, or the one that all of them have."""
    if name in OF_ENVELOPE:
        return origin.get(name, "")
    if name not in present:
        return ""
    values = [receipt.get(name, "") for receipt in receipts]
    return values[0] if values.count(values[0]) == len(values) else values


def _joined(count: int, one: Sequence[str] | str, other: Sequence[str] | str) -> Sequence[str] | str:
    """The values of a pair for each of so many receipts, or the one that all of them have."""
    if isinstance(one, str) and isinstance(other, str):
        return one + JOINT + other
    both = ([values] * count if isinstance(values, str) else values for values in (one, other))
    return [f"{first}{JOINT}{second}" for first, second in zip(*both)]


def _pair(
    daily: Sums,
    rows: Sequence[Row],
    amounts: Sequence[tuple[int, ...]],
    name: str,
    one: tuple[str, Sequence[str] | str],
    other: tuple[str, Sequence[str] | str],
) -> None:
    """Add the daily sums of a pair, given each of its dimensions and that one's values."""
    for (of, _), (alike, second) in ((one, other), (other, one)):
        if isinstance(second, str):
            # All rows have that value: the sums are those of the other dimension, which are known.
            known = [(start, value, sums) for (dimension, start, value), sums in daily.items() if dimension == of]
            for start, value, sums in known:
                daily[name, start, value + JOINT + second if alike == other[0] else second + JOINT + value] = sums
            return
    joined = [f"{first}{JOINT}{second}" for first, second in zip(one[1], other[1])]
    for start, places in _by_start(rows, DAY_MS).items():
        _sum_up(daily, (name,), start, places, {name: joined}, amounts)


def _sum_up(
    into: Sums,
    names: Sequence[str],
    start: int,
    places: Sequence[int] | None,
    values: Mapping[str, Sequence[str] | str],
    amounts: Sequence[tuple[int, ...]],
) -> None:
    """Add up the rows at these places, which fall into the hour or day that begins at `start`."""
    chosen = amounts if places is None else [amounts[place] for place in places]
    # Most dimensions have one value in a whole batch: their sums are the batch's own, added up once.
    whole = _total(chosen)
    for name in names:
        value = values[name]
        if isinstance(value, str):
            into[name, start, value] = whole
            continue
        grouped: defaultdict[str, list[Sequence[int]]] = defaultdict(list)
        for one, amount in zip(value if places is None else [value[place] for place in places], chosen):
            grouped[one].append(amount)
        # In the order in which they are stored: then there is little left to sort when they are.
        for one in sorted(grouped):
            into[name, start, one] = _total(grouped[one])


def _total(members: Sequence[Sequence[int]]) -> Sequence[int]:
    return members[0] if len(members) == 1 else tuple(map(sum, zip(*members)))
