"""The verb `agents`: who called whom, and what it cost, as a click command.

Owns its options and table. The tree is `ledger.agents`', as the API and the page have it.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Mapping

import click
from rich.table import Table
from rich.text import Text

from aicostguard import ledger
from aicostguard.cli import VERBS, ask, chosen, options, table
from aicostguard.ledger import agents as tree
from aicostguard.ledger import query, sheet

#: lines of the table, unless more are asked for
LINES = 100
#: levels up to which a name is moved to the right: a figure has to fit beside it
_DEEP = 12
_NO_AGENT = """No call {span} says which agent made it. Frameworks of agents are labelled by themselves; elsewhere:

  with aicostguard.agent("planner"):
      ...  # its calls; an agent inside it knows its parent
"""


def _answer(parameters: ask.Parameters, at: ask.Place) -> dict[str, Any]:
    if at.url is not None:
        return ask.get(at, "agents", parameters)
    with ask.opened(at.path) as store:
        return tree.ask(store, parameters, chosen.of(store), ledger.now_ms())


@click.command(short_help=VERBS["agents"])
@options.of_period
@click.option(
    "--limit",
    type=click.IntRange(1, query.MAX_LIMIT),
    default=LINES,
    show_default=True,
    help="Lines of the table at most, the dearest. JSON and CSV have all.",
)
@click.option("--json", "form", flag_value="json", help="Print JSON, as GET /v1/agents gives it.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@options.asks
def agents(
    form: str | None,
    limit: int,
    where: tuple[str, ...],
    path: str | None,
    url: str | None,
    key: str | None,
    **given: Any,
) -> int:
    """Agents as a tree: what each cost itself, what it handed on to others, and both together.

    Each cost is on one line. What an agent of several callers handed on stands once, under the nearest agent that
    every way to it leads through.
    """
    parameters = {name: [str(value)] for name, value in given.items() if value not in (None, "")}
    options.filtered(parameters, where, excludes=True)
    options.one_place(path, url)
    answer = _answer(parameters, ask.where(path, url, key))
    if form == "json":
        text = json.dumps(answer, indent=2) + "\n"
    else:
        text = sheet.rows(tree.flat(answer), tree.COLUMNS) if form == "csv" else shown(answer, limit)
        if form == "csv":  # whose lines have no place for it
            sys.stderr.write(table.lacking(answer))
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


def shown(answer: Mapping[str, Any], limit: int) -> str:
    """The tree as a table."""
    if not answer["agents"]:
        return _NO_AGENT.format(span=table.span(answer)) + table.lacking(answer)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("agent", overflow="fold")
    for heading in ("direct", "delegated", "total", "calls"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    lines = tree.dearest(answer["agents"], limit)
    for line in lines:
        parts = [table.money(line[part]) if line[part]["calls"] else "" for part in ("direct", "delegated", "total")]
        drawn.add_row(Text(_name(line)), *parts, table.count(line["direct"]["calls"]))
    for name, says in (("other", "(other: too many names)"), ("unnamed", "(no agent)")):
        rest = answer[name]
        if rest and rest["calls"]:
            drawn.add_row(Text(says), table.money(rest), "", table.money(rest), table.count(rest["calls"]), style="dim")
    totals = answer["totals"]
    drawn.add_row(Text("total"), "", "", table.money(totals), table.count(totals["calls"]), style="bold")
    more = len(answer["agents"]) - len(lines)
    text = table.drawn(drawn) + (f"({more:,} cheaper lines more: --limit)\n" if more else "")
    text += f"\n{table.span(answer)}, {answer['tz']}\n"
    if any(line["elsewhere"] for line in lines):
        text += "^ its own agents are counted once, on its other line\n"
    return text + table.notes(totals) + table.together(answer) + table.lacking(answer)


def _name(line: Mapping[str, Any]) -> str:
    branch = "  " * (min(line["depth"], _DEEP) - 1) + "└ " if line["depth"] else ""
    name = "-" if line["agent"] is None else line["agent"]
    if line["elsewhere"]:
        name += " ^"
    if line["gathered"]:
        callers = ["-" if one is None else one for one in line["callers"]]
        name += (
            f" (for {', '.join(callers[:4])}{', …' if len(callers) > 4 else ''})" if callers else " (no calls itself)"
        )
    return branch + name
