"""From a policy to a gate in the call path: where enforcement is switched on.

Owns which policy is meant (`auto_instrument`'s arguments, `AICG_POLICY`, the file beside the entry script), the store
and the prices that it names, and that only one gate is set. Whoever switches it on by code gets his mistakes as
`BadPolicy`. If this is wrong, a program believes that it has a budget.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, Optional, Union

from aicostguard.capture.state import state
from aicostguard.config import Settings
from aicostguard.guard import policyfile
from aicostguard.guard.costs import CostConfig
from aicostguard.guard.engine import Guard
from aicostguard.guard.gate import CallGate
from aicostguard.guard.loops import Loops
from aicostguard.guard.policy import BadPolicy, Policy
from aicostguard.guard.store import Store, open_store
from aicostguard.guard.values import Alert
from aicostguard.pricing import BadPrice, default_book, pricefile
from aicostguard.receipt import clean_label

Source = Union[str, "os.PathLike[str]", Policy, None]


def policy_of(cost: Optional[CostConfig], policy: Source) -> Policy:
    """The rules that are meant. Raises BadPolicy when there are none, or when they cannot be used."""
    if cost is not None and policy is not None:
        raise BadPolicy(
            "auto_instrument takes cost=... or policy=..., not both: put the limits into the policy's cost:"
        )
    if isinstance(policy, Policy):
        return policy
    if cost is not None:
        if not isinstance(cost, CostConfig):
            raise BadPolicy("cost=%s: write cost=CostConfig(...)" % type(cost).__name__)
        return cost.policy(name=entry_script(), store="sqlite")
    path = os.fspath(policy) if policy is not None else policyfile.find()
    if path is None:
        raise BadPolicy(
            "no budgets: write auto_instrument(cost=CostConfig(...)), or put an aicostguard.yaml beside the program"
        )
    loaded = policyfile.load(path)
    for notice in loaded.notices:
        _say("warning", notice)
    return loaded.policy


def start(policy: Policy, settings: Settings, store: Optional[Store] = None) -> CallGate:
    """Set the gate of this policy, in place of one that is set. Raises BadPolicy when its store or prices cannot be."""
    book = default_book()
    if policy.prices is not None:
        try:
            book = book.with_own(pricefile.load(policy.prices))
        except BadPrice as error:
            raise BadPolicy("prices: %s" % error) from None
    kept = store if store is not None else open_store(policy.store, policy.name, settings.state_dir)
    loops = Loops(policy.loop_window, policy.loop_threshold) if policy.loop_action != "off" else None
    gate = CallGate(_guard(policy, kept), book, _labels(settings), kept.waits, loops)
    stop()
    state.gate = gate
    return gate


def _guard(policy: Policy, store: Store) -> Guard:
    if policy.audit is None:
        return Guard(policy, store, tell=_tell)
    from aicostguard.guard import audit

    return audit.guard(policy, store, _tell)


def stop() -> None:
    """No call is asked any more."""
    gate, state.gate = state.gate, None
    if isinstance(gate, CallGate):
        gate.close()


def _labels(settings: Settings) -> Dict[str, str]:
    given = {"service": settings.service, "environment": settings.environment}
    return {name: clean_label(value, "")[0] or "" for name, value in given.items() if value}


def entry_script() -> str:
    """What the processes of one program, and its next run, have in common."""
    script: Any = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.abspath(script) if script else os.path.join(os.getcwd(), "interactive")


def _tell(alert: Alert) -> None:
    _say("warning", alert.text)


def _say(level: str, text: str) -> None:
    import logging

    getattr(logging.getLogger("aicostguard.guard"), level)("%s", text)
