"""What of ours goes with work into another thread: labels, and the name of the function that handed it over.

Owns `Parcel`, and the one frame (`deliver`) under which it is in force, where the walk for the calling function
finds it. Carries our own variables and no others: the program's context is what it would be without us. Wraps nothing
that the program can see: not the function, not its arguments, not the future. If this breaks, work in threads loses
its labels.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from aicostguard import context
from aicostguard.capture import caller
from aicostguard.capture.state import state
from aicostguard.health import fault


class Parcel:
    """`marks` are the values of our variables; `origin` names who handed the work over.

    `firm` is False when it came with the start of a thread, which may live on to serve others: then an origin that
    was handed over later goes first.
    """

    __slots__ = ("marks", "origin", "firm")

    def __init__(self, marks: context.Marks, origin: Optional[str], firm: bool) -> None:
        self.marks = marks
        self.origin = origin
        self.firm = firm


def pack(function: Any, firm: bool) -> Optional[Parcel]:
    """The parcel for `function`, None when there is nothing to carry: no label, and the user's own frame goes along."""
    marks = context.marks() if firm else context.lasting_marks()
    origin = None if caller.own_function(function, state.rule) else caller.infer(state.rule)
    return None if origin is None and marks == context.NO_MARKS else Parcel(marks, origin, firm)


def deliver(parcel: Parcel, function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` with the parcel in force."""
    previous = _exchanged(parcel.marks)
    try:
        return function(*args)
    finally:
        if previous is not None:
            _exchanged(previous)
        # Before CPython 3.11 an exception's traceback keeps this frame; what it was called with must not stay with it.
        del args, function


def _exchanged(marks: context.Marks) -> Optional[context.Marks]:
    """Put these values in force and give back those that were."""
    try:
        previous = context.marks()
        context.put(marks)
        return previous
    except Exception as error:
        fault("handover", error)
        return None
