"""Flask: the rule that matched a request."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import places
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the application class. Raises when its method is not where it was."""
    request: Any = import_module("flask.globals").request

    def rule(*args: Any) -> Any:
        found = request.url_rule
        return None if found is None else found.rule

    replace(hook, module.Flask, "full_dispatch_request", lambda original: places.plain(original, hook, rule))
