"""`threading.Thread`: the labels and the function under which a thread was started.

The hook stands on `start` and on `_bootstrap`, the first function of the new thread, so that `run`, `_target` and the
tracebacks of the thread's exceptions stay as they are. What belongs to one call (its attempts, the nesting guard) is
not carried: a thread may outlive it. Threads of a pool are left alone: they serve whoever comes, see `pools`.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, Callable

from aicostguard.capture.handover.parcel import deliver, pack
from aicostguard.capture.patch import Hook, replace

_MARK = "_aicostguard"
_STDLIB = os.path.dirname(os.__file__) + os.sep
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
        code = getattr(work, "__code__", None)
        if work is not None and (code is None or not code.co_filename.startswith(POOLS)):
            parcel = pack(work, firm=False)
            if parcel is not None:
                thread.__dict__[_MARK] = parcel
    except Exception as error:
        hook.failed("pack", error)


def _bootstrap(original: Callable[..., Any]) -> Callable[..., Any]:
    def _bootstrap(self: Any) -> Any:
        parcel = self.__dict__.pop(_MARK, None)
        if parcel is None:
            return original(self)
        return deliver(parcel, original, self)

    return _bootstrap
