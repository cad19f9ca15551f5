"""Celery: the name of the task that a worker runs, by Celery's own signals."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Dict, Optional

from aicostguard import context
from aicostguard.capture.frameworks import places
from aicostguard.capture.patch import Hook

#: by a task's id, what was in force before it
_before: Dict[str, Optional[str]] = {}


def install(module: ModuleType, hook: Hook) -> None:
    """Listen for tasks that begin and end."""
    signals: Any = import_module("celery.signals")

    def begins(task_id: Any = None, task: Any = None, **more: Any) -> None:
        if hook.on:
            _before[str(task_id)] = places.enter(hook, _name, task)

    def ends(task_id: Any = None, **more: Any) -> None:
        context.place.set(_before.pop(str(task_id), None))

    signals.task_prerun.connect(begins, weak=False, dispatch_uid="aicostguard")
    signals.task_postrun.connect(ends, weak=False, dispatch_uid="aicostguard")


def _name(task: Any) -> Any:
    return task.name
