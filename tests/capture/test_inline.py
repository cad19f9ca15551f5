"""Inline mode: receipts are on their way before the call returns; inside a loop they are awaited, at a stream's end."""

from __future__ import annotations

import asyncio
from typing import Any, Iterator, List

import pytest

from aicostguard.capture import hooks
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.capture.tools import CHAT, ENCODINGS, GEMINI, STREAM

PATH = "/v1/chat/completions"


class InlineAgent(Agent):
    """Delivery from coroutines takes a turn of the loop, and is counted apart from the other way."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.awaited: List[Any] = []
        self.blocking: List[Any] = []

    def on(self) -> None:
        state.deliver = self.blocking.append
        state.adeliver = self._await
        state.inline = True
        state.hosts = tuple(
            ("127.0.0.1", int(url.rsplit(":", 1)[1]), provider) for provider, url in self.simulator.urls.items()
        )
        hooks.install()

    async def _await(self, receipts: Any) -> None:
        assert receipts
        await asyncio.sleep(0.01)
        self.awaited.extend(receipts)


@pytest.fixture
def inline(simulator: Simulator) -> Iterator[InlineAgent]:
    health.reset()
    agent = InlineAgent(simulator)
    agent.on()
    yield agent
    agent.off()
    assert health.faults == {}


@pytest.mark.ids("G14", "G15")
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_httpx(inline: InlineAgent, name: str) -> None:
    module = pytest.importorskip(name)

    async def use() -> None:
        async with module.AsyncClient(base_url=inline.url("openai")) as client:
            await client.post(PATH, json=CHAT)
            assert len(inline.awaited) == 1
            for count, read in enumerate(("aread", "aiter_raw", "aiter_lines"), 2):
                async with client.stream("POST", PATH, json=STREAM) as response:
                    if read == "aread":
                        await response.aread()
                    else:
                        async for _ in getattr(response, read)():
                            pass
                    assert len(inline.awaited) == count
            async with client.stream("POST", PATH, json=STREAM) as response:
                async for _ in response.aiter_bytes():
                    break
            assert len(inline.awaited) == 5

    asyncio.run(use())
    assert inline.blocking == []


@pytest.mark.ids("G14", "G15")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_aiohttp(inline: InlineAgent, encoding: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    inline.simulator.set_default(encoding=encoding)

    async def use() -> None:
        for decompress in (True, False):
            before = len(inline.awaited)
            async with aiohttp.ClientSession(inline.url("openai"), auto_decompress=decompress) as session:
                response = await session.post(PATH, json=CHAT)
                await response.read()
                assert len(inline.awaited) == before + 1
                for count, read in enumerate(("iter_any", "__aiter__", "iter_chunks"), 2):
                    response = await session.post(PATH, json=STREAM)
                    async for _ in getattr(response.content, read)():
                        pass
                    assert len(inline.awaited) == before + count
                async with session.post(PATH, json=STREAM):
                    pass
                assert len(inline.awaited) == before + 5

    asyncio.run(use())
    assert inline.blocking == []


@pytest.mark.ids("G14", "G15", "A7")
def test_cancelled_while_a_receipt_is_awaited(inline: InlineAgent) -> None:
    httpx2 = pytest.importorskip("httpx2")

    async def use() -> None:
        reached = asyncio.Event()

        async def slowly(receipts: Any) -> None:
            reached.set()
            await asyncio.sleep(60)

        state.adeliver = slowly
        async with httpx2.AsyncClient(base_url=inline.url("openai")) as client:
            task = asyncio.ensure_future(client.post(PATH, json=CHAT))
            await asyncio.wait_for(reached.wait(), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(task), 10)

    asyncio.run(use())


@pytest.mark.ids("G14", "G15")
def test_sdks(inline: InlineAgent) -> None:
    openai, genai = pytest.importorskip("openai"), pytest.importorskip("google.genai")

    async def use() -> None:
        async with openai.AsyncOpenAI(base_url=inline.url("openai") + "/v1", api_key="x") as client:
            await client.chat.completions.create(**CHAT)
            assert len(inline.awaited) == 1
            async for _ in await client.chat.completions.create(**STREAM):
                pass
            assert len(inline.awaited) == 2
        gemini = genai.Client(api_key="x", http_options={"base_url": inline.url("google")})
        await gemini.aio.models.generate_content(model=GEMINI, contents="hi")
        assert len(inline.awaited) == 3
        async for _ in await gemini.aio.models.generate_content_stream(model=GEMINI, contents="hi"):
            pass
        assert len(inline.awaited) == 4
        if hasattr(gemini.aio, "aclose"):
            await gemini.aio.aclose()

    asyncio.run(use())
    assert inline.blocking == []


@pytest.mark.ids("G14", "G15")
def test_sync_calls_deliver_before_they_return(inline: InlineAgent) -> None:
    openai, requests = pytest.importorskip("openai"), pytest.importorskip("requests")
    with openai.OpenAI(base_url=inline.url("openai") + "/v1", api_key="x") as client:
        client.chat.completions.create(**CHAT)
        assert len(inline.blocking) == 1
        for _ in client.chat.completions.create(**STREAM):
            pass
        assert len(inline.blocking) == 2
    requests.post(inline.url("openai") + PATH, json=CHAT)
    assert len(inline.blocking) == 3
    with requests.post(inline.url("openai") + PATH, json=STREAM, stream=True) as response:
        list(response.iter_lines())
        assert len(inline.blocking) == 4
    assert inline.awaited == []
