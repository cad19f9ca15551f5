"""Steps of a store that would wait, taken beside a running event loop.

Owns a few threads, started when a step first has to wait. A step is tried at once; only when the store says `Busy` does
it go to a thread. A step that was begun is finished, also when the task that waits for it is cancelled, and undone when
nobody is there to take its answer. Outside asyncio (trio) the step is taken directly: stores bound how long that is.
"""

from __future__ import annotations

from os import getpid
from typing import Any, Callable, List, Optional, Tuple

from aicostguard.guard.store import Busy

THREADS = 4

_pool: Tuple[int, Any] = (0, None)


def threads() -> Any:
    """The pool of this process."""
    global _pool
    pid = getpid()
    if _pool[0] != pid:  # a forked child has none of its parent's threads
        from concurrent.futures import ThreadPoolExecutor

        _pool = (pid, ThreadPoolExecutor(THREADS, "aicostguard-budgets"))
    return _pool[1]


def later(step: Callable[..., Any], *args: Any) -> Any:
    """Take a step on one of the threads; its future. None when no thread can be had any more: then it is taken here.

    A pool that could not start a thread has the step in its queue, and may take it all the same: it is taken once.
    """
    turn = [None]

    def taken() -> Any:
        try:
            turn.pop()
        except IndexError:
            return None
        return step(*args)

    try:
        return threads().submit(taken)
    except RuntimeError:
        taken()
        return None


async def run(
    step: Callable[..., Any], args: Tuple[Any, ...], undo: Optional[Callable[[], Any]] = None, at_once: bool = True
) -> Any:
    """The answer of `step(*args)`, without blocking the loop. `undo` is called when the step was taken and cancelled.

    `at_once`: the step takes `wait=False` and raises `Busy` where it would wait.
    """
    if at_once:
        try:
            return step(*args, wait=False)
        except Busy:
            pass
    import asyncio

    answers: List[Any] = []
    cancelled = False

    def work() -> Any:
        answer = step(*args)
        answers.append(answer)
        if cancelled and undo is not None and _taken(answers):
            undo()
        return answer

    try:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(threads(), work)
    except RuntimeError:  # no asyncio, or an interpreter that ends and starts no thread
        return step(*args)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancelled = True
        future.add_done_callback(_looked_at)
        if undo is not None and _taken(answers):
            later(undo)
        raise


def _taken(answers: List[Any]) -> bool:
    """True for one of the two who may ask: who has worked, and who was cancelled."""
    try:
        answers.pop()
    except IndexError:
        return False
    return True


def _looked_at(future: Any) -> None:
    """So that nobody complains about an exception that was never retrieved."""
    if not future.cancelled():
        future.exception()
