"""What a run without the agent and one with it have to have in common, and what the second has to have besides."""

from __future__ import annotations

from typing import Any, Dict

from tests.matrix.case import CASES

#: functions of the cases themselves that stand between a case and its SDK
HELPERS = ("run", "both", "in_turn", "speakeasy", "streamed_apart", "drain", "adrain", "forward", "call")
HELPERS += ("get_response", "either", "begin", "stream")


def verdict(row: str, off: Dict[str, Any], on: Dict[str, Any]) -> str:
    """`ok`, or what is wrong."""
    if off.get("error"):
        return "fails without the agent: " + off["error"].strip().splitlines()[-1]
    if on.get("error"):
        return "fails with the agent only: " + on["error"].strip().splitlines()[-1]
    if on["seen"] != off["seen"]:
        return "the user sees something else"
    if on["requests"] != off["requests"]:
        return "the requests differ"
    if len(on["receipts"]) != len(on["billed"]):
        return "%d receipts for %d billed responses" % (len(on["receipts"]), len(on["billed"]))
    case = CASES[row.rsplit(":", 1)[0]]
    if case.silent and on["missing"] != len(on["billed"]):
        return "usage is missing, and the receipt does not say so"
    if not case.silent and on["receipts"] != on["billed"]:
        return "receipt %s, billed %s" % (on["receipts"], on["billed"])
    if on["partial"]:
        return "marked partial or estimated"
    if not set(on["features"]) <= {case.call.__name__, *HELPERS}:
        return "feature is %s" % on["features"]
    if case.agents and on["agents"] != sorted(map(list, case.agents)):
        return "agents are %s" % on["agents"]
    return "ok"


#: rows whose user gets nothing of an error: what the framework counts and goes on from, or tells the model of as the
#: result of a tool, or the case itself catches
QUIET = ("dspy.parallel:sync", "dspy.stream:astream", "llama-index.team:async")
#: whose runs never raise: what went wrong is in the run's result
QUIET += tuple("agno:" + mode for mode in ("sync", "async", "stream", "astream"))
QUIET += ("agno.team:sync", "agno.team:async", "griptape:sync", "griptape:stream")


#: rows whose user gets the words of an error, of whatever kind, in one of the framework's own: it keeps them as text
RETOLD = ("autogen.team:async",)


def refusal(row: str, off: Dict[str, Any], on: Dict[str, Any]) -> str:
    """The same for a call that a gate refuses: nothing is billed, and its user gets the error as it was, once."""
    if off.get("error"):
        return "fails without the agent: " + off["error"].strip().splitlines()[-1]
    if on.get("error"):
        return "fails with the agent only: " + on["error"].strip().splitlines()[-1]
    if on["billed"]:
        return "%d responses were billed" % on["billed"]
    if on["raised"] == "nothing" and not on["asked"] and "batches" in row:
        return "ok"  # results that were ordered before are fetched
    if on["raised"] == "nothing" and row in QUIET:
        return "ok"
    if on["raised"] != "itself" and not (row in RETOLD and "BudgetExceeded: " in on["raised"]):
        return "its user gets %s" % on["raised"]
    if not 1 <= on["asked"] <= max(1, len(off["billed"])):
        return "asked %d times for %d calls" % (on["asked"], len(off["billed"]))
    return "ok"
