"""Microsoft Agent Framework: `Agent.name`, around a run of the agent, tools and other agents inside it.

A run gives a coroutine, or a stream that asks the model when it is read: the name is in force in each of its pulls, by
the stream's own means for that, and never in between.
"""

from __future__ import annotations

from types import CoroutineType, ModuleType
from typing import Any, Callable

from aicostguard import context
from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the innermost `run`. Raises when it is not where it was."""
    replace(hook, module.RawAgent, "run", lambda original: _run(original, hook))


def _run(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        within = agents.scope(hook, _name, *args, **kwargs)
        made = original(*args, **kwargs)
        if within is None:
            return made
        try:
            if type(made) is CoroutineType:
                return _awaited(made, within)
            made.with_pull_context_manager(lambda: within)
        except Exception as error:
            hook.failed("run", error)
        return made

    return run


async def _awaited(work: Any, within: context.Scope) -> Any:
    with within:
        return await work


def _name(agent: Any, *args: Any, **kwargs: Any) -> Any:
    return agent.name
