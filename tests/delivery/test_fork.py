"""Forks: the child starts with nothing of its parent's, and both deliver."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Set

import pytest

from aicostguard.delivery import Delivery
from aicostguard.health import health
from tests.delivery.conftest import KEY, receipt
from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger

Deliver = Callable[..., Delivery]
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def _wait(pid: int, seconds: float = 8.0) -> int:
    """The child's exit code; a child that hangs is killed and counts as 99."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return 99


def _child(delivery: Delivery, fork: Callable[[], int], name: str) -> int:
    """Fork; the child submits one receipt and leaves with 0 when it was delivered."""
    pid = fork()
    if pid == 0:
        code = 1
        try:
            delivery.submit(receipt(name))
            code = 0 if delivery.flush(4) else 2
        finally:
            os._exit(code)
    return pid


@pytest.mark.ids("E1", "Z4")
def test_a_child_sends_its_own_and_nothing_of_its_parent(deliver: Deliver) -> None:
    with FakeLedger(Answer(delay=0.5)) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("sent"))  # in flight, for half a second, while the child is made
        time.sleep(0.25)
        for n in range(20):
            delivery.submit(receipt("parent%d" % n))
        assert _wait(_child(delivery, os.fork, "child")) == 0
        assert delivery.flush(5)
        assert len(ledger.stored) == 22 and ledger.duplicates == 0
        by_epoch: Dict[str, Set[int]] = {}
        for epoch, seq in ledger.stored:
            by_epoch.setdefault(epoch, set()).add(seq)
        assert by_epoch[delivery._epoch] == set(range(21)) and len(by_epoch) == 2
        childs = next(s.envelope for s in ledger.seen if s.envelope and s.envelope["epoch"] != delivery._epoch)
        assert childs["counters"]["generated"] == 1 and childs["counters"]["sent"] == 0


@pytest.mark.ids("E1")
def test_a_lock_held_at_the_fork_does_not_hang_the_child(deliver: Deliver) -> None:
    with FakeLedger(Answer(), Answer(500)) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("first"))
        assert delivery.flush(3)
        release, held = threading.Event(), threading.Event()

        def hold() -> None:
            with health._lock, delivery._courier.keeper.spool._lock:
                held.set()
                release.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(3)
        started = time.monotonic()
        pid = _child(delivery, os.fork, "child")
        code = _wait(pid, 6)
        release.set()
        holder.join()
        # The ledger's 500 meets the child's first attempt: flush says so, and the child did not hang.
        assert code in (0, 2 << 8) and time.monotonic() - started < 6


_IN_C = """
import ctypes, os, threading, time
from aicostguard.config import load
from aicostguard.delivery import Delivery
from aicostguard.health import health
def row(name): return {"provider": "openai", "model": name}
delivery = Delivery(load(os.environ))
delivery.submit(row("sent"))
time.sleep(0.5)
for n in range(20): delivery.submit(row("parent%d" % n))
held, release = threading.Event(), threading.Event()
def hold():
    with health._lock, delivery._courier.keeper.spool._lock:
        held.set(); release.wait(30)
if os.environ["HOLD"] == "1":
    threading.Thread(target=hold, daemon=True).start(); held.wait()
silent = ctypes.PyDLL(None).fork()
if silent == 0:
    try:
        delivery._leave()  # the exit hook of a child that has submitted nothing
    finally:
        os._exit(0)
os.waitpid(silent, 0)
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    code = 1
    try:
        delivery.submit(row("child"))
        code = 0 if delivery.flush(6) else 2
    finally:
        os._exit(code)
code = os.waitpid(pid, 0)[1]
release.set()
print(code, delivery.flush(10), flush=True)
"""


@pytest.mark.ids("E1", "E2", "Z4")
@pytest.mark.parametrize("hold", ["0", "1"], ids=["free", "locks held"])
def test_a_fork_in_c_that_runs_no_hook_is_noticed(state: Path, hold: str) -> None:
    """As uWSGI forks. In a process of its own, whose other threads all wait: such a fork copies the interpreter's lock
    as it is, and a thread that contends for it at that moment hangs any child, with us or without.
    """
    with FakeLedger(Answer(delay=2.0)) as ledger:
        environ = dict(os.environ, PYTHONPATH=str(ROOT), AICG_URL=ledger.url, AICG_KEY=KEY, AICG_STATE_DIR=str(state))
        environ["HOLD"] = hold
        done = subprocess.run(
            [sys.executable, "-c", _IN_C], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        left = b"".join(path.read_bytes() for path in state.glob("spool/*/*"))
        assert b'"parent' not in left  # no child wrote down its parent's receipts
        assert (done.returncode, done.stdout.split()) == (0, ["0", "True"]), done.stderr
        assert len(ledger.stored) == 22 and ledger.duplicates == 0
        assert len({epoch for epoch, _ in ledger.stored}) == 2
        (childs,) = [s.envelope for s in ledger.seen if s.envelope and "child" in str(s.envelope["receipts"])]
        assert len(childs["receipts"]) == 1 and childs["counters"]["generated"] == 1


@pytest.mark.ids("E1")
def test_a_storm_of_forks_while_everything_is_busy(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        stop = threading.Event()

        def submit() -> None:
            while not stop.is_set():
                delivery.submit(receipt("p"))
                time.sleep(0.0005)

        threads = [threading.Thread(target=submit) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            codes = [_wait(_child(delivery, os.fork, "c%d" % n)) for n in range(20)]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert codes == [0] * 20
        assert delivery.flush(10)
        children = {name for name in ledger.models() if name != "p"}
        assert children == {"c%d" % n for n in range(20)} and ledger.duplicates == 0


@pytest.mark.ids("E1")
def test_a_child_that_submits_nothing_has_its_own_books_too(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        health.warn("x", "said by the parent")
        assert delivery.flush(3)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                fresh = not any(health.counters.values()) and delivery._pid == os.getpid()
                code = 0 if fresh and "x" in health.warnings else 3
            finally:
                os._exit(code)
        assert _wait(pid) == 0
        assert health.counters["sent"] == 1


def test_a_child_that_only_leaves_does_not_touch_the_parents_receipts(deliver: Deliver, state: Path) -> None:
    with BlackHole() as hole:
        delivery = deliver(hole.url)
        for n in range(5):
            delivery.submit(receipt("m%d" % n))
        before = _spooled(state)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                delivery._leave()  # the exit hook
                code = 0 if _spooled(state) == before else 3
            finally:
                os._exit(code)
        assert _wait(pid) == 0
        assert _spooled(state) == before and len(before) == 1
        assert delivery.stats()["counters"]["generated"] == 5


def _spooled(state: Path) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.glob("spool/*/*")}


def _in_child(delivery: Any, name: str) -> None:
    delivery.submit(receipt(name))


def test_a_multiprocessing_child_delivers_though_it_skips_atexit(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("parent"))
        assert delivery.flush(3)
        process = multiprocessing.get_context("fork").Process(target=_in_child, args=(delivery, "child"))
        process.start()
        process.join(8)
        assert process.exitcode == 0
        assert ledger.models() == ["child", "parent"]


def test_grandchildren_too(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert delivery.flush(3)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                inner = _child(delivery, os.fork, "grandchild")
                delivery.submit(receipt("child"))
                code = 0 if _wait(inner) == 0 and delivery.flush(4) else 2
            finally:
                os._exit(code)
        assert _wait(pid) == 0
        assert ledger.models() == ["a", "child", "grandchild"]
        assert len({epoch for epoch, _ in ledger.stored}) == 3


@pytest.mark.ids("E1", "Z4")
def test_a_fork_in_the_middle_of_the_senders_imports(tmp_path: Path) -> None:
    """The child would find half a module that nobody finishes."""
    program = r"""
import os, sys, time
from importlib.abc import Loader
class Slow(Loader):
    def find_spec(self, name, path=None, target=None):
        if name != "aicostguard.delivery.client":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec
        spec = find_spec(name)
        self.execute, spec.loader.exec_module = spec.loader.exec_module, self.exec_module
        return spec
    def exec_module(self, module):
        started.append(1)
        time.sleep(0.4)
        self.execute(module)
started = []
sys.meta_path.insert(0, Slow())
from aicostguard import config
from aicostguard.delivery import Delivery
delivery = Delivery(config.load(os.environ))
receipt = {"provider": "openai", "model": "m", "input_tokens": 1, "output_tokens": 1, "latency_ms": 1}
delivery.submit(receipt)
while not started:
    time.sleep(0.001)
child = os.fork()
delivery.submit(receipt)
said = "%s %s\n" % (delivery.flush(5), delivery.stats()["faults"])
os.write(1, said.encode())  # in one piece: two processes write
if child:
    os.waitpid(child, 0)
os._exit(0)
"""
    with FakeLedger() as ledger:
        env = dict(os.environ, AICG_URL=ledger.url, AICG_KEY=KEY, AICG_STATE_DIR=str(tmp_path), PYTHONPATH=str(ROOT))
        env.pop("AICG_TEST_RAISE")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], env=env, capture_output=True, text=True, timeout=30
        )
        assert done.stderr == ""
        assert done.stdout.splitlines() == ["True {}"] * 2
        assert ledger.models() == ["m"] * 3
