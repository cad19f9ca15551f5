"""What is still open when the program ends, where nothing is collected at once (PyPy): streams and sessions.

CPython collects what was left at once, and on its way out the rest, and `__del__` ends it. PyPy collects some time
later, layer by layer, and nothing at its end: a stream that was left open would have no receipt. Owns weak references
to all that was begun, and ends what is left. Loaded by no CPython, where it would cost each call something.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable

from aicostguard.capture.call import Call
from aicostguard.capture.session import Session
from aicostguard.health import health

_open: weakref.WeakSet[Any] = weakref.WeakSet()


def install() -> None:
    """Hear of what is begun from here on. Doing it twice does nothing."""
    for kind, name in ((Call, "open"), (Session, "__init__")):
        method = kind.__dict__[name]
        if not hasattr(method, "__wrapped__"):
            setattr(kind, name, _noted(method))


def uninstall() -> None:
    """As before; for tests."""
    for kind, name in ((Call, "open"), (Session, "__init__")):
        method = kind.__dict__[name]
        setattr(kind, name, getattr(method, "__wrapped__", method))
    _open.clear()


def _noted(method: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        _open.add(self)
        return method(self, *args, **kwargs)

    noted.__wrapped__ = method  # type: ignore[attr-defined]
    return noted


def end() -> None:
    """The end of the program: what is open ends here. Never raises."""
    for _ in range(3):
        try:
            left = list(_open)
            break
        except RuntimeError:  # another thread begins something
            left = []
    for each in left:
        try:
            each.end() if isinstance(each, Session) else each.end(False)
        except Exception as error:
            health.fault("uncollected.end", error)
