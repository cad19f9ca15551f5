"""10,000 streams that nobody finishes: nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import sys
from typing import Any, List

import pytest

from aicostguard.capture.estimating import MODULE, Estimates
from aicostguard.capture.state import state
from aicostguard.health import health
from tests.agent import Agent
from tests.capture.tools import EVENTS

STREAMS = 10_000
URL = "/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [], "stream": True}


@pytest.fixture(params=["metered", "asked", "estimated"])
def agent(agent: Agent, request: pytest.FixtureRequest) -> Agent:
    """Plain, with `AICG_STREAM_USAGE=request`, and with the extra `estimate`."""
    if request.param == "estimated":
        pytest.importorskip(MODULE)
        state.estimates = Estimates()
    state.ask = request.param == "asked"
    return agent


def httpx_of_today() -> Any:
    for name in ("httpx2", "httpx"):
        if importlib.util.find_spec(name):
            return importlib.import_module(name)
    raise pytest.skip.Exception("no httpx")


def blocks() -> int:
    """What is allocated, once all that can go has gone."""
    if state.estimates is not None:
        state.estimates.flush(20)
    for _ in range(3):
        gc.collect()
    return sys.getallocatedblocks()


def slope(counts: List[int], streams: int) -> float:
    """Blocks a stream, over the later half: the first half fills caches."""
    return (counts[-1] - counts[len(counts) // 2]) / (streams / 2)


def judged(agent: Agent, counts: List[int], made: int) -> None:
    assert made == STREAMS, health.snapshot()
    # What a stream leaves is a block at least. A hundred blocks more or less are the caches of threads and loop.
    assert slope(counts, STREAMS) < 0.1, counts


@pytest.mark.ids("A12", "B10")
def test_sync(agent: Agent) -> None:
    library = httpx_of_today()

    class Body(library.SyncByteStream):  # type: ignore[name-defined, misc]
        def __iter__(self) -> Any:
            return iter(EVENTS)

    def answer(request: Any) -> Any:
        return library.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())

    counts, made = [], 0
    agent.receipts.clear()
    with library.Client(transport=library.MockTransport(answer), base_url=agent.url("openai")) as client:
        for _ in range(10):
            for _ in range(STREAMS // 10):
                response = client.send(client.build_request("POST", URL, json=BODY), stream=True)
                next(response.iter_bytes())
                del response
            counts.append(blocks())
            made += len(agent.receipts)
            agent.receipts.clear()
    judged(agent, counts, made)


@pytest.mark.ids("A12", "B10")
def test_async(agent: Agent) -> None:
    library = httpx_of_today()

    class Body(library.AsyncByteStream):  # type: ignore[name-defined, misc]
        async def __aiter__(self) -> Any:
            for event in EVENTS:
                yield event

    async def answer(request: Any) -> Any:
        return library.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())

    async def run() -> None:
        counts, made = [], 0
        transport = library.MockTransport(answer)
        async with library.AsyncClient(transport=transport, base_url=agent.url("openai")) as client:
            for _ in range(10):
                for _ in range(STREAMS // 10):
                    response = await client.send(client.build_request("POST", URL, json=BODY), stream=True)
                    await response.aiter_bytes().__anext__()
                    del response
                for _ in range(1000):  # the loop closes generators that were dropped, each in a task of its own
                    blocks()
                    await asyncio.sleep(0.01)
                    if len(agent.receipts) == STREAMS // 10 and len(asyncio.all_tasks()) == 1:
                        break
                counts.append(blocks())
                made += len(agent.receipts)
                agent.receipts.clear()
        judged(agent, counts, made)

    agent.receipts.clear()
    asyncio.run(run())
