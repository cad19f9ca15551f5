"""How late a loop wakes while handlers deliver inline: awaited one by one, kept by `flush_on_return`, and blocking.

The ledger stands in another process and answers after `ANSWER_S`, as one in another region would.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from typing import Any, Awaitable, Callable, Dict, List

from benchmarks.common import KEY, SINK, process, row

#: invocations at once, receipts of each, seconds that the ledger takes for an answer
HANDLERS, RECEIPTS, ANSWER_S = 10, 3, 0.1
_SERVER = "class Server(http.server.ThreadingHTTPServer):"
_RECEIPT = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1240, "output_tokens": 312, "latency_ms": 842}


def awaited(runs: int) -> List[Dict[str, Any]]:
    """The lag of the loop (how much later than asked a sleep of 1 ms ends) for each way of delivering."""
    import aicostguard
    from aicostguard.config import load
    from aicostguard.delivery import Delivery

    slow = SINK.replace("Handler.taken +=", "__import__('time').sleep(%s); Handler.taken +=" % ANSWER_S)
    # Its backlog of five connections would make the sixth wait a second.
    slow = slow.replace(_SERVER, _SERVER + "\n    request_queue_size = 128")
    found: Dict[str, List[List[float]]] = {}
    with process(sys.executable, "-c", slow) as port, tempfile.TemporaryDirectory() as folder:
        environ = {"AICG_URL": "http://127.0.0.1:%s" % port.strip(), "AICG_KEY": KEY, "AICG_MODE": "inline"}
        delivery = Delivery(load(dict(os.environ, AICG_STATE_DIR=folder, **environ)))

        async def nothing() -> None:
            for _ in range(RECEIPTS):
                await asyncio.sleep(ANSWER_S)

        async def each() -> None:
            for _ in range(RECEIPTS):
                await delivery.asubmit([dict(_RECEIPT)])

        @aicostguard.flush_on_return
        async def together() -> None:
            for _ in range(RECEIPTS):
                await delivery.asubmit([dict(_RECEIPT)])

        async def blocking() -> None:
            for _ in range(RECEIPTS):
                delivery.submit(dict(_RECEIPT))
                await asyncio.sleep(0)

        ways = {"no delivery": nothing, "awaited": each, "flush_on_return": together, "blocking": blocking}
        for run in range(runs + 1):
            for name, way in ways.items():
                late, took = asyncio.run(_lag(way))
                if run:
                    found.setdefault(name, []).append([sorted(late)[len(late) * 99 // 100], max(late), took])
        delivery.shutdown(5)
    print(
        "\n%d handlers at once, %d receipts each, a ledger that answers in %d ms"
        % (HANDLERS, RECEIPTS, ANSWER_S * 1000)
    )
    return [
        row("%s: %s" % (what, name), [one[place] for one in figures], "ms")
        for place, what in enumerate(("loop lag, p99", "loop lag, worst", "all handlers"))
        for name, figures in found.items()
    ]


async def _lag(way: Callable[[], Awaitable[None]]) -> Any:
    """`(lags, how long all of it took)` in ms, while handlers run."""
    late: List[float] = []
    began = time.perf_counter()
    tasks = [asyncio.ensure_future(way()) for _ in range(HANDLERS)]
    while not all(task.done() for task in tasks):
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - start - 0.001) * 1000)
    await asyncio.gather(*tasks)
    return late, (time.perf_counter() - began) * 1000
