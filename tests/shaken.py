"""Threads that change places between any two steps of ours.

Under a GIL they do so a few hundred times a second, at a few places; without one they run at the same moment. What is
looked at in one step and changed in the next goes wrong once in a million calls, then. Here it goes wrong in a test, on
any interpreter: in what `shaken` runs, one of a few steps of our own code lets another thread go on.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Callable, List

OURS = str(Path(__file__).resolve().parent.parent / "aicostguard")
#: one of so many steps lets another thread go on
STEPS = 6


class _Shaker:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        return self.step

    def step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if self._random.randrange(STEPS) == 0:
            time.sleep(0.000001)
        return self.step


def at_once(work: Callable[[int], None], threads: int) -> None:
    """`work(0)`, `work(1)`, … in as many threads, which begin at the same moment. Raises what one of them raised."""
    _run(work, threads, lambda number: None)


def shaken(work: Callable[[int], None], threads: int = 4, seed: int = 0) -> None:
    """The same, where threads change places between any two steps of ours."""
    _run(work, threads, lambda number: sys.settrace(_Shaker(seed * threads + number).call))


def _run(work: Callable[[int], None], threads: int, prepare: Callable[[int], None]) -> None:
    failures: List[BaseException] = []
    together = threading.Barrier(threads)

    def run(number: int) -> None:
        try:
            together.wait(30)
            prepare(number)
            work(number)
        except BaseException as error:
            failures.append(error)
        finally:
            sys.settrace(None)

    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00001)
    try:
        made = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
        for thread in made:
            thread.start()
        for thread in made:
            thread.join(60)
        assert not any(thread.is_alive() for thread in made), "a thread waits for ever"
    finally:
        sys.setswitchinterval(before)
    if failures:
        raise failures[0]
