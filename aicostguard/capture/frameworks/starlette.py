"""Starlette: the template of the route that handles a request."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import places
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the route class. Raises when its method is not where it was."""
    replace(hook, module.Route, "handle", lambda original: places.coroutine(original, hook, template))


def template(route: Any, scope: Any, *args: Any) -> Any:
    """The template of a route."""
    return route.path
