"""anyio's worker threads: who handed over a function that is not the user's own (`to_thread.run_sync(sdk_method)`).

anyio carries the context into its thread itself; only the name of the calling function is added to it. FastAPI's plain
endpoints pass here, too: they are the user's own, and cost one look at their file.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

from aicostguard import context
from aicostguard.capture import caller
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the asyncio backend. Raises when its method is not where it was."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def run_sync_in_worker_thread(cls: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
            previous = context.origin.get()
            if hook.on:
                _name(func, hook)
            try:
                return await original(cls, func, *args, **kwargs)
            finally:
                context.origin.set(previous)

        return run_sync_in_worker_thread

    replace(hook, module.AsyncIOBackend, "run_sync_in_worker_thread", make)


def _name(function: Any, hook: Hook) -> None:
    try:
        if not caller.own_function(function, state.rule):
            context.origin.set(caller.infer(state.rule))
    except Exception as error:
        hook.failed("origin", error)
