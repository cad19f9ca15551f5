"""CrewAI: an agent's role, around the execution of a task. Roles are prose: most become hashes."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the agent class. Raises when its methods are not where they were."""
    replace(hook, module.Agent, "execute_task", lambda original: agents.plain(original, hook, _role))
    replace(hook, module.Agent, "aexecute_task", lambda original: agents.coroutine(original, hook, _role))


def _role(agent: Any, *args: Any, **kwargs: Any) -> Any:
    return agent.role
