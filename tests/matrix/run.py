"""Run the cases of one environment in one process, with the agent in one place, and print what happened as JSON.

`--order off`: without the agent. `before`, `after`: it is imported before, or after, the SDKs. `late`: after the
client was built. `refused`: before, and with a gate that lets no call through.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
import tempfile
import traceback
import warnings
from importlib import metadata
from typing import Any, Dict, List

import tests.matrix.families  # noqa: F401
from aicostguard.simulator import Simulator
from tests.matrix.case import CASES, Case

#: headers that differ from run to run, or from client to client
_VOLATILE = re.compile(r"(idempotency|date|timing|authorization|amz|user-agent|stainless|cookie|host)", re.IGNORECASE)
#: programs of their own, whose requests hold ids and folders that are new in every run
_PROCESSES = ("claude-cli",)
_IDS = re.compile(
    r"((chatcmpl|cmpl|resp|msg|rs|gen|req|fc|call)[-_][A-Za-z0-9-]{4,}|\b1[67]\d{8}(\.\d+)?\b|0x[0-9a-f]{6,})"
)


def seen(value: Any) -> Any:
    """What a user sees of a result: types and contents, without ids and times."""
    if isinstance(value, (list, tuple)):
        return [seen(item) for item in value]
    dump = getattr(value, "model_dump_json", None)
    try:
        text = dump() if dump is not None else repr(value)
    except Exception:
        text = repr(value)
    return [type(value).__module__ + "." + type(value).__qualname__, _IDS.sub("ID", text)]


def unbounded(body: bytes) -> bytes:
    """The body; of a form without its boundary, which is another for every request."""
    return body.replace(body.split(b"\r\n", 1)[0], b"--") if body.startswith(b"--") else body


def requests_of(simulator: Simulator) -> List[Any]:
    """What went over the wire."""
    return [
        [
            row.method,
            row.path,
            "" if (row.header("user-agent") or "").startswith(_PROCESSES) else unbounded(row.body).decode("latin-1"),
            sorted(n.lower() for n, _ in row.headers if not _VOLATILE.search(n)),
        ]
        for row in simulator.exchanges
    ]


def activate(simulator: Simulator, got: List[Any], folder: str) -> None:
    """Switch the agent on as a user does, then look over its shoulder."""
    os.environ["AICG_URL"] = "sqlite:///%s/ledger.db" % folder
    os.environ["AICG_STATE_DIR"] = folder
    os.environ["AICG_HOSTS"] = simulator.hosts_setting()
    import aicostguard.auto  # noqa: F401
    from aicostguard.capture.state import state

    state.deliver = got.append


class Wall:
    """A gate that lets nothing through, and counts who came."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Any = None

    def ask(self, call: Any) -> Any:
        from aicostguard.capture.gate import Refused
        from aicostguard.guard.errors import BudgetExceeded

        self.asked += 1
        self.error = BudgetExceeded("Session spend $5.12 would exceed per-session limit $5.00")
        raise Refused(self.error)

    async def aask(self, call: Any) -> Any:
        self.ask(call)

    def settle(self, held: Any, receipts: Any) -> None:
        """Results that were ordered before, and are fetched: they are not asked for."""


def refuse_case(case: Case, mode: str, simulator: Simulator, wall: Wall, client: Any) -> Dict[str, Any]:
    """What its user gets of a call that is refused, and what has been sent all the same."""
    from tests.agent import BATCHES

    simulator.reset_count()
    wall.asked = 0
    raised = "nothing"
    try:
        case.call(client, mode)
    except BaseException as error:
        raised = "itself"
        if type(error).__name__ != "BudgetExceeded":
            chain: Any = error
            names = []
            while chain is not None and len(names) < 8:
                names.append("%s: %s" % (type(chain).__name__, str(chain)[:120]))
                chain = chain.__cause__ or chain.__context__
            raised = " < ".join(names)
            raised += traceback.format_exc()[-2500:] if os.environ.get("MATRIX_TRACE") else ""
    return {
        "error": None,
        "raised": raised,
        "asked": wall.asked,
        "billed": len([row for row in simulator.billed() if row.format not in BATCHES]),
        "requests": [[row.method, row.path] for row in simulator.exchanges],
    }


def run_case(case: Case, mode: str, simulator: Simulator, got: List[Any], client: Any, order: str) -> Dict[str, Any]:
    from tests.agent import as_delivered, key_of_billed, key_of_receipt

    simulator.reset_count()
    got.clear()
    result: Dict[str, Any] = {"error": None}
    try:
        result["seen"] = seen(case.call(client, mode))
    except Exception:
        result["error"] = traceback.format_exc()[-1500:]
    if order != "off":
        import gc
        import time

        for _ in range(20):  # a stream may end a moment after its reader
            if len(got) >= len(as_delivered(simulator.billed())):
                break
            gc.collect()
            time.sleep(0.02)
    result["requests"] = requests_of(simulator)
    billed = as_delivered(simulator.billed())
    if not any(row.usage and row.usage.reported_cost_nanousd is not None for row in billed):
        # Nothing on the wire states a cost: what a receipt has of it is the SDK's own sum.
        got[:] = [{key: value for key, value in row.items() if key != "reported_cost_nanousd"} for row in got]
    result["billed"] = sorted(map(repr, map(key_of_billed, billed)))
    result["receipts"] = sorted(map(repr, map(key_of_receipt, got)))
    result["missing_expected"] = any(row.usage is None for row in billed)
    result["missing"] = sum(1 for receipt in got if receipt.get("usage_missing"))
    result["features"] = sorted({str(receipt.get("feature")) for receipt in got})
    result["agents"] = sorted({(receipt.get("agent", ""), receipt.get("parent_agent", "")) for receipt in got})
    result["partial"] = sum(1 for receipt in got if receipt.get("partial") or receipt.get("estimated"))
    return result


def installed(module: str) -> Dict[str, str]:
    """The distributions that hold a module's package, and their versions; Python's own is "stdlib"."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return {"python": "stdlib"}
    return {name: metadata.version(name) for name in metadata.packages_distributions().get(top, ())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--order", choices=["off", "before", "after", "late", "refused"], required=True)
    parser.add_argument("cases", nargs="+", metavar="CASE:MODE")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results: Dict[str, Any] = {}
    got: List[Any] = []
    with tempfile.TemporaryDirectory() as folder, Simulator() as simulator:
        wall = Wall()
        if options.order in ("before", "refused"):
            activate(simulator, got, folder)
        wanted = [row.rsplit(":", 1) for row in options.cases]
        if options.order == "after":
            for name, _ in wanted:
                importlib.import_module(CASES[name].imports)
            activate(simulator, got, folder)
        clients = {}
        for name, mode in wanted:
            clients[name, mode] = CASES[name].build(simulator.url, mode)
        if options.order == "late":
            activate(simulator, got, folder)
        if options.order == "refused":
            from aicostguard.capture.state import state

            state.gate = wall  # type: ignore[assignment]
        for name, mode in wanted:
            if options.order == "refused":
                results["%s:%s" % (name, mode)] = refuse_case(CASES[name], mode, simulator, wall, clients[name, mode])
                continue
            results["%s:%s" % (name, mode)] = run_case(
                CASES[name], mode, simulator, got, clients[name, mode], options.order
            )
        from aicostguard.health import health

        results["installed"] = {name: installed(CASES[name].imports) for name, _ in wanted}
        results["health"] = health.snapshot()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
