"""The ledger's vocabulary: dimensions, measures, and the values that pass between ingest, store and query.

Owns which questions the ledger answers without reading raw receipts. Knows nothing of SQL or HTTP, so that
another store can stand behind the same values. A dimension or measure is one row of a table here plus one
column in the store's schema; a test holds the two together.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from aicostguard.usage import Usage

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Dimension(NamedTuple):
    """Something receipts can be grouped and filtered by. Rolled up by the hour, by the day, or not at all."""

    hourly: bool
    daily: bool
    says: str


#: name → what is rolled up. Names with very many values are kept by the day only, or only as raw receipts.
DIMENSIONS: Mapping[str, Dimension] = {
    "provider": Dimension(True, True, "who billed the call: openai, anthropic, google, …"),
    "model": Dimension(True, True, "the model that answered"),
    "feature": Dimension(True, True, "the feature of your program that made the call"),
    "team": Dimension(True, True, "label `team`"),
    "project": Dimension(True, True, "label `project`"),
    "agent": Dimension(True, True, "label `agent`"),
    "parent_agent": Dimension(True, True, "the agent that called this agent"),
    "operation": Dimension(True, True, "embeddings, image, audio, …; absent for chat"),
    "service_tier": Dimension(True, True, "the tier that served the call: flex, priority, batch, …"),
    "region": Dimension(True, True, "the provider's region"),
    "service": Dimension(True, True, "the program that made the call"),
    "environment": Dimension(True, True, "production, staging, …"),
    "release": Dimension(True, True, "the program's version"),
    "user": Dimension(False, True, "label `user`"),
    "host": Dimension(False, True, "the machine that made the call"),
    "session": Dimension(False, False, "label `session`"),
    "request": Dimension(False, False, "label `request`"),
}
#: dimensions that come from the envelope, not from the receipt
OF_ENVELOPE = ("service", "environment", "release", "host")
#: every receipt has one, and there are few: what totals are read from
SMALLEST = "provider"
#: ways to cut time
TIMES = ("hour", "day")

#: columns of `Usage` that are summed, in order; the provider's own cost goes by the same name
UNITS: tuple[str, ...] = Usage._fields
#: everything that is summed, in the order of the store's columns
MEASURES: tuple[str, ...] = (
    "cost_nanousd",
    "calls",
    "unpriced_calls",
    "usage_missing_calls",
    "estimated_calls",
    "partial_calls",
    "clock_adjusted_calls",
    *UNITS,
)
#: flag of a receipt → the measure that counts it
FLAGGED = {
    "usage_missing": "usage_missing_calls",
    "estimated": "estimated_calls",
    "partial": "partial_calls",
}
_INDEX = {name: place for place, name in enumerate(MEASURES)}
_WIDTH = len(MEASURES)
_BY_HOUR = tuple(name for name, dimension in DIMENSIONS.items() if dimension.hourly)
#: the other daily sums are folded from the hourly ones
_BY_DAY = tuple(name for name, dimension in DIMENSIONS.items() if dimension.daily and not dimension.hourly)


class Row(NamedTuple):
    """One receipt, checked, timed and priced: what is stored. Immutable from here on."""

    seq: int
    #: when the call happened, milliseconds since 1970
    at_ms: int
    clock_adjusted: bool
    receipt: Mapping[str, Any]
    cost_nanousd: int | None
    price_row: str | None
    unpriced_reason: str | None


class Refusal(NamedTuple):
    """A receipt that was not taken: its place in the envelope, its seq, and why."""

    place: int
    seq: int
    field: str
    error: str


class Batch(NamedTuple):
    """All that one request brings. Applied by a store in one transaction, or not at all.

    `bare_key` and `bare_body` (hashes) are set for a bare receipt that came with an Idempotency-Key.
    """

    project_id: int
    epoch: str
    received_ms: int
    sent_ms: int
    origin: Mapping[str, str]
    agent_version: str
    counters: Mapping[str, int]
    rows: tuple[Row, ...]
    refusals: tuple[Refusal, ...] = ()
    bare_key: str | None = None
    bare_body: str | None = None


class Added(NamedTuple):
    """What a store did with a batch."""

    accepted: int
    duplicate: int


class Query(NamedTuple):
    """A question about cost: `[since_ms, until_ms)`, grouped, filtered, ordered.

    `filters` maps a dimension to the values it may have; "" stands for receipts without it.
    `offsets` are `(from_ms, offset_ms)` of the zone of `tz` for the period, the first at or before `since_ms`.
    `order` is a measure, `tokens` (all of them) or one of `group_by`; the largest first when `descending`.
    """

    project_id: int
    since_ms: int
    until_ms: int
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = {}
    tz: str = "UTC"
    offsets: tuple[tuple[int, int], ...] = ((0, 0),)
    order: str = "cost_nanousd"
    descending: bool = True
    limit: int = 100


class Costs(NamedTuple):
    """The answer: rows `(group values, sums)` in order, the sums over everything, and how many groups exist.

    A group value is a string ("" = the receipts say nothing), or for hour and day the start in ms.
    """

    rows: list[tuple[tuple[Any, ...], dict[str, int]]]
    totals: dict[str, int]
    groups: int


def measured(row: Row) -> list[tuple[int, int]]:
    """What a row adds to each sum it is part of: `(place in MEASURES, amount)`, zeros left out."""
    receipt = row.receipt
    out = [(_INDEX["calls"], 1)]
    if row.cost_nanousd is None:
        out.append((_INDEX["unpriced_calls"], 1))
    elif row.cost_nanousd:
        out.append((_INDEX["cost_nanousd"], row.cost_nanousd))
    for flag, name in FLAGGED.items():
        if flag in receipt:
            out.append((_INDEX[name], 1))
    if row.clock_adjusted:
        out.append((_INDEX["clock_adjusted_calls"], 1))
    for name in UNITS:
        amount = receipt.get(name)
        if amount:
            out.append((_INDEX[name], amount))
    return out


Sums = dict[tuple[str, int, str], list[int]]


def roll_up(rows: list[Row], origin: Mapping[str, str]) -> tuple[Sums, Sums]:
    """Hourly and daily sums of these rows: `{(dimension, start_ms, value): sums in the order of MEASURES}`."""
    hourly: Sums = {}
    daily: Sums = {}
    measures = [(row, measured(row)) for row in rows]
    for step, sums, names in ((HOUR_MS, hourly, _BY_HOUR), (DAY_MS, daily, _BY_DAY)):
        # Most dimensions have one value in a whole batch: their sums are the batch's own, added up once.
        fixed: dict[str, str] = {}
        varied: list[str] = []
        for name in names:
            values = {origin.get(name, "")} if name in OF_ENVELOPE else {row.receipt.get(name, "") for row in rows}
            if len(values) == 1:
                fixed[name] = values.pop()
            else:
                varied.append(name)
        whole: dict[int, list[int]] = {}
        for row, amounts in measures:
            start = row.at_ms - row.at_ms % step
            receipt = row.receipt
            _add(whole.setdefault(start, [0] * _WIDTH), amounts)
            for name in varied:
                key = (name, start, receipt.get(name, ""))
                into = sums.get(key)
                if into is None:
                    into = sums[key] = [0] * _WIDTH
                _add(into, amounts)
        for start, total in whole.items():
            for name, value in fixed.items():
                sums[(name, start, value)] = list(total)
    for (name, start, value), amounts_of_hour in hourly.items():
        key = (name, start - start % DAY_MS, value)
        known = daily.get(key)
        daily[key] = list(amounts_of_hour) if known is None else [a + b for a, b in zip(known, amounts_of_hour)]
    return hourly, daily


def _add(into: list[int], amounts: list[tuple[int, int]]) -> None:
    for place, amount in amounts:
        into[place] += amount


class Key(NamedTuple):
    """A key as it may be shown: never the key itself. `shown` is its first nine characters and bullets."""

    shown: str
    name: str
    scopes: tuple[str, ...]
    project_id: int
    created_ms: int
    revoked_ms: int | None


class Source(NamedTuple):
    """One process that delivered: its own counters beside what arrived, so that a gap is known.

    `missing` is how many receipts between the first and the highest seq never came, refused ones not counted.
    """

    epoch: str
    agent_version: str
    origin: Mapping[str, str]
    first_ms: int
    last_ms: int
    max_seq: int
    received: int
    refused: int
    missing: int
    counters: Mapping[str, int]
