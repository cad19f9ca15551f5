"""eventlet, patched before us and after us; and gevent where only a part of it is patched."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import List

import pytest

from aicostguard.delivery import threads
from tests.delivery.fake_ledger import FakeLedger
from tests.delivery.hosts.place import Place, needs

EVENTLET = r"""
import os, sys, time, warnings
warnings.simplefilter("ignore")
STEPS = {
    "patch": lambda: __import__("eventlet").monkey_patch(),
    "agent": lambda: __import__("aicostguard.auto"),
    "app": lambda: __import__("app"),
    "call": lambda: (__import__("app").ask(), time.sleep(0.3)),
}
for step in sys.argv[1].split(","):
    STEPS[step]()
import app, eventlet
beats = [time.monotonic()]
def beat():
    while True:
        eventlet.sleep(0.005)
        beats.append(time.monotonic())
eventlet.spawn(beat)
usages = list(eventlet.GreenPool(5).imap(lambda _: app.ask(), range(10)))
import aicostguard
flushed = aicostguard.flush(10)
eventlet.sleep(0.8)  # the sender idles: it must not take the others along
gaps = [after - before for before, after in zip(beats, beats[1:])]
print(len(usages), all(usages), flushed, max(gaps[len(gaps) // 2:]) < 0.5, aicostguard.stats()["faults"])
"""


@pytest.mark.ids("A14")
@pytest.mark.parametrize("order", ["patch,agent,app", "agent,patch,app", "agent,app,patch", "agent,app,call,patch"])
def test_eventlet_in_any_order(place: Place, ledger: FakeLedger, order: str) -> None:
    needs("eventlet")
    shown = place.run(EVENTLET, order, PYTHONWARNINGS="ignore")
    assert shown.split() == ["10", "True", "True", "True", "{}"]
    place.balance(ledger, 10 + ("call" in order), 0.0)
    assert ledger.duplicates == 0


LATE = """
import app
app.ask()
import eventlet; eventlet.monkey_patch()
import aicostguard.auto as auto
from aicostguard.delivery import threads
from aicostguard.health import health
locks = (health._lock, threads.imports._lock, auto._delivery._courier.keeper.spool._lock)
print([type(lock).__module__ for lock in locks])
"""


def test_eventlet_that_comes_late_leaves_our_locks_alone(place: Place, ledger: FakeLedger) -> None:
    """It looks for locks in the objects of the program and replaces them; our sender is a real thread by then."""
    needs("eventlet")
    assert place.run(LATE).strip() == "['_thread', '_thread', '_thread']"
    place.balance(ledger, 1, 0.0)


GEVENT = r"""
import sys, time, warnings
warnings.simplefilter("ignore")
from gevent import monkey
monkey.patch_all(**{name: False for name in sys.argv[1].split(",")})
import app, aicostguard, gevent
from gevent.pool import Pool
usages = Pool(5).map(lambda _: app.ask(), range(10))
flushed = aicostguard.flush(10)
print(len(usages), all(usages), flushed, aicostguard.stats()["faults"])
"""


@pytest.mark.ids("A14")
@pytest.mark.parametrize("without", ["thread", "queue", "time,queue"])
def test_gevent_that_patches_only_a_part(place: Place, ledger: FakeLedger, without: str) -> None:
    """Our thread, lock and queue are all of one kind, whatever kind the rest is."""
    needs("gevent")
    assert place.run(GEVENT, without).split() == ["10", "True", "True", "{}"]
    place.balance(ledger, 10, 0.0)


KINDS = """
import sys
sys.argv[1] != "none" and __import__(sys.argv[1]).monkey_patch() if sys.argv[1] == "eventlet" else None
if sys.argv[1] == "gevent":
    from gevent import monkey; monkey.patch_all()
from aicostguard.delivery import threads
print(threads.GREEN, threads.SimpleQueue.__module__.split(".")[0])
"""


@pytest.mark.parametrize(
    ("library", "expected"),
    [("none", "False _queue"), ("gevent", "True gevent"), ("eventlet", "True aicostguard")],
)
def test_what_a_sender_is_made_of(place: Place, library: str, expected: str) -> None:
    if library != "none":
        needs(library)
    assert place.run(KINDS, library, PYTHONWARNINGS="ignore").strip().splitlines()[-1] == expected


def test_the_polled_queue_is_a_queue() -> None:
    rows = threads.Polled()
    with pytest.raises(threads.Empty):
        rows.get_nowait()
    started = time.monotonic()
    with pytest.raises(threads.Empty):
        rows.get(timeout=0.12)
    assert 0.1 < time.monotonic() - started < 1.0
    rows.put(1)
    rows.put(2)
    assert (rows.qsize(), rows.get(), rows.get(timeout=0)) == (2, 1, 2)
    got: List[int] = []
    thread = threading.Thread(target=lambda: got.append(rows.get()))
    thread.start()
    time.sleep(0.1)
    rows.put(3)
    thread.join(2)
    assert got == [3]


def test_an_import_of_ours_loads_no_greenlets() -> None:
    code = (
        "import sys, aicostguard.delivery; print([n for n in ('gevent', 'eventlet', 'greenlet') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
