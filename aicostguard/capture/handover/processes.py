"""`multiprocessing.Process`: the workers of a pool of processes begin without labels.

A forked child has the context of whoever made it. That is right for a process that was started for one piece of work.
The workers of a pool are forked by whoever comes first, and serve all who come later: with the first one's labels they
would put everybody's calls on its account. Nothing is carried to them with their work; what they call is known by the
function that calls it, and by the labels that are set there.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

from aicostguard import context
from aicostguard.capture.handover.threads import POOLS
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the first function of a new process. Raises when it is not where it was."""
    replace(hook, module.BaseProcess, "_bootstrap", lambda original: _bootstrap(original, hook))


def _bootstrap(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def _bootstrap(self: Any, *args: Any, **kwargs: Any) -> Any:
        if hook.on:
            _clear(self, hook)
        return original(self, *args, **kwargs)

    return _bootstrap


def _clear(process: Any, hook: Hook) -> None:
    try:
        code = getattr(getattr(process, "_target", None), "__code__", None)
        if code is not None and code.co_filename.startswith(POOLS):
            context.put(context.NO_MARKS)
            context.place.set(None)
    except Exception as error:
        hook.failed("clear", error)
