"""The ledger's vocabulary: dimensions, measures, and the values that pass between ingest, store and query.

Owns which questions the ledger answers without reading raw receipts. Knows nothing of SQL or HTTP, so that
another store can stand behind the same values. A dimension or measure is one row of a table here plus one
column in the store's schema; a test holds the two together.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from aicostguard.receipt import is_tag
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
#: what stands before a tag's name where it is asked for like a dimension. Tags are in no sums: receipts are read.
TAGS = "tags."
#: what can be asked for, as a person is told
ASKED = (*DIMENSIONS, TAGS + "NAME")
#: dimensions that come from the envelope, not from the receipt
OF_ENVELOPE = ("service", "environment", "release", "host")
#: every receipt has one, and there are few: what totals are read from
SMALLEST = "provider"
#: pairs of dimensions that are rolled up together, by the day; what names one holds a value of each, joined by `JOINT`
PAIRS: tuple[tuple[str, str], ...] = (
    ("feature", "model"),
    ("team", "model"),
    ("environment", "model"),
    ("parent_agent", "agent"),
)
#: pairs of which most receipts say neither: those are in no sum of the pair, and are what its sums lack of all sums.
#: Rolled up by the hour, too.
SPARSE = frozenset({"parent_agent,agent"})
#: stands in no value that a receipt may have; alone it is the value of a pair of which neither is said
JOINT = "\x1f"
#: in sums, all values that a day had no room for; no receipt may hold a parenthesis, so none can have it as a value
OTHER = "(other)"
#: values that the sums of a UTC day have room for, unless a project says otherwise, by dimension or pair
MOST_NAMES: Mapping[str, int] = {
    **{name: 2_000 if one.hourly else 50_000 for name, one in DIMENSIONS.items() if one.daily},
    **{",".join(pair): 10_000 for pair in PAIRS},
}
#: ways to cut time, the shortest first
TIMES = ("hour", "day", "week", "month")
#: what is said in milliseconds: key of a receipt → the measure that counts the receipts that say it
TIMED = {"latency_ms": "timed_calls", "ttft_ms": "first_token_calls"}
#: dimension → whether it is known by the hour, too, and not only by the day, how its times are spread
SPREAD = {"provider": True, "model": True, "feature": False}

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
    #: what the calls would have cost without any cache, less what they cost
    "cache_savings_nanousd",
    *(name for pair in TIMED.items() for name in pair[::-1]),
)
#: flag of a receipt → the measure that counts it
FLAGGED = {
    "usage_missing": "usage_missing_calls",
    "estimated": "estimated_calls",
    "partial": "partial_calls",
}


def known(name: str) -> bool:
    """Whether receipts can be grouped and filtered by this: a dimension, or `tags.NAME`."""
    return name in DIMENSIONS or (name.startswith(TAGS) and is_tag(name.removeprefix(TAGS)))


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
    #: see `MEASURES`; None where nothing was cached or there is no price
    cache_savings_nanousd: int | None = None


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
    #: the process said that it makes no further receipt
    ended: bool = False
    bare_key: str | None = None
    bare_body: str | None = None
    #: scores that a program left in the inbox; then there is nothing else
    scores: tuple[Any, ...] = ()


class Added(NamedTuple):
    """What a store did with a batch."""

    accepted: int
    duplicate: int


class Arrivals(NamedTuple):
    """Receipts in the order in which they were stored, after a point in that order.

    `last` is the point to go on from. `skipped` says that some between were forgotten: the follower was too slow, or
    the ledger was restored to an earlier state.
    """

    receipts: list[dict[str, Any]]
    last: int
    skipped: bool
    #: there is more, to be asked for at once
    more: bool


class Query(NamedTuple):
    """A question about cost: `[since_ms, until_ms)`, grouped, filtered, ordered.

    `filters` maps a dimension to the values it may have, `excluded` to those it may not; "" stands for receipts
    without it. `before` is the period to compare with. `latency` is "", "approximate" or "exact".
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
    excluded: Mapping[str, tuple[str, ...]] = {}
    before: tuple[int, int] | None = None
    latency: str = ""
    #: each value under its own name, also on days whose sums had no room for it: these are read from receipts
    named: bool = False
    #: starts of UTC days whose sums do not tell what is asked; the store finds them (`sqlite.room.seen`)
    unsummed: tuple[int, ...] = ()


class Costs(NamedTuple):
    """The answer: rows `(group values, sums)` in order, the sums over everything, and how many groups exist.

    A group value is a string ("" = the receipts say nothing), or for time the start in ms. `before` holds the sums of
    the period compared with, for each row and last in all; empty without one. `latency` holds percentiles likewise.
    `full` are the UTC days of which some values stand together under `OTHER`.
    """

    rows: list[tuple[tuple[Any, ...], dict[str, int]]]
    totals: dict[str, int]
    groups: int
    before: list[dict[str, int]] = []
    latency: list[dict[str, float | None]] = []
    full: Sequence[int] = ()


class Place(NamedTuple):
    """Where a receipt stands in the order in which receipts are shown; no other stands there."""

    at_ms: int
    epoch: str
    seq: int


class Key(NamedTuple):
    """A key as it may be shown: never the key itself. `shown` is its first nine characters and bullets."""

    shown: str
    name: str
    scopes: tuple[str, ...]
    project_id: int
    created_ms: int
    revoked_ms: int | None
    #: how it is named in requests: no secret
    id: str = ""
    expires_ms: int | None = None
    #: to within a minute; None: never yet
    last_used_ms: int | None = None
    #: what the scopes hold for: the project, its organisation, or the ledger
    reach: str = "project"
    organisation_id: int = 1
    #: requests in a minute, and bytes of a body; None: the ledger's own bounds
    per_minute: int | None = None
    max_bytes: int | None = None
    #: the project, or its organisation, is archived
    archived: bool = False
    project: str = "default"
    organisation: str = "default"


class Source(NamedTuple):
    """One process that delivered: its own counters beside what arrived, so that a gap is known.

    `missing` is how many receipts from seq 0 to the highest that came never did, refused ones not counted. `ended` is
    how many receipts the process said it had made when it said that it ends, -1 while it has not. `offset_ms` is how
    far its clock is ahead of the ledger's at least, of the envelopes of an hour the one that took least.
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
    duplicates: int
    late: int
    late_max_ms: int
    clock_adjusted: int
    offset_ms: int | None
    ended: int
    counters: Mapping[str, int]
