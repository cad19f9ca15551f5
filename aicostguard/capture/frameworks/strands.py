"""Strands Agents: `Agent.name`, around a run of the agent, tools and other agents inside it.

Every way to ask an agent goes through one async generator, so that what its consumer does meanwhile is not the agent's.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the agent class. Raises when its methods are not where they were."""
    # What an agent is called that was given no name.
    nameless = getattr(module, "_DEFAULT_AGENT_NAME", None)

    def name(agent: Any, *args: Any, **kwargs: Any) -> Any:
        return None if agent.name == nameless else agent.name

    replace(hook, module.Agent, "stream_async", lambda original: agents.async_generator(original, hook, name))
    replace(hook, module.Agent, "structured_output_async", lambda original: agents.coroutine(original, hook, name))
