"""Locks that a forked child gets anew: the thread that held one when the process was forked is not there to free it.

Owns the list of who has such a lock, and keeps none of them alive. What the lock guards is changed by steps that are
whole in themselves, so that a child finds it as it was before one or after it. If this is wrong, a child hangs in its
first call.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def lock_of(owner: Any) -> threading.Lock:
    """What `owner` is to keep as its `_lock`; in a child it gets another one."""
    _owners.add(owner)
    return threading.Lock()


def _in_child() -> None:
    for owner in list(_owners):
        owner._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
