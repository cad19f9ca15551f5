"""Other observers of the same SDK beside ours, each in an environment of its own, exporting to a local sink.

An observer changes classes for a whole process, so each has one of its own, and beside it another in the same
environment without any observer. All of them live at once and take turns of a few dozen milliseconds, the two of a
pair one after the other: what an observer adds is the difference of the two turns, and a round's figure is the median
of `TURNS` of them, so that a machine whose speed changes by the second matters less. Steps of the interpreter are
counted beside it, which are the same on every machine. Who sends nothing to its sink observes nothing, and ends the
bench.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from benchmarks.common import ROOT, SINK, process, row
from benchmarks.peer_run import BEFORE, IN_A_TURN

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
    ("sent", "what a call sends", "kB"),
    ("plain_steps", "a plain call, its thread", "bytecodes"),
    ("chunk_steps", "a chunk", "bytecodes"),
)
#: turns of each process in a round
TURNS = 15
#: observer → figure → its values, one a round
Found = Dict[str, Dict[str, List[float]]]
_VERSION = "import sys, importlib.metadata as m; print(', '.join(n + ' ' + m.version(n) for n in sys.argv[1:]))"


def peers(runs: int) -> List[Dict[str, Any]]:
    """What each adds to a plain call and to a chunk; the best of the others is what we are measured against."""
    pythons = environments()
    found: Found = {name: {figure: [] for figure, _, _ in FIGURES} for name in PEERS}
    with contextlib.ExitStack() as stack:
        pairs = {}
        for name, python in pythons.items():
            url = "http://127.0.0.1:%d" % int(stack.enter_context(process(sys.executable, "-c", SINK)))
            pairs[name] = url, [stack.enter_context(running(python, who, url)) for who in ("none", name)]
        for name, (_, both) in pairs.items():
            less, more = [asked(one, "count") for one in both]
            for figure in less:
                found[name][figure].append(more[figure] - less[figure])
        for number in range(runs):
            turns: Dict[str, List[Dict[str, float]]] = {name: [] for name in PEERS}
            for turn in range(TURNS):
                for name, (_, both) in pairs.items():
                    first = turn % 2  # neither always comes first
                    told_by = {which: asked(both[which], "turn") for which in (first, 1 - first)}
                    turns[name].append({figure: told_by[1][figure] - told_by[0][figure] for figure in told_by[0]})
            for name, differences in turns.items():
                for figure in differences[0]:
                    found[name][figure].append(statistics.median(one[figure] for one in differences))
            print("round %d of %d" % (number + 1, runs), file=sys.stderr, flush=True)
        for name, (url, both) in pairs.items():
            for one in both:
                assert one.stdin is not None
                one.stdin.close()
                one.wait(60)
            sent = taken(url)
            if not sent and name not in UNSENT:
                raise SystemExit("%s sent nothing: it does not observe %s" % (name, SDK))
            found[name]["sent"].append(sent / 1000 / (BEFORE + runs * TURNS * IN_A_TURN))
    return told(found)


def environments() -> Dict[str, Path]:
    """The interpreter of each observer's environment, which is made if need be; says what is in it."""
    from machine import CACHE, Environments

    version = sys.version_info[:2]
    at = Environments({version: sys.executable}, version, False)
    pythons: Dict[str, Path] = {}
    for name, packages in PEERS.items():
        pythons[name] = at.other(CACHE / "bench" / name, version, (SDK, *packages))
        names = [packages[0].split("==")[0]] if packages else ["openai"]
        said = subprocess.run([str(pythons[name]), "-c", _VERSION, *names], capture_output=True, text=True, check=True)
        print("%-16s %s" % (name, said.stdout.strip()), flush=True)
    return pythons


def told(found: Found) -> List[Dict[str, Any]]:
    """The figures, and ours beside the best of the others'."""
    rows = []
    for figure, title, unit in FIGURES:
        print("\nAdded by each to %s, %s" % (title, SDK.replace("==", " ")))
        rows += [row("%s: %s" % (figure, name), found[name][figure], unit) for name in PEERS]
    print("\nOurs : theirs, of the medians (aim: a call at most a fifth of the best)")
    for figure, title, unit in FIGURES:
        if figure != "sent":
            ours, *theirs = (statistics.median(found[name][figure]) for name in PEERS)
            best = min((value, name) for value, name in zip(theirs, list(PEERS)[1:]))
            print("%s: %.1f %s beside %.1f of %s: %.2f" % (title, ours, unit, *best, ours / best[0]))
    return rows


def taken(url: str) -> int:
    """Bytes that the sink has taken since it was asked last."""
    with urllib.request.urlopen(url + "/taken", timeout=60) as answer:
        return int(answer.read())


@contextlib.contextmanager
def running(python: Path, name: str, url: str) -> Iterator[subprocess.Popen[str]]:
    """A process of `peer_run` that is ready for its turns."""
    drop = ("OTEL_", "AICG_", "DD_", "NEW_RELIC_", "LANGFUSE_", "SENTRY_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(drop) and not k.lower().endswith("_proxy")}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    env["AICG_STATE_DIR"] = str(ROOT / ".cache" / "bench" / "state")
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [str(python), "-m", "benchmarks.peer_run", name, url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env,
        )  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        try:
            if child.stdout.readline() != "ready\n":
                child.wait(60)
                errors.seek(0)
                raise SystemExit("%s does not run:\n%s" % (name, errors.read()[-2000:]))
            yield child
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def asked(child: subprocess.Popen[str], word: str) -> Dict[str, float]:
    """What the process answers."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(word + "\n")
    child.stdin.flush()
    answer = child.stdout.readline()
    if not answer:
        raise SystemExit("%s has ended in the middle, with %s" % (child.args, child.wait(60)))
    return dict(json.loads(answer))
