"""`threading.Thread`: the labels and the function under which a thread was started.

The hook stands on `start` and on `_bootstrap`, the first function of the new thread, so that `run`, `_target` and the
tracebacks of the thread's exceptions stay as they are. What belongs to one call (its attempts, the nesting guard) is
not carried: a thread may outlive it. Threads of a pool start with nothing of ours: they serve whoever comes (`pools`).

From CPython 3.14 on a thread's `run` has a context of its own: an empty one, one that its maker chose, or (with
`-X thread_inherit_context=1`, and in free-threaded builds) a copy of the maker's. What goes along is put there, and
what belongs to a call is taken out of a copy.
"""

from __future__ import annotations

import os
import sys
from contextvars import Context
from types import ModuleType
from typing import Any, Callable, Optional

from aicostguard import context
from aicostguard.capture.handover.parcel import Parcel, deliver, pack
from aicostguard.capture.patch import Hook, replace
from aicostguard.health import fault

_MARK = "_aicostguard"
_STDLIB = os.path.dirname(os.__file__) + os.sep
_INHERITED = bool(getattr(sys.flags, "thread_inherit_context", False))
POOLS = (os.path.join(_STDLIB, "concurrent", ""), os.path.join(_STDLIB, "multiprocessing", ""))


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the thread class. Raises when its methods are not where they were."""
    plain = module.Thread.run
    replace(hook, module.Thread, "_bootstrap", _bootstrap)
    replace(hook, module.Thread, "start", lambda original: _start(original, hook, plain))


def _start(original: Callable[..., Any], hook: Hook, plain: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: Any) -> Any:
        if hook.on:
            _pack(self, hook, plain)
        try:
            return original(self)
        except BaseException:  # not started: nothing of ours stays on the object
            self.__dict__.pop(_MARK, None)
            raise

    return start


def _pack(thread: Any, hook: Hook, plain: Callable[..., Any]) -> None:
    try:
        work = type(thread).run
        if work is plain:
            work = getattr(thread, "_target", None)
        chosen: Optional[Context] = getattr(thread, "_context", None)
        parcel = None if work is None or _of_a_pool(work) else _parcel(work, chosen)
        if parcel is None and (chosen is not None or _INHERITED):
            parcel = Parcel(context.NO_MARKS, None, firm=False)
        if parcel is not None:
            thread.__dict__[_MARK] = parcel
    except Exception as error:
        hook.failed("pack", error)


def _of_a_pool(work: Any) -> bool:
    code = getattr(work, "__code__", None)
    return code is not None and code.co_filename.startswith(POOLS)


def _parcel(work: Any, chosen: Optional[Context]) -> Optional[Parcel]:
    """What goes along with a thread that does this; the labels are those of the context that was chosen for it."""
    return pack(work, firm=False) if chosen is None else chosen.copy().run(pack, work, False)


def _bootstrap(original: Callable[..., Any]) -> Callable[..., Any]:
    def _bootstrap(self: Any) -> Any:
        parcel = self.__dict__.pop(_MARK, None)
        if parcel is None:
            return original(self)
        own: Optional[Context] = getattr(self, "_context", None)
        if own is not None:
            _put(own, parcel.marks)
        return deliver(parcel, original, self)

    return _bootstrap


def _put(own: Context, marks: context.Marks) -> None:
    """Put these in force in the context of a thread that has not begun to run."""
    try:
        if own.run(context.marks) != marks:
            own.run(context.put, marks)
    except RuntimeError:
        pass  # it is in use elsewhere; the thread will fail for the same reason
    except Exception as error:
        fault("handover", error)
