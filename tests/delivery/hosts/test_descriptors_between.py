"""A program that closes every descriptor and opens its own files between any two of our calls of the system.

The moment is chosen, not waited for: the interpreter tells our thread of each C function that it is about to call, and
the program does its work there, as another of its threads could while ours is without the interpreter.
"""

from __future__ import annotations

import json
import os

import pytest

from aicostguard.delivery import seats
from tests.delivery.fake_ledger import FakeLedger
from tests.delivery.hosts.place import Place

pytestmark = [
    pytest.mark.ids("E9", "Z4"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no descriptors of this kind on this platform"),
]

PROGRAM = """
import io, json, os, socket, sys
from aicostguard.config import load
from aicostguard.delivery import Delivery, spool, status, worker
from aicostguard.health import health

mode, whose = sys.argv[1:]
status.EVERY = spool.MEASURE_EVERY = 0.0  # each turn writes the status and measures the folder
RECEIPT = {"provider": "openai", "model": "m", "input_tokens": 3, "output_tokens": 2, "latency_ms": 1}
found, taken, lost = [], [], []
SYSTEM = socket.socket, io.IOBase


def look(descriptor):
    return os.fstat(descriptor)[:3]


class Moment:
    # `wanted`: the number of the C function of ours before which the program does its work; 0: never
    seen = wanted = 0
    where = None

    def __call__(self, frame, event, function):
        if event != "c_call" or not self.wanted or "aicostguard" not in frame.f_code.co_filename:
            return
        if not (function.__module__ in ("posix", "fcntl") or isinstance(function.__self__, SYSTEM)):
            return  # asks nothing of the system
        self.seen += 1
        if self.seen == self.wanted:
            self.wanted = 0
            file = os.path.basename(frame.f_code.co_filename)
            self.where = "%s:%s:%s" % (file, frame.f_code.co_name, function.__name__)
            take()


moment = Moment()


def take():
    os.closerange(3, HIGHEST)
    for n in range(20):
        for end in socket.socketpair():
            end.setblocking(False)
            taken.append((end, look(end.fileno())))
        file = open("kept%d" % n, "w+b", buffering=0)
        taken.append((file, look(file.fileno())))


def harm():
    for thing, was in taken:
        try:
            now = look(thing.fileno())
        except OSError:
            yield "closed"
            continue
        if now != was:
            yield "replaced"
        elif isinstance(thing, socket.socket):
            try:
                yield "told %r" % thing.recv(60)
            except BlockingIOError:
                pass
        elif os.fstat(thing.fileno()).st_size:
            yield "written"


def give_back():
    for thing, was in taken:
        try:
            whole = look(thing.fileno()) == was
        except OSError:
            whole = False
        if whole:
            thing.close()
        elif isinstance(thing, socket.socket):
            thing.detach()
        else:
            lost.append(thing)  # its number is somebody's by now
    taken.clear()


run = worker.Worker._run


def watched(self):
    if whose == "sender":
        sys.setprofile(moment)
    run(self)


worker.Worker._run = watched
delivery = Delivery(load(os.environ))


def call():
    delivery.submit(RECEIPT)
    return delivery.flush(10)


made = number = 0
while True:
    number += 1
    assert delivery.shutdown(10)
    if mode == "going on":  # from the lowest numbers that there are
        made += 1
        assert call(), number
    moment.seen, moment.where, moment.wanted = 0, None, number
    if whose == "caller":
        sys.setprofile(moment)
    made += 1
    call()
    sys.setprofile(None)
    over, moment.wanted = moment.wanted != 0, 0
    delivery.flush(10)  # what our thread was in the middle of is over now
    found += [[moment.where, what] for what in harm()]
    give_back()
    if over:
        break
delivery.flush(10)
assert delivery.flush(10)
delivery.shutdown(10)
print(json.dumps({"made": made, "moments": number, "found": found, "notes": health.notes, "faults": health.faults}))
sys.stdout.flush()
os._exit(0)
"""


#: the one moment that is left: what is opened, at the lowest number there is, and copied to a high one is then closed,
#: in two calls in a row
LEFT = {"seats.py:_close:close %s" % what for what in ("closed", "told b''", "replaced")}  # by what was opened next


#: what the program closes: as far as it has files itself, or everything, where ours are, too
@pytest.mark.parametrize("highest", [200, 1200])
@pytest.mark.parametrize("whose", ["sender", "caller"])
@pytest.mark.parametrize("mode", ["fresh", "going on"])
def test_between_any_two_calls(place: Place, ledger: FakeLedger, mode: str, whose: str, highest: int) -> None:
    """`mode`: the first receipt, or the next; `whose` thread is interrupted."""
    said = json.loads(place.run(PROGRAM.replace("HIGHEST", str(highest)), mode, whose))
    assert said["moments"] > (30 if whose == "sender" else 2)
    assert {"%s %s" % (where, what) for where, what in said["found"]} <= LEFT
    ledger.wait(said["made"], 10)
    assert len(ledger.stored) == said["made"]
    assert bool(said["notes"].get("descriptor_closed")) >= (highest > seats.FLOOR)
    assert set(said["faults"]) <= {"spool.tend: OSError", "spool.write: OSError", "spool.write: Taken"}
