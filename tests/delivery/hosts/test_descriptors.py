"""Programs that close every descriptor they find, as daemons do: the numbers are somebody else's afterwards."""

from __future__ import annotations

import os
import time

import pytest

from aicostguard.delivery.client import Client
from tests.delivery.conftest import KEY
from tests.delivery.fake_ledger import FakeLedger
from tests.delivery.hosts.place import Place

pytestmark = [
    pytest.mark.ids("E9", "Z4"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform"),
]

#: every number that was ours, or could have been, is a socket or a file of the program's
TAKE = """
import socket
def take():
    os.closerange(3, 200)
    pairs, kept = [], []
    for n in range(20):
        pairs.append(socket.socketpair())
        kept.append(open("kept%d" % n, "w+b", buffering=0))
    return pairs, kept

def untouched(pairs, kept):
    for left, right in pairs:
        for end in (left, right):
            end.setblocking(False)
            try:
                raise SystemExit("somebody wrote %r" % end.recv(400))
            except BlockingIOError:
                pass  # still open, and nothing came
    for file in kept:
        if os.fstat(file.fileno()).st_size:
            raise SystemExit("somebody wrote into a file")
    print("untouched")
"""

CLOSED = (
    """
import os, app, aicostguard, gc
%s
app.ask()
assert aicostguard.flush(5)
taken = take()
app.ask()
assert aicostguard.flush(5)
untouched(*taken)
os.closerange(3, 200)
again = take()
assert aicostguard.shutdown(5)
gc.collect()
untouched(*again)
os._exit(0)  # the first ones' objects would close the second ones' numbers: that is the program's own fault
"""
    % TAKE
)


@pytest.mark.parametrize("spool", ["durable", "on-failure", "off"])
def test_descriptors_that_were_closed_under_us_are_not_used(place: Place, ledger: FakeLedger, spool: str) -> None:
    assert place.run(CLOSED, AICG_SPOOL=spool).split() == ["untouched", "untouched"]
    place.balance(ledger, 2, 0.0)


IN_C = (
    """
import ctypes, os, app, aicostguard, gc, time
%s
app.ask()
assert aicostguard.flush(5)
app.ask()
time.sleep(0.05)
child = ctypes.PyDLL(None).fork()
if child == 0:
    try:
        taken = take()
        app.ask()
        assert aicostguard.flush(5)
        gc.collect()
        untouched(*taken)
    finally:
        import sys
        sys.stdout.flush()
        os._exit(0)
os.waitpid(child, 0)
assert aicostguard.flush(5)
"""
    % TAKE
)


@pytest.mark.ids("E2")
def test_a_fork_in_c_that_closes_what_it_inherited(place: Place, ledger: FakeLedger) -> None:
    """The child does not know yet that it is one when the numbers change hands; the parent's connection stays whole."""
    assert place.run(IN_C).split() == ["untouched"]
    place.balance(ledger, 3, 0.0)
    assert ledger.duplicates == 0


DAEMON = """
import os, sys, time, app, aicostguard
app.ask()
assert aicostguard.flush(5)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
os.closerange(0, 200)
for _ in range(3):
    os.open(os.devnull, os.O_RDWR)
app.ask()
"""


@pytest.mark.ids("E1")
def test_a_daemon(place: Place, ledger: FakeLedger) -> None:
    """Two forks, a session of its own, no descriptor left, and the end of the program two seconds later."""
    place.run(DAEMON)
    limit = time.monotonic() + 10
    while len(place.simulator.billed()) < 2 and time.monotonic() < limit:
        time.sleep(0.02)
    place.balance(ledger, 2)
    assert len({epoch for epoch, _ in ledger.stored}) == 2


def test_a_connection_whose_number_changed_hands_in_the_middle(ledger: FakeLedger) -> None:
    """The answer is still to come when the descriptor goes: nothing more is read from it, and nobody is closed."""
    client = Client(ledger.url, KEY, "0")
    good = b'{"epoch":"%s","seq":[0],"receipts":[{"model":"m"}]}' % (b"0" * 26)
    assert client.post(good, time.monotonic() + 5).status == 200
    (connection,) = client._idle
    number = connection._socket.fileno()
    read, write = os.pipe()
    try:
        os.dup2(read, number)
        assert client.post(good, time.monotonic() + 5).status == 200
        assert ledger.connections == 2
        os.fstat(number)
    finally:
        for each in (read, write, number):
            os.close(each)
        client.close()
