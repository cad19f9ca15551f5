"""gunicorn and uWSGI, as people run them: forked workers, threads, greenlets, and threads that stand still."""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Callable, Dict, List

import pytest

from aicostguard.delivery import Delivery, courier
from aicostguard.health import health
from tests.delivery.conftest import receipt
from tests.delivery.fake_ledger import BlackHole, FakeLedger, free_port
from tests.delivery.hosts.place import BIN, Place, needs

GUNICORN: Dict[str, List[str]] = {
    "sync": ["-w", "2"],
    "sync, preloaded": ["-w", "2", "--preload"],
    "gthread": ["-w", "2", "-k", "gthread", "--threads", "4"],
    "gthread, preloaded": ["-w", "2", "-k", "gthread", "--threads", "4", "--preload"],
    "gevent": ["-w", "2", "-k", "gevent"],
    "gevent, preloaded": ["-w", "2", "-k", "gevent", "--preload"],
    # Each worker is replaced after two requests: every one of them leaves with a receipt that is still fresh.
    "sync, short lives": ["-w", "1", "--max-requests", "2"],
}


@functools.cache
def _knows(option: str) -> bool:
    return option in subprocess.run([str(BIN / "gunicorn"), "--help"], capture_output=True, text=True).stdout


@pytest.mark.ids("E1", "Z4", "G27")
@pytest.mark.parametrize("kind", GUNICORN)
def test_gunicorn(place: Place, ledger: FakeLedger, kind: str) -> None:
    """One call is made while the application is imported: in the master where it is preloaded, else in each worker."""
    needs("gunicorn")
    if "gevent" in kind:
        needs("gevent")
    port = free_port()
    address = "127.0.0.1:%d" % port
    # Its control socket is a thread of the master's: forked beside gevent, workers hang now and then, without us too.
    quiet = ["--no-control-socket"] if _knows("--no-control-socket") else []
    process = place.start(str(BIN / "gunicorn"), "-b", address, *quiet, *GUNICORN[kind], "app:wsgi", EARLY="1")
    for _ in range(6):
        assert place.fetch(port, process) == b"ok"
    early = 1 if "preloaded" in kind or "-w 1" in " ".join(GUNICORN[kind]) else 2
    limit = time.monotonic() + 20
    while len(place.simulator.billed()) < 6 + early and time.monotonic() < limit:
        time.sleep(0.05)  # a worker that is still starting
    time.sleep(0.2)
    assert place.end(process, seconds=40) == 0, place.log()
    calls = len(place.simulator.billed())
    assert calls >= 6 + early
    place.balance(ledger, calls)
    assert ledger.duplicates == 0
    assert "aicostguard" not in place.log()


def _uwsgi(threads: bool) -> str:
    """The uWSGI that always has threads is a package of Python's; the one that has none unless told is Debian's."""
    if threads:
        program = BIN / "uwsgi"
        if not program.exists():
            pytest.skip("pyuwsgi is not installed")
        return str(program)
    found = shutil.which("uwsgi_python3")
    if found is None:
        pytest.skip("Debian's uwsgi-plugin-python3 is not installed")
    return found


UWSGI: Dict[str, List[str]] = {
    "threads": ["--threads", "4"],
    "threads, one process each request": ["--enable-threads", "--lazy-apps"],
    "fork hooks": ["--enable-threads", "--py-call-uwsgi-fork-hooks"],
}


@pytest.mark.ids("E2", "Z4")
@pytest.mark.parametrize("kind", UWSGI)
def test_uwsgi_with_threads(place: Place, ledger: FakeLedger, kind: str) -> None:
    """uWSGI forks in C. The call at import is the master's, whose sender no worker has."""
    port = free_port()
    command = [_uwsgi(True), "--http-socket", "127.0.0.1:%d" % port, "--wsgi-file", "app.py", "--callable", "wsgi"]
    process = place.start(*command, "--master", "--processes", "2", "--need-app", *UWSGI[kind], EARLY="1")
    for _ in range(6):
        assert place.fetch(port, process) == b"ok"
    calls = 8 if "--lazy-apps" in UWSGI[kind] else 7  # each worker's own call at import, or the master's
    assert ledger.wait(calls, 20), place.log()  # while it runs, and without a further request
    assert place.end(process, signal.SIGINT) == 0, place.log()
    place.balance(ledger, calls)
    assert ledger.duplicates == 0


@pytest.mark.ids("E2", "Z4")
def test_uwsgi_without_threads(place: Place, ledger: FakeLedger) -> None:
    """Our thread runs only while a request waits. Nothing is lost, and the user is told."""
    port = free_port()
    command = [_uwsgi(False), "--http-socket", "127.0.0.1:%d" % port, "--wsgi-file", "app.py", "--callable", "wsgi"]
    process = place.start(*command, "--master", "--processes", "1", "--need-app")
    for _ in range(4):
        assert place.fetch(port, process) == b"ok"
    time.sleep(1.5)
    told = " ".join(text for row in place.stats() for text in row["warnings"].values())
    assert "--enable-threads" in told and "--enable-threads they are sent" in place.log()
    shown = subprocess.run(
        [sys.executable, "-m", "aicostguard.diagnostics"], env=place.env, capture_output=True, text=True, timeout=30
    )
    assert "uWSGI runs without threads" in shown.stdout
    # While the provider takes its time, the thread runs: what earlier requests left is delivered.
    place.simulator.set_default(first_delay_ms=1500)
    for _ in range(2):
        place.fetch(port, process)
    assert ledger.wait(4, 5), place.log()
    time.sleep(0.5)  # a worker that is told to end at the end of a request runs no exit hooks; see test_no_goodbye.py
    assert place.end(process, signal.SIGINT) == 0, place.log()
    place.balance(ledger, 6)
    assert "cannot be reached" not in place.log()


def test_no_thread_is_started_where_uwsgi_will_fork(
    deliver: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork in C with a thread of ours beside it hung one worker in eight starts."""
    number = [0]
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=True, worker_id=lambda: number[0]))
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("master"))
        assert ledger.models() == ["master"] and delivery._worker is None
        assert delivery.flush(2)
        number[0] = 1
        delivery.submit(receipt("worker"))
        assert delivery._worker is not None and delivery.flush(5)
        assert ledger.models() == ["master", "worker"]


def test_a_deadline_that_passes_where_threads_stand_still_is_not_the_ledgers_fault(
    deliver: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=False))
    monkeypatch.setattr(courier, "EXCHANGE_SECONDS", 0.2)
    with BlackHole() as hole:
        delivery = deliver(hole.url)
        delivery.submit(receipt("a"))
        assert not delivery.flush(1)
    assert set(health.warnings) == {"threads.frozen"} and health.notes["attempts_failed"]
