"""Children that leave by `os._exit`, past `atexit`: multiprocessing in all its ways, executors, Celery's pool."""

from __future__ import annotations

import signal
import time

import pytest

from tests.delivery.fake_ledger import Answer, FakeLedger
from tests.delivery.hosts.place import BIN, Place, needs

pytestmark = pytest.mark.ids("E1", "Z4")

START = """
import multiprocessing, os, sys, time, warnings
warnings.simplefilter("ignore")
import app
method, kind, early = sys.argv[1:]

def work(n):
    app.ask()
    return os.getpid()

def main():
    context = multiprocessing.get_context(method)
    if early == "early":
        app.ask()
    if kind == "process":
        children = [context.Process(target=work, args=(n,)) for n in range(2)]
        for child in children: child.start()
        for child in children: child.join(20)
        assert [child.exitcode for child in children] == [0, 0]
    elif kind == "executor":
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            assert len(list(pool.map(work, range(4)))) == 4
    elif kind == "pool":
        pool = context.Pool(2)
        assert len(pool.map(work, range(4))) == 4
        pool.close()
        pool.join()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("kind", ["process", "executor", "pool"])
@pytest.mark.parametrize(
    ("method", "early"),
    # A spawned child has nothing of its parent, whatever that did before.
    [("fork", "early"), ("fork", "late"), ("forkserver", "early"), ("spawn", "late")],
)
def test_multiprocessing(place: Place, ledger: FakeLedger, method: str, kind: str, early: str) -> None:
    """No child waits before it leaves, so that what is delivered is delivered by its end. `early`: the parent, too."""
    ledger.answers.append(Answer(delay=0.3))
    place.run(START, method, kind, early)
    place.balance(ledger, (2 if kind == "process" else 4) + (early == "early"), 0.0)
    assert len({epoch for epoch, _ in ledger.stored}) == len({row["pid"] for row in place.stats()})


BILLIARD = """
import warnings
warnings.simplefilter("ignore")
import app, billiard
if __name__ == "__main__":
    child = billiard.Process(target=app.ask)
    child.start()
    child.join(20)
    print("left with", child.exitcode)
"""


def test_billiard(place: Place, ledger: FakeLedger) -> None:
    needs("billiard")
    assert "left with 0" in place.run(BILLIARD)
    place.balance(ledger, 1, 0.0)


CELERY = """
import app, celery
tasks = celery.Celery("tasks", broker="filesystem://", backend="file://results")
tasks.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}
tasks.conf.worker_max_tasks_per_child = 2

@tasks.task
def summarise():
    app.ask()
"""
SEND = "import work; [work.summarise.delay() for _ in range(3)]"


@pytest.mark.ids("G27")
def test_celery_prefork(place: Place, ledger: FakeLedger) -> None:
    """Of two children the first ends after two tasks, the second with the worker. The ledger takes longer to answer
    than they stay.
    """
    needs("celery")
    for name in ("queue", "results"):
        (place.folder / name).mkdir()
    (place.folder / "work.py").write_text(CELERY)
    place.run(SEND)
    ledger.then = Answer(delay=1.3)
    command = ["-A", "work", "worker", "-c", "1", "-l", "WARNING", "--without-gossip", "--without-mingle"]
    process = place.start(str(BIN / "celery"), *command, EARLY="1")
    limit = time.monotonic() + 40
    while len(place.simulator.billed()) < 4 and time.monotonic() < limit:
        time.sleep(0.05)
    assert place.end(process, signal.SIGTERM, 30) == 0, place.log()
    place.balance(ledger, 4, 0.0)  # one of them was the main process's, before it forked
    assert "aicostguard" not in place.log()
