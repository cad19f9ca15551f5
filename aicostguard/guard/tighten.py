"""The ledger's policy beside the program's own: both hold. Pure.

Owns how the two become one: every budget of both is in force, and of each other word the stricter one. So what comes
from the ledger can tighten, and never loosen, what the program says itself.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple

from aicostguard.guard import rules, stated
from aicostguard.guard.policy import BadPolicy, Budget, Policy

#: word → its values, the stricter ones later
_STRICTER: Mapping[str, Tuple[str, ...]] = {
    "on_unpriced": ("allow", "warn", "block"),
    "on_unknown_bound": ("observed", "max", "refuse"),
    "on_store_failure": ("open", "closed"),
    "loop_action": ("off", "warn", "block"),
}
#: fewer calls, and a longer time, are stricter
_LOOPS: Mapping[str, Callable[[Any, Any], Any]] = {"loop_threshold": min, "loop_window": max}


class Remote(NamedTuple):
    """What the ledger says: budgets, and the words that it sets besides."""

    budgets: Tuple[Budget, ...] = ()
    words: Mapping[str, Any] = {}


class Joined(NamedTuple):
    """Both policies as one. `lent` is the name of each of the ledger's budgets here → its name there."""

    policy: Policy
    lent: Mapping[str, str]


def read(given: Mapping[str, Any]) -> Remote:
    """A policy as the ledger gives it. Raises BadPolicy; words of a later release are passed over."""
    budgets = given.get("budgets")
    if given.get("version") != 1 or not isinstance(budgets, list):
        raise BadPolicy("policy: is of a version that this release does not read: upgrade aicostguard")
    made = [stated.budget(item, "budgets[%d]." % at) for at, item in enumerate(budgets) if isinstance(item, dict)]
    words = {
        name: rules.read(rules.COST[name], "policy." + name, given[name])
        for name in (*_STRICTER, *_LOOPS)
        if given.get(name) is not None
    }
    return Remote(tuple(made), words)


def join(own: Policy, remote: Remote) -> Joined:
    """Both in force at once."""
    taken = {budget.name for budget in own.budgets}
    budgets: List[Budget] = list(own.budgets)
    lent: Dict[str, str] = {}
    for budget in remote.budgets:
        name = budget.name
        while name in taken:
            name += " (ledger)"
        taken.add(name)
        lent[name] = budget.name
        # The ledger sees all of what is spent, and tells its thresholds itself.
        budgets.append(budget._replace(name=name, alert_at=()))
    words: Dict[str, Any] = {}
    for word, value in remote.words.items():
        mine = getattr(own, word)
        stricter = _LOOPS[word] if word in _LOOPS else functools.partial(max, key=_STRICTER[word].index)
        words[word] = stricter(mine, value)
    return Joined(own._replace(budgets=tuple(budgets), **words), lent)
