"""What a budget costs: a check and its settlement, in memory, through a file and through a server.

`memory` is one thread with five limits (a call, a session, a day, a minute of tokens, a total), after so many calls
before it, all of them in turns: a machine that is faster for a minute is so for each. What a step runs is counted
beside it (`counted`), and no machine changes that. Then `agent-aegis`, in an environment of its own: it was measured on
the machine on which the aims were set, too, and says how fast this one is.

`sqlite` and `redis` are eight processes on one budget, each step from its own start to its own end: how many steps a
second all of them take, and the longest one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Sequence

from benchmarks.common import ROOT, row
from benchmarks.counted import count

PEER = "agent-aegis==1.0.0"
PROCESSES = 8
STEPS = 5000
#: calls before those that are measured; and before the peer's, to which more would take hours
AGES = (0, 10_000, 1_000_000)
PEER_AGES = (1_000, 40_000)
#: µs that the peer took after so many calls where the aims were set: what this machine takes beside it says how much of
#: them can be asked of it
PEER_THERE = {1_000: 43, 40_000: 730}
TURNS, IN_A_TURN = 20, 100
AIMS = {"sqlite": ("aim: at least 20,000", "aim: at most 250"), "redis": ("aim: at least 10,000", "")}

#: a settled call N times, then 2,000 of them one by one: p50 and p99 in µs
_PEER_RUN = """
import json, sys, time
from aegis.config import CostConfig
from aegis.core.budget import TokenUsage
from aegis.core.cost_policy import CostPolicyEnforcer
enforcer = CostPolicyEnforcer(CostConfig(budget_usd=1e9, per_session_limit_usd=1e9, daily_budget_usd=1e9,
                                         per_minute_tokens=10**12, per_call_limit_usd=10))
usage = TokenUsage(model="gpt-4o", input_tokens=10, output_tokens=5)
for _ in range(int(sys.argv[1])):
    enforcer.check_and_record(usage)
found = []
for _ in range(2000):
    start = time.perf_counter_ns(); enforcer.check_and_record(usage); found.append(time.perf_counter_ns() - start)
found.sort()
print(json.dumps([found[1000] / 1000, found[1980] / 1000]))
"""


def aged(before: int) -> Callable[[], int]:
    """A check with its settlement, after `before` of them: gives the nanoseconds it took."""
    from aicostguard.guard.costs import CostConfig
    from aicostguard.guard.engine import Guard
    from aicostguard.guard.store.memory import MemoryStore
    from aicostguard.guard.values import Bound, Facts, Spent

    limits = CostConfig(
        budget_usd=10**8,
        per_call_limit_usd=2,
        per_session_limit_usd=10**8,
        daily_budget_usd=10**8,
        per_minute_tokens=10**12,
    )
    guard = Guard(limits.policy(), MemoryStore())
    labels = {"session": "s", "model": "gpt-4o", "provider": "openai", "feature": "f", "team": "t"}
    spent = Spent(500, 15)

    def step() -> int:
        facts = Facts(labels, Bound(1000, 10, 10), time.time_ns() // 1_000_000)
        start = time.perf_counter_ns()
        guard.settle(guard.ask(facts), spent)
        return time.perf_counter_ns() - start

    for _ in range(before):
        step()
    return step


def one_thread(ages: Sequence[int]) -> List[List[float]]:
    """p50 and p99 in µs of 2,000 checks with their settlements, and the steps of the interpreter of one, by age."""
    steps = [aged(before) for before in ages]
    found: List[List[int]] = [[] for _ in ages]
    for _ in range(TURNS):
        for step, times in zip(steps, found):
            times += [step() for _ in range(IN_A_TURN)]
    most = TURNS * IN_A_TURN
    # The least of a few: a second that ends has a little more to do.
    counted = [min(count(step).steps for _ in range(3)) for step in steps]
    ordered = [sorted(times) for times in found]
    return [
        [times[most // 2] / 1000, times[most * 99 // 100] / 1000, steps_of_ours]
        for times, steps_of_ours in zip(ordered, counted)
    ]


def spend(where: str) -> None:
    """One of the eight: waits for the word on stdin, prints its longest step in ms and when it began and ended."""
    from aicostguard.guard.engine import Guard
    from aicostguard.guard.policy import Budget, Policy
    from aicostguard.guard.store import open_store
    from aicostguard.guard.values import Bound, Facts, Spent

    guard = Guard(Policy(budgets=(Budget("b", 10**17),)), open_store(where, "bench", ""))
    guard.status()
    print("ready", flush=True)
    sys.stdin.readline()
    bound, spent, longest = Bound(1000, 10, 10), Spent(500, 15), 0.0
    began = time.time()
    for _ in range(STEPS // 2):
        facts = Facts({}, bound, time.time_ns() // 1_000_000)
        first = time.perf_counter()
        ticket = guard.ask(facts)
        second = time.perf_counter()
        guard.settle(ticket, spent)
        longest = max(longest, second - first, time.perf_counter() - second)
    print(json.dumps([longest * 1000, began, time.time()]), flush=True)
    guard.close()


def many(where: str) -> List[float]:
    """Steps a second of eight processes, and the longest step in ms."""
    program = "import sys; from benchmarks.guard import spend; spend(sys.argv[1])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        for _ in range(PROCESSES)
    ]
    try:
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [json.loads(child.communicate(timeout=600)[0]) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    seconds = max(end for _, _, end in said) - min(begin for _, begin, _ in said)
    return [PROCESSES * STEPS / seconds, max(longest for longest, _, _ in said)]


def guard(runs: int) -> List[Dict[str, Any]]:
    """All of it."""
    from machine import CACHE, Environments

    rows: List[Dict[str, Any]] = []
    version = sys.version_info[:2]
    peer = Environments({version: sys.executable}, version, False).other(CACHE / "bench" / "aegis", version, (PEER,))
    rounds = [one_thread(AGES) for _ in range(min(runs, 3))]
    for before, ours in zip(AGES, zip(*rounds)):
        p50s, p99s, steps = zip(*ours)
        rows.append(row("guard, memory: p50 after %d calls" % before, p50s, "µs", "aim: at most 15"))
        rows.append(row("guard, memory: p99 after %d calls" % before, p99s, "µs", "aim: at most 60"))
        rows.append(row("guard, memory: steps after %d calls" % before, steps, "bytecodes"))
    for before in PEER_AGES:
        theirs = []
        for _ in range(min(runs, 3)):
            command = [str(peer), "-c", _PEER_RUN, str(before)]
            theirs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        there = PEER_THERE[before]
        rows.append(
            row("agent-aegis: p50 after %d calls" % before, [p50 for p50, _ in theirs], "µs", "%d there" % there)
        )
        slower = [p50 / there for p50, _ in theirs]
        rows.append(row("this machine : the one of the aims, after %d" % before, slower, "×"))
    with tempfile.TemporaryDirectory(prefix="aicg-bench-") as folder:
        found = {"sqlite": [many("sqlite:///%s/%d.db" % (folder, number)) for number in range(runs)]}
        from tests.guard.store.servers import Server

        server = Server()
        try:
            found["redis"] = [many(server.url) for _ in range(runs)]
        finally:
            server.close()
    for name, values in found.items():
        title = "guard, %s, %d processes: " % (name, PROCESSES)
        rows.append(row(title + "steps", [steps for steps, _ in values], "/s", AIMS[name][0]))
        rows.append(row(title + "longest", [longest for _, longest in values], "ms", AIMS[name][1]))
    return rows
