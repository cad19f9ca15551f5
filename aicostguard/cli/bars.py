"""How budgets look: bars for people.

Owns layout alone. What has no price, what is promised and what was given up are said in words below.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from rich.table import Table
from rich.text import Text

from aicostguard.cli import table

WIDTH = 20
_COLOURS = {"ok": "green", "warning": "yellow", "exceeded": "red"}
_UNITS = ("usd", "tokens", "requests")
_NONE = """No budgets yet. Make one:

  aicg budgets add default --usd 50 --period month
  aicg budgets add marketing --usd 500 --match team=marketing --period month --tz Europe/Berlin
"""


def budgets(answer: Mapping[str, Any]) -> str:
    """The table of `GET /v1/budgets`, and the latest alerts."""
    rows = answer["budgets"]
    apart = "".join(_apart(answer.get("of_organisation", [])))
    if not rows:
        return _NONE + apart
    return _table(rows) + "".join(_notes(rows)) + apart + "".join(_alerts(answer["alerts"]))


def one(answer: Mapping[str, Any]) -> str:
    """One budget with its history."""
    lines = [_table([answer]), *_notes([answer]), *_alerts(answer["alerts"]), "\n"]
    for change in answer["history"][:20]:
        said = change["rule"]
        spent = [f"spent {said[name]}" for name in said if name.startswith("spent_")]
        unit = _unit(said)
        limit = f"limit {_amount(said, 'limit', unit)}" + ("" if unit == "usd" else f" {unit}")
        text = ", ".join([limit, *spent, said["period"]])
        lines.append(f"  {change['at'][:19].replace('T', ' ')}  {change['what']:9} {text}  by {change['who']}\n")
    return "".join(lines)


def _unit(row: Mapping[str, Any]) -> str:
    return next(unit for unit in _UNITS if f"limit_{unit}" in row)


def _amount(row: Mapping[str, Any], name: str, unit: str) -> str:
    value = row[f"{name}_{unit}"]
    if unit != "usd":
        return f"{value:,}"
    whole, _, part = str(value).partition(".")
    # All of it: a digit less, and what is nearly used up looks used up, or what was spent like nothing.
    return f"${int(whole):,}.{part.ljust(2, '0')}"


def _table(rows: list[Mapping[str, Any]]) -> str:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("budget", overflow="fold")
    drawn.add_column("used", no_wrap=True)
    for heading in ("spent", "reserved", "limit"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for heading in ("resets", "gone"):
        drawn.add_column(heading, no_wrap=True)
    for row in rows:
        unit = _unit(row)
        limit = _amount(row, "limit", unit) + ("" if unit == "usd" else f" {unit}")
        called = row["name"] + (" (organisation)" if row["reach"] == "organisation" else "")
        if not row["scopes"]:
            drawn.add_row(Text(called), "", "", "", limit, row["period"], "")
        for scope in row["scopes"]:
            named = " ".join(f"{name}={value}" for name, value in scope["scope"].items())
            drawn.add_row(
                Text(f"{called} {named}".rstrip()),
                _bar(scope),
                _amount(scope, "spent", unit),
                _amount(scope, "reserved", unit),
                limit,
                _moment(scope["resets_at"]) or row["period"],
                _moment(scope["exhausted_at"]),
            )
        if row["more_scopes"]:
            drawn.add_row(Text(f"{called} (more)"), "", "", "", limit, "", "", style="dim")
    return table.drawn(drawn)


def _bar(scope: Mapping[str, Any]) -> Text:
    share = scope["utilization"]
    full = min(WIDTH, int(share * WIDTH))
    # Rounded down: it says 100 when nothing is left, not before.
    percent = f"{round(share * 1000) // 10:,}%"
    return Text("█" * full + "░" * (WIDTH - full) + f" {percent:>4}", style=_COLOURS[scope["state"]])


def _moment(text: str | None) -> str:
    return "" if text is None else f"{text[:16].replace('T', ' ')}{text[-6:]}"


def _apart(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    """Budgets of the organisation, for who does not see what it spends."""
    for row in rows:
        resets = _moment(row["resets_at"]) or row["period"]
        yield f"  {row['name']} holds, too: the whole organisation shares it ({row['on_exceed']}, resets {resets})\n"


def _notes(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    scopes = [scope for row in rows for scope in row["scopes"]]
    unpriced, unmeasured, estimated = (
        sum(scope[f"{name}_calls"] for scope in scopes) for name in ("unpriced", "usage_missing", "estimated")
    )
    if unpriced:
        yield f"! {unpriced:,} counted without a price: in no sum of money. `aicg costs --by model` shows which.\n"
    if unmeasured:
        yield f"! {unmeasured:,} counted without usage: in no sum of tokens. `aicg costs --by feature` shows whose.\n"
    if estimated:
        yield f"! {estimated:,} counted with estimates.\n"
    for row in rows:
        unit = _unit(row)
        for scope in row["scopes"]:
            if str(scope[f"lapsed_{unit}"]) != "0":
                lapsed = _amount(scope, "lapsed", unit)
                yield f"! {row['name']}: {lapsed} was lent to processes that fell silent, and may have been spent.\n"


def _alerts(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows[:10]:
        scope = row["scope"]
        named = " ".join(f"{name}={value}" for name, value in scope.items()) if isinstance(scope, dict) else ""
        name = f"{row['budget']} {named}".rstrip()
        yield f"  {row['at'][:19].replace('T', ' ')}  {name}: {row['text']}\n"
