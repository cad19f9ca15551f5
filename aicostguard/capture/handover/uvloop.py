"""uvloop: who made a task, as in `tasks`, and where the walk for the calling function ends.

uvloop turns in compiled code, so that the stack of a task goes straight on to whoever started the loop. The functions
here that turn it leave a frame there, at which the walk ends as it does at asyncio's own.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

from aicostguard.capture.handover.tasks import hook_loop
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the loop class; its base is compiled and cannot be."""
    from asyncio import _get_running_loop

    hook_loop(module.Loop, _get_running_loop, hook)
    replace(hook, module.Loop, "run_forever", _run_forever)
    replace(hook, module.Loop, "run_until_complete", _run_until_complete)


def _run_forever(original: Callable[..., Any]) -> Callable[..., Any]:
    def run_forever(self: Any) -> Any:
        return original(self)

    return run_forever


def _run_until_complete(original: Callable[..., Any]) -> Callable[..., Any]:
    def run_until_complete(self: Any, future: Any) -> Any:
        return original(self, future)

    return run_until_complete
