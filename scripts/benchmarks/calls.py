"""CPU of a call, of a chunk and of a stream, without us, with a pass-through wrapper, and with the agent."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import threading
import time
from typing import Any, Callable, Dict, List

from benchmarks.common import KEY, ROOT, SINK, process, row
from benchmarks.traffic import ask, in_memory, plain_body, stream_events, streamed

MODES = ("none", "wrapt", "agent")


class Observers:
    """Three kinds of client that differ in nothing but their observer.

    Each kind is a subclass of the SDK's client, and of the HTTP client inside, with the methods as they are without
    us, with a pass-through wrapper, or with the agent. So the kinds can take turns call by call, and no class is
    changed meanwhile (which would cost every mode the interpreter's caches).
    """

    def __init__(self, ledger: int) -> None:
        import httpx2
        import openai
        import wrapt

        from aicostguard import auto, config
        from aicostguard.capture.state import state

        self._auto, self._state = auto, state
        auto.activate(
            config.load(
                {
                    "AICG_URL": "http://127.0.0.1:%d" % ledger,
                    "AICG_KEY": KEY,
                    "AICG_STATE_DIR": str(ROOT / ".cache" / "bench"),
                }
            )
        )
        send, request = httpx2.Client.send, openai.OpenAI.request
        plain_send, plain_request = send.__wrapped__, request.__wrapped__
        wrapper = wrapt.FunctionWrapper(plain_send, lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs))
        methods = {"none": (plain_send, plain_request), "wrapt": (wrapper, plain_request), "agent": (send, request)}
        self._kinds = {
            mode: (type("Http", (httpx2.Client,), {"send": s}), type("Sdk", (openai.OpenAI,), {"request": r}))
            for mode, (s, r) in methods.items()
        }

    def clients(self, url: str, **http: Any) -> Dict[str, Any]:
        """One SDK client per mode; `http` are arguments of the HTTP client inside."""
        return {
            mode: sdk(api_key="x", base_url=url, http_client=client(**http))
            for mode, (client, sdk) in self._kinds.items()
        }

    def know(self, hosts: str) -> None:
        """Meter these hosts, too (as `AICG_HOSTS` does)."""
        from aicostguard import config

        self._state.hosts = config.load({"AICG_HOSTS": hosts}).hosts

    def flush(self) -> None:
        """Let the sender finish."""
        self._auto.flush(10)


def rounds(
    observers: Observers, clients: Dict[str, Any], work: Callable[[Any], Any], calls: int, runs: int
) -> Dict[str, Dict[str, List[float]]]:
    """Per mode and round: median µs of CPU of a call on the calling thread, and the 99th percentile of wall time.

    The modes take turns call by call, so that whatever else the machine does falls on all of them alike. `sender` is
    the CPU that the rest of the process (our sending thread) spends for a call, from a stretch with the agent alone.
    """
    found: Dict[str, Dict[str, List[float]]] = {mode: {"thread": [], "p99": [], "sender": []} for mode in MODES}
    for run in range(runs + 1):
        cpu: Dict[str, List[int]] = {mode: [] for mode in MODES}
        wall: Dict[str, List[int]] = {mode: [] for mode in MODES}
        gc.collect()
        for call in range(calls):
            for mode in MODES[call % 3 :] + MODES[: call % 3]:
                client = clients[mode]
                began, before = time.perf_counter_ns(), time.thread_time_ns()
                work(client)
                cpu[mode].append(time.thread_time_ns() - before)
                wall[mode].append(time.perf_counter_ns() - began)
        observers.flush()
        process, thread = time.process_time_ns(), time.thread_time_ns()
        for _ in range(calls):
            work(clients["agent"])
        observers.flush()
        rest = (time.process_time_ns() - process) - (time.thread_time_ns() - thread)
        if run:  # the first round warms everything up
            for mode in MODES:
                found[mode]["thread"].append(statistics.median(cpu[mode]) / 1000)
                found[mode]["p99"].append(statistics.quantiles(wall[mode], n=100)[98] / 1000)
            found["agent"]["sender"].append(rest / calls / 1000)
    return found


def added(found: Dict[str, Dict[str, List[float]]], figure: str, over: str) -> List[float]:
    """What the agent adds over another mode, round by round."""
    return [a - b for a, b in zip(found["agent"][figure], found[over][figure])]


def overhead(calls: int, runs: int) -> List[Dict[str, Any]]:
    """The calls of the current openai SDK."""
    import openai

    few, many = 20, 420
    rows = []
    with process(sys.executable, "-c", SINK) as port:
        observers = Observers(int(port))
        transport = in_memory(plain_body(), {n: stream_events(n) for n in (few, many)})
        clients = observers.clients("https://api.openai.com/v1", transport=transport)
        print("\nopenai %s, in memory, a plain call (%d calls a round)" % (openai.__version__, calls))
        rows += mode_rows("plain", rounds(observers, clients, ask, calls, runs), "aim: at most 25")
        print("\nopenai %s, in memory, a stream of %d chunks" % (openai.__version__, few))
        short = rounds(observers, clients, lambda client: streamed(client, few), max(1, calls // 4), runs)
        rows += mode_rows("stream", short, "")
        print("\nopenai %s, in memory, per chunk (from streams of %d and %d)" % (openai.__version__, few, many))
        long = rounds(observers, clients, lambda client: streamed(client, many), max(1, calls // 20), runs)
        for over in ("wrapt", "none"):
            aim = "aim: at most 1" if over == "wrapt" else ""
            chunks = [(b - a) / (many - few) for a, b in zip(added(short, "thread", over), added(long, "thread", over))]
            rows.append(row("a chunk, over " + over, chunks, "µs", aim))
        with process(sys.executable, "-m", "aicostguard.simulator", "--providers", "openai") as line:
            url = json.loads(line)["urls"]["openai"]
            observers.know("127.0.0.1:%s=openai" % url.rsplit(":", 1)[1])
            print("\nopenai %s, over loopback to the simulator, a plain call" % openai.__version__)
            near = observers.clients(url + "/v1")
            rows += mode_rows("loopback", rounds(observers, near, ask, max(50, calls // 5), runs), "")
        print("\nThreads of the process: %d (the program's own and one sender)" % threading.active_count())
        rows.append({"figure": "threads", "median": threading.active_count(), "unit": ""})
    return rows


def mode_rows(name: str, found: Dict[str, Dict[str, List[float]]], aim: str) -> List[Dict[str, Any]]:
    rows = [row("%s: %s" % (name, mode), found[mode]["thread"], "µs") for mode in MODES]
    for over in ("wrapt", "none"):
        rows.append(
            row("%s: agent over %s" % (name, over), added(found, "thread", over), "µs", aim if over == "wrapt" else "")
        )
    rows.append(row("%s: sending thread, a call" % name, found["agent"]["sender"], "µs"))
    for mode in MODES:
        rows.append(row("%s: %s, p99 of wall time" % (name, mode), found[mode]["p99"], "µs"))
    return rows
