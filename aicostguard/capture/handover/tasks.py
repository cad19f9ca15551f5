"""asyncio tasks: who made the task, for a coroutine that is not the user's own.

`asyncio.gather(client.chat.completions.create(…), …)` runs each call in a task of its own, on whose stack no function
of the user stands. Labels need no help: a task copies the context it is made in. So the name of the function that makes
the task is put into that context for the moment of copying. The user's own coroutines cost one look at their file.

The hooks stand on the loop's `create_task`, through which `gather`, `ensure_future`, `wait_for`, task groups and
`asyncio.run` all go, and on its `call_soon_threadsafe`, by which another thread has a task made there
(`run_coroutine_threadsafe`, the blocking faces of asynchronous libraries).
"""

from __future__ import annotations

from contextvars import Context
from types import ModuleType
from typing import Any, Callable, Optional

from aicostguard import context
from aicostguard.capture import caller
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state
from aicostguard.health import fault


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the loop class of `asyncio.base_events`. Raises when it is not what it was."""
    hook_loop(module.BaseEventLoop, module.events._get_running_loop, hook)


def hook_loop(loop: Any, running: Callable[[], Any], hook: Hook) -> None:
    """Hook one class of loops. `running` gives the loop that runs in this thread, or None."""

    def tasks(original: Callable[..., Any]) -> Callable[..., Any]:
        def create_task(self: Any, coro: Any, *args: Any, **kwargs: Any) -> Any:
            name = _maker(hook, coro, running, kwargs.get("context"))
            if name is None:
                return _untraced(original(self, coro, *args, **kwargs))
            previous = context.origin.get()
            context.origin.set(name)
            try:
                return _untraced(original(self, coro, *args, **kwargs))
            finally:
                context.origin.set(previous)

        return create_task

    def callbacks(original: Callable[..., Any]) -> Callable[..., Any]:
        def call_soon_threadsafe(self: Any, callback: Any, *args: Any, **kwargs: Any) -> Any:
            name = _caller(hook, callback, running)
            if name is None:
                return _untraced(original(self, callback, *args, **kwargs))
            previous = context.origin.get()
            context.origin.set(name)
            try:
                return _untraced(original(self, callback, *args, **kwargs))
            finally:
                context.origin.set(previous)

        return call_soon_threadsafe

    replace(hook, loop, "create_task", tasks)
    replace(hook, loop, "call_soon_threadsafe", callbacks)


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


def _caller(hook: Hook, callback: Any, running: Callable[[], Any]) -> Optional[str]:
    """Who asks another thread's loop for something, when it may be a task. None when that is of no use."""
    try:
        if not hook.on or caller.passes_on(callback) or caller.own_function(callback, state.rule):
            return None
        return caller.infer(state.rule, loop=running() is not None)
    except Exception as error:
        hook.failed("origin", error)
        return None


def _untraced(made: Any) -> Any:
    """In debug mode a task knows where it was made; asyncio takes its own line off that list, and so do we."""
    try:
        trace = getattr(made, "_source_traceback", None)
        while trace and trace[-1].filename == __file__:
            del trace[-1]
    except Exception as error:
        fault("handover.trace", error)
    return made
