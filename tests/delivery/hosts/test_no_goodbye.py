"""Processes that end without a word to Python: what they made is on disk, and the next process sends it."""

from __future__ import annotations

import os
import signal
import time
from typing import List

import pytest

from tests.delivery.fake_ledger import FakeLedger, free_port
from tests.delivery.hosts.place import Place
from tests.delivery.hosts.test_servers import _uwsgi

pytestmark = [
    pytest.mark.ids("E8", "Z4"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform"),
]

ENDS = {
    "SIGTERM, as it is": "os.kill(os.getpid(), signal.SIGTERM)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "os._exit": "os._exit(0)",
    "exec of another program": "os.execv('/bin/true', ['true'])",
    "abort": "signal.signal(signal.SIGABRT, signal.SIG_DFL); import resource; "
             "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
}  # fmt: skip
FIRST = "import os, signal, app\napp.ask()\napp.ask()\n%s\n"
NEXT = "import app, aicostguard, time\napp.ask()\nassert aicostguard.flush(5)\ntime.sleep(%s)\n"


@pytest.mark.parametrize("end", ENDS)
def test_an_end_without_a_goodbye(place: Place, ledger: FakeLedger, end: str) -> None:
    place.run(FIRST % ENDS[end], code=None)
    place.run(NEXT % 0.3)
    place.balance(ledger, 3, 0.0)


POOL = """
import multiprocessing, os, sys, time, warnings
warnings.simplefilter("ignore")
import app, aicostguard
def work(n):
    app.ask()
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:  # leaving it terminates the children
        pool.map(work, range(6))
    app.ask()
    aicostguard.flush(5)
    time.sleep(0.3)
"""


def test_a_pool_whose_children_are_terminated(place: Place, ledger: FakeLedger) -> None:
    """`with Pool()` ends its children by SIGTERM right behind their last result."""
    place.run(POOL)
    place.balance(ledger, 7, 0.0)


DAEMON = """
import os, sys, app
app.ask()
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 200)
for _ in range(3):
    os.open(os.devnull, os.O_RDWR)
app.ask()
import aicostguard, time
aicostguard.flush(5)
time.sleep(0.3)
"""


def test_a_daemon_whose_parent_left_with_a_fresh_receipt(place: Place, ledger: FakeLedger) -> None:
    """The parent leaves by `os._exit` before its sender had time; the daemon finds what it left."""
    place.run(DAEMON)
    limit = time.monotonic() + 10
    while len(place.simulator.billed()) < 2 and time.monotonic() < limit:
        time.sleep(0.02)
    place.balance(ledger, 2)


def test_a_killed_uwsgi_worker_that_has_no_threads(place: Place, ledger: FakeLedger) -> None:
    """Its receipts have never been near a network; killed, they are on disk."""
    port = free_port()
    command = [_uwsgi(False), "--http-socket", "127.0.0.1:%d" % port, "--wsgi-file", "app.py", "--callable", "wsgi"]
    process = place.start(*command, "--master", "--need-app")
    pids: List[int] = []
    for _ in range(3):
        assert place.fetch(port, process) == b"ok"
    assert not ledger.stored
    pids = [row["pid"] for row in place.stats() if row["counters"]["generated"]]
    os.kill(pids[0], signal.SIGKILL)
    assert place.fetch(port, process) == b"ok"  # the master starts another
    assert place.end(process, signal.SIGINT) == 0, place.log()
    place.run(NEXT % 0.3)
    place.balance(ledger, 5, 0.0)
