"""What threads are made of, as it was when delivery was imported.

gevent and eventlet replace these names in place. Who patches first gets a sender that is one of their green threads;
whoever imports us first keeps one real thread with real locks. A mixture of both would stop the program: a green thread
that waits on a real lock holds up all the others.
"""

from __future__ import annotations

import os
from _thread import RLock, allocate_lock, get_ident, start_new_thread
from queue import Empty, SimpleQueue

__all__ = ["Empty", "Flag", "RLock", "SimpleQueue", "get_ident", "imports", "start_new_thread"]


class Flag:
    """Set once by one thread, waited for by another. Like `threading.Event`, which is made of names looked up later."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let whoever waits go on. Setting it twice does nothing."""
        try:
            self._lock.release()
        except RuntimeError:  # a request that two senders have served
            return

    def wait(self, seconds: float) -> bool:
        """True when it is set, False when it was not for so long."""
        return self._lock.acquire(timeout=seconds)


class Imports:
    """Held while the sender imports what it needs, and by whoever forks.

    A child that is made in the middle of an import has half a module, and nobody in it goes on with the other half.
    """

    #: seconds that a fork waits at most
    PATIENCE = 1.0

    def __init__(self) -> None:
        self._lock = RLock()
        self._held = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._in_child)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def _before(self) -> None:
        self._held = self._lock.acquire(timeout=self.PATIENCE)

    def _after(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()

    def _in_child(self) -> None:
        if not self._held:  # whoever holds it is not here
            self._lock = RLock()
        self._after()


imports = Imports()
