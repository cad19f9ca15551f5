"""Plain httpx, httpx2, aiohttp, requests: every way to read a body, compressed or not, without and with the agent."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Callable, Dict, List

import pytest

from aicostguard.capture.transports import httpx_like
from tests.agent import Agent
from tests.capture.tools import CHAT, ENCODINGS, EVENTS, STREAM, both, both_async, fixed, kind, only, shown

LIBRARIES = ("httpx", "httpx2")
PATH = "/v1/chat/completions"

Read = Callable[[Any], Any]


def library(name: str) -> Any:
    return pytest.importorskip(name)


def accepted(name: str) -> List[str]:
    """The encodings that this library asks for here."""
    header = library(name).Client().headers["accept-encoding"]
    return [encoding for encoding in ENCODINGS if encoding == "identity" or encoding in header]


SYNC: Dict[str, Read] = {
    "iter_bytes": lambda r: b"".join(r.iter_bytes()),
    "iter_bytes(5)": lambda r: list(r.iter_bytes(5)),
    "iter_text": lambda r: "".join(r.iter_text()),
    "iter_lines": lambda r: list(r.iter_lines()),
    "read": lambda r: r.read(),
    "read, then all": lambda r: [r.read(), r.text, r.content, list(r.iter_lines()), r.is_stream_consumed],
    "twice": lambda r: [r.read(), r.read(), type(r.elapsed).__name__],
}


async def a_bytes(r: Any) -> Any:
    return b"".join([piece async for piece in r.aiter_bytes()])


async def a_lines(r: Any) -> Any:
    return [line async for line in r.aiter_lines()]


async def a_text(r: Any) -> Any:
    return "".join([text async for text in r.aiter_text()])


async def a_read(r: Any) -> Any:
    return [await r.aread(), await r.aread(), r.text, type(r.elapsed).__name__]


ASYNC: Dict[str, Read] = {"aiter_bytes": a_bytes, "aiter_lines": a_lines, "aiter_text": a_text, "aread": a_read}


def looks(response: Any) -> List[Any]:
    """What the caller can see of a response besides its body."""
    return [
        kind(response), kind(response.stream), kind(response.headers), kind(response.request), kind(response.url),
        kind(response.extensions), response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded,
        response.http_version, response.encoding, isinstance(response.stream, object), sorted(response.history),
    ]  # fmt: skip


@pytest.mark.ids("A1", "A2", "A5")
@pytest.mark.parametrize("way", list(SYNC))
@pytest.mark.parametrize("name", LIBRARIES)
def test_httpx_stream(agent: Agent, name: str, way: str) -> None:
    module = library(name)
    for encoding in accepted(name):
        agent.simulator.set_default(**fixed(True, encoding=encoding, chunk_size=11))

        def use() -> Any:
            with module.Client(base_url=agent.url("openai")) as client:
                with client.stream("POST", PATH, json=STREAM) as response:
                    before = looks(response)
                    body = shown(SYNC[way](response))
                    return [before, body, looks(response)]

        both(agent, use)
        agent.balance()
        assert only(agent)["streamed"] is True, encoding
        assert "partial" not in only(agent)


@pytest.mark.ids("A1", "A2", "A5")
@pytest.mark.parametrize("way", list(ASYNC))
@pytest.mark.parametrize("name", LIBRARIES)
def test_httpx_stream_async(agent: Agent, name: str, way: str) -> None:
    module = library(name)
    for encoding in accepted(name):
        agent.simulator.set_default(**fixed(True, encoding=encoding, chunk_size=11))

        async def use() -> Any:
            async with module.AsyncClient(base_url=agent.url("openai")) as client:
                async with client.stream("POST", PATH, json=STREAM) as response:
                    before = looks(response)
                    body = shown(await ASYNC[way](response))
                    return [before, body, looks(response)]

        both_async(agent, use)
        agent.balance()
        assert "partial" not in only(agent)


@pytest.mark.ids("A5", "G09")
@pytest.mark.parametrize("name", LIBRARIES)
def test_httpx_whole(agent: Agent, name: str) -> None:
    module = library(name)
    for encoding in accepted(name):
        agent.simulator.set_default(**fixed(False, encoding=encoding))

        def use() -> Any:
            with module.Client(base_url=agent.url("openai")) as client:
                response = client.post(PATH, json=CHAT)
                return [looks(response), shown(response.content), kind(response.json()), kind(response.elapsed)]

        async def use_async() -> Any:
            async with module.AsyncClient(base_url=agent.url("openai")) as client:
                response = await client.post(PATH, json=CHAT)
                return [looks(response), shown(response.content), kind(response.json()), kind(response.elapsed)]

        both(agent, use)
        agent.balance()
        assert "streamed" not in only(agent)
        both_async(agent, use_async)
        agent.balance()


@pytest.mark.ids("A1", "G09")
@pytest.mark.parametrize("close", [True, False], ids=["closed", "exhausted"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_httpx_undecoded(agent: Agent, name: str, encoding: str, close: bool) -> None:
    """`iter_raw` gives compressed bytes; the agent decodes a copy of them."""
    module = library(name)
    agent.simulator.set_default(**fixed(True, encoding=encoding, chunk_size=13))
    headers = {"accept-encoding": encoding}

    def use() -> Any:
        with module.Client(base_url=agent.url("openai")) as client:
            with client.stream("POST", PATH, json=STREAM, headers=headers) as response:
                pieces = response.iter_raw()
                size = 0
                for piece in pieces:
                    size += len(piece)
                if close:
                    response.close()
                return [looks(response)[:3], size > 300]

    async def use_async() -> Any:
        async with module.AsyncClient(base_url=agent.url("openai")) as client:
            async with client.stream("POST", PATH, json=STREAM, headers=headers) as response:
                size = sum([len(piece) async for piece in response.aiter_raw()])
                return [looks(response)[:3], size > 300]

    both(agent, use)
    agent.balance()
    assert "partial" not in only(agent)
    both_async(agent, use_async)
    agent.balance()
    assert "partial" not in only(agent)


@pytest.mark.ids("A1", "A2")
@pytest.mark.parametrize("name", LIBRARIES)
def test_httpx_public_stream(agent: Agent, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the private attributes change, `response.stream` is wrapped, and all counts stay exact."""
    module = library(name)
    monkeypatch.setattr(httpx_like._Tapper, "_works", lambda self, module: False)
    for encoding in accepted(name):
        agent.simulator.set_default(**fixed(True, encoding=encoding, chunk_size=17))
        for way in ("iter_bytes", "iter_lines", "read"):

            def use(read: Read = SYNC[way]) -> Any:
                with module.Client(base_url=agent.url("openai")) as client:
                    with client.stream("POST", PATH, json=STREAM) as response:
                        got = shown(read(response))
                        assert isinstance(response.stream, module.SyncByteStream)
                    return [got, kind(response), kind(response.elapsed), response.is_closed]

            both(agent, use)
            agent.balance()
            assert "partial" not in only(agent)

        async def use_async() -> Any:
            async with module.AsyncClient(base_url=agent.url("openai")) as client:
                async with client.stream("POST", PATH, json=STREAM) as response:
                    got = shown(await a_lines(response))
                    assert isinstance(response.stream, module.AsyncByteStream)
                return [got, kind(response), kind(response.elapsed), response.is_closed]

        both_async(agent, use_async)
        agent.balance()
        assert "partial" not in only(agent)
    from aicostguard.capture import hooks

    assert hooks.states()[name] == "patched (public stream)"


async def h_read(r: Any) -> Any:
    return await r.read()


async def h_json_then_text(r: Any) -> Any:
    return [await r.text(), r.closed]


async def h_chunked(r: Any) -> Any:
    return b"".join([piece async for piece in r.content.iter_chunked(9)])


async def h_any(r: Any) -> Any:
    return b"".join([piece async for piece in r.content.iter_any()])


async def h_chunks(r: Any) -> Any:
    return b"".join([piece async for piece, _ in r.content.iter_chunks()])


async def h_lines(r: Any) -> Any:
    return [line async for line in r.content]


async def h_readline(r: Any) -> Any:
    seen = []
    while not r.content.at_eof():
        seen.append(await r.content.readline())
    return seen


async def h_exactly(r: Any) -> Any:
    return [await r.content.readexactly(20), await r.content.read()]


async def h_nowait(r: Any) -> Any:
    await r.content.wait_eof()
    return [r.content.read_nowait(7), r.content.read_nowait()]


AIOHTTP: Dict[str, Read] = {
    "read": h_read, "text": h_json_then_text, "iter_chunked": h_chunked, "iter_any": h_any, "iter_chunks": h_chunks,
    "lines": h_lines, "readline": h_readline, "readexactly": h_exactly, "read_nowait": h_nowait,
}  # fmt: skip


def aiohttp_looks(response: Any) -> List[Any]:
    return [kind(response), kind(response.content), kind(response.headers), response.status, kind(response.url)]


@pytest.mark.ids("A1", "A2", "A5")
@pytest.mark.parametrize("way", list(AIOHTTP))
def test_aiohttp(agent: Agent, way: str) -> None:
    aiohttp = library("aiohttp")
    for encoding in ENCODINGS:  # one that aiohttp does not ask for here comes as identity
        for body in (STREAM, CHAT):
            agent.simulator.set_default(**fixed(body is STREAM, encoding=encoding, chunk_size=11))

            async def use(body: Any = body) -> Any:
                async with aiohttp.ClientSession() as session:
                    async with session.post(agent.url("openai") + PATH, json=body) as response:
                        before = aiohttp_looks(response)
                        got = shown(await AIOHTTP[way](response))
                        return [before, got, aiohttp_looks(response)]

            both_async(agent, use)
            agent.balance()
            assert "partial" not in only(agent), encoding


@pytest.mark.ids("A1", "G09")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_aiohttp_undecoded(agent: Agent, encoding: str) -> None:
    aiohttp = library("aiohttp")
    agent.simulator.set_default(**fixed(True, encoding=encoding, chunk_size=13))

    async def use(body: Any = STREAM) -> Any:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            async with session.post(
                agent.url("openai") + PATH, json=body, headers={"Accept-Encoding": encoding}
            ) as response:
                return [aiohttp_looks(response), len(await response.read()) > 100]

    both_async(agent, use)
    agent.balance()
    assert "partial" not in only(agent)
    agent.simulator.set_default(**fixed(False, encoding=encoding))
    both_async(agent, lambda: use(CHAT))
    agent.balance()
    assert "partial" not in only(agent)


REQUESTS: Dict[str, Read] = {
    "content": lambda r: [r.content, r.text[:2]],
    "iter_content": lambda r: b"".join(r.iter_content(11)),
    "iter_content(None)": lambda r: b"".join(r.iter_content(None)),
    "iter_content(unicode)": lambda r: "".join(r.iter_content(11, decode_unicode=True)),
    "iter_lines": lambda r: list(r.iter_lines()),
    "iter": lambda r: b"".join(r),
    "raw.read(decoded)": lambda r: r.raw.read(decode_content=True),
    "raw.read(9, decoded)": lambda r: until_closed(r.raw, 9),
    "raw.stream": lambda r: b"".join(r.raw.stream(13, decode_content=True)),
    "raw.stream(None)": lambda r: b"".join(r.raw.stream(None, decode_content=True)),
    "raw lines": lambda r: list(r.raw),
}
UNDECODED: Dict[str, Read] = {
    "raw.read": lambda r: r.raw.read(decode_content=False),
    "raw.read(n)": lambda r: b"".join(iter(lambda: r.raw.read(64), b"")),
    "raw.read1": lambda r: b"".join(iter(lambda: getattr(r.raw, "read1", r.raw.read)(64), b"")),  # from 2.0.3
    "raw.stream": lambda r: b"".join(r.raw.stream(64, decode_content=False)),
    "raw.readinto": lambda r: readinto(r.raw),
    "raw.data": lambda r: r.raw.data,
}


def until_closed(raw: Any, size: int) -> bytes:
    # urllib3 1.26 gives nothing for the head of what is compressed: that is not yet the end
    pieces: List[bytes] = []
    while len(pieces) < 20 or any(pieces[-20:]):
        pieces.append(raw.read(size, decode_content=True))
    return b"".join(pieces)


def readinto(raw: Any) -> bytes:
    parts: List[bytes] = []
    buffer = bytearray(64)
    while True:
        size = raw.readinto(buffer)
        if not size:
            return b"".join(parts)
        parts.append(bytes(buffer[:size]))


def decodable() -> List[str]:
    """The encodings that urllib3 can decode here."""
    known = importlib.import_module("urllib3.util.request").ACCEPT_ENCODING
    return [encoding for encoding in ENCODINGS if encoding == "identity" or encoding in known]


def requests_looks(response: Any) -> List[Any]:
    return [kind(response), kind(response.raw), kind(response.headers), response.status_code, kind(response.elapsed)]


def ask_requests(agent: Agent, read: Read, encoding: str, body: Any) -> Any:
    requests = importlib.import_module("requests")
    with requests.Session() as session:
        response = session.post(
            agent.url("openai") + PATH, json=body, stream=True, headers={"accept-encoding": encoding}
        )
        before = requests_looks(response)
        got = read(response)
        return [before, got, requests_looks(response)]


@pytest.mark.ids("A1", "A2", "A5")
@pytest.mark.parametrize("body", [STREAM, CHAT], ids=["chunked", "content-length"])
@pytest.mark.parametrize("way", list(REQUESTS))
def test_requests(agent: Agent, way: str, body: Any) -> None:
    library("requests")
    for encoding in decodable():
        agent.simulator.set_default(**fixed(body is STREAM, encoding=encoding, chunk_size=11 if body is STREAM else 0))
        both(agent, lambda e=encoding: shown(ask_requests(agent, REQUESTS[way], e, body)))  # type: ignore[misc]
        agent.balance()
        assert "partial" not in only(agent), encoding


@pytest.mark.ids("A1", "G09")
@pytest.mark.parametrize("body", [STREAM, CHAT], ids=["chunked", "content-length"])
@pytest.mark.parametrize("way", list(UNDECODED))
def test_requests_undecoded(agent: Agent, way: str, body: Any) -> None:
    library("requests")
    for encoding in ENCODINGS:
        agent.simulator.set_default(**fixed(body is STREAM, encoding=encoding, chunk_size=11 if body is STREAM else 0))

        def use(encoding: str = encoding) -> Any:
            before, got, after = ask_requests(agent, UNDECODED[way], encoding, body)
            return [before, after, kind(got), len(got) > 100]

        both(agent, use)
        agent.balance()
        assert "partial" not in only(agent), encoding


@pytest.mark.ids("B10", "G10")
@pytest.mark.parametrize("chunk_size", [0, 11], ids=["content-length", "chunked"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_stream_without_an_end_marker_is_whole_when_its_bytes_end(
    agent: Agent, encoding: str, chunk_size: int
) -> None:
    """Not partial, whichever library read it and how; nothing but its end says so."""
    library("requests")
    behaviour = fixed(True, encoding=encoding, chunk_size=chunk_size, body=b"".join(EVENTS[:3]))
    agent.simulator.set_default(**behaviour)
    for read in (*REQUESTS.values(), *UNDECODED.values()):
        ask_requests(agent, read, encoding, STREAM)

    async def ask(way: Read) -> None:
        aiohttp = library("aiohttp")
        async with aiohttp.ClientSession() as session:
            async with session.post(agent.url("openai") + PATH, json=STREAM) as response:
                await way(response)

    for way in AIOHTTP.values():
        asyncio.run(ask(way))
    for name in LIBRARIES:
        with library(name).Client() as client:
            for way in SYNC.values():
                with client.stream("POST", agent.url("openai") + PATH, json=STREAM) as answer:
                    way(answer)
    count = len(REQUESTS) + len(UNDECODED) + len(AIOHTTP) + 2 * len(SYNC)
    assert len(agent.settled(count)) == count
    for receipt in agent.receipts:
        assert receipt["usage_missing"] is True
        assert "partial" not in receipt


@pytest.mark.ids("A5", "G09")
def test_requests_whole(agent: Agent) -> None:
    requests = library("requests")
    for encoding in decodable():
        agent.simulator.set_default(**fixed(False, encoding=encoding))

        def use(encoding: str = encoding) -> Any:
            response = requests.post(agent.url("openai") + PATH, json=CHAT, headers={"accept-encoding": encoding})
            return shown([requests_looks(response), response.content, list(response.iter_content(7)), response.text])

        both(agent, use)
        agent.balance()
