"""How a rule and the settings beside it are read from what somebody gives: a body of the API, the command line, a form.

Owns the short words (`limit`, `spent`, `adjust`). What a rule may be is `rule`'s.
"""

from __future__ import annotations

from typing import Any, Mapping

from aicostguard.guard import rules
from aicostguard.guard.policy import BadPolicy, Budget
from aicostguard.ledger.budgets import rule
from aicostguard.ledger.errors import Refused

#: keys of a body that say how it is meant, not what the rule is
_SIMPLE = ("limit", "spent", "adjust")
#: what of a policy can be set beside budgets
SETTINGS = ("on_unpriced", "on_unknown_bound", "on_store_failure", "loop_window", "loop_threshold", "loop_action")


def read_put(body: Mapping[str, Any], known: Budget | None) -> tuple[Budget, int | None, bool]:
    """`(rule, what stands in it, is that meant?)` from a body. Short ones change what there is. Raises `Refused` (422).

    A body of `name` and `limit` alone (`spent` and `adjust` beside) changes the limit of a budget that there is, and
    nothing else of it; where there is none it makes one with a limit in USD.
    """
    given = {name: value for name, value in body.items() if name not in _SIMPLE}
    if "limit" in body:
        if any(key in given for key in rule.LIMITS.values()):
            raise Refused(422, "is another word for limit_usd, which is given, too", "limit")
        given[rule.LIMITS[known.unit if known else "nanousd"]] = body["limit"]
    if known is not None and set(body) <= {"name", *_SIMPLE}:
        given = {**rule.written(known), **given}
    stated = rule.read(given)
    adjust = body.get("adjust", False)
    if not isinstance(adjust, bool):
        raise Refused(422, "must be true or false", "adjust")
    spent = None
    if body.get("spent") is not None:
        kind = {"nanousd": rules.USD, "tokens": rules.TOKENS, "requests": rules.REQUESTS}[stated.unit]
        try:
            spent = int(rules.read(kind, "spent", body["spent"]))
        except BadPolicy as error:
            raise Refused(422, str(error).partition(": ")[2], "spent") from None
    elif adjust:
        raise Refused(422, "says that `spent` is meant, which is not given", "adjust")
    return stated, spent, adjust


def read_settings(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a policy is no budget, in the policy's own words; null takes a word back. Raises `Refused` (422)."""
    out: dict[str, Any] = {}
    for name, value in body.items():
        if name not in SETTINGS:
            raise Refused(422, f"is not a setting; known are {', '.join(SETTINGS)}", ascii(name[:64])[1:-1])
        if value is not None:
            try:
                rules.read(rules.COST[name], name, value)
            except BadPolicy as error:
                raise Refused(422, str(error).partition(": ")[2], name) from None
        out[name] = value
    return out
