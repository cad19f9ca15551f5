"""The one query path: what the page, the API, the CLI and CSV all ask, and the shape of the answer.

Owns the parameters of a cost query, their defaults and refusals. What a row says is `amounts`' to decide.
"""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from aicostguard.ledger import period
from aicostguard.ledger.amounts import amounts, changed, less, usd
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import (
    ASKED,
    DAY_MS,
    DIMENSIONS,
    MEASURES,
    OTHER,
    TAGS,
    TIMES,
    Costs,
    Place,
    Query,
    known,
)
from aicostguard.ledger.store import Store

__all__ = ["amounts", "arrivals", "parse", "receipts", "run", "usd"]

MAX_GROUPS = 3
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 100
DEFAULT_SINCE = "30d"
#: percentiles lag behind sums by so long at most, where somebody asks again and again
FOLD_EVERY_S = 1.0
#: what stands behind the name of a dimension whose values are to be left out: `model!=gpt-4o` in a URL
NOT = "!"
#: parameter → what it means; every dimension is a filter besides, and with ! behind it an exclusion
PARAMETERS: Mapping[str, str] = {
    "since": f"Start of the period, included: {period.SAYS}. 7d means today and the six days before it.",
    "until": "End of the period, excluded; same forms. Default: everything up to now.",
    "group_by": f"Up to {MAX_GROUPS} of {', '.join((*TIMES, *ASKED))}, separated by commas.",
    "tz": "IANA name of the zone in which time is cut, e.g. Europe/Berlin. Default UTC.",
    "limit": f"Rows at most, 1 to {MAX_LIMIT}; what is cut off is summed up in `other`.",
    "order": "cost, calls, tokens, change (with compare), a measure or one of group_by; with - in front the largest "
    "first. Default -cost; with time in group_by, time first.",
    "compare": "`previous`: each row beside the period before, as long or, for a month, the month before, for a week "
    "the week before. Of a period that is not over, only as much of the other counts as has passed of this one.",
    "latency": "`1`: percentiles of latency and time to first token, off by 1 % at most, up to a second behind.",
    "exact": "`1`: percentiles that are off by nothing, read from the receipts themselves.",
}
#: of these, what applies to receipts; `cursor` besides
OF_RECEIPTS: Mapping[str, str] = {
    **{name: PARAMETERS[name] for name in ("since", "until", "tz", "limit")},
    "cursor": "The `cursor` of the page before this one.",
}
#: the same for receipts as they come in
ARRIVALS: Mapping[str, str] = {
    "after": "The `cursor` of an earlier answer. Without it the answer holds a cursor and no receipts.",
    "tz": PARAMETERS["tz"],
}
_ORDERS = {"cost": "cost_nanousd", "tokens": "tokens", **{name: name for name in MEASURES}}

Parameters = Mapping[str, Sequence[str]]


def parse(parameters: Parameters, project_id: int, now_ms: int) -> Query:
    """A query from parameters as they stand in a URL. Raises `Refused` (422) naming the parameter."""
    _known(parameters, PARAMETERS)
    tz_name = _one(parameters, "tz", "UTC")
    tz = period.zone(tz_name)
    since = period.start(_one(parameters, "since", DEFAULT_SINCE), now_ms, tz, "since")
    # Nothing lies in the future, and a period that ends with a day needs no raw receipts.
    until = period.start(_one(parameters, "until", "tomorrow"), now_ms, tz, "until")
    if since > until:
        ends = f"the end, {period.iso(until, tz)}"
        raise Refused(
            422, f"{period.iso(since, tz)} is later than {ends}: give an earlier one, or a later until", "since"
        )
    group_by = _groups(parameters)
    times = [name for name in group_by if name in TIMES]
    before = _before(parameters, (since, until), now_ms, times)
    order, descending = _order(_one(parameters, "order", times[0] if times else "-cost"), group_by, before is not None)
    exact, approximate = (_flag(parameters, name) for name in ("exact", "latency"))
    return Query(
        project_id=project_id,
        since_ms=since,
        until_ms=until,
        group_by=group_by,
        filters=_filters(parameters),
        tz=tz_name,
        offsets=((0, 0),),
        order=order,
        descending=descending,
        limit=_limit(parameters),
        excluded=_filters(parameters, NOT),
        before=before,
        latency="exact" if exact else "approximate" if approximate else "",
    )


def _known(parameters: Parameters, own: Mapping[str, str]) -> None:
    for name in parameters:
        if name not in own and not known(name.removesuffix(NOT)):
            allowed = ", ".join((*own, *ASKED))
            raise Refused(422, f"is not a parameter; known are {allowed}", _safe(name))


def _before(
    parameters: Parameters, asked: tuple[int, int], now_ms: int, times: Sequence[str]
) -> tuple[int, int] | None:
    word = _one(parameters, "compare", "")
    if not word:
        return None
    if word != "previous":
        raise Refused(422, "must be previous, or left out", "compare")
    if times:
        raise Refused(422, f"does not go with {times[0]} in group_by: ask for the period before by since", "compare")
    if asked[0] == 0:
        raise Refused(422, "needs a since that something lies before", "compare")
    said, ends = _one(parameters, "since", DEFAULT_SINCE), _one(parameters, "until", "") != ""
    return period.previous(*asked, now_ms, period.zone(_one(parameters, "tz", "UTC")), said, ends=ends)


def _limit(parameters: Parameters) -> int:
    limit = _one(parameters, "limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LIMIT and len(limit) < 9):
        raise Refused(422, f"must be an integer from 1 to {MAX_LIMIT}", "limit")
    return int(limit)


def _flag(parameters: Parameters, name: str) -> bool:
    word = _one(parameters, name, "0")
    if word not in ("0", "1"):
        raise Refused(422, "must be 1 or 0", name)
    return word == "1"


def _one(parameters: Parameters, name: str, default: str) -> str:
    given = parameters.get(name) or ()
    if len(given) > 1:
        raise Refused(422, "may be given once", name)
    return given[0] if given and given[0] else default


def _groups(parameters: Parameters) -> tuple[str, ...]:
    names = [name.strip() for text in parameters.get("group_by", ()) for name in text.split(",") if name.strip()]
    for name in names:
        if not known(name) and name not in TIMES:
            choices = ", ".join((*TIMES, *ASKED))
            raise Refused(422, f"{name[:64]!a} cannot be grouped by; use {choices}", "group_by")
    if len(names) > MAX_GROUPS or len(set(names)) < len(names):
        raise Refused(422, f"takes up to {MAX_GROUPS} different names", "group_by")
    return tuple(names)


def _order(text: str, group_by: tuple[str, ...], compares: bool) -> tuple[str, bool]:
    name = text.lstrip("-")
    if name == "change" and compares:
        return name, text.startswith("-")
    if name in group_by:
        return name, text.startswith("-")
    if name in _ORDERS:
        return _ORDERS[name], text.startswith("-")
    choices = ", ".join((*_ORDERS, *group_by))
    raise Refused(422, f"{name[:64]!a} cannot be ordered by; use {choices}", "order")


def run(store: Store, query: Query) -> dict[str, Any]:
    """Ask the store and shape the answer: `{since, until, tz, group_by, rows, other, totals, archived, full}`.

    Each row holds its group's names, the sums of `MEASURES` and what follows from them (`amounts.DERIVED`). Cost
    is null where not one call of the row has a price: unknown is never shown as zero.
    """
    tz = period.zone(query.tz)
    first = store.first_at(query.project_id)
    # `all` starts where the receipts do: nobody wants the zone's history since 1970.
    since = first - first % DAY_MS if first is not None and query.since_ms == 0 else query.since_ms
    query = query._replace(since_ms=min(since, query.until_ms))
    earliest = min(query.since_ms, query.before[0] if query.before else query.since_ms)
    query = query._replace(offsets=period.offsets(earliest, query.until_ms, tz))
    if query.latency == "approximate":
        store.fold(FOLD_EVERY_S)
    found = store.costs(query)
    rows = [
        {**_names(query, values, tz), **_told(query, found, place, sums)}
        for place, (values, sums) in enumerate(found.rows)
    ]
    answer = {
        "since": period.iso(query.since_ms, tz),
        "until": period.iso(query.until_ms, tz),
        "tz": query.tz,
        "group_by": list(query.group_by),
        "rows": rows,
        "other": _other(query, found) if query.group_by else None,
        "totals": _told(query, found, -1, found.totals),
        "archived": archived(store, query, raw=query.latency == "exact"),
        "full": _full(found.full),
    }
    if query.before is not None:
        answer["compared_with"] = dict(zip(("since", "until"), (period.iso(ms, tz) for ms in query.before)))
    return answer


def _told(query: Query, found: Costs, place: int, sums: Mapping[str, int]) -> dict[str, Any]:
    """What a row says, or with -1 the totals."""
    out = amounts(sums)
    if found.before:
        out.update(changed(sums, found.before[place]))
    if found.latency:
        # Between whole milliseconds a percentile has two decimals at most: exact ones lose nothing here.
        digits = 1 if query.latency == "approximate" else 2
        out.update((name, None if ms is None else round(ms, digits)) for name, ms in found.latency[place].items())
        out["approximate"] = query.latency == "approximate"
    return out


def archived(store: Store, query: Query, *, raw: bool = False) -> dict[str, Any] | None:
    """What an answer lacks because only single receipts would tell it, and they are archived; None for nothing."""
    return lacking(store.missing(query, raw=raw))


def lacking(days: Sequence[tuple[int, int]]) -> dict[str, Any] | None:
    """Days of which receipts are no longer here, and how many of each, as an answer tells it; None for none."""
    if not days:
        return None
    return {
        "receipts": sum(rows for _, rows in days),
        "days": len(days),
        "first_day": period.day(days[0][0]),
        "last_day": period.day(days[-1][0]),
    }


def _full(days: Sequence[int]) -> dict[str, Any] | None:
    """The days of which some values stand together under `OTHER`; None for none."""
    if not days:
        return None
    return {"days": len(days), "first_day": period.day(days[0]), "last_day": period.day(days[-1])}


def receipts(store: Store, parameters: Parameters, project_id: int, now_ms: int) -> dict[str, Any]:
    """The newest receipts of a period that pass the filters: `{receipts, cursor}`. Raises `Refused` (422).

    `cursor` asks for the page behind this one, whatever has come in meanwhile; null behind the last.
    """
    for name in ("group_by", "order", "compare", "latency", "exact"):
        if name in parameters:
            raise Refused(422, "does not apply to receipts, which come newest first", name)
    after = _place(_one(parameters, "cursor", ""))
    asked = parse({name: value for name, value in parameters.items() if name != "cursor"}, project_id, now_ms)
    tz = period.zone(asked.tz)
    rows = store.receipts(asked, after)
    last = rows[-1] if len(rows) == asked.limit else None
    cursor = None if last is None else f"{last['at_ms']}.{last['seq']}.{last['epoch']}"
    return {
        "receipts": [_receipt(row, tz) for row in rows],
        "cursor": cursor,
        "archived": archived(store, asked, raw=True),
    }


_CURSOR = re.compile(r"(\d{1,15})\.(\d{1,16})\.([\w:-]{1,80})\Z", re.ASCII)


def _place(cursor: str) -> Place | None:
    if not cursor:
        return None
    found = _CURSOR.match(cursor)
    if found is None:
        raise Refused(422, "must be the cursor of an earlier answer", "cursor")
    return Place(int(found.group(1)), found.group(3), int(found.group(2)))


def arrivals(store: Store, parameters: Parameters, project_id: int) -> dict[str, Any]:
    """What was stored since an earlier answer: `{receipts, cursor, skipped, more}`. Raises `Refused` (422)."""
    if excluded := [name for name in parameters if name.endswith(NOT)]:
        raise Refused(422, "does not apply here: filters name what is wanted", _safe(excluded[0]))
    _known(parameters, ARRIVALS)
    tz = period.zone(_one(parameters, "tz", "UTC"))
    after = _one(parameters, "after", "")
    if after and not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Refused(422, "must be the cursor of an earlier answer", "after")
    found = store.arrivals(project_id, int(after) if after else None, _filters(parameters))
    told = [_receipt(row, tz) for row in found.receipts]
    return {"receipts": told, "cursor": str(found.last), "skipped": found.skipped, "more": found.more}


def _receipt(row: dict[str, Any], tz: Any) -> dict[str, Any]:
    """A receipt as it leaves the ledger."""
    cost = row["cost_nanousd"]
    return {"at": period.iso(row["at_ms"], tz), "cost_usd": None if cost is None else usd(cost), **row}


def _filters(parameters: Parameters, mark: str = "") -> dict[str, tuple[str, ...]]:
    for name in DIMENSIONS:
        if OTHER in parameters.get(name + mark, ()):
            raise Refused(422, f"{OTHER} is no value: it is all those that a day's sums had no room for", name + mark)
    tags = [name.removesuffix(NOT) for name in parameters if name.startswith(TAGS)]
    return {
        name: tuple(dict.fromkeys(parameters[name + mark]))
        for name in (*DIMENSIONS, *tags)
        if parameters.get(name + mark)
    }


def _safe(name: str) -> str:
    """A name of the client's own making, fit for a reply."""
    return ascii(name[:64])[1:-1]


def _names(query: Query, values: tuple[Any, ...], tz: Any) -> dict[str, str | None]:
    out: dict[str, str | None] = {}
    for name, value in zip(query.group_by, values):
        if name == "hour":
            out[name] = period.iso(value, tz)
        elif name in TIMES:
            out[name] = period.day(value)[: 7 if name == "month" else None]
        else:
            out[name] = value or None
    return out


def _other(query: Query, found: Costs) -> dict[str, Any] | None:
    """What the limit cut off, so that rows and other always add up to the totals. Of no group: it is archived."""
    rest = less(found.totals, [sums for _, sums in found.rows])
    if found.groups <= len(found.rows) and not rest["calls"]:
        return None
    out = {"groups": found.groups - len(found.rows), **amounts(rest)}
    if found.before:
        *rows, whole = found.before
        out.update(changed(rest, less(whole, list(rows))))
    return out
