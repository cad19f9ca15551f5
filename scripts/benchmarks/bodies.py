"""What large bodies and many streams at once cost: an embeddings answer, and the lag of a loop under 200 streams."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any, Dict, List

from benchmarks.calls import observers
from benchmarks.common import row
from benchmarks.traffic import MESSAGES, stream_events

STREAMS, CHUNKS = 200, 50


def embeddings(inputs: int = 20) -> bytes:
    """An embeddings answer of about 420 KB."""
    vector = [0.0123456789 + at / 10**7 for at in range(1536)]
    data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(inputs)]
    usage = {"prompt_tokens": 80, "total_tokens": 80}
    return json.dumps({"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}).encode()


def metering(runs: int) -> List[Dict[str, Any]]:
    """One large body through metering, and through `json.loads` for comparison."""
    from aicostguard.metering import Endpoint, read_body

    body = embeddings(max(1, round(20 * 420_000 / len(embeddings()))))
    endpoint = Endpoint("openai", "embeddings")
    ours, theirs = [], []
    for _ in range(runs * 20):
        start = time.perf_counter_ns()
        [reading] = read_body(endpoint, 200, "application/json", body, lambda: None, lambda name: None)
        ours.append((time.perf_counter_ns() - start) / 1000)
        assert reading.usage is not None and reading.usage.input_tokens == 80
        start = time.perf_counter_ns()
        json.loads(body)
        theirs.append((time.perf_counter_ns() - start) / 1000)
    print("\nA body of embeddings, %d KB" % (len(body) // 1000))
    return [
        row("embeddings: metering", ours, "µs", "aim: at most 150"),
        row("embeddings: json.loads, for comparison", theirs, "µs"),
    ]


def lag(runs: int) -> List[Dict[str, Any]]:
    """How late a loop wakes that has 200 streams to read, with the agent and without."""
    import httpx2
    import openai

    events = stream_events(CHUNKS)

    class Events(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            for event in events:
                await asyncio.sleep(0.005)
                yield event

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Events())

    async def read(client: Any) -> None:
        usage = {"include_usage": True}
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options=usage
        )
        async for _ in stream:
            pass

    async def once(client: Any) -> List[float]:
        late = []
        tasks = [asyncio.ensure_future(read(client)) for _ in range(STREAMS)]
        while not all(task.done() for task in tasks):
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append((time.perf_counter() - start - 0.001) * 1000)
        await asyncio.gather(*tasks)
        return late

    with observers() as agent:
        agent.use("durable")
        http, sdk = httpx2.AsyncClient, openai.AsyncOpenAI
        kinds = {
            "none": (http.send.__wrapped__, sdk.request.__wrapped__),  # type: ignore[attr-defined]
            "agent": (http.send, sdk.request),
        }
        clients = {
            name: type("Sdk", (sdk,), {"request": request})(
                api_key="x",
                base_url="https://api.openai.com/v1",
                http_client=type("Http", (http,), {"send": send})(transport=Transport()),
            )
            for name, (send, request) in kinds.items()
        }
        found: Dict[str, List[List[float]]] = {name: [] for name in clients}
        for run in range(runs + 1):
            for name, client in clients.items():
                late = asyncio.run(once(client))
                if run:
                    found[name].append([statistics.median(late), statistics.quantiles(late, n=100)[98]])
    print("\nHow late a loop with %d streams wakes" % STREAMS)
    rows = []
    for at, what in enumerate(("median", "p99")):
        for name in clients:
            rows.append(row("loop lag, %s: %s" % (what, name), [each[at] for each in found[name]], "ms"))
        more = [a[at] - b[at] for a, b in zip(found["agent"], found["none"])]
        rows.append(row("loop lag, %s: agent over none" % what, more, "ms", "aim: unchanged"))
    return rows
