"""`multiprocessing.pool.ThreadPool`, on which joblib's threads and `multiprocessing.dummy` stand.

Its work items are plain tuples that a thread of the pool's passes on, so the parcel lies beside the result that the
item's job number names, which is made where the work is submitted. It comes into force when a worker takes the item
from its queue, and goes when the worker asks for the next one: no function is wrapped, and no frame of ours stands
under the user's. Pools of processes have no such queue, and are left alone.
"""

from __future__ import annotations

from _thread import get_ident
from queue import SimpleQueue
from types import ModuleType
from typing import Any, Callable, Dict
from weakref import WeakValueDictionary

from aicostguard import context
from aicostguard.capture.handover.parcel import pack
from aicostguard.capture.patch import Hook, replace
from aicostguard.health import fault

_MARK = "_aicostguard"
#: job number → the result whose work it is; the pool keeps it until the work is done
_results: WeakValueDictionary[int, Any] = WeakValueDictionary()


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the results and the queue. Raises when they are not where they were."""
    pools = module.ThreadPool
    for result in (module.ApplyResult, module.IMapIterator):
        replace(hook, result, "__init__", lambda original: _made(original, hook, pools))
    replace(hook, pools, "_setup_queues", lambda original: _set_up(original, hook))


def _made(original: Callable[..., Any], hook: Hook, pools: type) -> Callable[..., Any]:
    def made(self: Any, pool: Any, *args: Any, **kwargs: Any) -> None:
        original(self, pool, *args, **kwargs)
        if hook.on and isinstance(pool, pools):
            _pack(self, hook)

    return made


def _pack(result: Any, hook: Hook) -> None:
    try:
        parcel = pack(None, firm=True)
        if parcel is not None:
            setattr(result, _MARK, (*parcel.marks[:3], parcel.origin, *parcel.marks[4:]))
            _results[result._job] = result
    except Exception as error:
        hook.failed("pack", error)


def _set_up(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def set_up(self: Any) -> None:
        original(self)
        if hook.on and type(self._inqueue) is SimpleQueue:
            self._inqueue = Queue()
            self._quick_put = self._inqueue.put

    return set_up


class Queue(SimpleQueue):  # type: ignore[type-arg]
    """Where the workers take their items. With one taken without waiting, the pool is being ended by somebody else."""

    def __init__(self) -> None:
        #: worker → what was in force in it before its item
        self._before: Dict[int, context.Marks] = {}

    def get(self, block: bool = True, timeout: Any = None) -> Any:
        """The next item, with its parcel in force."""
        self._over()
        item = super().get(block, timeout)
        if block:
            self._begin(item)
        return item

    def _begin(self, item: Any) -> None:
        try:
            marks = getattr(_results.get(item[0]), _MARK, None) if item else None
            if marks is not None:
                self._before[get_ident()] = context.marks()
                context.put(marks)
        except Exception as error:
            fault("handover", error)

    def _over(self) -> None:
        try:
            before = self._before.pop(get_ident(), None)
            if before is not None:
                context.put(before)
        except Exception as error:
            fault("handover", error)
