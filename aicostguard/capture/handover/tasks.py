"""asyncio tasks: who made the task, for a coroutine that is not the user's own.

`asyncio.gather(client.chat.completions.create(…), …)` runs each call in a task of its own, on whose stack no function
of the user stands. Labels need no help: a task copies the context it is made in. So the name of the function that makes
the task is put into that context for the moment of copying. The user's own coroutines cost one look at their file.

The hook stands on the loop's `create_task`, through which `gather`, `ensure_future`, `wait_for`, task groups and
`asyncio.run` all go, and on `run_coroutine_threadsafe`, which makes its task from within the other loop.
"""

from __future__ import annotations

from contextvars import Context
from types import ModuleType
from typing import Any, Callable, Optional

from aicostguard import context
from aicostguard.capture import caller
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the loop class of `asyncio.base_events`. Raises when it is not what it was."""
    hook_loop(module.BaseEventLoop, module.events._get_running_loop, hook)


def install_threadsafe(module: ModuleType, hook: Hook) -> None:
    """Hook `run_coroutine_threadsafe` of the package asyncio."""
    running = module._get_running_loop

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def run_coroutine_threadsafe(coro: Any, *args: Any, **kwargs: Any) -> Any:
            name = _maker(hook, coro, running, None)
            if name is None:
                return original(coro, *args, **kwargs)
            previous = context.origin.get()
            context.origin.set(name)
            try:
                return original(coro, *args, **kwargs)
            finally:
                context.origin.set(previous)

        return run_coroutine_threadsafe

    replace(hook, module, "run_coroutine_threadsafe", make)


def hook_loop(loop: Any, running: Callable[[], Any], hook: Hook) -> None:
    """Hook one class of loops. `running` gives the loop that runs in this thread, or None."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def create_task(self: Any, coro: Any, *args: Any, **kwargs: Any) -> Any:
            name = _maker(hook, coro, running, kwargs.get("context"))
            if name is None:
                task = original(self, coro, *args, **kwargs)
            else:
                previous = context.origin.get()
                context.origin.set(name)
                try:
                    task = original(self, coro, *args, **kwargs)
                finally:
                    context.origin.set(previous)
            # In debug mode a task knows where it was made; the original takes its own line off that list, too.
            trace = getattr(task, "_source_traceback", None)
            while trace and trace[-1].filename == __file__:
                del trace[-1]
            return task

        return create_task

    replace(hook, loop, "create_task", make)


def _maker(hook: Hook, coro: Any, running: Callable[[], Any], chosen: Optional[Context]) -> Optional[str]:
    """Who makes this task, when its own frames will not tell. None when there is nothing to put into its context."""
    try:
        if caller.own_coroutine(coro, state.rule) or not hook.on:
            return None
        name = caller.infer(state.rule, loop=running() is not None)
        if name is None or chosen is None:
            return name
        # The context is given (`asyncio.run` does that). One that is being entered elsewhere is left as it is.
        try:
            chosen.run(context.origin.set, name)
        except RuntimeError:
            return None
    except Exception as error:
        hook.failed("origin", error)
    return None
