"""What handing over a receipt costs the calling thread: written down before the call returns, or not."""

from __future__ import annotations

import gc
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any, Dict, List

from benchmarks.common import KEY, SINK, process, row

MODES = ("durable", "on-failure", "off")
RECEIPT = {
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1240,
    "output_tokens": 312,
    "latency_ms": 842,
    "feature": "generate_rag_answer",
}


def submit(calls: int, runs: int) -> List[Dict[str, Any]]:
    """p50 and p99 of one `submit`, per mode. The modes take turns receipt by receipt, as calls do in a program."""
    from aicostguard import config
    from aicostguard.delivery import Delivery

    states = {mode: tempfile.mkdtemp(prefix="aicg-bench-") for mode in MODES}
    took: Dict[str, Dict[str, List[float]]] = {mode: {"p50": [], "p99": []} for mode in MODES}
    with process(sys.executable, "-c", SINK) as port:
        settings = {"AICG_URL": "http://127.0.0.1:%s" % port.strip(), "AICG_KEY": KEY}
        senders = {
            mode: Delivery(config.load(dict(settings, AICG_STATE_DIR=states[mode], AICG_SPOOL=mode))) for mode in MODES
        }
        for run in range(runs + 1):
            wall: Dict[str, List[int]] = {mode: [] for mode in MODES}
            gc.collect()
            for call in range(calls):
                for mode in MODES[call % 3 :] + MODES[: call % 3]:
                    submit_one = senders[mode].submit
                    began = time.perf_counter_ns()
                    submit_one(RECEIPT)
                    wall[mode].append(time.perf_counter_ns() - began)
                time.sleep(0.0002)  # a program waits for its provider; the sender runs meanwhile
            for mode in MODES:
                senders[mode].flush(10)
                if run:  # the first round warms everything up
                    took[mode]["p50"].append(statistics.median(wall[mode]) / 1000)
                    took[mode]["p99"].append(statistics.quantiles(wall[mode], n=100)[98] / 1000)
        for sender in senders.values():
            sender.shutdown(10)
    for state in states.values():
        shutil.rmtree(state, ignore_errors=True)
    print("\nHanding over a receipt, wall time on the calling thread (%d a round)" % calls)
    return [row("submit: %s, %s" % (mode, part), took[mode][part], "µs") for mode in MODES for part in ("p50", "p99")]
