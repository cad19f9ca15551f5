"""LlamaIndex: the name of a workflow's agent, around a step of the agent and around the tools that it calls alone.

The step is each kind of agent's own method, so a class of the user's that derives from none of the three has no name.
In an `AgentWorkflow` of several agents the tools are the workflow's: what they ask a model is asked in no agent's name,
unless they run an agent themselves.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace

#: module (its last part) → class and method
_METHODS = {
    "function_agent": ("FunctionAgent", "take_step"),
    "react_agent": ("ReActAgent", "take_step"),
    "codeact_agent": ("CodeActAgent", "take_step"),
    "base_agent": ("BaseWorkflowAgent", "_call_tool"),
}


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the one class of this module. Raises when its method is not where it was."""
    owner, method = _METHODS[hook.name.rpartition(".")[2]]
    replace(hook, getattr(module, owner), method, lambda original: agents.coroutine(original, hook, _name))


def _name(agent: Any, *args: Any, **kwargs: Any) -> Any:
    return agent.name
