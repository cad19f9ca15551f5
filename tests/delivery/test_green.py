"""gevent replaces locks, threads and sockets under our feet, before us or after us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aicostguard.simulator import Simulator
from tests.delivery.conftest import KEY
from tests.delivery.fake_ledger import FakeLedger
from tests.ids import ROOT

pytest.importorskip("gevent")
pytest.importorskip("openai")

PROGRAM = r"""
import os, sys, time, warnings
warnings.simplefilter("ignore")  # gevent dislikes being late, with and without us
STEPS = {
    "patch": lambda: __import__("gevent.monkey").monkey.patch_all(),
    "agent": lambda: __import__("aicostguard.auto"),
    "sdk": lambda: __import__("openai"),
    "call": lambda: (ask(), time.sleep(0.3)),
}
def ask(_=None):
    import openai
    client = openai.OpenAI(api_key="x", base_url=os.environ["SDK_URL"], max_retries=0)
    return client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}]).usage
for step in sys.argv[1].split(","):
    STEPS[step]()
import gevent
from gevent.pool import Pool
beats = []
def beat():
    while True:
        gevent.sleep(0.005)
        beats.append(time.monotonic())
heart = gevent.spawn(beat)
usages = Pool(5).map(ask, range(10))
import aicostguard
flushed = aicostguard.flush(10)
before = len(beats)
gevent.sleep(0.3)
assert len(beats) - before >= 3, "the loop stands still"
print(len(usages), all(u.total_tokens for u in usages), flushed)
"""


@pytest.mark.ids("A14")
@pytest.mark.parametrize(
    "order", ["patch,agent", "patch,sdk,agent", "agent,patch", "agent,sdk,patch", "sdk,agent,patch", "agent,call,patch"]
)
def test_calls_and_sends_work_in_any_order(order: str, tmp_path: Path) -> None:
    with Simulator(["openai"]) as simulator, FakeLedger() as ledger:
        simulator.set_default(delay_ms=5)
        env = dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            SDK_URL=simulator.urls["openai"] + "/v1",
            AICG_URL=ledger.url,
            AICG_KEY=KEY,
            AICG_STATE_DIR=str(tmp_path),
            AICG_HOSTS=simulator.hosts_setting(),
        )
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, order], env=env, capture_output=True, text=True, timeout=60
        )
        assert done.stderr == ""
        assert done.stdout.split() == ["10", "True", "True"]
        assert len(ledger.models()) == len(simulator.billed()) == 10 + ("call" in order)
