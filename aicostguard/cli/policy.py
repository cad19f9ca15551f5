"""`aicg policy check`: is a policy file right, and what does it say?

Owns what is printed. Reads the file and nothing else: no store is opened and nothing is enforced. Runs with the core
alone; a file in YAML needs the extra `guard`. Exit codes: 0 right, 1 mistakes, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Dict, List, Mapping

from aicostguard.guard import audit, policyfile
from aicostguard.guard.policy import BadPolicy, Budget, Policy

_PERIODS = {
    "call": "for one call",
    "session": "in a session",
    "minute": "in any 60 seconds",
    "total": "in all, for ever",
}
_EXCEED = {"block": "block beyond it", "warn": "warn beyond it", "log": "log beyond it"}


def parser() -> argparse.ArgumentParser:
    """What the verb takes."""
    parser = argparse.ArgumentParser(prog="aicg policy", description="Look at a policy file; see docs/budgets.md.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    check = verbs.add_parser("check", help="is it right, and what does it say?")
    check.add_argument("file", nargs="?", help="default: the first of %s here" % ", ".join(policyfile.NAMES))
    check.add_argument("--json", action="store_true", help="print the rules as JSON")
    return parser


def main(arguments: List[str]) -> int:
    """Run the verb. Returns the exit code."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as error:
        return int(error.code or 0)
    path = options.file or policyfile.find(".")
    if path is None:
        sys.stderr.write("aicg policy: there is none of %s here; name the file\n" % ", ".join(policyfile.NAMES))
        return 2
    try:
        loaded = policyfile.load(path)
    except BadPolicy as error:
        sys.stderr.write("%s\n" % error)
        return 1
    for notice in loaded.notices:
        sys.stderr.write("%s\n" % notice)
    if options.json:
        print(json.dumps(as_json(loaded.policy), indent=2))
    else:
        print("%s: %s" % (loaded.path, _count(len(loaded.policy.budgets))))
        for line in lines(loaded.policy):
            print("  " + line)
    return 0


def as_json(policy: Policy) -> Dict[str, Any]:
    """The rules as they are read; amounts are integers of their unit."""
    return {**policy._asdict(), "budgets": [budget._asdict() for budget in policy.budgets]}


def lines(policy: Policy) -> List[str]:
    """The rules as people read them."""
    found = [_line(budget) for budget in policy.budgets]
    found.append("name %s, store %s" % (policy.name, policy.store))
    found.append("a model without a price: %s" % policy.on_unpriced)
    found.append("a call whose most is not known: %s" % policy.on_unknown_bound)
    found.append("a store that fails: %s" % policy.on_store_failure)
    seen = "%d same calls in %g seconds" % (policy.loop_threshold, policy.loop_window)
    found.append("loops: %s" % ("off" if policy.loop_action == "off" else "%s: %s" % (seen, policy.loop_action)))
    found += ["%s: %s" % (name, getattr(policy, name)) for name in ("prices", "audit") if getattr(policy, name)]
    found.append("rules %s" % audit.rules_of(policy))
    return found


def _line(budget: Budget) -> str:
    parts = ["%s: %s" % (budget.name, _amount(budget)), _period(budget)]
    if budget.match:
        parts.append("of %s" % _labels(budget.match))
    if budget.per:
        parts.append("for each %s" % ", ".join(budget.per))
    parts.append(_EXCEED[budget.on_exceed])
    if budget.alert_at:
        parts.append("tell at %s" % ", ".join("%g%%" % (line / 10) for line in budget.alert_at))
    return "; ".join(parts)


def _amount(budget: Budget) -> str:
    if budget.unit != "nanousd":
        return "{:,} {}".format(budget.limit, budget.unit)
    whole, part = divmod(budget.limit, 10**9)
    decimals = ("%09d" % part).rstrip("0").ljust(2, "0")
    return "${:,}.{}".format(whole, decimals)


def _period(budget: Budget) -> str:
    return _PERIODS.get(budget.period) or "each %s of %s" % (budget.period, budget.timezone)


def _labels(match: Mapping[str, str]) -> str:
    return ", ".join("%s=%s" % pair for pair in match.items())


def _count(number: int) -> str:
    return "no budget" if not number else "1 budget" if number == 1 else "%d budgets" % number
