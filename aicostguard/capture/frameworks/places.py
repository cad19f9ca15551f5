"""Routes and tasks, as declared in code, for calls on whose stack no function of the user's own stands.

Owns how a template is written in a feature: `/orders/{order_id}` and `/orders/<int:order_id>` become
`/orders/:order_id`. Only templates are taken, never a path that was asked for: ids and secrets stand in those.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Optional

from aicostguard import context
from aicostguard.capture.patch import Hook

_CURLY = re.compile(r"\{(\w+)(?::[^{}]*)?\}")  # Starlette: {name:converter}
_ANGLE = re.compile(r"<(?:[^<>:]*:)?(\w+)>")  # Flask and Django: <converter:name>
_TEMPLATE = re.compile(r"[\w./:-]{1,128}\Z")

#: gives the template from the arguments of a hooked function, `self` included
Find = Callable[..., Any]


def shown(template: object) -> Optional[str]:
    """A template as a feature; None for what is none (a regular expression, an empty route)."""
    if not isinstance(template, str):
        return None
    text = _ANGLE.sub(r":\1", _CURLY.sub(r":\1", template))
    return text if _TEMPLATE.match(text) else None


def enter(hook: Hook, find: Find, *args: Any) -> Optional[str]:
    """Put the place in force and give back the one before."""
    previous = context.place.get()
    try:
        if hook.on:
            context.place.set(shown(find(*args)))
    except Exception as error:
        hook.failed("place", error)
    return previous


def plain(original: Callable[..., Any], hook: Hook, find: Find) -> Callable[..., Any]:
    """Put a method under the place that its arguments tell."""

    def handle(*args: Any, **kwargs: Any) -> Any:
        previous = enter(hook, find, *args)
        try:
            return original(*args, **kwargs)
        finally:
            context.place.set(previous)

    return handle


def coroutine(original: Callable[..., Any], hook: Hook, find: Find) -> Callable[..., Any]:
    """Put a coroutine method under the place that its arguments tell."""

    async def handle(*args: Any, **kwargs: Any) -> Any:
        previous = enter(hook, find, *args)
        try:
            return await original(*args, **kwargs)
        finally:
            context.place.set(previous)

    return handle
