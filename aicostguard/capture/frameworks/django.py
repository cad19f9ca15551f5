"""Django: the route of the view that answers a request, or the view's own name where the route is an expression.

The view is known only within the handler's own method, so the place is put in force where Django resolves it and taken
back when the request is answered.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

from aicostguard import context
from aicostguard.capture.frameworks import places
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the request handler. Raises when its methods are not where they were."""
    replace(hook, module.BaseHandler, "resolve_request", lambda original: _resolve(original, hook))
    replace(hook, module.BaseHandler, "_get_response", lambda original: places.plain(original, hook, _same))
    replace(hook, module.BaseHandler, "_get_response_async", lambda original: places.coroutine(original, hook, _same))


def _same(*args: Any) -> Any:
    return context.place.get()


def _resolve(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def resolve_request(self: Any, request: Any) -> Any:
        match = original(self, request)
        places.enter(hook, _route, match)
        return match

    return resolve_request


def _route(match: Any) -> Any:
    return match.route if match.route and places.shown(match.route) else match.view_name
