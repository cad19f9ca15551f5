"""The file: who may read it, what happens when it is busy, forked over, damaged, full of a newer release's tables."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import pytest

from aicostguard import health
from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store import Busy, Counter, Held, StoreFailed, open_store
from aicostguard.guard.store.sqlite import SqliteStore
from aicostguard.guard.values import Bound, Facts, Spent

NOW = 1_795_959_000_000
B = Counter("b/", 100)
CALL = Facts({}, Bound(10, 1, 1), NOW)
POLICY = Policy(budgets=(Budget("b", 100),))


@pytest.fixture
def store(tmp_path):
    made = SqliteStore(str(tmp_path / "state" / "guard.db"), patience=60.0)
    yield made
    made.close()


def spent(store) -> tuple:
    return store.read("", NOW)[0][1:3]


def test_the_file_is_its_owners_alone_and_named_by_the_policy(tmp_path) -> None:
    store = open_store("sqlite", "shop", str(tmp_path / "state"))
    store.reserve("a", [B], [1], NOW, NOW + 1000)
    (name,) = [name for name in os.listdir(tmp_path / "state") if name.endswith(".db")]
    assert name.startswith("guard-") and "shop" not in name
    assert stat.S_IMODE(os.stat(tmp_path / "state" / name).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "state").st_mode) == 0o700
    assert open_store("sqlite", "shop", str(tmp_path / "state")).path == store.path
    assert open_store("sqlite", "other", str(tmp_path / "state")).path != store.path
    store.close()


@pytest.mark.ids("ACC:B10")
def test_what_was_spent_survives_the_program(store) -> None:
    guard = Guard(POLICY, store, clock=lambda: NOW)
    guard.settle(guard.ask(CALL), Spent(7, 1))
    guard.close()
    again = Guard(POLICY, SqliteStore(store.path), clock=lambda: NOW)
    assert again.status()[0].spent == 7
    again.close()


@pytest.fixture
def locked(store):
    """Another process is in the middle of a step."""
    store.reserve("first", [Counter("other/", 100)], [1], NOW, NOW + 10**6)
    other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_a_busy_file_is_waited_for_and_not_for_ever(store, locked) -> None:
    with pytest.raises(Busy):
        store.reserve("a", [B], [1], NOW, NOW + 1000, wait=False)
    threading.Timer(0.2, lambda: locked.execute("ROLLBACK")).start()
    assert store.reserve("a", [B], [1], NOW, NOW + 1000) == Held((1,))
    locked.execute("BEGIN IMMEDIATE")
    impatient = SqliteStore(store.path, patience=0.05)
    with pytest.raises(StoreFailed):
        impatient.reserve("b", [B], [1], NOW, NOW + 1000)
    impatient.close()
    locked.execute("ROLLBACK")


@pytest.mark.ids("A18", "D11")
def test_a_loop_goes_on_while_the_file_is_busy(store, locked) -> None:
    guard = Guard(POLICY, store, clock=lambda: NOW)
    made, reserve = [], store.reserve

    def counted(*args, **more):
        answer = reserve(*args, **more)
        made.append(answer)
        return answer

    store.reserve = counted

    async def main() -> int:
        ticks = 0
        asked = asyncio.ensure_future(guard.aask(CALL))
        while ticks < 20:
            await asyncio.sleep(0.005)
            ticks += 1
        assert not asked.done()
        cancelled = asyncio.ensure_future(guard.aask(CALL))
        await asyncio.sleep(0.02)
        cancelled.cancel()
        locked.execute("ROLLBACK")
        ticket = await asked
        assert ticket.held == (10,)
        await guard.asettle(ticket, Spent(4, 1))
        return ticks

    assert asyncio.run(main()) == 20
    # The cancelled one was held after all, when nobody waited for it any more, and has been given back.
    end = time.monotonic() + 60
    while len(made) < 2 or spent(store) != (4, 0):
        assert time.monotonic() < end, spent(store)
        time.sleep(0.01)


@pytest.mark.ids("D3")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_its_own_connection(store) -> None:
    guard = Guard(POLICY, store, clock=lambda: NOW)
    held = guard.ask(CALL)
    child = os.fork()
    if not child:
        code = 1
        try:
            guard.settle(guard.ask(CALL), Spent(6, 1))
            code = 0 if spent(store) == (6, 10) else 2
            store.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    guard.settle(held, Spent(3, 1))
    assert spent(store) == (9, 0)


def test_a_forked_child_that_ends_as_usual_says_nothing_and_closes_nothing(tmp_path) -> None:
    program = """
import os, sys
from aicostguard.guard.store import Counter
from aicostguard.guard.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
store.reserve("a", [Counter("b/", 100)], [1], 1, 2)
child = os.fork()
store.reserve("c" if child else "d", [Counter("b/", 100)], [1], 1, 2)
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert store.read("", 1)[0].reserved == 3
"""
    path = str(tmp_path / "guard.db")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, path], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_damaged_file_is_put_aside_and_on_store_failure_decides(store, monkeypatch) -> None:
    health.health.reset()
    store.reserve("a", [B], [1], NOW, NOW + 1000)
    store.close()
    with open(store.path, "r+b") as file:
        file.write(b"\xff" * 4096)
    closed = Guard(POLICY._replace(on_store_failure="closed"), store, clock=lambda: NOW)
    with pytest.raises(BudgetExceeded, match="cannot be read or written"):
        closed.ask(CALL)
    assert health.health.notes["guard_store_damaged"] == 1
    assert "guard-store-damaged" in health.health.warnings
    assert [name for name in os.listdir(os.path.dirname(store.path)) if ".damaged-" in name]
    assert closed.ask(CALL).held == (10,)  # in a new file
    health.health.reset()


def test_a_file_that_was_put_aside_by_another_is_left(store) -> None:
    store.reserve("a", [B], [1], NOW, NOW + 1000)
    os.rename(store.path, store.path + ".damaged-1")
    store.expire(NOW)
    assert store.read("", NOW) == []
    assert store.reserve("b", [B], [1], NOW, NOW + 1000) == Held((1,))


def test_a_file_of_a_newer_release_is_not_touched(store) -> None:
    store.reserve("a", [B], [1], NOW, NOW + 1000)
    store.close()
    other = sqlite3.connect(store.path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StoreFailed, match="newer release"):
        store.reserve("b", [B], [1], NOW, NOW + 1000)


def test_a_folder_that_cannot_be_made_is_a_failure_of_the_store(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed):
        SqliteStore(str(tmp_path / "file" / "guard.db")).reserve("a", [B], [1], NOW, NOW + 1000)


def test_a_finaliser_within_a_step_does_not_wait_for_itself(store) -> None:
    guard = Guard(POLICY, store, clock=lambda: NOW)
    ticket = guard.ask(CALL)

    def step(file):
        guard.settle(ticket, Spent(4, 1))
        return file.execute("SELECT 1").fetchone()

    assert store._step(step, True) == (1,)
    assert len(guard._owed) == 1
    guard._owed.tidy(NOW)
    assert spent(store) == (4, 0)


def test_threads_share_one_connection(store) -> None:
    guard = Guard(Policy(budgets=(Budget("b", 10**6),)), store, clock=lambda: NOW)

    def work() -> None:
        for _ in range(20):
            guard.settle(guard.ask(CALL), Spent(3, 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spent(store) == (8 * 20 * 3, 0)


_CLOSED = """
import gc, os, sys
from aicostguard import health
from aicostguard.guard.store import Counter, StoreFailed
from aicostguard.guard.store.sqlite import SqliteStore
folder, ends = sys.argv[1], sys.argv[2]
store = SqliteStore(folder + "/guard.db")
store.reserve("a", [Counter("b/", 100)], [7], 1, 2)
os.closerange(3, 256)
files = []
for n in range(20):  # one of them at each number that the store had
    files.append(os.open("%s/host-%d" % (folder, n), os.O_RDWR | os.O_CREAT, 0o600))
    os.write(files[-1], b"the program's own")
if ends == "used":
    for one in (store, store, SqliteStore(folder + "/guard.db")):
        try:
            one.reserve("b", [Counter("b/", 100)], [7], 1, 2)
        except StoreFailed as error:
            print(error)
    assert "guard-store-closed" in health.health.warnings
    store.close()
elif ends == "closed":
    store.close()
else:
    del store
gc.collect()
print(sum(os.pread(number, 100, 0) == b"the program's own" for number in files))
"""


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="no list of descriptors")
@pytest.mark.parametrize("ends", ["used", "closed", "forgotten"])
def test_a_file_that_the_program_closed_under_us_harms_none_of_its_own(tmp_path, ends: str) -> None:
    """Nothing of SQLite's is used or closed any more: its numbers are the program's files by now."""
    done = subprocess.run(
        [sys.executable, "-c", _CLOSED, str(tmp_path), ends], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    *said, whole = done.stdout.split("\n")[:-1]
    assert whole == "20"
    assert said == (["the program has closed it"] * 3 if ends == "used" else [])
    other = SqliteStore(str(tmp_path / "guard.db"))  # of another process
    assert spent(other) == (0, 7)
    other.close()
