"""Whose function made this call: the nearest frame of the user's own code.

Owns the walk up the stack and the rule of what counts as the user's own. Keeps no frame and no code object
alive, walks a bounded number of frames, and never looks at a local variable: it reads names only.
"""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatchcase
from types import CodeType, FrameType
from typing import Dict, Optional, Tuple

MAX_FRAMES = 200
MAX_FILES = 4096

_USER, _SKIP, _STOP = 1, 2, 3

_STDLIB = os.path.dirname(os.__file__) + os.sep
_US = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_INSTALLED = tuple(os.sep + name + os.sep for name in ("site-packages", "dist-packages"))
# Beyond the event loop stands whoever started it, not whoever made this call.
_LOOPS = (_STDLIB + "asyncio" + os.sep, os.sep + os.path.join("trio", "_core") + os.sep)

_files: Dict[str, int] = {}


class Rule:
    """How a feature is named: `skip` patterns (of module names) are stepped over; `qualified` adds the module."""

    __slots__ = ("skip", "qualified")

    def __init__(self, skip: Tuple[str, ...] = (), qualified: bool = False) -> None:
        self.skip = skip
        self.qualified = qualified


def _judge(path: str, frame: FrameType, skip: Tuple[str, ...]) -> int:
    if any(part in path for part in _LOOPS):
        return _STOP
    if path.startswith((_US, "<frozen ")) or any(part in path for part in _INSTALLED):
        return _SKIP
    if path.startswith(_STDLIB):
        return _SKIP
    module = frame.f_globals.get("__name__", "")
    if skip and any(fnmatchcase(module, pattern) for pattern in skip):
        return _SKIP
    return _USER


def infer(rule: Rule, depth: int = 1) -> Optional[str]:
    """The name of the nearest user function above, or None when there is none on this stack.

    `<module>` becomes the file's stem; a lambda or a comprehension counts as the function it stands in.
    """
    frame: Optional[FrameType] = sys._getframe(depth)
    known = _files.get
    for _ in range(MAX_FRAMES):
        if frame is None:
            return None
        kind = known(frame.f_code.co_filename)
        if kind != _SKIP:
            if kind is None:
                if len(_files) >= MAX_FILES:
                    _files.clear()
                kind = _files[frame.f_code.co_filename] = _judge(frame.f_code.co_filename, frame, rule.skip)
            if kind == _USER:
                name = _name(frame.f_code)
                if name is not None:
                    return _qualified(frame, name) if rule.qualified else name
            elif kind == _STOP:
                return None
        frame = frame.f_back
    return None


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
    """Drop what is known about files: the rule has changed."""
    _files.clear()
