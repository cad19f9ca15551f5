"""`python -m chaos_plan.client KIND`: the client programs that are nothing but a Python program each.

Owns threads, asyncio, fork storms, short scripts, and the last healthy process of a state directory. Each imports
`aicostguard.auto` first and makes calls until its life is over or the run is. Its randomness comes from CHAOS_SEED.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from typing import Callable, Dict, List

from chaos_plan import diary

diary.watch_the_end()

import aicostguard  # noqa: E402
import aicostguard.auto  # noqa: E402
from chaos_plan.calls import Caller  # noqa: E402
from chaos_plan.life import Life  # noqa: E402
from chaos_plan.spools import waiting  # noqa: E402

#: children at a time in a fork storm, and waves at most in one life
WAVE, WAVES = 6, 40
#: seconds that the last process waits for a spool that does not get shorter
PATIENCE = 40.0


def threads(life: Life) -> None:
    """Three threads and a main thread that now and then flushes."""
    caller = Caller(life.sdks, life.rng)

    def work() -> None:
        while not life.over():
            caller.call()
            time.sleep(life.nap())

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    flushes = life.rng.random() < 0.5
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.5)
        if flushes and life.rng.random() < 0.1:
            diary.flush(3.0)
    for worker in workers:
        worker.join()


def tasks(life: Life) -> None:
    """Six tasks on one loop."""
    import asyncio

    async def work(caller: Caller) -> None:
        while not life.over():
            await caller.acall()
            await asyncio.sleep(2 * life.nap())

    async def main() -> None:
        caller = Caller(life.sdks, life.rng, awaited=True)
        await asyncio.gather(*(work(caller) for _ in range(6)))

    asyncio.run(main())


def scripts(life: Life) -> None:
    """One to three calls, and the end: as a cron job."""
    caller = Caller(life.sdks, life.rng)
    for _ in range(life.rng.randint(1, 3)):
        caller.call()


def recover(life: Life) -> None:
    """One call, then wait until the spool of this state directory is empty, or nothing moves any more."""
    caller = Caller(life.sdks, life.rng)
    while not caller.call():  # without a receipt nobody sends
        time.sleep(0.1)
    root = os.path.join(os.environ["AICG_STATE_DIR"], "spool")
    left, moved = others(root), time.monotonic()
    while left and time.monotonic() - moved < PATIENCE:
        time.sleep(0.2)
        now = others(root)
        if now != left:
            left, moved = now, time.monotonic()


def others(root: str) -> Dict[str, int]:
    """The files of a spool that this process has not begun itself: its own stays open until it ends."""
    own = str(aicostguard.stats()["delivery"]["epoch"])
    return {path: size for path, size in waiting(root).items() if not os.path.basename(path).startswith(own)}


# Fork storms: every way in which a child of a fork comes and goes.


def forks(life: Life) -> None:
    """Waves of children, each with one to three calls and its own way out; the parent calls in between."""
    caller = Caller(life.sdks, life.rng)
    for _ in range(WAVES):
        if life.over():
            return
        caller.call()
        past_hooks = life.rng.random() < 0.3
        if past_hooks:
            # CPython itself is not safe in such a child while a second thread of the parent wants to run.
            aicostguard.shutdown(5.0)
        ways = [life.rng.choice(WAYS_PAST_HOOKS if past_hooks else WAYS) for _ in range(life.rng.randint(2, WAVE))]
        children = [way(life, life.rng.random()) for way in ways]
        for end in children:
            end()
        time.sleep(4 * life.nap())


def _child(life: Life, seed: float) -> None:
    rng = random.Random(seed)
    caller = Caller(life.sdks.split(",")[0], rng)  # of its own: the parent's connections are the parent's
    for _ in range(rng.randint(1, 3)):
        caller.call()


def _forked(fork: Callable[[], int], leave: Callable[[], None]) -> Callable[[Life, float], Callable[[], None]]:
    def start(life: Life, seed: float) -> Callable[[], None]:
        pid = fork()
        if pid == 0:
            try:
                _child(life, seed)
            except BaseException:
                os._exit(3)
            leave()
        return lambda: _reap(pid)

    return start


def _reap(pid: int) -> None:
    os.waitpid(pid, 0)


def _libc_fork() -> int:
    """Past Python's fork hooks, as uWSGI forks."""
    import ctypes

    # PyDLL keeps the GIL: a child must not wake up without it.
    return int(ctypes.PyDLL(None).fork())


def _leave_by_exit() -> None:
    module = sys.modules.get("multiprocessing.process")
    if module is not None:
        module._children.clear()  # type: ignore[attr-defined]  # they are the parent's: its exit hook would wait
    sys.exit(0)


def _leave_at_once() -> None:
    os._exit(0)


def _leave_flushed() -> None:
    diary.flush(5.0)
    os._exit(0)


def _multiprocessing(life: Life, seed: float) -> Callable[[], None]:
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=_in_multiprocessing, args=(life, seed))
    process.start()
    return process.join


def _in_multiprocessing(life: Life, seed: float) -> None:
    from multiprocessing import util

    util.Finalize(None, diary.leaving, exitpriority=1)  # after the agent's
    _child(life, seed)


WAYS: List[Callable[[Life, float], Callable[[], None]]] = [
    _forked(os.fork, _leave_by_exit),
    _forked(os.fork, _leave_by_exit),
    _forked(os.fork, _leave_at_once),
    _forked(os.fork, _leave_flushed),
    _multiprocessing,
]
WAYS_PAST_HOOKS = [_forked(_libc_fork, _leave_flushed), _forked(_libc_fork, _leave_at_once)]
KINDS: Dict[str, Callable[[Life], None]] = {
    "threads": threads,
    "asyncio": tasks,
    "scripts": scripts,
    "forks": forks,
    "recover": recover,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](Life())
