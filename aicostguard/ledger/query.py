"""The one query path: what the page, the API, the CLI and CSV all ask, and the shape of the answer.

Owns the parameters of a cost query, their defaults and refusals, and how money is written. Money leaves as an
integer of nano-dollars and as an exact decimal text; a float never stands in between.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from aicostguard.ledger import period
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DAY_MS, DIMENSIONS, MEASURES, TIMES, Costs, Query
from aicostguard.ledger.store import Store

MAX_GROUPS = 3
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 100
DEFAULT_SINCE = "30d"
#: parameter → what it means; every dimension is a filter besides
PARAMETERS: Mapping[str, str] = {
    "since": f"Start of the period, included: {period.SAYS}. 7d means today and the six days before it.",
    "until": "End of the period, excluded; same forms. Default: everything up to now.",
    "group_by": f"Up to {MAX_GROUPS} of {', '.join((*TIMES, *DIMENSIONS))}, separated by commas.",
    "tz": "IANA name of the zone in which days and hours are cut, e.g. Europe/Berlin. Default UTC.",
    "limit": f"Rows at most, 1 to {MAX_LIMIT}; what is cut off is summed up in `other`.",
    "order": "cost, calls, tokens, a measure or one of group_by; with - in front the largest first. Default -cost; "
    "with hour or day in group_by, time first.",
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
    for name in parameters:
        if name not in PARAMETERS and name not in DIMENSIONS:
            allowed = ", ".join((*PARAMETERS, *DIMENSIONS))
            raise Refused(422, f"is not a parameter; known are {allowed}", _safe(name))
    tz_name = _one(parameters, "tz", "UTC")
    tz = period.zone(tz_name)
    since = period.start(_one(parameters, "since", DEFAULT_SINCE), now_ms, tz, "since")
    # Nothing lies in the future, and a period that ends with a day needs no raw receipts.
    until = period.start(_one(parameters, "until", "tomorrow"), now_ms, tz, "until")
    if since > until:
        raise Refused(422, "must not be later than until", "since")
    group_by = _groups(parameters)
    limit = _one(parameters, "limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LIMIT and len(limit) < 9):
        raise Refused(422, f"must be an integer from 1 to {MAX_LIMIT}", "limit")
    times = [name for name in group_by if name in TIMES]
    order, descending = _order(_one(parameters, "order", times[0] if times else "-cost"), group_by)
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
        limit=int(limit),
    )


def _one(parameters: Parameters, name: str, default: str) -> str:
    given = parameters.get(name) or ()
    if len(given) > 1:
        raise Refused(422, "may be given once", name)
    return given[0] if given and given[0] else default


def _groups(parameters: Parameters) -> tuple[str, ...]:
    names = [name.strip() for text in parameters.get("group_by", ()) for name in text.split(",") if name.strip()]
    for name in names:
        if name not in DIMENSIONS and name not in TIMES:
            known = ", ".join((*TIMES, *DIMENSIONS))
            raise Refused(422, f"{name[:64]!a} cannot be grouped by; use {known}", "group_by")
    if len(names) > MAX_GROUPS or len(set(names)) < len(names):
        raise Refused(422, f"takes up to {MAX_GROUPS} different names", "group_by")
    return tuple(names)


def _order(text: str, group_by: tuple[str, ...]) -> tuple[str, bool]:
    name = text.lstrip("-")
    if name in group_by:
        return name, text.startswith("-")
    if name in _ORDERS:
        return _ORDERS[name], text.startswith("-")
    known = ", ".join((*_ORDERS, *group_by))
    raise Refused(422, f"{name[:64]!a} cannot be ordered by; use {known}", "order")


def run(store: Store, query: Query) -> dict[str, Any]:
    """Ask the store and shape the answer: `{since, until, tz, group_by, rows, other, totals, archived}`.

    Each row holds its group's names and the sums of `MEASURES`, with `cost_usd` beside `cost_nanousd`. Both are
    null where not one call of the row has a price: unknown is never shown as zero.
    """
    tz = period.zone(query.tz)
    first = store.first_at(query.project_id)
    # `all` starts where the receipts do: nobody wants the zone's history since 1970.
    since = first - first % DAY_MS if first is not None and query.since_ms == 0 else query.since_ms
    query = query._replace(since_ms=min(since, query.until_ms))
    query = query._replace(offsets=period.offsets(query.since_ms, query.until_ms, tz))
    found = store.costs(query)
    return {
        "since": period.iso(query.since_ms, tz),
        "until": period.iso(query.until_ms, tz),
        "tz": query.tz,
        "group_by": list(query.group_by),
        "rows": [{**_names(query, values, tz), **amounts(sums)} for values, sums in found.rows],
        "other": _other(found) if query.group_by else None,
        "totals": amounts(found.totals),
        "archived": archived(store, query),
    }


def archived(store: Store, query: Query, *, raw: bool = False) -> dict[str, Any] | None:
    """What an answer lacks because only single receipts would tell it, and they are archived; None for nothing."""
    days = store.missing(query, raw=raw)
    if not days:
        return None
    return {
        "receipts": sum(rows for _, rows in days),
        "days": len(days),
        "first_day": period.day(days[0][0]),
        "last_day": period.day(days[-1][0]),
    }


def receipts(store: Store, parameters: Parameters, project_id: int, now_ms: int) -> dict[str, Any]:
    """The newest receipts of a period that pass the filters: `{"receipts": [...]}`. Raises `Refused` (422)."""
    for name in ("group_by", "order"):
        if name in parameters:
            raise Refused(422, "does not apply to receipts, which come newest first", name)
    asked = parse(parameters, project_id, now_ms)
    tz = period.zone(asked.tz)
    found = [_told(row, tz) for row in store.receipts(asked)]
    return {"receipts": found, "archived": archived(store, asked, raw=True)}


def arrivals(store: Store, parameters: Parameters, project_id: int) -> dict[str, Any]:
    """What was stored since an earlier answer: `{receipts, cursor, skipped, more}`. Raises `Refused` (422)."""
    for name in parameters:
        if name not in ARRIVALS and name not in DIMENSIONS:
            raise Refused(422, f"is not a parameter; known are {', '.join((*ARRIVALS, *DIMENSIONS))}", _safe(name))
    tz = period.zone(_one(parameters, "tz", "UTC"))
    after = _one(parameters, "after", "")
    if after and not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Refused(422, "must be the cursor of an earlier answer", "after")
    found = store.arrivals(project_id, int(after) if after else None, _filters(parameters))
    told = [_told(row, tz) for row in found.receipts]
    return {"receipts": told, "cursor": str(found.last), "skipped": found.skipped, "more": found.more}


def _told(row: dict[str, Any], tz: Any) -> dict[str, Any]:
    """A receipt as it leaves the ledger."""
    cost = row["cost_nanousd"]
    return {"at": period.iso(row["at_ms"], tz), "cost_usd": None if cost is None else usd(cost), **row}


def _filters(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    return {name: tuple(dict.fromkeys(parameters[name])) for name in DIMENSIONS if parameters.get(name)}


def _safe(name: str) -> str:
    """A name of the client's own making, fit for a reply."""
    return ascii(name[:64])[1:-1]


def _names(query: Query, values: tuple[Any, ...], tz: Any) -> dict[str, str | None]:
    out: dict[str, str | None] = {}
    for name, value in zip(query.group_by, values):
        if name == "hour":
            out[name] = period.iso(value, tz)
        elif name == "day":
            out[name] = period.day(value)
        else:
            out[name] = value or None
    return out


def _other(found: Costs) -> dict[str, Any] | None:
    """What the limit cut off, so that rows and other always add up to the totals. Of no group: it is archived."""
    rest = {name: found.totals[name] - sum(sums[name] for _, sums in found.rows) for name in MEASURES}
    if found.groups <= len(found.rows) and not rest["calls"]:
        return None
    return {"groups": found.groups - len(found.rows), **amounts(rest)}


def amounts(sums: Mapping[str, int]) -> dict[str, Any]:
    """Sums as they leave the ledger."""
    priced = sums["calls"] == 0 or sums["unpriced_calls"] < sums["calls"]
    cost = sums["cost_nanousd"] if priced else None
    return {"cost_usd": None if cost is None else usd(cost), **sums, "cost_nanousd": cost}


def usd(nano: int) -> str:
    """Nano-dollars as an exact decimal: 1500000000 → "1.5", 0 → "0"."""
    whole, part = divmod(abs(nano), 10**9)
    text = f"{whole}.{part:09d}".rstrip("0").rstrip(".")
    return "-" + text if nano < 0 else text
