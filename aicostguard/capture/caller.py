"""Whose function made this call: the nearest frame of the user's own code.

Owns the walk up the stack and the rule of what counts as the user's own. Keeps no frame and no code object
alive, walks a bounded number of frames, and never looks at a local variable but one of ours: it reads names only.

Where the stack holds no user frame, the work was handed over: to another thread, whose stack then begins with a
frame of ours that knows by whom (`handover.parcel`), or to another task, whose context knows it (`context.origin`).
"""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatchcase
from functools import partial
from types import CodeType, FrameType
from typing import Any, Dict, Optional, Set, Tuple

from aicostguard import context
from aicostguard.capture import installed

MAX_FRAMES = 200
MAX_FILES = 4096

_USER, _SKIP, _STOP, _LOOP, _PARCEL = 1, 2, 3, 4, 5

_STDLIB = os.path.dirname(os.__file__) + os.sep
_US = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_INSTALLED = tuple(os.sep + name + os.sep for name in ("site-packages", "dist-packages"))
# Beyond the event loop stands whoever started it, not whoever made this call.
_TRIO = os.sep + os.path.join("trio", "_core") + os.sep
_ASYNCIO = _STDLIB + "asyncio" + os.sep
#: functions of asyncio that turn its loop; the others only pass on (`wait_for`, `gather`, `to_thread`)
_TURNS = ("_run", "_run_once", "run_forever", "run_until_complete", "run")
_UVLOOP = os.path.join(_US, "capture", "handover", "uvloop.py")
_PARCELS = os.path.join(_US, "capture", "handover", "parcel.py")

_files: Dict[str, int] = {}
#: those of them that are `_SKIP`: most of a stack is
_skipped: Set[str] = set()


class Rule:
    """How a feature is named: `skip` patterns (of module names) are stepped over; `qualified` adds the module."""

    __slots__ = ("skip", "qualified")

    def __init__(self, skip: Tuple[str, ...] = (), qualified: bool = False) -> None:
        self.skip = skip
        self.qualified = qualified


def _judge(path: str, module: str, skip: Tuple[str, ...]) -> int:
    if path.startswith(_ASYNCIO) or path == _UVLOOP:
        return _LOOP
    if _TRIO in path:
        return _STOP
    if path.startswith((_US, "<frozen ")):
        return _PARCEL if path == _PARCELS else _SKIP
    in_packages = any(part in path for part in _INSTALLED)
    if (path.startswith(_STDLIB) and not in_packages) or installed.library(path, module, in_packages):
        return _SKIP
    if skip and any(fnmatchcase(module, pattern) for pattern in skip):
        return _SKIP
    return _USER


def _kind(path: str, space: Dict[str, Any], rule: Rule) -> int:
    """What a file is, learnt once. `space` are the globals of some code in it."""
    kind = _files.get(path)
    if kind is None:
        if len(_files) >= MAX_FILES:
            forget()
        kind = _files[path] = _judge(path, str(space.get("__name__", "")), rule.skip)
        if kind == _SKIP:
            _skipped.add(path)
    return kind


def infer(rule: Rule, depth: int = 1, loop: bool = True) -> Optional[str]:
    """The name of the nearest user function above, or of the one that handed this work over; None when there is none.

    `<module>` becomes the file's stem; a lambda or a comprehension counts as the function it stands in. The walk ends
    at the running event loop; `loop=False` says that none is running: then who turns the loop is who makes the call.
    """
    frame: Optional[FrameType] = sys._getframe(depth)
    stepped_over = _skipped
    for _ in range(MAX_FRAMES):
        if frame is None:
            break
        if frame.f_code.co_filename not in stepped_over:
            code = frame.f_code
            path = code.co_filename
            kind = _files.get(path) or _kind(path, frame.f_globals, rule)
            if kind == _USER:
                name = code.co_name
                if name[0] == "<":
                    name = _name(code)  # type: ignore[assignment]
                if name is not None:
                    return _qualified(frame, name) if rule.qualified else name
            elif kind == _STOP or (kind == _LOOP and loop and code.co_name in _TURNS):
                break
            elif kind == _PARCEL and code.co_name == "deliver":
                parcel = frame.f_locals["parcel"]
                return parcel.origin if parcel.firm else context.origin.get() or parcel.origin
        frame = frame.f_back
    return context.origin.get() or context.place.get()


def library(module: str) -> None:
    """A library has been hooked: its code is nobody's feature, wherever it stands."""
    installed.hooked(module, sys.modules.get)
    forget()


def own_coroutine(work: Any, rule: Rule) -> bool:
    """Whether a coroutine is the user's own code: then its frame tells whose it is, in whatever task it runs."""
    code = getattr(work, "cr_code", None)
    if code is None:
        return False
    kind = _files.get(code.co_filename)
    if kind is None and work.cr_frame is not None:
        kind = _kind(code.co_filename, work.cr_frame.f_globals, rule)
    return kind == _USER


def own_function(work: Any, rule: Rule) -> bool:
    """Whether a function is the user's own code: then its frame tells whose it is, in whatever thread it runs.

    Looks through bound methods and `functools.partial`. False for a lambda whose function cannot be told (before 3.11).
    """
    while type(work) is partial:
        work = work.func
    code = getattr(work, "__code__", None)
    if type(code) is not CodeType:
        return False
    kind = _files.get(code.co_filename) or _kind(code.co_filename, work.__globals__, rule)
    return kind == _USER and _name(code) is not None


def passes_on(callback: Any) -> bool:
    """Whether a callback is asyncio's own and only tells a loop of a result: it calls nobody's code.

    Not so the one by which `run_coroutine_threadsafe` has its task made, which asyncio names `callback`.
    """
    code = getattr(callback, "__code__", None)
    return type(code) is CodeType and code.co_filename.startswith(_ASYNCIO) and code.co_name != "callback"


def _name(code: CodeType) -> Optional[str]:
    name = code.co_name
    if name[0] != "<":
        return name
    if name == "<module>":
        stem = os.path.basename(code.co_filename)
        return (stem[:-3] if stem.endswith(".py") else stem).strip("<>") or None
    # A lambda or a comprehension: the enclosing function is in its qualified name (3.11 and later), else the
    # next frame up is tried, which for a comprehension is the enclosing function itself.
    for part in reversed(getattr(code, "co_qualname", "").split(".")):
        if part and part[0] != "<":
            return str(part)
    return None


def _qualified(frame: FrameType, name: str) -> str:
    module = frame.f_globals.get("__name__")
    return name if not isinstance(module, str) else "%s.%s" % (module, name)


def forget() -> None:
    """Drop what is known about files: the rule has changed, or what counts as a library."""
    _files.clear()
    _skipped.clear()
