"""Other observers of the same SDK beside ours, each in an environment of its own, exporting to a local sink.

An observer changes classes for a whole process, so they cannot take turns in one: every round runs each of them, and
the SDK without any in the same environment, in a process of its own. What an observer adds is the difference of the
two in the same round. Who sends nothing to the sink observes nothing, and ends the bench.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Tuple

from benchmarks.common import ROOT, SINK, process, row

_OTEL = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
#: observer → what its environment has beside the SDK
PEERS: Dict[str, Tuple[str, ...]] = {
    "aicostguard": (),
    # Its newest release needs an older helper than it asks for, and an httpx that it does not name.
    "opentelemetry": ("opentelemetry-instrumentation-openai-v2", "opentelemetry-util-genai<1", "httpx", *_OTEL),
    "openinference": ("openinference-instrumentation-openai", *_OTEL),
    "traceloop": ("opentelemetry-instrumentation-openai", *_OTEL),
    "langfuse": ("langfuse",),
    "logfire": ("logfire",),
    "sentry": ("sentry-sdk",),
    "ddtrace": ("ddtrace",),
    "newrelic": ("newrelic",),
}
#: it reaches its collector by TLS alone, and here runs without its last send
UNSENT = ("newrelic",)
SDK = "openai==3.54.0"
#: what is measured, its title, its unit
FIGURES = (
    ("plain", "a plain call", "µs"),
    ("process", "a plain call, all threads", "µs"),
    ("chunk", "a chunk", "µs"),
    ("sent", "what a process sends", "kB"),
)
_VERSION = "import sys, importlib.metadata as m; print(', '.join(n + ' ' + m.version(n) for n in sys.argv[1:]))"


def peers(calls: int, runs: int) -> List[Dict[str, Any]]:
    """µs that each adds to a plain call and to a chunk; the best of the others is what we are measured against."""
    sys.path.insert(0, str(ROOT))
    from machine import CACHE, Environments

    version = sys.version_info[:2]
    at = Environments({version: sys.executable}, version, False)
    pythons: Dict[str, Path] = {}
    for name, packages in PEERS.items():
        pythons[name] = at.other(CACHE / "bench" / name, version, (SDK, *packages))
        told = [packages[0].split("==")[0]] if packages else ["openai"]
        said = subprocess.run([str(pythons[name]), "-c", _VERSION, *told], capture_output=True, text=True, check=True)
        print("%-16s %s" % (name, said.stdout.strip()), flush=True)
    found: Dict[str, Dict[str, List[float]]] = {name: {figure: [] for figure, _, _ in FIGURES} for name in PEERS}
    with process(sys.executable, "-c", SINK) as port:
        url = "http://127.0.0.1:%d" % int(port)
        for _ in range(runs):
            for name, python in pythons.items():
                without = one(python, "none", url, calls)
                taken(url)
                beside = one(python, name, url, calls)
                beside["sent"] = taken(url) / 1000
                if not beside["sent"] and name not in UNSENT:
                    raise SystemExit("%s sent nothing: it does not observe %s" % (name, SDK))
                without["sent"] = 0.0
                for figure, values in found[name].items():
                    values.append(beside[figure] - without[figure])
    rows = []
    for figure, title, unit in FIGURES:
        print("\nAdded by each to %s, %s" % (title, SDK.replace("==", " ")))
        rows += [row("%s: %s" % (figure, name), found[name][figure], unit) for name in PEERS]
    print("\nOurs : theirs, of the medians (aim: a call at most a fifth of the best)")
    for figure, title, _ in FIGURES[:3]:
        ours, *theirs = (statistics.median(found[name][figure]) for name in PEERS)
        best = min((figure, name) for figure, name in zip(theirs, list(PEERS)[1:]))
        print("%s: %.1f µs beside %.1f µs of %s: %.2f" % (title, ours, *best, ours / best[0]))
    return rows


def taken(url: str) -> int:
    """Bytes that the sink has taken since it was asked last."""
    with urllib.request.urlopen(url + "/taken", timeout=60) as answer:
        return int(answer.read())


def one(python: Path, name: str, url: str, calls: int) -> Dict[str, Any]:
    """One process: what `peer_run` prints."""
    drop = ("OTEL_", "AICG_", "DD_", "NEW_RELIC_", "LANGFUSE_", "SENTRY_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(drop) and not k.lower().endswith("_proxy")}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    env["AICG_STATE_DIR"] = str(ROOT / ".cache" / "bench" / "state")
    command = [str(python), "-m", "benchmarks.peer_run", name, url, str(calls)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit("%s does not run:\n%s" % (name, done.stderr[-2000:]))
    return dict(json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1]))
