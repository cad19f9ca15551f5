"""Google ADK: `agent.name`, around a run of the agent, those of its sub-agents inside it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the base class. Raises when its method is not where it was."""
    replace(hook, module.BaseAgent, "run_async", lambda original: agents.async_generator(original, hook, _name))


def _name(agent: Any, *args: Any, **kwargs: Any) -> Any:
    return agent.name
