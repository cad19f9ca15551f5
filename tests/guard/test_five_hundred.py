"""Five hundred tasks at once, drawn from a seed: latencies, prices, failures, cancellations, streams.

The cap holds by the provider's own count, and no room is lost.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import json
import random
import warnings
from pathlib import Path
from typing import Any, Callable, Counter, Dict, Iterator, Tuple

import pytest

from aicostguard.config import load
from aicostguard.guard import enforcing
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.gate import CallGate
from aicostguard.guard.policy import Policy
from aicostguard.guard.store import Store
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.store.sqlite import SqliteStore
from aicostguard.guard.values import Spent
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.guard.budgets import CENT, CLAUDE, GPT, billed, cap, standing
from tests.safety.calls import Clients

TASKS = 500
#: all of them together would cost some sixty cents, and hold more
CAP = 12 * CENT
STORES: Dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(str(folder / "budgets.db")),
}
MODELS = (("openai async", GPT), ("openai async", "gpt-4o-mini"), ("anthropic async", CLAUDE))
#: what becomes of a call → how many of a hundred
ENDS = {"plain": 35, "stream": 25, "fails": 15, "reset": 5, "cancelled": 12, "left": 8}
#: the same without those of which nobody knows afterwards what was billed
CERTAIN = {"plain": 45, "stream": 35, "fails": 20}


@pytest.fixture
def clients(simulator: Simulator) -> Iterator[Clients]:
    """Their own: the libraries leave some connections of cancelled calls to the collector, which says so, with us and
    without."""
    made = Clients(simulator)
    yield made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        made.close()
        del made
        gc.collect()


@pytest.fixture
def gate_over(tmp_path: Path) -> Iterator[Callable[[str], CallGate]]:
    yield lambda kind: enforcing.start(Policy(budgets=(cap(CAP),)), load({}), STORES[kind](tmp_path))
    enforcing.stop()


class Crowd:
    """The tasks of one run. `seen` counts their outcomes, `most` how many were under way at the same time."""

    def __init__(self, clients: Clients, ends: Dict[str, int], seed: int) -> None:
        self.clients = clients
        self.draw = random.Random(seed)
        self.kinds = self.draw.choices(list(ends), list(ends.values()), k=TASKS)
        self.seen: Counter[Tuple[str, str]] = collections.Counter()
        self.under_way = self.most = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._one(kind, self._asked(kind)) for kind in self.kinds))

    def _asked(self, kind: str) -> Tuple[str, Dict[str, Any], float]:
        draw = self.draw
        behaviour: Dict[str, Any] = {
            "first_delay_ms": draw.choice((0, 1, 5, 20, 60, 150)),
            "delay_ms": draw.choice((0, 2)),
        }
        if kind == "fails":
            behaviour["status"] = draw.choice((429, 500, 529))
        elif kind == "reset":
            behaviour["reset_after"] = draw.choice((-1, 40))
        client, model = draw.choice(MODELS)
        asked: Dict[str, Any] = {"model": model, "max_tokens": draw.choice((5, 50, 200))}
        asked["messages"] = [{"role": "user", "content": "word " * draw.choice((1, 10, 100))}]
        asked["extra_headers"] = {"x-sim": json.dumps(behaviour)}
        return client, asked, draw.uniform(0.0, 0.2)

    async def _one(self, kind: str, given: Tuple[str, Dict[str, Any], float]) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)  # until all of them are there
        client, asked, patience = given
        task = asyncio.ensure_future(self._ask(kind, client, asked))
        if kind == "cancelled":
            await asyncio.wait((task,), timeout=patience)
            task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        self.seen[kind, "done" if end is None else type(end).__name__] += 1
        self.under_way -= 1

    async def _ask(self, kind: str, client: str, asked: Dict[str, Any]) -> None:
        sdk = self.clients[client]
        create = sdk.messages.create if client.startswith("anthropic") else sdk.chat.completions.create
        if kind not in ("stream", "left"):
            await create(**asked)
            return
        if client.startswith("openai"):
            asked["stream_options"] = {"include_usage": True}
        stream = await create(stream=True, **asked)
        async for _ in stream:
            if kind == "left":
                await stream.close()
                return


def _nothing_lost(clients: Clients) -> None:
    """What is left is there to be used: calls go through until it is less than one of them holds."""
    asked: Any = {"model": GPT, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 200}
    with pytest.raises(BudgetExceeded) as caught:
        for _ in range(CAP // 1000):  # each of them costs more
            clients["openai"].chat.completions.create(**asked)
    error = caught.value
    assert error.spent is not None and error.limit is not None and error.estimate is not None
    assert (error.reserved, error.spent + error.estimate > error.limit) == (0, True)


@pytest.mark.ids("D1", "ACC:Z2", "ACC:B38", "D11")
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", STORES)
def test_what_is_spent_is_what_the_provider_billed(
    kind: str, seed: int, gate_over: Any, agent: Agent, clients: Clients, simulator: Simulator
) -> None:
    gate_over(kind)
    crowd = Crowd(clients, CERTAIN, seed)
    clients.run(crowd.run())
    assert crowd.most == TASKS
    outcomes = {outcome for _, outcome in crowd.seen}
    assert {"done", "BudgetExceeded"} < outcomes and "CancelledError" not in outcomes, crowd.seen
    after = standing()
    assert (after.reserved, after.estimated) == (0, 0)
    assert 0 < after.spent == billed(simulator) <= CAP
    _nothing_lost(clients)
    assert standing().spent == billed(simulator) <= CAP


@pytest.mark.ids("D1", "ACC:Z2", "A7", "D11")
@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("kind", STORES)
def test_whatever_becomes_of_them_the_cap_holds_and_no_room_is_lost(
    kind: str, seed: int, gate_over: Any, agent: Agent, clients: Clients, simulator: Simulator
) -> None:
    made = gate_over(kind)
    crowd = Crowd(clients, ENDS, seed)
    clients.run(crowd.run())
    assert crowd.most == TASKS
    ends = {outcome for _, outcome in crowd.seen}
    assert {"done", "BudgetExceeded", "CancelledError"} <= ends and len(ends) > 4, crowd.seen
    after = standing()
    assert after.reserved == 0 and after.estimated > 0
    assert 0 < billed(simulator) <= after.spent <= CAP
    _nothing_lost(clients)
    assert standing().reserved == 0 and billed(simulator) <= standing().spent <= CAP
    # The ledger has receipts of what the provider billed: counted from them, what is spent is the provider's figure.
    for _ in range(2):
        made.guard.rebuild([({}, made.guard._clock(), Spent(billed(simulator)))])
        assert (standing().spent, standing().reserved) == (billed(simulator), 0)
