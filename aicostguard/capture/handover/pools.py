"""`concurrent.futures.ThreadPoolExecutor`: each piece of work, whoever submitted it and however.

The hook stands on the work item, not on `submit`: the function, its arguments and the tracebacks of its exceptions stay
as they are, and `loop.run_in_executor`, `asyncio.to_thread`, `map` and subclasses with their own `submit` pass here.
Pools of processes have work items of their own and are left alone.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

from aicostguard import context
from aicostguard.capture.handover.parcel import deliver, pack
from aicostguard.capture.patch import Hook, replace

_MARK = "_aicostguard"


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the work item. Raises when it is not what it was."""
    replace(hook, module._WorkItem, "__init__", lambda original: _made(original, hook))
    replace(hook, module._WorkItem, "run", _run)
    _check(module)


def _made(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if hook.on:
            _pack(self, hook)

    return made


def _pack(item: Any, hook: Hook) -> None:
    try:
        # The function itself up to 3.13, then a tuple that begins with it.
        parcel = pack(item.fn if hasattr(item, "fn") else item.task[0], firm=True)
        if parcel is not None:
            setattr(item, _MARK, parcel)
    except Exception as error:
        hook.failed("pack", error)


def _run(original: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any, *args: Any) -> Any:
        try:
            parcel = self.__dict__.pop(_MARK, None)
            if parcel is None:
                return original(self, *args)
            return deliver(parcel, original, self, *args)
        finally:
            # As the original does: an exception kept by the future must not keep the future (CPython before 3.11).
            del self

    return run


def _check(module: ModuleType) -> None:
    """Put one piece of work through by hand. Raises when a label does not arrive."""
    future: Any = module._base.Future()
    # Work and what runs it are apart from CPython 3.14 on.
    runs = getattr(module, "WorkerContext", None)
    with context.feature("check"):
        work: Any = (context.current, (), {})
        item: Any = module._WorkItem(future, *work) if runs is None else module._WorkItem(future, work)
    item.run(*([] if runs is None else [runs(None, ())]))
    if future.result().get("feature") != "check":
        raise RuntimeError("labels do not arrive in a pool")
