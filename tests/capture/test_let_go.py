"""A call that is over keeps nothing of its request: what a connection holds, it holds for as long as it is open."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, Dict, List

import pytest

from tests.agent import Agent
from tests.capture.tools import CHAT, STREAM

PATH = "/v1/chat/completions"


class Body(Dict[str, Any]):
    """A request's body, of which can be seen whether it is still there."""


def gone(kept: List[Any]) -> bool:
    for _ in range(3):
        gc.collect()
    return [one() for one in kept] == [None] * len(kept)


@pytest.mark.ids("A12", "B10")
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_httpx(agent: Agent, name: str) -> None:
    module, url = pytest.importorskip(name), agent.url("openai") + PATH

    async def use() -> None:
        for body in (CHAT, STREAM):
            async with module.AsyncClient() as client:
                request = client.build_request("POST", url, json=body)
                response = await client.send(request, stream=body is STREAM)
                await response.aread()
                kept = [weakref.ref(request)]
                del request, response
                assert gone(kept), "the request is still there while the connection is open"

    asyncio.run(use())
    agent.balance()


@pytest.mark.ids("A12", "B10")
def test_aiohttp(agent: Agent) -> None:
    aiohttp, url = pytest.importorskip("aiohttp"), agent.url("openai") + PATH

    async def use() -> None:
        for given in (CHAT, STREAM):
            async with aiohttp.ClientSession() as session:
                body = Body(given)
                async with session.post(url, json=body) as response:
                    await response.read()
                kept = [weakref.ref(body)]
                del body, response
                assert gone(kept), "what was sent is still there while the session is open"

    asyncio.run(use())
    agent.balance()
