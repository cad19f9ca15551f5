"""The agent inside the test's own process: hooks on, receipts in a list, next to the simulated providers.

Used by tests of capture, safety and the guard, and by the matrix. `off` takes the hooks away and everything back that a
test has set in `state` (inline mode, labels, hosts); the fixtures of `tests/around.py` see to it.
"""

from __future__ import annotations

import gc
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard import config
from aicostguard.capture import hooks
from aicostguard.capture.state import state
from aicostguard.receipt import Receipt
from aicostguard.simulator import Billed, Simulator
from aicostguard.usage import Usage

#: formats of the simulator whose rows are answers of a batch
BATCHES = ("batch", "batches")
#: Usage fields whose 0 a receipt keeps
WHOLES = ("input_tokens", "output_tokens", "reported_cost_nanousd")


class Agent:
    """What was delivered, and a comparison with what the simulator billed."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.receipts: List[Receipt] = []

    def on(self) -> None:
        """Start metering into `receipts`."""
        state.deliver = self.receipts.append
        state.adeliver = self._adeliver
        state.hosts = config.load({"AICG_HOSTS": self.simulator.hosts_setting()}).hosts
        hooks.install()

    def off(self) -> None:
        """Take the hooks away."""
        hooks.uninstall()
        state.__init__()  # type: ignore[misc]

    async def _adeliver(self, receipts: Any) -> None:
        self.receipts.extend(receipts)

    def url(self, provider: str) -> str:
        """Where the simulated provider listens."""
        return self.simulator.urls[provider]

    def settled(self, count: Optional[int] = None, timeout: float = 5.0) -> List[Receipt]:
        """The receipts, once there are `count` of them (streams may end a moment after their reader)."""
        deadline = time.monotonic() + timeout
        while count is not None and len(self.receipts) < count and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        return self.receipts

    def balance(self) -> None:
        """One receipt per billed response, with the same provider, model and counts. Raises AssertionError."""
        billed = as_delivered(self.simulator.billed())
        receipts = self.settled(len(billed))
        assert sorted(map(key_of_receipt, receipts)) == sorted(map(key_of_billed, billed))


def as_delivered(rows: List[Billed]) -> List[Billed]:
    """The rows as receipts tell them: answers of a batch are added up by model."""
    kept = [row for row in rows if row.format not in BATCHES]
    sums: Dict[Any, List[Billed]] = {}
    for row in rows:
        if row.format in BATCHES:
            sums.setdefault((row.provider, row.format, row.model), []).append(row)
    for same in sums.values():
        total: Dict[str, int] = {}
        for row in same:
            for name, value in (row.usage or Usage())._asdict().items():
                if value is not None:
                    total[name] = total.get(name, 0) + value
        if len(same) > 1:
            total["requests_billed"] = len(same)
        kept.append(same[0]._replace(usage=Usage(**total)))
    return kept


def counts(usage: Mapping[str, Optional[int]]) -> Tuple[Tuple[str, int], ...]:
    """Usage as a receipt shows it: without what is missing, and without parts that are 0."""
    return tuple((name, n) for name, n in sorted(usage.items()) if n or (n == 0 and name in WHOLES))


def key_of_billed(row: Billed) -> Any:
    """What must agree, from the simulator's side. Embeddings bill no output; their receipts say 0."""
    usage: Dict[str, Optional[int]] = {} if row.usage is None else dict(row.usage._asdict())
    if usage and usage.get("output_tokens") is None and usage.get("input_tokens") is not None:
        usage["output_tokens"] = 0
    return (row.provider, row.model or "unknown", counts(usage))


def key_of_receipt(receipt: Receipt) -> Any:
    """What must agree, from the receipt's side."""
    return (receipt["provider"], receipt["model"], counts({k: receipt.get(k) for k in Usage._fields}))
