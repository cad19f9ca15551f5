"""Replacing a method on a class, and putting it back.

Owns the list of what is replaced. A replacement is a plain function on the class, so that it binds, pickles,
subclasses and shows its signature as the original did; `__wrapped__` leads to the original for other tools.
Never replaces a class, never touches an instance.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, Callable, List, NamedTuple, Set, Tuple

from aicostguard.health import health

#: consecutive faults after which a hook gives up
PATIENCE = 20


class Hook:
    """One library's hook: whether it is on, and how often it has failed in a row."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.on = True
        self.state = "patched"
        #: in a row
        self.failures = 0

    def failed(self, where: str, error: BaseException) -> None:
        """Count a fault of ours; give up, and say so, when there is no end to them."""
        self.failures += 1
        if self.failures >= PATIENCE and self.on:
            self.on = False
            self.state = "switched off after %d faults in a row" % PATIENCE
            health.warn(
                "hook-off:" + self.name,
                "aicostguard: the hook for %s kept failing and has switched itself off; its AI calls are no longer "
                "counted. Run aicg-diagnose and report the faults it lists." % self.name,
            )
        health.fault("%s.%s" % (self.name, where), error)

    def worked(self) -> None:
        """A call went through the hook without a fault."""
        self.failures = 0


class Patch(NamedTuple):
    """One replaced attribute. `original` is None where the owner only inherited it."""

    owner: Any
    name: str
    original: Any
    replacement: Any
    hook: Hook


#: methods, and what is made of the original
Rows = Tuple[Tuple[str, Callable[[Callable[..., Any]], Callable[..., Any]]], ...]

_patches: List[Patch] = []
#: classes of responses whose methods are watched already, by the table that says which; they are few
_watched: Set[Tuple[type, int]] = set()
MOST_WATCHED = 256

#: reentrant, because a garbage collection under it may run any finaliser
_lock = threading.RLock()


def replace(hook: Hook, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> bool:
    """Replace `owner.name` by `make(original)`. False when it is ours already (two names of one class).

    `owner` is a class or a module. A class method stays one: `make` gets and gives the function that takes the class.
    """
    found = owner.__dict__.get(name)
    original = _original(owner, name, found)
    ours = getattr(original, "__aicostguard__", None)
    if ours is not None and ours.on:  # one whose hook was removed while a mock stood here only passes on
        return False
    replacement: Any = functools.wraps(original)(make(original))
    replacement.__aicostguard__ = hook
    if isinstance(found, classmethod):
        replacement = classmethod(replacement)
    setattr(owner, name, replacement)
    _patches.append(Patch(owner, name, found, replacement, hook))
    return True


def _original(owner: Any, name: str, found: Any) -> Callable[..., Any]:
    """What `owner.name` does now, to be called with the object, or the class, in front.

    Not `found` itself: another tool's wrapper that stands there (`wrapt`'s, of which OpenTelemetry's instrumentations
    are made) hears whose method it is when it is taken off its class, and else has nobody.
    """
    if not isinstance(found, classmethod):
        return getattr(owner, name)  # type: ignore[no-any-return]
    if type(found) is classmethod:
        return found.__func__
    return lambda cls, *args, **kwargs: found.__get__(None, cls)(*args, **kwargs)


def watch(hook: Hook, kind: type, rows: Rows) -> None:
    """Replace methods of this class of objects, unless that is done. Each where it is defined, maybe a class above.

    For classes of responses, when the first one that matters is seen: other programs' objects stay as they are.
    """
    key = (kind, id(rows))  # the tables are constants
    if key in _watched:
        return
    with _lock:
        for name, make in rows:
            for owner in kind.__mro__:
                if name in owner.__dict__:
                    replace(hook, owner, name, make)
                    break
        if len(_watched) < MOST_WATCHED:
            _watched.add(key)


def restore() -> None:
    """Put every original back. Where another tool has wrapped ours since, ours stays and only passes through."""
    _watched.clear()
    while _patches:
        patch = _patches.pop()
        patch.hook.on = False
        patch.hook.state = "removed"
        if patch.owner.__dict__.get(patch.name) is not patch.replacement:
            continue
        if patch.original is None:
            delattr(patch.owner, patch.name)
        else:
            setattr(patch.owner, patch.name, patch.original)
