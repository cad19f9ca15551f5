"""Budgets by agent, in the frameworks themselves: the right agent is refused, no other, and its user hears why.

`scripts/matrix --orders agents` runs this for the cases that name their agents, in their environments. A case is called
without a budget first, which tells whose calls it makes, one after the other. Then with a real policy each time:

- `match: {agent: somebody else}`: everything goes through;
- `match: {agent: NAME}`, for each agent: the calls before its first one are made, and that one is refused;
- the same for `parent_agent`;
- `per: [agent]`: the first call is refused, and the refusal names its agent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from typing import Any, Dict, Iterator, List, Tuple

import tests.matrix.families  # noqa: F401
from aicostguard.simulator import Simulator
from tests.matrix.case import CASES, Case
from tests.matrix.run import activate
from tests.matrix.verdict import QUIET, RETOLD

#: rows in which an agent is another one's tool: the framework gives the tool's error to the model, as any other error
#: of a tool, and goes on. Then the one who is refused makes no call, and the others may.
TOLD_TO_THE_MODEL = ("openai-agents.team:async", "llama-index.team:async")


def budgets(made: List[Dict[str, Any]]) -> Iterator[Tuple[str, Dict[str, Any], int]]:
    """(what it is called, what the budget matches or is kept per, how many calls are made before it refuses)."""
    yield "somebody else", {"match": {"agent": "nobody-of-that-name"}}, len(made)
    for label in ("agent", "parent_agent"):
        names = [str(receipt.get(label, "")) for receipt in made]
        for name in sorted(set(names) - {""}):
            yield "%s %s" % (label, name), {"match": {label: name}}, names.index(name)
    yield "per agent", {"per": ("agent",)}, 0


def called(case: Case, mode: str, client: Any) -> Any:
    """What its user gets as an error."""
    from aicostguard.guard.errors import BudgetExceeded

    try:
        case.call(client, mode)
    except BudgetExceeded as error:
        return error
    except BaseException as error:
        return "%s: %s" % (type(error).__name__, str(error)[:200])
    return None


def look(row: str, case: Case, mode: str, simulator: Simulator, got: List[Any]) -> str:
    """`ok`, or what is wrong."""
    from aicostguard.capture.state import state
    from aicostguard.config import load
    from aicostguard.guard import enforcing
    from aicostguard.guard.policy import Budget, Policy

    state.gate = None
    error = called(case, mode, case.build(simulator.url, mode))
    made = list(got)
    if error is not None:
        return "without a budget its user gets %s" % error
    agents = sorted({(str(one.get("agent", "")), str(one.get("parent_agent", ""))) for one in made})
    if agents != sorted(case.agents):
        return "without a budget its agents are %s" % agents
    for name, rule, before in budgets(made):
        simulator.reset_count()
        got.clear()
        enforcing.start(Policy(budgets=(Budget("few", 0, "requests", **rule),), loop_action="off"), load({}))
        error = called(case, mode, case.build(simulator.url, mode))
        enforcing.stop()
        billed = len(simulator.billed())
        for label, wanted in rule.get("match", {}).items():
            if any(one.get(label) == wanted for one in got):
                return "%s: it was not refused" % name
        if billed != before and not (row in TOLD_TO_THE_MODEL and error is None and billed > before):
            return "%s: %d calls were billed, not %d" % (name, billed, before)
        if before == len(made) or row in QUIET:
            if error is not None:
                return "%s: its user gets %s" % (name, error)
        elif row not in TOLD_TO_THE_MODEL:
            if row in RETOLD and isinstance(error, str) and "BudgetExceeded: " in error:
                continue
            if isinstance(error, str) or error is None:
                return "%s: its user gets %s" % (name, error)
            if rule.get("per") and error.scope.get("agent") != str(made[0].get("agent", "")):
                return "%s: the refusal is for %s" % (name, error.scope)
    return "ok"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASE:MODE")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    got: List[Any] = []
    results: Dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, Simulator() as simulator:
        activate(simulator, got, folder)
        for row in options.cases:
            name, mode = row.rsplit(":", 1)
            got.clear()
            simulator.reset_count()
            results[row] = look(row, CASES[name], mode, simulator, got)
        from aicostguard.health import health

        results["faults"] = "faults: %s" % health.faults if health.faults else "ok"
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
