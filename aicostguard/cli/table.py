"""How answers look: a table for people, JSON and CSV for programs.

Owns layout and rounding on the screen. JSON and CSV carry exact amounts; the table shows millionths of a
dollar. What has no price is said in words, never shown as zero.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any, Callable, Mapping

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aicostguard.cli.ask import Answer
from aicostguard.ledger import sheet

#: column → its heading; what a table shows of the many sums
_COLUMNS = {
    "calls": "calls",
    "input_tokens": "input",
    "cache_read_input_tokens": "cached",
    "output_tokens": "output",
}
#: measure → what is said below the table when it is not 0
_NOTES = {
    "unpriced_calls": "{n} without a price: in no sum. --by provider,model shows which; "
    "a provider `custom` is named by AICG_HOSTS.",
    "usage_missing_calls": "{n} without usage from the provider: their tokens are in no sum.",
    "estimated_calls": "{n} with estimated usage.",
    "partial_calls": "{n} cut off before the end: the provider may have billed more.",
    "clock_adjusted_calls": "{n} from a machine whose clock is wrong: shown at the time they arrived.",
}
_EMPTY = """No receipts yet. Let a program send some:

  aicg serve                             # here, then in another terminal:
  AICG_URL=http://127.0.0.1:8090 AICG_KEY=$(cat KEY_FILE) python your_app.py

with `import aicostguard.auto` at the top of your_app.py. `aicg diagnose` says whether it is working.
"""
_NOTHING = "No calls {span} pass these filters. A longer period: --since all\n"


def show(answer: Answer) -> str:
    """The table, its totals, and what the totals leave out."""
    body = answer.body
    if answer.empty:
        return _EMPTY
    if body["totals"]["calls"] == 0:
        return _NOTHING.format(span=span(body)) + lacking(body)
    table = Table(show_footer=True, box=None, pad_edge=False, header_style="bold", footer_style="bold")
    groups = body["group_by"]
    for place, name in enumerate(groups):
        table.add_column(name, "total" if place == 0 else "", overflow="fold")
    totals = body["totals"]
    columns = _columns(totals)
    for heading, cell in columns.items():
        table.add_column(heading, cell(totals), justify="right", no_wrap=True)
    for row in body["rows"]:
        names = [Text("-" if row[name] is None else str(row[name])) for name in groups]
        table.add_row(*names, *(cell(row) for cell in columns.values()))
    other = body["other"]
    if other:
        names = [
            Text(f"({other['groups']} more)" if other["groups"] else "(archived)"),
            *(Text("") for _ in groups[1:]),
        ]
        table.add_row(*names, *("" if name in _NOT_OF_THE_REST else cell(other) for name, cell in columns.items()),
                      style="dim")  # fmt: skip
    lines = [drawn(table), _period(body)]
    if "compared_with" in body:
        lines.append(f"before: {span(body['compared_with'])}\n")
    return "".join([*lines, notes(totals), together(body), lacking(body)])


def notes(totals: Mapping[str, Any]) -> str:
    """What totals leave out or only guess, a line for each; empty for nothing."""
    told = [says.format(n=_calls(totals[name])) for name, says in _NOTES.items() if totals[name]]
    return "".join(f"! {says}\n" for says in told)


def together(body: Mapping[str, Any]) -> str:
    """Which days' values stand together because there were too many; empty for none."""
    found = body.get("full")
    return (
        f"! On {_days(found)} there were too many different values for sums of each: the rest is (other). "
        "--where with a value is exact; `aicg labels` says which days and whose receipts.\n"
        if found
        else ""
    )


def _days(found: Mapping[str, Any]) -> str:
    first, last = found["first_day"], found["last_day"]
    return str(first) if found["days"] == 1 else f"{found['days']} days, {first} to {last}"


def lacking(body: Mapping[str, Any]) -> str:
    """What an answer lacks because it is archived; empty for nothing."""
    found = body.get("archived")
    if not found:
        return ""
    return (
        f"! Incomplete: up to {_calls(found['receipts'])} of {_days(found)} are archived, and only single receipts "
        "tell this. By one of the dimensions alone and whole days it is complete; `aicg archive restore` brings "
        "receipts back.\n"
    )


def unjoined(body: Mapping[str, Any]) -> str:
    """Which receipts lead no score to a model, because they are archived; empty for none."""
    found = body.get("quality_archived")
    return (
        f"! Quality is made of fewer scores: {_calls(found['receipts'])} of {_days(found)} are archived, and only "
        "receipts lead a score of a call or a session to its model.\n"
        if found
        else ""
    )


#: headings of what cannot be known of rows that a limit cut off
_NOT_OF_THE_REST = ("p50 ms", "p95 ms", "p99 ms", "first token p95")


def _columns(totals: Mapping[str, Any]) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """heading → what stands under it in a row."""
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {"cost": money}
    for name, heading in _COLUMNS.items():
        columns[heading] = lambda row, name=name: count(row[name])  # type: ignore[misc]
    if "before" in totals:
        columns["before"] = lambda row: money(row["before"])
        columns["change"] = _change
    if "approximate" in totals:
        about = "≈" if totals["approximate"] else ""
        for heading, name in zip(
            _NOT_OF_THE_REST, ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "ttft_p95_ms")
        ):
            columns[heading] = lambda row, name=name: "" if row[name] is None else f"{about}{row[name]:,.0f}"  # type: ignore[misc]
    return columns


def _change(row: Mapping[str, Any]) -> str:
    if row["change_nanousd"] is None:
        return "unknown"
    if row["ratio"] is None:
        return "new" if row["change_nanousd"] else ""
    return f"{(row['ratio'] - 1) * 100:+,.1f} %"


def money(row: Mapping[str, Any]) -> str:
    """Rounded half up to six decimals, in integers: a float could not hold it."""
    nano = row["cost_nanousd"]
    if nano is None:
        return "unpriced"
    # Some of the calls have no price: the sum is at least this.
    bound = "≥ " if row["unpriced_calls"] else ""
    if 0 < nano < 500:
        return bound + "<$0.000001"
    whole, part = divmod((nano + 500) // 1000, 10**6)
    return f"{bound}${whole:,}.{part:06d}"


def count(number: int) -> str:
    return f"{number:,}"


def _calls(number: int) -> str:
    return f"{number:,} call" + ("" if number == 1 else "s")


def _period(body: Mapping[str, Any]) -> str:
    return f"\n{span(body)}, {body['tz']}\n"


def span(body: Mapping[str, str]) -> str:
    """The period of an answer for people: `from 2026-03-01 00:00 to 2026-03-13 00:00`; its end is not in it."""
    since, until = (moment(body[name]) for name in ("since", "until"))
    return f"up to {until}" if body["since"].startswith("1970-01-01") else f"from {since} to {until}"


def moment(iso: str) -> str:
    """An ISO time to the minute, without its offset: the zone is said once, beside the period."""
    return iso[:16].replace("T", " ")


def drawn(table: Table) -> str:
    """A table as text. On a terminal too narrow for it each row becomes lines of its own: no figure is ever cut."""
    terminal = sys.stdout.isatty()
    out = io.StringIO()
    # Into a file or a pipe nothing is cut to the width of a screen.
    console = Console(file=out, force_terminal=terminal, width=None if terminal else _PIPE, highlight=False)
    if _least(table) > console.width:
        return _upright(table)
    console.print(table)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


#: columns of what is no terminal, and of a cell that may be folded at least
_PIPE, _FOLDED = 100_000, 16


def _least(table: Table) -> int:
    """The columns that a table needs: a figure whole, a name folded."""
    needs = 0
    for column in table.columns:
        cells = [column.header, *column._cells, *([column.footer] if table.show_footer else [])]
        if column.no_wrap:
            needs += max(cell_len(str(cell)) for cell in cells)
        else:
            needs += min(_FOLDED, max((cell_len(word) for cell in cells for word in str(cell).split()), default=0))
    return needs + 2 * (len(table.columns) - 1)


def _upright(table: Table) -> str:
    """Each row as a block: its first cell, then what the others are called and say. Empty ones are left out."""
    headings = [str(column.header) for column in table.columns]
    rows = [[str(cell) for cell in row] for row in zip(*(column._cells for column in table.columns))]
    if table.show_footer:
        rows.append([str(column.footer) for column in table.columns])
    width = max((len(heading) for heading in headings[1:]), default=0)
    lines = []
    for first, *others in rows:
        lines.append(first)
        lines += [f"  {heading:{width}}  {cell}" for heading, cell in zip(headings[1:], others) if cell]
    return "".join(line.rstrip() + "\n" for line in lines)


def as_json(answer: Answer) -> str:
    return json.dumps(answer.body, indent=2) + "\n"


def as_csv(answer: Answer) -> str:
    return sheet.costs(answer.body)


FORMS: Mapping[str, Callable[[Answer], str]] = {"table": show, "json": as_json, "csv": as_csv}
