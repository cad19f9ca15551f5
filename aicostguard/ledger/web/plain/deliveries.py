"""Deliveries in plain words: is everything here, what is not, why, and what to do about it. Pure.

Owns sentences and how bad each thing is. What counts as missing, and why, is decided in `ledger.deliveries`.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, NamedTuple

from aicostguard.ledger.web import words

#: how bad a thing is, the worst first
BAD, WARN, NOTE = LEVELS = ("bad", "warn", "note")


class Said(NamedTuple):
    """A fact with what to do about it; `todo` may be empty."""

    level: str
    fact: str
    todo: str = ""


def verdict(totals: Mapping[str, int]) -> Said:
    """The first sentence: is everything here?"""
    made, here = totals["expected"], totals["received"]
    missing = totals["known_lost"] + totals["lost"]
    of = f"of {counted(made, 'receipt')} that {counted(totals['processes'], 'process', 'processes')} made"
    waits = f" {counted(totals['waiting'], 'more is', 'more are')} on the way." if totals["waiting"] else ""
    if missing:
        return Said(BAD, f"{words.number(missing)} {of} never came.{waits}")
    if totals["refused"]:
        return Said(WARN, f"{words.number(totals['refused'])} {of} came and could not be taken.{waits}")
    if totals["waiting"]:
        return Said(NOTE, f"Nothing is lost. {words.number(totals['waiting'])} {of} are still on their way.")
    return Said("good", f"Everything is here: all {words.number(here)} {of} are stored, each once.")


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


#: column of the answer → how bad it is, what it says of so many, what to do
_FACTS: tuple[tuple[str, str, Callable[[int], str], str], ...] = (
    (
        "lost",
        BAD,
        lambda n: f"{counted(n, 'receipt')} never came, and nobody has said why.",
        "A program was killed, or its machine went away. With the durable spool (the default) they are on that "
        "machine's disk: start a program there again, and it delivers them. In containers, put AICG_STATE_DIR on a "
        "volume that outlives them.",
    ),
    (
        "known_lost",
        BAD,
        lambda n: f"{counted(n, 'receipt')} {_was(n)} dropped by the program, which said so.",
        "Its queue and its spool were full, or the ledger will never take them. Give the spool more room "
        "(AICG_SPOOL_MB), and run aicg-diagnose on that machine: it says which.",
    ),
    (
        "refused",
        WARN,
        lambda n: f"{counted(n, 'receipt')} came, and could not be taken.",
        "The agent was told why: aicg-diagnose on that machine shows it. Most often agent and ledger are of releases "
        "far apart; update the older.",
    ),
    (
        "waiting",
        NOTE,
        lambda n: f"{counted(n, 'receipt')} {'is' if n == 1 else 'are'} on the way: in the program's queue or spool.",
        "Look again in a while. They are delivered as soon as the ledger can be reached from there.",
    ),
    (
        "unmetered",
        WARN,
        lambda n: f"{counted(n, 'call')} could not be metered: no receipt was made of {'it' if n == 1 else 'them'}.",
        "aicg-diagnose on that machine names the calls' library and why.",
    ),
    (
        "unrecognised",
        WARN,
        lambda n: f"{counted(n, 'call')} went to an AI provider by a way that the agent does not know.",
        "aicg-diagnose on that machine names the address. If it is a provider of your own, name it with AICG_HOSTS.",
    ),
    (
        "faults",
        WARN,
        lambda n: f"The agent counted {counted(n, 'fault')} of its own. The program was not touched by {_them(n)}.",
        "aicg-diagnose on that machine shows each with its place; please report it.",
    ),
    (
        "clock_adjusted",
        WARN,
        lambda n: (
            f"{counted(n, 'receipt')} had a time beyond belief, and stand{'s' if n == 1 else ''} at the time of "
            "arrival."
        ),
        "Set the clock of that machine (NTP).",
    ),
    (
        "late",
        NOTE,
        lambda n: f"{counted(n, 'receipt')} arrived more than five minutes after the call.",
        "Nothing to do: after an outage the spool is delivered late. They count on the day of the call.",
    ),
    (
        "duplicates",
        NOTE,
        lambda n: f"{counted(n, 'receipt')} came once more, and {_was(n)} counted once.",
        "Nothing to do: an answer was lost on the way, so the agent sent again.",
    ),
)


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"


def facts(row: Mapping[str, Any]) -> list[Said]:
    """What is to be said of a host, or of all together, the worst first."""
    found = [Said(level, says(row[name]), todo) for name, level, says, todo in _FACTS if row.get(name)]
    if row.get("clock_wrong"):
        found.append(Said(WARN, f"Its clock is {skew(row['clock_offset_ms'])}.", _CLOCK))
    return sorted(found, key=lambda said: LEVELS.index(said.level))


_CLOCK = "Times of calls are right all the same: they are worked out from the time of arrival. Set its clock (NTP)."


def skew(offset_ms: int | None) -> str:
    """How far a clock is off: `2 h ahead`, `right`."""
    if offset_ms is None:
        return "not known"
    if abs(offset_ms) < 1000:
        return "right"
    return f"{words.span(abs(offset_ms) / 1000)} {'ahead' if offset_ms > 0 else 'behind'}"


def level(row: Mapping[str, Any]) -> str:
    """The worst that is to be said of a row; `good` for nothing."""
    return next((said.level for said in facts(row) if said.level != NOTE), "good")


#: state of a process → what it means
STATES: Mapping[str, str] = {
    "running": "running: heard within the last hour",
    "ended": "ended in order: what it made is known to the last receipt",
    "silent": "silent for an hour, and it did not say that it ends: it has nothing to say, or it was killed",
}


def processes(row: Mapping[str, int]) -> str:
    """`2 running, 1 silent`."""
    return ", ".join(f"{row[name]:,} {name}" for name in STATES if row[name]) or "none"


def gaps(runs: Iterable[tuple[int, int]], more: bool = False, highest: int | None = None) -> str:
    """Which receipts of a process never came: `3 to 5 and 9, of 0 to 12`."""
    named = [f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in runs]
    if not named:
        return ""
    if more:
        said = ", ".join(named) + " and more"
    else:
        said = " and ".join([*filter(None, [", ".join(named[:-1])]), named[-1]])
    return said + (f", of 0 to {highest:,}" if highest is not None else "")
