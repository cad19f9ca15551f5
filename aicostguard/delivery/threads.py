"""What threads are made of, as it was when delivery was imported.

gevent and eventlet replace these names in place. Who patches first gets a sender that is one of their green threads;
whoever imports us first keeps one real thread with real locks. A mixture of both would stop the program: a green thread
that waits on a real lock holds up all the others.
"""

from __future__ import annotations

from _thread import RLock, allocate_lock, get_ident, start_new_thread
from queue import Empty, SimpleQueue

__all__ = ["Empty", "RLock", "SimpleQueue", "Flag", "get_ident", "start_new_thread"]


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
