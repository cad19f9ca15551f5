"""A child that is forked while another thread is inside the guard: it goes on by itself."""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Dict

import pytest

from aicostguard.guard.costs import CostConfig
from aicostguard.guard.enforcer import CostPolicyEnforcer
from aicostguard.guard.loops import Loops
from aicostguard.guard.owed import Owed
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.tokens import TokenUsage
from aicostguard.guard.tracker import CostTracker
from aicostguard.guard.tree import CostAttributionTree

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

USAGE = TokenUsage("gpt-4o", 1, 1)


def owed(one: Any) -> None:
    one.release("t", (), 0)
    one.tidy(0)
    assert len(one) == 0, "taken"


#: what has a lock → a step that takes it
OWNERS: Dict[str, Any] = {
    "loops": (Loops, lambda one: one.seen("agent", "act", None)),
    "owed": (lambda: Owed(MemoryStore()), owed),
    "tracker": (CostTracker, lambda one: one.record(USAGE)),
    "tree": (CostAttributionTree, lambda one: one.register_agent("a")),
    "enforcer": (lambda: CostPolicyEnforcer(CostConfig()), lambda one: one.check_and_record(USAGE)),
}


@pytest.mark.ids("E1", "D10")
@pytest.mark.parametrize("name", OWNERS)
def test_a_lock_that_is_held_at_a_fork_is_free_in_the_child(name: str) -> None:
    make, step = OWNERS[name]
    one: Any = make()
    assert _ends(one._lock, lambda: step(one))
    step(one)  # and here it is the lock that it was


def _ends(lock: Any, step: Callable[[], Any]) -> bool:
    """Does a child that is forked while another thread holds the lock carry out the step?"""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    pid = os.fork()
    if pid == 0:
        import faulthandler
        import signal

        faulthandler.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)  # a child that hangs is ended
        try:
            step()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    done.set()
    thread.join()
    return status == 0
