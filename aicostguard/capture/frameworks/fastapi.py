"""FastAPI: the template of its own kind of route, where that handles requests itself; else Starlette's hook serves."""

from __future__ import annotations

from types import ModuleType

from aicostguard.capture.frameworks import places
from aicostguard.capture.frameworks.starlette import template
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the route class."""
    if "handle" in module.APIRoute.__dict__:
        replace(hook, module.APIRoute, "handle", lambda original: places.coroutine(original, hook, template))
