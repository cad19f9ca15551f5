"""What a piece of work runs of ours, counted: steps of the interpreter, and functions. No machine is too busy for it.

Steps are bytecodes as `sys.settrace` sees them: they differ between versions of CPython, and not between runs.
"""

from __future__ import annotations

import collections
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Counter, NamedTuple

_OURS = str(Path(__file__).resolve().parents[2] / "aicostguard")


class Count(NamedTuple):
    """Steps and entries by function of ours (`module.function`); `others` are the steps of all other code."""

    by_function: Counter[str]
    entered: Counter[str]
    others: int

    @property
    def steps(self) -> int:
        """Steps of ours."""
        return sum(self.by_function.values())

    @property
    def functions(self) -> int:
        """How many functions of ours were entered, each as often as it was."""
        return sum(self.entered.values())


def count(work: Callable[[], Any]) -> Count:
    """What `work` runs on this thread."""
    by_function: Counter[str] = collections.Counter()
    entered: Counter[str] = collections.Counter()
    others = 0

    def ours(frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            by_function[_name(frame)] += 1
        return ours

    def theirs(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal others
        if event == "opcode":
            others += 1
        return theirs

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if not frame.f_code.co_filename.startswith(_OURS):
            return theirs
        entered[_name(frame)] += 1
        return ours

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(before)
    return Count(by_function, entered, others)


def least(work: Callable[[], Any]) -> Count:
    """The least of a few counts. CPython 3.12 tells no steps the first time it is asked to."""
    return min((count(work) for _ in range(4)), key=lambda one: (not one.steps, one.steps))


def _name(frame: FrameType) -> str:
    code = frame.f_code
    module = Path(code.co_filename[len(_OURS) + 1 :]).with_suffix("")
    return ".".join((*module.parts, getattr(code, "co_qualname", code.co_name)))
