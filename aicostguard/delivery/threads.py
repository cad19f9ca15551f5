"""What threads are made of, as it was when delivery was imported; and where there must be none.

gevent and eventlet replace these names in place. Who patches first gets a sender that is one of their green threads;
whoever imports us first keeps one real thread with real locks. A mixture of both would stop the program: a green thread
that waits on a real lock holds up all the others.
"""

from __future__ import annotations

import os
import queue as _queues
from _thread import RLock, allocate_lock, get_ident, start_new_thread
from collections import deque
from queue import Empty
from time import sleep
from types import BuiltinFunctionType
from typing import Any, Callable, Deque, Optional

from aicostguard.clock import clock
from aicostguard.delivery import hosts

__all__ = [
    "GREEN", "Empty", "Flag", "RLock", "SimpleQueue", "get_ident", "imports", "sleep", "start_thread",
    "subinterpreter",
]  # fmt: skip

#: a "thread" is a greenlet of gevent's or eventlet's
GREEN = not isinstance(start_new_thread, BuiltinFunctionType)


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


class Polled:
    """A `SimpleQueue` for green threads that have none. The C one stops every greenlet, and what eventlet puts in its
    place takes a lock in `put`, which a signal handler or a finaliser would then wait for on the thread that holds it.

    This one looks every `TICK` seconds instead of being woken, so that no hub is touched from where it must not be.
    """

    TICK = 0.05

    def __init__(self) -> None:
        self._items: Deque[Any] = deque()

    def put(self, item: Any) -> None:
        """Append an item. Never waits, never switches."""
        self._items.append(item)

    def get_nowait(self) -> Any:
        """The next item; raises `Empty` without one."""
        try:
            return self._items.popleft()
        except IndexError:
            raise Empty from None

    def get(self, timeout: Optional[float] = None) -> Any:
        """The next item, waited for up to `timeout` seconds; raises `Empty` after that."""
        limit = None if timeout is None else clock.monotonic() + timeout
        while not self._items:
            left = self.TICK if limit is None else min(self.TICK, limit - clock.monotonic())
            if left <= 0:
                break
            Flag().wait(left)  # a sleep that is green whether or not `time.sleep` was patched
        return self.get_nowait()

    def qsize(self) -> int:
        """The number of items."""
        return len(self._items)


class Woken(Polled):
    """A `SimpleQueue` for real threads where there is none in C (PyPy), and the one in Python takes a lock in `put`.

    The lock is let go of by each `put`, which never waits, and taken by whoever has found nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._news = allocate_lock()
        self._news.acquire()

    def put(self, item: Any) -> None:
        """Append an item. Never waits."""
        self._items.append(item)
        self._tell()

    def get(self, timeout: Optional[float] = None) -> Any:
        """The next item, waited for up to `timeout` seconds; raises `Empty` after that."""
        limit = None if timeout is None else clock.monotonic() + timeout
        while True:
            try:
                item = self._items.popleft()
            except IndexError:  # none, or another took it
                left = -1.0 if limit is None else limit - clock.monotonic()
                if (limit is not None and left <= 0) or not self._news.acquire(timeout=left):
                    return self.get_nowait()
                continue
            if self._items:
                self._tell()  # of two items whose news were one
            return item

    def _tell(self) -> None:
        try:
            self._news.release()
        except RuntimeError:
            return  # told already


def _wake_up() -> Any:
    """The class of queue that fits our threads: the C one for real ones, whatever else was patched."""
    if not GREEN:
        try:
            from _queue import SimpleQueue
        except ImportError:
            return Woken
        return SimpleQueue
    return _queues.SimpleQueue if _queues.SimpleQueue.__module__.startswith("gevent.") else Polled


SimpleQueue: Any = _wake_up()

_sub: Optional[bool] = None


def subinterpreter() -> bool:
    """Is this another interpreter than the main one (mod_wsgi, `InterpreterPoolExecutor`)?

    Asked when delivery is made. An interpreter that ends while a thread of it lives aborts the whole program
    ("Py_EndInterpreter: not the last thread"), and some may start none: so there we never start one.
    """
    global _sub
    if _sub is None:
        _sub = _elsewhere()
    return _sub


def _elsewhere() -> bool:
    from importlib import import_module

    for name in ("_interpreters", "_xxsubinterpreters"):  # from 3.13 on, and before
        try:
            module = import_module(name)
            current, main = module.get_current(), module.get_main()
        except (ImportError, AttributeError):
            continue
        return bool(_number(current) != _number(main))
    return False


def _number(identity: Any) -> int:
    return int(identity[0] if isinstance(identity, tuple) else identity)


def start_thread(function: Callable[..., None], *arguments: Any) -> int:
    """Start a daemon thread; its ident. Raises `RuntimeError` where none may or can be started.

    Not through `threading.Thread`: its `start` takes a lock of the module, and a finaliser that submits a
    receipt may run while this very thread holds it.
    """
    if subinterpreter() or hosts.about_to_fork():
        raise RuntimeError("no thread of ours here")
    return start_new_thread(function, arguments)


class Imports:
    """Held while the sender imports what it needs, and by whoever forks.

    A child that is made in the middle of an import has half a module, and nobody in it goes on with the other half.
    """

    # No `__dict__`, for the reason that `health.Health` has none.
    __slots__ = ("_lock", "_held")

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

    def forked(self) -> None:
        """In a child that ran no hook: a lock that is held is held by nobody here."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = RLock()


imports = Imports()
