"""Agents: who called whom, what each cost itself, what it handed on, and both together.

Owns the tree. Receipts name the agent and the agent that called it, no more: what an agent costs is told apart by who
called it, and what *its* agents cost is not. So an agent with several callers stands under each of them with what it
cost there, its own agents once. Their costs are in the total of each caller: those totals overlap, and say so.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from starlette.responses import Response

from aicostguard.ledger.query import MAX_LIMIT
from aicostguard.ledger.web.charts import bars
from aicostguard.ledger.web.view import View

#: lines of the tree; beyond that a page cannot be read
LINES = 400
DEPTH = 40

Edge = Mapping[str, Any]


class Line(NamedTuple):
    """An agent where it was called from. `direct` are its sums there; `shared`: its agents are counted elsewhere."""

    name: str | None
    depth: int
    direct: Edge
    delegated_nanousd: int
    #: calls of its agents without a price, which are in no sum
    delegated_unpriced: int
    shared: bool
    #: its agents stand under another line above
    elsewhere: bool

    @property
    def total_nanousd(self) -> int | None:
        own = self.direct["cost_nanousd"]
        return None if own is None and not self.delegated_nanousd else (own or 0) + self.delegated_nanousd


def tree(edges: list[Edge]) -> list[Line]:
    """The lines of a tree from rows by `parent_agent` and `agent`, the dearest branch first. Ends in circles, too."""
    below: dict[str | None, list[Edge]] = {}
    callers: dict[str | None, set[str | None]] = {}
    for edge in edges:
        if edge["agent"] is None and edge["parent_agent"] is None:
            continue  # calls of no agent
        below.setdefault(edge["parent_agent"], []).append(edge)
        callers.setdefault(edge["agent"], set()).add(edge["parent_agent"])
    names = {edge["agent"] for edge in edges}
    # A caller that made no call itself is a root, too; so is whoever is in a circle that nobody else leads into.
    silent = [name for name in below if name is not None and name not in names]
    roots: list[Edge] = [*below.get(None, ()), *(_nothing(name) for name in silent)]
    reached = _reached(below, [edge["agent"] for edge in roots])
    for name in sorted(str(name) for name in names if name is not None and name not in reached):
        if name not in reached:
            roots.append(_nothing(name))
            reached |= _reached(below, [name])
    lines: list[Line] = []
    told: set[str | None] = set()

    def add(edge: Edge, depth: int) -> None:
        name = edge["agent"]
        nano, unpriced = _delegated(below, name)
        children = below.get(name, []) if name is not None else []
        again = name in told
        told.add(name)
        shared = len(callers.get(name, ())) > 1 and bool(children)
        lines.append(Line(name, depth, edge, nano, unpriced, shared, again and bool(children)))
        if not again and depth < DEPTH:
            for child in sorted(children, key=lambda one: -_whole(below, one)):
                add(child, depth + 1)

    for root in sorted(roots, key=lambda one: -_whole(below, one)):
        add(root, 0)
    return lines


def _nothing(name: str | None) -> Edge:
    """An agent that called others and made no call itself."""
    zero = dict.fromkeys(("calls", "unpriced_calls", "estimated_calls", "input_tokens", "output_tokens"), 0)
    return {"agent": name, "parent_agent": None, "cost_nanousd": 0, **zero}


def _reached(below: Mapping[str | None, list[Edge]], names: list[str | None]) -> set[str | None]:
    found: set[str | None] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found and name is not None:
            found.add(name)
            left += [edge["agent"] for edge in below.get(name, ())]
    return found


def _delegated(below: Mapping[str | None, list[Edge]], name: str | None) -> tuple[int, int]:
    """What all agents below one cost, each call once, and how many of their calls have no price."""
    edges = [edge for one in _reached(below, [name]) for edge in below.get(one, ())]
    return sum(edge["cost_nanousd"] or 0 for edge in edges), sum(edge["unpriced_calls"] for edge in edges)


def _whole(below: Mapping[str | None, list[Edge]], edge: Edge) -> int:
    return (edge["cost_nanousd"] or 0) + _delegated(below, edge["agent"])[0]


def show(view: View) -> Response:
    """The page."""
    asked = {"group_by": "parent_agent,agent", "limit": str(MAX_LIMIT), "order": "-cost", "compare": None}
    answer = view.costs(**asked)
    lines = tree(answer["rows"])
    named = [row for row in answer["rows"] if row["agent"] is not None]
    alone = next((row for row in answer["rows"] if row["agent"] is None and row["parent_agent"] is None), None)
    by_agent = view.costs(group_by="agent", order="-cost", compare=None)
    return view.show(
        "agents.html",
        answer=answer,
        asked=asked,
        lines=lines[:LINES],
        more=len(lines) - LINES,
        largest=max((line.total_nanousd or 0 for line in lines), default=0),
        overlaps=any(line.shared for line in lines),
        alone=alone,
        chart=bars.breakdown(by_agent, title="Spend by agent itself") if named else None,
    )
