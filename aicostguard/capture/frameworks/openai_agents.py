"""OpenAI Agents: `Agent.name`, around one turn of the agent, its tools included.

A handoff makes the next turn another agent's, whose parent is the one that handed over; an agent that is a tool runs
inside the turn of its parent. The functions of a turn stand in one module and are called by name there and in
`agents.run`.
"""

from __future__ import annotations

import sys
import weakref
from functools import partial
from types import ModuleType
from typing import Any, Dict, Tuple

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace

#: of each run that goes on (by its context object): that object, the agent of its last turn, and that agent's parent
_runs: Dict[int, Tuple[Any, Any, Any]] = {}


def install(module: ModuleType, hook: Hook) -> None:
    """Hook both kinds of a turn. Raises when they are not where they were."""
    if not hasattr(module, "AgentRunner"):
        return  # somebody's own package `agents`
    loop = sys.modules["agents.run_internal.run_loop"]
    for owner, name in ((loop, "run_single_turn"), (module, "run_single_turn"), (loop, "run_single_turn_streamed")):
        replace(hook, owner, name, lambda original: agents.coroutine(original, hook, _turn))


def _turn(*args: Any, **kwargs: Any) -> Tuple[Any, Any]:
    """The agent of a turn, and the one that handed over to it in the same run."""
    agent = (kwargs["bindings"] if "bindings" in kwargs else args[1]).public_agent.name
    run = kwargs["context_wrapper"] if "context_wrapper" in kwargs else args[3]
    last, parent = _runs.get(id(run)), None
    if last is not None and last[0]() is run:
        parent = last[2] if last[1] == agent else last[1]
    _runs[id(run)] = (weakref.ref(run, partial(_ended, id(run))), agent, parent)
    return agent, parent


def _ended(key: int, reference: Any) -> None:
    _runs.pop(key, None)
