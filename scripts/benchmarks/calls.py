"""CPU of a call, of a chunk and of a stream, without us, with a pass-through wrapper, and with the agent."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

from benchmarks.common import KEY, SINK, process, row
from benchmarks.counted import count
from benchmarks.traffic import ask, in_memory, plain_body, stream_events, streamed

#: settings of `AICG_SPOOL`, each measured beside the others
SPOOLS = ("durable", "on-failure", "off")
MODES = ("none", "wrapt", *SPOOLS)
#: figures of a mode: name → mode and round → value
Found = Dict[str, Dict[str, List[float]]]


class Observers:
    """Kinds of client that differ in nothing but their observer.

    Each kind is a subclass of the SDK's client, and of the HTTP client inside, with the methods as they are without
    us, with a pass-through wrapper, or with the agent. So the kinds can take turns call by call, and no class is
    changed meanwhile (which would cost every mode the interpreter's caches). The agent is as it comes: without extras.
    """

    def __init__(self, ledger: int) -> None:
        import httpx2
        import openai
        import wrapt

        from aicostguard import auto, config
        from aicostguard.capture.state import state
        from aicostguard.delivery import Delivery

        self._auto, self._state = auto, state
        folder = tempfile.mkdtemp(prefix="aicg-bench-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # before the agent's own, so that it runs after it
        where = {"AICG_URL": "http://127.0.0.1:%d" % ledger, "AICG_KEY": KEY, "AICG_STATE_DIR": folder}
        auto.activate(config.load(where))
        state.estimates = None
        self._senders = {spool: Delivery(config.load(dict(where, AICG_SPOOL=spool))) for spool in SPOOLS}
        send, request = httpx2.Client.send, openai.OpenAI.request
        plain_send, plain_request = send.__wrapped__, request.__wrapped__
        wrapper = wrapt.FunctionWrapper(plain_send, lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs))
        methods = {"none": (plain_send, plain_request), "wrapt": (wrapper, plain_request), "agent": (send, request)}
        kinds = {
            mode: (type("Http", (httpx2.Client,), {"send": s}), type("Sdk", (openai.OpenAI,), {"request": r}))
            for mode, (s, r) in methods.items()
        }
        self._kinds = {mode: kinds[mode if mode in kinds else "agent"] for mode in MODES}

    def clients(self, url: str, **http: Any) -> Dict[str, Any]:
        """One SDK client per mode; `http` are arguments of the HTTP client inside."""
        return {
            mode: sdk(api_key="x", base_url=url, http_client=client(**http))
            for mode, (client, sdk) in self._kinds.items()
        }

    def use(self, mode: str) -> None:
        """Before a call of this mode: receipts go the way that its spool takes."""
        if mode in self._senders:
            self._state.deliver = self._senders[mode].submit

    def know(self, hosts: str) -> None:
        """Meter these hosts, too (as `AICG_HOSTS` does)."""
        from aicostguard import config

        self._state.hosts = config.load({"AICG_HOSTS": hosts}).hosts

    def flush(self) -> None:
        """Let the senders finish."""
        for sender in self._senders.values():
            sender.flush(10)
        self._auto.flush(10)

    def close(self) -> None:
        """End the senders."""
        for sender in self._senders.values():
            sender.shutdown(10)


@contextlib.contextmanager
def observers() -> Iterator[Observers]:
    """The kinds of client, at a stand-in ledger in another process."""
    with process(sys.executable, "-c", SINK) as port:
        made = Observers(int(port))
        try:
            yield made
        finally:
            made.close()


def rounds(kinds: Observers, clients: Dict[str, Any], work: Callable[[Any], Any], calls: int, runs: int) -> Found:
    """Per mode and round: median µs of CPU of a call on the calling thread, and the 99th percentile of wall time.

    The modes take turns call by call, so that whatever else the machine does falls on all of them alike. `sender` is
    the CPU that the rest of the process (our sending thread) spends for a call, from a stretch with the agent alone.
    """
    found: Found = {mode: {"thread": [], "p99": [], "sender": []} for mode in MODES}
    for run in range(runs + 1):
        cpu: Dict[str, List[int]] = {mode: [] for mode in MODES}
        wall: Dict[str, List[int]] = {mode: [] for mode in MODES}
        gc.collect()
        for call in range(calls):
            first = call % len(MODES)
            for mode in MODES[first:] + MODES[:first]:
                client = clients[mode]
                kinds.use(mode)
                began, before = time.perf_counter_ns(), time.thread_time_ns()
                work(client)
                cpu[mode].append(time.thread_time_ns() - before)
                wall[mode].append(time.perf_counter_ns() - began)
        kinds.flush()
        kinds.use("durable")
        whole, thread = time.process_time_ns(), time.thread_time_ns()
        for _ in range(calls):
            work(clients["durable"])
        kinds.flush()
        rest = (time.process_time_ns() - whole) - (time.thread_time_ns() - thread)
        if run:  # the first round warms everything up
            for mode in MODES:
                found[mode]["thread"].append(statistics.median(cpu[mode]) / 1000)
                found[mode]["p99"].append(statistics.quantiles(wall[mode], n=100)[98] / 1000)
            found["durable"]["sender"].append(rest / calls / 1000)
    return found


def added(found: Found, figure: str, over: str, mode: str = "durable") -> List[float]:
    """What the agent adds over another mode, round by round."""
    return [a - b for a, b in zip(found[mode][figure], found[over][figure])]


def overhead(calls: int, runs: int) -> List[Dict[str, Any]]:
    """The calls of the current openai SDK."""
    import openai

    few, many = 20, 420
    with observers() as kinds:
        transport = in_memory(plain_body(), {n: stream_events(n) for n in (few, few + 10, many)})
        clients = kinds.clients("https://api.openai.com/v1", transport=transport)
        print("\nopenai %s, in memory, a plain call (%d calls a round)" % (openai.__version__, calls))
        rows = mode_rows("plain", rounds(kinds, clients, ask, calls, runs), "aim: at most 25")
        print("\nopenai %s, in memory, a stream of %d chunks" % (openai.__version__, few))
        short = rounds(kinds, clients, lambda client: streamed(client, few), max(1, calls // 4), runs)
        rows += mode_rows("stream", short, "")
        print("\nopenai %s, in memory, per chunk (from streams of %d and %d)" % (openai.__version__, few, many))
        long = rounds(kinds, clients, lambda client: streamed(client, many), max(1, calls // 20), runs)
        for over in ("wrapt", "none"):
            aim = "aim: at most 1" if over == "wrapt" else ""
            chunks = [(b - a) / (many - few) for a, b in zip(added(short, "thread", over), added(long, "thread", over))]
            rows.append(row("a chunk, over " + over, chunks, "µs", aim))
        print("\nCounted, steps of the interpreter (the same in every run)")
        rows += counted(kinds, clients, few)
        with process(sys.executable, "-m", "aicostguard.simulator", "--providers", "openai") as line:
            url = json.loads(line)["urls"]["openai"]
            kinds.know("127.0.0.1:%s=openai" % url.rsplit(":", 1)[1])
            print("\nopenai %s, over loopback to the simulator, a plain call" % openai.__version__)
            near = kinds.clients(url + "/v1")
            rows += mode_rows("loopback", rounds(kinds, near, ask, max(50, calls // 5), runs), "")
        threads = threading.active_count()
        print("\nThreads of the process: %d (its own, and one for each kind of spool)" % threads)
    return rows


def mode_rows(name: str, found: Found, aim: str) -> List[Dict[str, Any]]:
    """What each mode costs, what the agent adds, and how much that is of the call."""
    rows = [row("%s: %s" % (name, _shown(mode)), found[mode]["thread"], "µs") for mode in MODES]
    for over, spool in (("wrapt", "durable"), ("none", "durable"), ("wrapt", "on-failure"), ("wrapt", "off")):
        goal = aim if (over, spool) == ("wrapt", "durable") else ""
        what = "%s: %s over %s" % (name, _shown(spool), over)
        rows.append(row(what, added(found, "thread", over, spool), "µs", goal))
    for over in ("none", "wrapt"):
        ratios = [a / b for a, b in zip(found["durable"]["thread"], found[over]["thread"])]
        rows.append(row("%s: agent, durable / %s" % (name, over), ratios, "×"))
    rows.append(row("%s: sending thread, a call" % name, found["durable"]["sender"], "µs"))
    for mode in MODES:
        rows.append(row("%s: %s, p99 of wall time" % (name, _shown(mode)), found[mode]["p99"], "µs"))
    return rows


def _shown(mode: str) -> str:
    return "agent, " + mode if mode in SPOOLS else mode


def counted(kinds: Observers, clients: Dict[str, Any], few: int) -> List[Dict[str, Any]]:
    """Steps of ours and of all other code, for a plain call and for a chunk."""
    kinds.use("durable")

    def one(work: Callable[[Any], Any]) -> Tuple[Any, Any]:
        for _ in range(20):
            work(clients["durable"])
        gc.collect()
        gc.disable()  # a finaliser of somebody's is no part of it
        try:
            return count(lambda: work(clients["durable"])), count(lambda: work(clients["none"]))
        finally:
            gc.enable()

    plain, without = one(ask)
    short, long = (one(lambda client, n=n: streamed(client, n))[0] for n in (few, few + 10))  # type: ignore[misc]
    return [
        row("counted: plain, ours", [plain.steps], ""),
        row("counted: plain, functions of ours", [plain.functions], ""),
        row("counted: plain, others with the agent", [plain.others], ""),
        row("counted: plain, others without", [without.others], ""),
        row("counted: a stream of %d chunks, ours" % few, [short.steps], ""),
        row("counted: a stream of %d chunks, functions of ours" % few, [short.functions], ""),
        row("counted: a chunk, ours", [(long.steps - short.steps) / 10], ""),
        row("counted: a chunk, others", [(long.others - short.others) / 10], ""),
    ]
