"""How deliveries and single receipts look on a screen.

Owns layout and wording. What is missing is said in words below the table, with what it means; a number that is 0 is
left blank, so that the others are seen.
"""

from __future__ import annotations

import json
from typing import Any, Mapping

from rich.table import Table
from rich.text import Text

from aicostguard.cli import table

#: sum → its heading
_COLUMNS = {
    "expected": "made",
    "received": "stored",
    "refused": "refused",
    "known_lost": "dropped",
    "waiting": "waiting",
    "lost": "lost",
    "duplicates": "twice",
    "late": "late",
}
_NOTES = {
    "lost": "{n} lost: their process numbered them, they never came, and nobody said why. --by process names them.",
    "known_lost": "{n} lost and known to be: their process said that it dropped them. `aicg diagnose` there says why.",
    "waiting": "{n} still to come: their process was heard within the last hour.",
    "refused": "{n} refused: they came, and could not be taken.",
    "clock_adjusted": "{n} from a machine whose clock is beyond belief: shown at the time they arrived.",
    "unmetered": "{n} could not be metered where they were made; unrecognised calls are counted apart.",
}
_NOTHING = "No program has delivered since {since}. A longer period: --since all\n"
_NEVER = "No program has delivered anything yet. `aicg diagnose`, where one runs, says whether metering works.\n"


def books(answer: Mapping[str, Any]) -> str:
    """The table of `GET /v1/deliveries`, and what its numbers mean."""
    totals, rows, groups = answer["totals"], answer["rows"], answer["group_by"]
    if not rows:
        since = answer["since"]
        return _NEVER if since.startswith("1970-01-01") else _NOTHING.format(since=table.moment(since))
    drawn = Table(show_footer=True, box=None, pad_edge=False, header_style="bold", footer_style="bold")
    for place, name in enumerate(groups):
        drawn.add_column(name, "total" if place == 0 else "", overflow="fold")
    drawn.add_column("processes", _states(totals), no_wrap=True)
    for name, heading in _COLUMNS.items():
        drawn.add_column(heading, _number(totals[name]), justify="right", no_wrap=True)
    for heading in ("clock", "last heard"):
        drawn.add_column(heading, "", no_wrap=True)
    for row in rows:
        names = [Text("-" if row[name] is None else str(row[name])) for name in groups]
        seen = (_clock(row), row["last_heard"][:19].replace("T", " "))
        drawn.add_row(*names, _states(row), *(_number(row[name]) for name in _COLUMNS), *seen)
    other = answer["other"]
    if other:
        names = [Text(f"({other['groups']} more)"), *(Text("") for _ in groups[1:])]
        drawn.add_row(*names, "", *(_number(other[name]) for name in _COLUMNS), "", "", style="dim")
    lines = [table.drawn(drawn), f"\nprograms heard since {answer['since'][:10]}, times in UTC\n"]
    lines += [f"  {_gaps(row)}\n" for row in rows if row.get("gaps")]
    lines += [f"! {says.format(n=_calls(totals[name]))}\n" for name, says in _NOTES.items() if totals[name]]
    if totals["silent"]:
        lines.append(
            f"  {_plural(totals['silent'], 'process', 'es')} silent for over an hour: nothing to say, or ended without "
            "a word; what it had not yet written is unknown.\n"
        )
    if any(row["clock_wrong"] for row in rows):
        lines.append(
            "! A clock is wrong. Calls are shown at the right time all the same: the difference is taken out.\n"
        )
    if answer.get("cursor"):
        lines.append(
            f"! Only the {totals['processes']:,} processes heard last are in this: a shorter --since, or --where.\n"
        )
    elif not totals["missing"]:
        lines.append("Everything that is known to have been made is here.\n")
    return "".join(lines)


def _states(row: Mapping[str, Any]) -> str:
    counts = [
        f"{row[name]} {name}" for name in ("running", "ended", "silent") if isinstance(row[name], int) and row[name]
    ]
    return ", ".join(counts)


def _number(number: int) -> str:
    return table.count(number) if number else ""


def _calls(number: int) -> str:
    return _plural(number, "receipt", "s")


def _plural(number: int, one: str, more: str) -> str:
    return f"{number:,} {one}" + ("" if number == 1 else more)


def _clock(row: Mapping[str, Any]) -> str:
    offset = row["clock_offset_ms"]
    if offset is None:
        return ""
    if not row["clock_wrong"]:
        return "ok"
    return f"{_seconds(abs(offset))} {'ahead' if offset > 0 else 'behind'}"


def _seconds(milliseconds: int) -> str:
    seconds = milliseconds // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _gaps(row: Mapping[str, Any]) -> str:
    runs = [str(first) if first == last else f"{first} to {last}" for first, last in row["gaps"]]
    more = ", and more" if row["more_gaps"] else ""
    return f"{row['process']}: never came: {', '.join(runs)}{more}; highest {row['highest_seq']}"


#: labels of a receipt that a line of `tail` shows, in order
_LABELS = ("feature", "user", "agent", "session", "service", "host", "operation", "region")
_FLAGS = ("streamed", "partial", "estimated", "usage_missing", "clock_adjusted")


def line(row: Mapping[str, Any]) -> str:
    """One receipt as a line for people."""
    tokens = [
        f"{row[name]:,} {says}" for name, says in (("input_tokens", "in"), ("output_tokens", "out")) if name in row
    ]
    cost = "unpriced" if row["cost_nanousd"] is None else f"${row['cost_usd']}"
    labels = [f"{name}={row[name]}" for name in _LABELS if name in row]
    labels += [name for name in _FLAGS if row.get(name)]
    took = [f"{row['latency_ms']:,} ms"] if "latency_ms" in row else []
    parts = [row["at"][:19].replace("T", " "), f"{row['provider']} {row['model']}", *tokens, cost, *took, *labels]
    return "  ".join(parts) + "\n"


def line_of_json(row: Mapping[str, Any]) -> str:
    """One receipt as a line for programs."""
    return json.dumps(row, separators=(",", ":")) + "\n"
