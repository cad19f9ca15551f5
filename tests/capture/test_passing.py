"""A stream passes as it comes: each piece reaches the caller before the next one is sent; receipts are not late."""

from __future__ import annotations

import asyncio
import importlib
import json
import urllib.request
import zlib
from typing import Any, AsyncIterator, Callable, Dict, Iterator

import pytest

from aicostguard.capture.transports import httpx_like
from tests.agent import Agent
from tests.capture.gate import PATIENCE, Gate
from tests.capture.tools import EVENTS, STREAM, only

PATH = "/v1/chat/completions"


def httpx_pieces(name: str) -> Callable[[str], Iterator[bytes]]:
    def pieces(url: str) -> Iterator[bytes]:
        module = importlib.import_module(name)
        with module.Client(timeout=PATIENCE) as client:
            with client.stream("POST", url + PATH, json=STREAM) as response:
                yield b"head"
                yield from response.iter_bytes()

    return pieces


def requests_pieces(url: str) -> Iterator[bytes]:
    requests = importlib.import_module("requests")
    with requests.post(url + PATH, json=STREAM, stream=True, timeout=PATIENCE) as response:
        yield b"head"
        yield from response.iter_content(None)


def urllib3_pieces(url: str) -> Iterator[bytes]:
    urllib3 = importlib.import_module("urllib3")
    with urllib3.PoolManager(timeout=PATIENCE) as manager:
        response = manager.request("POST", url + PATH, body=json.dumps(STREAM).encode(), preload_content=False)
        yield b"head"
        yield from response.stream(decode_content=True)


def urllib_pieces(url: str) -> Iterator[bytes]:
    # http.client decodes nothing; a caller who asked for gzip does it as the bytes come
    unpacker = zlib.decompressobj(31)
    with urllib.request.urlopen(url + PATH, json.dumps(STREAM).encode(), timeout=PATIENCE) as response:
        yield b"head"
        packed = response.headers["content-encoding"] == "gzip"
        for piece in iter(lambda: response.read1(65536), b""):
            plain = unpacker.decompress(piece) if packed else piece
            if plain:
                yield plain


def openai_pieces(url: str) -> Iterator[Any]:
    openai = importlib.import_module("openai")
    with openai.OpenAI(base_url=url + "/v1", api_key="x", timeout=PATIENCE, max_retries=0) as client:
        stream = client.chat.completions.create(**STREAM)
        yield b"head"
        yield from stream


def httpx_async(name: str) -> Callable[[str], AsyncIterator[bytes]]:
    async def pieces(url: str) -> AsyncIterator[bytes]:
        module = importlib.import_module(name)
        async with module.AsyncClient(timeout=PATIENCE) as client:
            async with client.stream("POST", url + PATH, json=STREAM) as response:
                yield b"head"
                async for piece in response.aiter_bytes():
                    yield piece

    return pieces


async def aiohttp_pieces(url: str) -> AsyncIterator[bytes]:
    aiohttp = importlib.import_module("aiohttp")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_read=PATIENCE)) as session:
        async with session.post(url + PATH, json=STREAM) as response:
            yield b"head"
            async for piece in response.content.iter_any():
                yield piece


async def openai_async(url: str) -> AsyncIterator[Any]:
    openai = importlib.import_module("openai")
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", timeout=PATIENCE, max_retries=0) as client:
        stream = await client.chat.completions.create(**STREAM)
        yield b"head"
        async for event in stream:
            yield event


SYNC: Dict[str, Any] = {
    "httpx": httpx_pieces("httpx"),
    "httpx2": httpx_pieces("httpx2"),
    "requests": requests_pieces,
    "urllib3": urllib3_pieces,
    "urllib.request": urllib_pieces,
    "openai": openai_pieces,
}
ASYNC: Dict[str, Any] = {
    "httpx": httpx_async("httpx"),
    "httpx2": httpx_async("httpx2"),
    "aiohttp": aiohttp_pieces,
    "openai": openai_async,
}
#: what the openai SDK shows of the events: not the end marker
SHOWN = len(EVENTS) - 1


@pytest.mark.ids("A9", "B11")
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("name", list(SYNC))
def test_nothing_is_held_back(agent: Agent, name: str, encoding: str) -> None:
    pytest.importorskip(name)
    with Gate(EVENTS, encoding) as gate:
        pieces = SYNC[name](gate.url)
        gate.permit()
        assert next(pieces) == b"head"
        for index in range(SHOWN):
            gate.permit()
            assert next(pieces)
            # Usage comes with the last event that is shown; the end marker and the end have not been sent.
            assert len(agent.receipts) == (index == SHOWN - 1)
        gate.permit()
        assert len(list(pieces)) <= 1
    assert only(agent)["output_tokens"] == 5
    assert "partial" not in only(agent)


@pytest.mark.ids("A9", "B11")
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_nothing_is_held_back_from_a_public_stream(agent: Agent, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way out for libraries whose private attributes have changed is as prompt."""
    agent.off()
    monkeypatch.setattr(httpx_like._Tapper, "_works", lambda self, module: False)
    agent.on()
    test_nothing_is_held_back(agent, name, "gzip")


@pytest.mark.ids("A9", "B11")
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("name", list(ASYNC))
def test_nothing_is_held_back_async(agent: Agent, name: str, encoding: str) -> None:
    pytest.importorskip(name)

    async def read(gate: Gate) -> None:
        pieces = ASYNC[name](gate.url)
        gate.permit()
        assert await pieces.__anext__() == b"head"
        for index in range(SHOWN):
            gate.permit()
            assert await pieces.__anext__()
            assert len(agent.receipts) == (index == SHOWN - 1)
        gate.permit()
        assert len([piece async for piece in pieces]) <= 1

    with Gate(EVENTS, encoding) as gate:
        asyncio.run(read(gate))
    assert only(agent)["output_tokens"] == 5
    assert "partial" not in only(agent)


@pytest.mark.ids("A7", "B10")
@pytest.mark.parametrize("name", list(ASYNC))
def test_cancelled_before_the_answer(agent: Agent, name: str) -> None:
    """At once, as itself, and nothing is booked: no answer has come."""
    pytest.importorskip(name)

    async def cancel(gate: Gate) -> None:
        pieces = ASYNC[name](gate.url)
        task = asyncio.ensure_future(pieces.__anext__())
        while not gate.asked.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        assert task.cancelled()
        await pieces.aclose()

    with Gate(EVENTS) as gate:
        asyncio.run(cancel(gate))
    assert agent.receipts == []


@pytest.mark.ids("A7", "B10")
@pytest.mark.parametrize("name", list(ASYNC))
def test_cancelled_in_the_middle(agent: Agent, name: str) -> None:
    pytest.importorskip(name)

    async def cancel(gate: Gate) -> None:
        pieces = ASYNC[name](gate.url)
        for _ in range(3):
            gate.permit()
            await pieces.__anext__()
        task = asyncio.ensure_future(pieces.__anext__())
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        assert task.cancelled()
        await pieces.aclose()
        # Not when the garbage collector comes around: now.
        assert len(agent.receipts) == 1

    with Gate(EVENTS) as gate:
        asyncio.run(cancel(gate))
    assert only(agent)["partial"] is True
    assert only(agent)["usage_missing"] is True


@pytest.mark.ids("A11")
def test_read_in_one_task_and_closed_in_another(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    openai = pytest.importorskip("openai")
    troubles: Any = []

    async def use(gate: Gate) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))
        async with openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key="x", max_retries=0) as client:
            gate.permit(4)
            stream = await asyncio.ensure_future(client.chat.completions.create(**STREAM))
            for _ in range(3):
                await asyncio.ensure_future(stream.__anext__())
            await asyncio.ensure_future(stream.close())

    with Gate(EVENTS) as gate:
        asyncio.run(use(gate))
    assert only(agent)["partial"] is True
    assert troubles == []
    assert [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")] == []
