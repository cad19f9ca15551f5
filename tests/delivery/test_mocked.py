"""What a program's own tests put in place of Python's functions is neither asked by us nor believed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.delivery.conftest import KEY
from tests.delivery.fake_ledger import FakeLedger
from tests.ids import ROOT

BEGIN = """
import os, sys, time
from unittest import mock
from aicostguard.config import load
from aicostguard.delivery import Delivery
row = lambda name: {"provider": "openai", "model": name, "input_tokens": 3, "output_tokens": 2}
delivery = Delivery(load(os.environ))
delivery.submit(row("before"))
print(delivery.flush(10))
epoch = delivery.epoch
"""

MOCKED = """
clocks = mock.Mock(side_effect=[1.0]), mock.Mock(side_effect=[2.0]), mock.Mock(), mock.Mock(return_value=1)
with mock.patch("time.time", clocks[0]), mock.patch("time.monotonic", clocks[1]), mock.patch("time.sleep", clocks[2]), \
     mock.patch("os.getpid", clocks[3]):
    delivery.submit(row("within"))
    print(delivery.flush(10), delivery.epoch == epoch)
    print([clock.call_count for clock in clocks])
"""

#: as freezegun does it: whatever name of a module holds one of these functions holds another for a while
FROZEN = """
real = {id(time.time): lambda: 86400.0, id(time.monotonic): lambda: 100.0}
was = [(module, name, value) for module in list(sys.modules.values()) for name, value in list(vars(module).items())
       if id(value) in real]
for module, name, value in was:
    setattr(module, name, real[id(value)])
delivery.submit(row("within"))
for module, name, value in was:
    setattr(module, name, value)
print(len(was) > 3, delivery.flush(10))
"""


def run(code: str, ledger: FakeLedger, state: Path) -> str:
    environ = dict(os.environ, PYTHONPATH=str(ROOT), AICG_URL=ledger.url, AICG_KEY=KEY, AICG_STATE_DIR=str(state))
    command = [sys.executable, "-c", BEGIN + code]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.ids("A8")
def test_mocks_of_clocks_are_left_to_the_program(state: Path) -> None:
    """`time.time` that gives so many values and no more, `time.sleep` that is not to be called, a wrong `getpid`."""
    with FakeLedger() as ledger:
        assert run(MOCKED, ledger, state).split("\n")[:3] == ["True", "True True", "[0, 0, 0, 0]"]
        assert ledger.models() == ["before", "within"] and ledger.duplicates == 0


def test_a_receipt_made_while_the_programs_clock_stands_still_has_the_real_time(state: Path) -> None:
    with FakeLedger() as ledger:
        assert run(FROZEN, ledger, state).split("\n")[:2] == ["True", "True True"]
        assert ledger.models() == ["before", "within"]
        for seen in ledger.seen:
            assert seen.envelope is not None
            assert all(abs(at / 1000 - time.time()) < 3600 for at in (*seen.envelope["at"], seen.envelope["sent_at"]))
