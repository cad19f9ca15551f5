"""The clocks as they were when we were imported.

A program's tests put others in their place: a mock that counts its calls or runs out of values, a clock that stands
still (`freezegun`). What runs of ours meanwhile, on the caller's thread or on its own, must neither be counted among
those calls nor believe that time has stopped. So the functions are kept on an object, where nothing looks for them: who
asks for a name of the module `time`, in any module, finds it replaced. The rules of budgets are no part of this: their
periods follow whatever clock the program has.
"""

from __future__ import annotations

import time
from typing import Callable


class Clock:
    """Python's own functions of these names."""

    __slots__ = ("time", "monotonic", "thread_time")

    def __init__(self) -> None:
        #: seconds since 1970
        self.time: Callable[[], float] = time.time
        #: seconds that are never set back
        self.monotonic: Callable[[], float] = time.monotonic
        #: seconds that this thread has used of its processor
        self.thread_time: Callable[[], float] = time.thread_time


clock = Clock()
