"""pydantic-ai: `Agent.name`, around a request to the model and around the tools that its answer calls.

Not around `run` or `iter`: there pydantic-ai looks at the frame above to name an agent after its variable. And not
around a streamed request: it is sent while the user's own code runs, whose other calls are not the agent's.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the two nodes. Raises when they are not where they were."""
    tools = module.CallToolsNode
    replace(hook, tools, "_run_stream", lambda original: agents.async_generator(original, hook, _name))
    replace(hook, module.ModelRequestNode, "run", lambda original: agents.coroutine(original, hook, _name))


def _name(node: Any, context: Any) -> Any:
    return context.deps.agent.name
