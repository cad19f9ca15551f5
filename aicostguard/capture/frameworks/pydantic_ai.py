"""pydantic-ai: `Agent.name`, around a request to the model and around the tools that its answer calls.

Not around `run` or `iter`: there pydantic-ai looks at the frame above to name an agent after its variable. And while a
response is streamed the user's own code runs, whose other calls are not the agent's: so the name is in force in the
steps of pydantic-ai's own generators, one of which sends the request when it is first resumed, and never in between.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the two nodes. Raises when they are not where they were."""
    tools, request = module.CallToolsNode, module.ModelRequestNode
    replace(hook, tools, "_run_stream", lambda original: agents.async_generator(original, hook, _name))
    replace(hook, request, "run", lambda original: agents.coroutine(original, hook, _name))
    replace(hook, request, "stream", lambda original: _entered(original, hook))
    segments = getattr(module, "_ContinuationStreamedResponse", None)  # of version 2; before, `stream` sends
    if segments is not None:
        replace(
            hook, segments, "_get_event_iterator", lambda original: agents.async_generator(original, hook, _running)
        )


def _entered(original: Any, hook: Hook) -> Any:
    # Made of what is decorated, so that it gives the standard library's own context manager as before.
    return asynccontextmanager(agents.async_generator(original.__wrapped__, hook, _name))


def _name(node: Any, context: Any) -> Any:
    return getattr(
        getattr(context.deps, "agent", None), "name", None
    )  # the first ones of version 1 kept no agent there


def _running(segments: Any) -> Any:
    return getattr(getattr(segments.run_context, "agent", None), "name", None)
