"""Agents: who called whom, what each cost itself, what it handed on, and both together.

Owns what of the tree is shown. The tree is `ledger.agents`', as `GET /v1/agents` has it.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from starlette.responses import Response

from aicostguard.ledger import agents
from aicostguard.ledger.query import PARAMETERS
from aicostguard.ledger.web.charts import bars
from aicostguard.ledger.web.view import View

#: lines of the tree; beyond that a page cannot be read
LINES = 400
#: names of callers that a line says
_NAMED = 4


def show(view: View) -> Response:
    """The page."""
    answer = found(view)
    lines = answer["agents"]
    shown = agents.dearest(lines, LINES)
    by_agent = view.costs(group_by="agent", order="-cost", compare=None)
    return view.show(
        "agents.html",
        answer=answer,
        asked=dict.fromkeys(_NOT_OURS),
        lines=[(line, _says(line)) for line in shown],
        more=len(lines) - len(shown),
        largest=max((line["total"]["cost_nanousd"] or 0 for line in lines), default=0),
        chart=bars.breakdown(by_agent, title="Spend by agent itself") if lines else None,
    )


#: what `GET /v1/agents` does not take
_NOT_OURS = tuple(name for name in PARAMETERS if name not in agents.PARAMETERS)


def found(view: View) -> dict[str, Any]:
    """`GET /v1/agents` with the parameters of the address."""
    asked = view.asked(**dict.fromkeys(_NOT_OURS))
    return agents.ask(view.site.store, asked, view.principal.project_id, view.now_ms)


def _says(line: Mapping[str, Any]) -> tuple[str, str]:
    """What is to be known of a line beside its figures, in a few words and in full; both empty for most."""
    callers = line["callers"]
    if line["elsewhere"]:
        return "its agents are counted elsewhere", "What its own agents cost is counted once, on its other line"
    if line["gathered"] and not callers:
        return "no calls itself", "It called others, and made no call itself"
    if line["gathered"]:
        says = f"What the agents cost that it called, for whichever of {_named(callers)}: receipts do not say for whom"
        return f"for all of {len(callers)} callers" if len(callers) > 1 else f"called by {_named(callers)}", says
    if len(callers) > 1 and line["delegated"]["calls"]:
        says = f"Called by {_named(callers)}: what its own agents cost for all of them is counted here"
        return f"its agents: for all {len(callers)} callers", says
    return "", ""


def _named(callers: Sequence[str | None]) -> str:
    names = ["no agent" if name is None else name for name in callers]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
