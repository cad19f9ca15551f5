"""How long after a call its receipt stands in the answers of the ledger: a real program, an agent set as by default.

One process calls the simulator through the openai SDK now and then, at no steady rhythm, and says when each call came
back; its receipts go out in the background. Another asks `GET /v1/costs` every 50 ms how many calls there are. Once
beside nothing, once beside a process that sends the ledger 5,000 receipts/s of others, or as many as the machine takes.
Both look at the machine's one monotonic clock. What is found is late by up to the 50 ms, and by the time of an answer.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Dict, Iterator, List, Sequence

from benchmarks.common import ROOT, process, row
from benchmarks.ingest import BATCH, envelope, receipt, server

EVERY_S = 0.05
PER_S = 5_000
AIM_MS = 2_000.0
#: how long a receipt is waited for
PATIENCE_S = 60.0
QUESTION = "/v1/costs?since=7d&feature=bench-fresh"

_AGENT = """
import aicostguard.auto
import aicostguard, json, openai, random, sys, time
client, rng, until = openai.OpenAI(), random.Random(7), time.monotonic() + float(sys.argv[1])
with aicostguard.feature("bench-fresh"):
    while time.monotonic() < until:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
        print(time.monotonic(), flush=True)
        time.sleep(rng.expovariate(1 / 0.4))
    time.sleep(1.5)  # so that none of them is delivered by the end of the program
"""
_OTHERS = """
import json, sys
from benchmarks import fresh
fresh.others(*json.loads(sys.argv[1]))
"""


def others(port: int, key: str, seconds: float) -> None:
    """Send receipts of another program, `PER_S` of them if the ledger can; print how many a second it took."""
    rng, epoch = random.Random(9), "01BENCHOTHERS%013d" % (time.time_ns() // 10**6 % 10**13)
    many = [receipt(rng) for _ in range(20_000)]
    connection, sent, began = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0, time.monotonic()
    headers = {"Authorization": "Bearer " + key, "Content-Encoding": "gzip", "Content-Type": "application/json"}
    while time.monotonic() - began < seconds:
        now_ms = int(time.time() * 1000)
        made = envelope(rng, epoch, sent, now_ms, receipts=rng.sample(many, BATCH))
        connection.request("POST", "/v1/receipts", gzip.compress(json.dumps(made).encode(), 1), headers)
        reply = connection.getresponse()
        reply.read()
        sent += BATCH if reply.status == 200 else 0
        time.sleep(max(0.0, began + sent / PER_S - time.monotonic()))
    print(sent / (time.monotonic() - began))


class _Seen:
    """When the ledger's answers first had so many calls: `at[n]` for the call of number n."""

    def __init__(self, port: int, key: str) -> None:
        self.at: List[float] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": "Bearer " + key}
        self._known = self._ask()

    def _ask(self) -> int:
        self._connection.request("GET", QUESTION, headers=self._headers)
        reply = self._connection.getresponse()
        said = json.loads(reply.read())
        if reply.status != 200:
            sys.exit("GET %s: %d %s" % (QUESTION, reply.status, said))
        return int(said["totals"]["calls"] or 0)

    def look(self) -> None:
        """Ask once; calls that are new stand in it from now on."""
        calls = self._ask() - self._known
        self.at += [time.monotonic()] * (calls - len(self.at))


@contextlib.contextmanager
def _running(code: str, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "scripts")))
    started = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environ},
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


def _waits(port: int, key: str, simulated: Dict[str, Any], state: str, seconds: float) -> List[float]:
    """Milliseconds from each call's return until its receipt was seen."""
    returned: List[float] = []
    seen = _Seen(port, key)
    environ = {
        "AICG_URL": "http://127.0.0.1:%d" % port,
        "AICG_KEY": key,
        "AICG_HOSTS": simulated["AICG_HOSTS"],
        "AICG_STATE_DIR": state,
        "OPENAI_API_KEY": "not-a-real-key",
        "OPENAI_BASE_URL": simulated["urls"]["openai"] + "/v1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    with _running(_AGENT, str(seconds), **environ) as agent:
        assert agent.stdout is not None
        lines = agent.stdout
        reader = threading.Thread(target=lambda: returned.extend(map(float, lines)), name="bench-calls")
        reader.start()
        give_up = None
        while reader.is_alive() or len(seen.at) < len(returned):
            seen.look()
            if not reader.is_alive():
                give_up = give_up or time.monotonic() + PATIENCE_S
                if time.monotonic() > give_up:
                    sys.exit("wrong: %d calls, %d of them in the ledger" % (len(returned), len(seen.at)))
            time.sleep(EVERY_S)
        reader.join()
    if not returned or len(seen.at) != len(returned):
        sys.exit("wrong: %d calls, %d of them in the ledger" % (len(returned), len(seen.at)))
    return [(there - back) * 1000 for back, there in zip(returned, seen.at)]


def fresh(seconds: float, folder: str | None = None, db: str | None = None) -> List[Dict[str, Any]]:
    """Figures of `seconds` without and `seconds` with other receipts, on a fresh ledger or on the one at `db`."""
    print("\nFrom the return of a call to its receipt in GET /v1/costs, %.0f s each" % seconds)
    with tempfile.TemporaryDirectory(prefix="aicg-bench-", dir=folder) as place:
        path = db or os.path.join(place, "ledger.db")
        with (
            server(path) as (port, key, _),
            process(sys.executable, "-m", "aicostguard.simulator", "--providers", "openai") as line,
        ):
            simulated = json.loads(line)
            rows = _rows("alone", _waits(port, key, simulated, os.path.join(place, "alone"), seconds))
            with _running(_OTHERS, json.dumps([port, key, seconds + 3])) as pressing:
                found = _waits(port, key, simulated, os.path.join(place, "beside"), seconds)
                assert pressing.stdout is not None
                rate = float(pressing.stdout.readline())
            return [*rows, *_rows("beside %.0f receipts/s" % rate, found)]


def _rows(name: str, waits: Sequence[float]) -> List[Dict[str, Any]]:
    p95 = statistics.quantiles(waits, n=20, method="inclusive")[-1] if len(waits) > 1 else waits[0]
    return [
        row("%s: until it is visible" % name, waits, "ms", "%d calls" % len(waits)),
        row("%s: until it is visible, p95" % name, [p95], "ms", "aim: at most %.0f" % AIM_MS),
    ]
