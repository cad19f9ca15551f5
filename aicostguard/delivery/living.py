"""Every `Delivery` of this process, for what happens to the process as a whole: a fork, its end.

Owns the list, which keeps none of them alive, and the two hooks. A fork that ran no hook (in C) is noticed by whoever
finds another process id, and told here. If this is wrong, a child sends its parent's receipts, or an end loses some.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import TYPE_CHECKING, Callable, List

from aicostguard.delivery.threads import imports
from aicostguard.health import health

if TYPE_CHECKING:
    from aicostguard.delivery.delivery import Delivery

_living: List[weakref.ref[Delivery]] = []


def add(delivery: Delivery) -> None:
    """From here on it hears of forks and of the end of the program."""
    reference = weakref.ref(delivery)
    _living.append(reference)
    atexit.register(_at_exit, reference)


def leaving(delivery: Delivery) -> Callable[[], None]:
    """What tells it of the end of this process, for where `atexit` will not."""
    reference = weakref.ref(delivery)
    return lambda: _at_exit(reference)


def forked() -> None:
    """This process is a fork that has not been seen yet: own names, own counters, no queue, no thread."""
    seen = dict(health.warnings)
    health.reset()
    health.warnings.update(seen)  # said by the parent already: shown, not said again
    imports.forked()
    inline = sys.modules.get("aicostguard.delivery.inline")
    if inline is not None:
        inline.forked()
    for delivery in [reference() for reference in _living]:
        if delivery is not None:
            delivery.disown()


def _at_exit(reference: weakref.ref[Delivery]) -> None:
    delivery = reference()
    if delivery is not None:
        delivery.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forked)
