"""Is everything here? What arrived of each process and host beside what they said they made.

Owns what counts as missing, and why: said to be dropped, still waited for, or lost. Reads one row for each process,
never the receipts. Every receipt that a process is known to have made is in exactly one of the numbers, so that
`expected = here + known_lost + waiting + lost`; a property test holds it. If this is wrong, a bill looks complete that
is not.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Protocol, Sequence

from aicostguard.ledger import period
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.ingest import CLOCK_SLACK_MS
from aicostguard.ledger.model import HOUR_MS, OF_ENVELOPE, Source

#: a process that was not heard for this long is silent: it has nothing to say, or it is gone
QUIET_MS = HOUR_MS
#: what a process that ended had not in its spool can only be on its way; that takes no longer than this
SETTLED_MS = 60_000
#: a clock that is off by more than this is shown as wrong
CLOCK_WRONG_MS = CLOCK_SLACK_MS
#: of the processes of a host, the clocks of those heard within this time of the last are asked
CLOCKS_OF_MS = HOUR_MS

GROUPS = ("process", *OF_ENVELOPE)
STATES = ("running", "ended", "silent")
DEFAULT_SINCE, DEFAULT_BY = "7d", "host,service"
MAX_LIMIT, DEFAULT_LIMIT = 10_000, 100
#: gaps named for each process
MAX_GAPS = 20
MAX_EPOCHS = 200
#: processes that one answer is made of, those heard last: a fleet of short ones makes any number of them
MOST_PROCESSES = 20_000

#: parameter → what it means
PARAMETERS: Mapping[str, str] = {
    "since": f"Processes that were heard since then: {period.SAYS}. Default {DEFAULT_SINCE}.",
    "group_by": f"Some of {', '.join(GROUPS)}, separated by commas. Default {DEFAULT_BY}.",
    "epoch": "Only these processes, by their id; several may be named. A key that may only send receipts may ask this.",
    "limit": f"Rows at most, 1 to {MAX_LIMIT}, those with most lost first. Default {DEFAULT_LIMIT}.",
    "cursor": f"The `cursor` of an earlier answer: the next {MOST_PROCESSES} processes, heard before its own.",
    **{name: f"Only processes with this {name}." for name in OF_ENVELOPE},
}
#: the same for processes one by one
OF_SOURCES: Mapping[str, str] = {
    "limit": f"Processes at most, 1 to {MAX_LIMIT}. Default {DEFAULT_LIMIT}.",
    "cursor": "The `cursor` of the page before this one.",
}
#: what is added up over processes
SUMS: Mapping[str, str] = {
    "expected": "Receipts the processes are known to have made.",
    "received": "Of these, stored.",
    "refused": "Of these, refused: they came, and the ledger could not take them.",
    "missing": "Of these, not here: known_lost + waiting + lost.",
    "known_lost": "Missing, and the process said that it dropped as many.",
    "waiting": "Missing, and may still come: the process was heard lately.",
    "lost": "Missing, and nobody has said why.",
    "duplicates": "Receipts that came once more, and were not counted once more.",
    "late": "Receipts that arrived more than five minutes after the call.",
    "clock_adjusted": "Receipts whose sender's clock was beyond belief: they stand at the time of arrival.",
    "dropped": "What the processes said they dropped.",
    "unmetered": "Calls that the processes said they could not meter.",
    "unrecognised": "Calls that the processes said they did not recognise.",
    "faults": "Faults of the agent that the processes counted.",
}
Parameters = Mapping[str, Sequence[str]]


#: when a process was heard last, in ms, and its id
Place = tuple[int, str]


class Asked(NamedTuple):
    """A question about deliveries."""

    project_id: int
    since_ms: int
    group_by: tuple[str, ...]
    filters: Mapping[str, tuple[str, ...]]
    epochs: tuple[str, ...]
    limit: int
    #: only processes behind this place, by when they were heard last
    after: Place | None = None


class Account(NamedTuple):
    """One process and its `sums`, by the names of `SUMS`."""

    source: Source
    state: str
    sums: dict[str, int]


def parse(parameters: Parameters, project_id: int, now_ms: int) -> Asked:
    """A question from parameters as they stand in a URL. Raises `Refused` (422) naming the parameter."""
    first = _first(parameters, PARAMETERS, ("since", "group_by", "limit", "cursor"))
    epochs = tuple(dict.fromkeys(parameters.get("epoch", ())))
    if len(epochs) > MAX_EPOCHS:
        raise Refused(422, f"may be given {MAX_EPOCHS} times", "epoch")
    names = tuple(name.strip() for name in first.get("group_by", DEFAULT_BY).split(",") if name.strip())
    if not names or set(names) - set(GROUPS) or len(set(names)) < len(names):
        raise Refused(422, f"takes different names out of {', '.join(GROUPS)}", "group_by")
    return Asked(
        project_id=project_id,
        # Who names a process wants it whenever it was heard.
        since_ms=period.start(
            first.get("since", "all" if epochs else DEFAULT_SINCE), now_ms, period.zone("UTC"), "since"
        ),
        group_by=names,
        filters={name: tuple(parameters[name]) for name in OF_ENVELOPE if parameters.get(name)},
        epochs=epochs,
        limit=_limit(first),
        after=_place(first),
    )


def _first(parameters: Parameters, known: Mapping[str, str], once: Sequence[str]) -> dict[str, str]:
    """The first value of each parameter that has one. Raises `Refused` (422) for an unknown one, or one given twice."""
    for name in parameters:
        if name not in known:
            raise Refused(422, f"is not a parameter; known are {', '.join(known)}", ascii(name[:64])[1:-1])
    for name in once:
        if len(parameters.get(name) or ()) > 1:
            raise Refused(422, "may be given once", name)
    return {name: values[0] for name, values in parameters.items() if values and values[0]}


def _limit(first: Mapping[str, str]) -> int:
    limit = first.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 9 and 1 <= int(limit) <= MAX_LIMIT):
        raise Refused(422, f"must be an integer from 1 to {MAX_LIMIT}", "limit")
    return int(limit)


_CURSOR = re.compile(r"(\d{1,15})\.([\w:-]{1,80})\Z", re.ASCII)


def _place(first: Mapping[str, str]) -> Place | None:
    cursor = first.get("cursor", "")
    found = _CURSOR.match(cursor)
    if cursor and found is None:
        raise Refused(422, "must be the cursor of an earlier answer", "cursor")
    return None if found is None else (int(found[1]), found[2])


def _cursor(found: Sequence[Source], limit: int) -> str | None:
    """Where what was cut off at a limit begins; None where nothing was."""
    return f"{found[limit - 1].last_ms}.{found[limit - 1].epoch}" if len(found) > limit else None


def sources(store: Books, parameters: Parameters, project_id: int) -> dict[str, Any]:
    """Processes one by one, the one heard last first: `{sources, cursor}`. Raises `Refused` (422).

    `cursor` asks for the page behind this one; null behind the last. A process that is heard meanwhile moves to the
    front, and is on no later page.
    """
    first = _first(parameters, OF_SOURCES, tuple(OF_SOURCES))
    limit = _limit(first)
    # One more than is told, to know whether there is one.
    found = store.sources(project_id, limit=limit + 1, after=_place(first))
    return {"sources": [source._asdict() for source in found[:limit]], "cursor": _cursor(found, limit)}


class Books(Protocol):
    """What is asked of a store."""

    def sources(
        self,
        project_id: int,
        since_ms: int = 0,
        epochs: Sequence[str] = (),
        *,
        limit: int = -1,
        after: Place | None = None,
        filters: Mapping[str, tuple[str, ...]] = {},
    ) -> list[Source]: ...
    def gaps(self, project_id: int, epoch: str, limit: int) -> list[tuple[int, int]]: ...


def run(store: Books, asked: Asked, now_ms: int) -> dict[str, Any]:
    """The answer: `{since, group_by, rows, other, totals, cursor}`; what the limit cut off is counted in `other`.

    It is made of the `MOST_PROCESSES` that were heard last; where there are more, `cursor` asks for those before them,
    which are in no figure of it. Times are UTC; `late_max_ms` and `clock_offset_ms` are milliseconds.
    """
    most = MOST_PROCESSES
    found = store.sources(
        asked.project_id, asked.since_ms, asked.epochs, limit=most + 1, after=asked.after, filters=asked.filters
    )
    accounts = [account(source, now_ms) for source in found[:most]]
    groups: dict[tuple[str, ...], list[Account]] = {}
    for item in accounts:
        groups.setdefault(_key(item.source, asked.group_by), []).append(item)
    rows = [{**_names(asked.group_by, key), **_row(members)} for key, members in groups.items()]
    rows.sort(key=lambda row: (-row["lost"], -row["known_lost"], -row["waiting"], -row["last_heard_ms"]))
    shown, rest = rows[: asked.limit], rows[asked.limit :]
    if "process" in asked.group_by:
        by_epoch = {item.source.epoch: item for item in accounts}
        for row in shown:
            row.update(_process(store, asked.project_id, by_epoch[row["process"]]))
    utc = period.zone("UTC")
    for row in shown:
        for name in ("first_heard", "last_heard"):
            row[name] = period.iso(row.pop(f"{name}_ms"), utc)
    return {
        "since": period.iso(asked.since_ms, utc),
        "group_by": list(asked.group_by),
        "rows": shown,
        "other": {"groups": len(rest), **{name: sum(row[name] for row in rest) for name in SUMS}} if rest else None,
        "totals": {**_states(accounts), **_sums(accounts)},
        "cursor": _cursor(found, most),
    }


def every(store: Books, asked: Asked, now_ms: int) -> Iterator[dict[str, Any]]:
    """The answers that together are made of all processes."""
    while True:
        answer = run(store, asked, now_ms)
        yield answer
        if answer["cursor"] is None:
            return
        asked = asked._replace(after=_place({"cursor": answer["cursor"]}))


def account(source: Source, now_ms: int) -> Account:
    """The books of one process. What it made is what it said, or what came, whichever is more."""
    expected = max(source.counters["generated"], source.max_seq + 1)
    missing = source.missing + expected - (source.max_seq + 1)
    known_lost = min(source.counters["dropped"], missing)
    silence = now_ms - source.last_ms
    ended = source.ended >= expected
    patience = SETTLED_MS if ended and not source.counters["spooled"] else QUIET_MS
    open_ = missing - known_lost
    sums = {
        **{name: source.counters[name] for name in ("dropped", "unmetered", "unrecognised", "faults")},
        **{name: getattr(source, name) for name in ("received", "refused", "duplicates", "late", "clock_adjusted")},
        "expected": expected,
        "missing": missing,
        "known_lost": known_lost,
        "waiting": open_ if silence <= patience else 0,
        "lost": 0 if silence <= patience else open_,
    }
    return Account(source, "ended" if ended else "running" if silence <= QUIET_MS else "silent", sums)


def _key(source: Source, group_by: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(source.epoch if name == "process" else source.origin.get(name, "") for name in group_by)


def _names(group_by: tuple[str, ...], key: tuple[str, ...]) -> dict[str, str | None]:
    return {name: value or None for name, value in zip(group_by, key)}


def _row(members: list[Account]) -> dict[str, Any]:
    last = max(item.source.last_ms for item in members)
    offset = _offset([item.source for item in members if last - item.source.last_ms <= CLOCKS_OF_MS])
    return {
        **_states(members),
        **_sums(members),
        "late_max_ms": max(item.source.late_max_ms for item in members),
        "clock_offset_ms": offset,
        "clock_wrong": offset is not None and abs(offset) > CLOCK_WRONG_MS,
        "first_heard_ms": min(item.source.first_ms for item in members),
        "last_heard_ms": last,
    }


def _offset(sources: Iterable[Source]) -> int | None:
    """How far the sender's clock is ahead: of what each envelope says, the most, because its way only takes from it."""
    return max((source.offset_ms for source in sources if source.offset_ms is not None), default=None)


def _states(accounts: Iterable[Account]) -> dict[str, int]:
    states = [item.state for item in accounts]
    return {"processes": len(states), **{name: states.count(name) for name in STATES}}


def _sums(accounts: Iterable[Account]) -> dict[str, int]:
    out = dict.fromkeys(SUMS, 0)
    for item in accounts:
        for name in SUMS:
            out[name] += item.sums[name]
    return out


def _process(store: Books, project_id: int, item: Account) -> dict[str, Any]:
    """What a row says of a single process besides: who it is, its state, and which seqs never came."""
    source = item.source
    found = store.gaps(project_id, source.epoch, MAX_GAPS + 1) if source.missing else []
    return {
        "state": item.state,
        **{name: source.origin.get(name) for name in OF_ENVELOPE},
        "agent": source.agent_version or None,
        "highest_seq": source.max_seq if source.max_seq >= 0 else None,
        "gaps": [list(run) for run in found[:MAX_GAPS]],
        "more_gaps": len(found) > MAX_GAPS,
        "counters": dict(source.counters),
    }
